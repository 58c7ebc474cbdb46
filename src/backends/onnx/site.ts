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
   * The operands of an elementwise op, left to ONNX's own broadcasting: what repeats itself is given in short form. The
   * result is in short form along the axes that all of them repeat along.
   */
  spread(): readonly string[] {
    return this.node.operands.map((value, i) => {
      if (this.plan.repeatedAxes(value).length === 0) return this.x(i);
      const form = this.plan.isIndex(value) ? "i64" : value.type.dtype;
      return this.body.cast(this.body.short(value), form, computed(value.type.dtype));
    });
  }

  /** The only operand of an elementwise op, as `spread` gives it. */
  only(): string {
    return this.spread()[0] as string;
  }

  /** A tensor given size-1 axes, save leading ones, which broadcasting adds by itself. */
  withOnes(name: string, axes: readonly number[]): string {
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

function countTo(size: number, dtype: DType) {
  return tensorData(
    dtype,
    [size],
    Array.from({ length: size }, (_, i) => i),
  );
}
