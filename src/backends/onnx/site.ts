import { compileError, unknownLoc } from "../../ir/diagnostic.ts";
import type { Node, Value } from "../../ir/graph.ts";
import { type Dim, type DType, type TensorType, tensorData } from "../../ir/type.ts";
import type { Attributes, Body } from "./body.ts";
import { workType } from "./kernels.ts";
import type { Plan } from "./plan.ts";

/** One node being emitted: its operands as ONNX tensors, and the means to make ONNX nodes. bf16 is computed in f32. */
export class Site<A = object> {
  readonly node: Node;
  readonly attrs: A;
  readonly plan: Plan;
  readonly body: Body;

  constructor(plan: Plan, body: Body, node: Node) {
    this.plan = plan;
    this.body = body;
    this.node = node;
    this.attrs = node.attrs as A;
  }

  operand(i: number): Value {
    return this.node.operands[i] as Value;
  }

  typeOf(i: number): TensorType {
    return this.operand(i).type;
  }

  /** The type that elements of an operand are computed in, before any widening for lack of a kernel. */
  dtype(i = 0): DType {
    return computed(this.typeOf(i).dtype);
  }

  result(i = 0): TensorType {
    return (this.node.results[i] as Value).type;
  }

  /** An operand with its own dtype. */
  x(i: number): string {
    return this.#widened(this.body.plain(this.operand(i)), this.typeOf(i).dtype);
  }

  /** An operand in its natural form, for rows that only move elements; see `formOf`. */
  view(i: number): string {
    return this.#widened(this.body.natural(this.operand(i)), this.typeOf(i).dtype);
  }

  formOf(i: number): DType {
    return this.plan.isIndex(this.operand(i)) ? "i64" : this.dtype(i);
  }

  /** An i32 operand as i64. */
  index(i: number): string {
    return this.body.index(this.operand(i));
  }

  #widened(name: string, dtype: DType): string {
    return this.body.cast(name, dtype, computed(dtype));
  }

  /**
   * The operands of an elementwise op, left to ONNX's own broadcasting: a broadcast operand is given as what it repeats,
   * with axes of size 1 where numpy's rule does not add them. Together they still have the result's shape.
   */
  spread(): readonly string[] {
    const { shape } = this.result();
    const operands = this.node.operands.map((value, i) => ({ i, ...repetition(value) }));
    const isRepeated = (axis: number) => shape[axis] !== 1 && operands.every(({ axes }) => axes.includes(axis));
    const whole = shape.some((_, axis) => isRepeated(axis)) ? 0 : -1;
    return operands.map(({ i, axes, source }) => {
      if (i === whole || axes.length === 0) return this.x(i);
      if (source === undefined) return this.#alongAxis(i, axes);
      return this.#withOnes(this.#widened(this.body.plain(source), source.type.dtype), axes);
    });
  }

  /** An iota operand: its counting axis alone. */
  #alongAxis(i: number, axes: readonly number[]): string {
    const { attrs } = this.operand(i).producer;
    return this.#withOnes(
      this.count((attrs["shape"] as readonly Dim[])[attrs["axis"] as number] as Dim, this.dtype(i)),
      axes,
    );
  }

  #withOnes(name: string, axes: readonly number[]): string {
    let leading = 0;
    while (axes[leading] === leading) leading++;
    const inner = axes.slice(leading).map((axis) => axis - leading);
    return inner.length === 0 ? name : this.unsqueeze(name, inner);
  }

  unsqueeze(name: string, axes: readonly number[]): string {
    return this.body.once(`unsqueeze|${name}|${axes}`, () => this.make("Unsqueeze", [name, this.ints(axes)]));
  }

  /** 0, 1, ... size - 1 as a vector. */
  count(size: Dim, dtype: DType): string {
    if (typeof size === "number") return this.body.tensor(countTo(size, dtype));
    return this.body.once(`count|${size}|${dtype}`, () => {
      const counted = workType("Range", dtype) ?? "i64";
      const limit = this.make("Squeeze", [this.body.dim(size), this.ints([0])]);
      const ends = [0, 1].map((n) => this.body.scalar(counted, n)) as [string, string];
      return this.body.cast(
        this.make("Range", [ends[0], this.body.cast(limit, "i64", counted), ends[1]]),
        counted,
        dtype,
      );
    });
  }

  /** A node with one result. */
  make(op: string, inputs: readonly string[], attrs?: Attributes, domain?: string): string {
    return this.body.node(op, inputs, attrs, 1, domain)[0] as string;
  }

  /**
   * A node whose inputs have `dtype`, cast to a wider one and back where the runtime has no kernel for it; the result is
   * cast back unless it has a type of its own (`keeps` false).
   */
  typed(op: string, inputs: readonly string[], dtype: DType, attrs: Attributes = {}, keeps = true): string {
    const work = this.workType(op, dtype);
    const y = this.make(
      op,
      inputs.map((x) => (x === "" ? x : this.body.cast(x, dtype, work))),
      attrs,
    );
    return keeps ? this.body.cast(y, work, dtype) : y;
  }

  workType(op: string, dtype: DType): DType {
    const work = workType(op, dtype);
    if (work !== undefined) return work;
    throw compileError(
      "unsupported-dtype",
      `${this.node.op} of ${dtype} has no kernel: ${op} runs on narrower floats`,
      {
        loc: this.node.locs[0] ?? unknownLoc,
        help: "cast to f32 before it",
      },
    );
  }

  ints(values: readonly number[]): string {
    return this.body.ints(values);
  }

  scalar(value: number, dtype: DType = this.dtype()): string {
    return this.body.scalar(dtype, value);
  }
}

const computed = (dtype: DType): DType => (dtype === "bf16" ? "f32" : dtype);

/** What a broadcast repeats and along which axes; an iota repeats its count; anything else repeats nothing. */
function repetition(value: Value): { readonly source: Value | undefined; readonly axes: readonly number[] } {
  const { op, operands, attrs } = value.producer;
  if (op === "broadcast") return { source: operands[0] as Value, axes: attrs["axes"] as readonly number[] };
  if (op !== "iota") return { source: value, axes: [] };
  const axes = value.type.shape.map((_, axis) => axis).filter((axis) => axis !== attrs["axis"]);
  return { source: undefined, axes };
}

function countTo(size: number, dtype: DType) {
  return tensorData(
    dtype,
    [size],
    Array.from({ length: size }, (_, i) => i),
  );
}
