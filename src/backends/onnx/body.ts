import { InternalError } from "../../ir/diagnostic.ts";
import { type Dim, isStatic } from "../../ir/dim.ts";
import type { Node, Value } from "../../ir/graph.ts";
import { type DType, type TensorData, tensorData } from "../../ir/type.ts";
import { dimParts } from "./dims.ts";
import { elementType } from "./elements.ts";
import type { Plan } from "./plan.ts";
import type { OnnxAttr, OnnxNode } from "./proto.ts";

export type Attributes = Readonly<Record<string, OnnxAttr>>;

/** The node that ONNX nodes are being made for: names them and says where they come from. */
export interface Origin {
  readonly name: string;
  readonly doc: string;
}

/** What a function body reads from outside: a value in its natural form, or sizes with symbols. */
export interface Capture {
  readonly local: string;
  readonly from:
    | { readonly value: Value; readonly short?: true }
    | { readonly symbol: string }
    | { readonly dims: readonly Dim[] };
}

/** Constants up to this many bytes are written where they are used; larger ones are initializers of the model. */
export const inlineConstantBytes = 1024;

/**
 * The nodes of the main graph or of one function, with the names of the tensors made so far. A value has a natural form
 * (i64 for index values that ONNX makes as i64, else its own dtype) and others made from it on demand, once.
 */
export class Body {
  readonly nodes: OnnxNode[] = [];
  readonly constants = new Map<string, TensorData>();
  readonly captures: Capture[] = [];
  readonly #plan: Plan;
  /** The block that a function is made of; undefined in the main graph. */
  readonly #members: ReadonlySet<Node> | undefined;
  readonly #scope: string;
  readonly #made = new Map<string, string>();
  readonly #taken: Set<string>;
  origin: Origin = { name: "", doc: "" };

  constructor(
    plan: Plan,
    taken: Iterable<string>,
    block?: { readonly members: ReadonlySet<Node>; readonly scope: string },
  ) {
    this.#plan = plan;
    this.#taken = new Set(taken);
    this.#members = block?.members;
    this.#scope = block?.scope ?? "";
  }

  get isFunction(): boolean {
    return this.#members !== undefined;
  }

  /** A scope as seen from inside this body: equal blocks then have equal names. */
  relative(scope: string): string {
    if (this.#scope === "") return scope;
    if (scope === this.#scope) return "";
    return scope.startsWith(`${this.#scope}.`) ? scope.slice(this.#scope.length + 1) : "shared";
  }

  /** Nodes made inside `make` are named after `origin`. */
  within<T>(origin: Origin, make: () => T): T {
    const before = this.origin;
    this.origin = origin;
    try {
      return make();
    } finally {
      this.origin = before;
    }
  }

  /** A name that no tensor or node of this body has. */
  unique(base: string): string {
    let name = base;
    for (let i = 1; this.#taken.has(name); i++) name = `${base}_${i}`;
    this.#taken.add(name);
    return name;
  }

  node(op: string, inputs: readonly string[], attrs: Attributes = {}, outputs = 1, domain = ""): readonly string[] {
    const name = this.unique(`${this.origin.name === "" ? "" : `${this.origin.name}/`}${op}`);
    const results = Array.from({ length: outputs }, (_, i) => (i === 0 ? name : this.unique(`${name}:${i}`)));
    this.nodes.push({ op, domain, name, inputs, outputs: results, attrs, doc: this.origin.doc });
    return results;
  }

  /** The tensor known under `key`, made on first demand. */
  once(key: string, make: () => string): string {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const name = make();
    this.#made.set(key, name);
    return name;
  }

  define(value: Value, name: string): void {
    this.#made.set(keyOf(value), name);
  }

  defineShort(value: Value, name: string): void {
    this.#made.set(`short|${keyOf(value)}`, name);
  }

  /** The value with size 1 along the axes it repeats along, or without them where they lead. */
  short(value: Value): string {
    const key = `short|${keyOf(value)}`;
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const { producer } = value;
    if (this.#plan.repeatable(producer)) {
      this.#plan.emitNode(this, producer);
      return this.#made.get(key) as string;
    }
    // Made outside this function in short form.
    return this.once(key, () => this.#capture({ value, short: true }));
  }

  /** The value in its natural form. */
  natural(value: Value): string {
    const known = this.#made.get(keyOf(value));
    if (known !== undefined) return known;
    const repeated = this.#plan.repeatedAxes(value);
    if (repeated.length > 0)
      return this.once(keyOf(value), () => {
        // Expand leaves an axis alone where the target says 1, so that only repeated axes need their size.
        const target = value.type.shape.map((dim, axis) => (repeated.includes(axis) ? dim : 1));
        return this.node("Expand", [this.short(value), this.dims(target)])[0] as string;
      });
    const { producer } = value;
    if (producer.data !== undefined && (this.#members === undefined || isSmall(producer.data))) {
      const name = this.tensor(producer.data);
      this.define(value, name);
      return name;
    }
    if (producer.data === undefined && this.#plan.repeatable(producer)) {
      this.#plan.emitNode(this, producer);
      return this.#made.get(keyOf(value)) as string;
    }
    if (this.#members === undefined || this.#members.has(producer))
      throw new InternalError(`${producer.op} is read before it is emitted`);
    return this.once(keyOf(value), () => this.#capture({ value }));
  }

  #capture(from: Capture["from"]): string {
    const local = this.unique(`x${this.captures.length}`);
    this.captures.push({ local, from });
    return local;
  }

  /** The value with its own dtype. */
  plain(value: Value): string {
    const name = this.natural(value);
    return this.#plan.isIndex(value) ? this.cast(name, "i64", "i32") : name;
  }

  /** An i32 value as i64. */
  index(value: Value): string {
    if (this.#plan.isIndex(value)) return this.natural(value);
    const { data } = value.producer;
    if (data !== undefined) return this.tensor(tensorData("i64", data.shape, Array.from(data.values, Number)));
    return this.cast(this.natural(value), value.type.dtype, "i64");
  }

  cast(name: string, from: DType, to: DType): string {
    if (from === to) return name;
    return this.once(`cast|${name}|${to}`, () => this.node("Cast", [name], { to: elementType[to] })[0] as string);
  }

  tensor(data: TensorData): string {
    const { values, dtype, shape } = data;
    if (!isSmall(data)) return this.once(`large|${this.#plan.largeId(data)}`, () => this.#constant(data));
    const bits = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return this.once(`const|${dtype}[${shape}]|${bits}`, () => this.#constant(data));
  }

  #constant(data: TensorData): string {
    if (this.#members !== undefined) return this.node("Constant", [], { value: { tensor: data } })[0] as string;
    const name = this.unique(`constant_${this.constants.size}`);
    this.constants.set(name, data);
    return name;
  }

  ints(values: readonly number[]): string {
    return this.tensor(tensorData("i64", [values.length], values));
  }

  scalar(dtype: DType, value: number): string {
    return this.tensor(tensorData(dtype, [], [value]));
  }

  /** i64[n]: a list of dimensions. */
  dims(list: readonly Dim[]): string {
    if (list.every(isStatic)) return this.ints(list);
    if (list.length === 1) return this.dim(list[0] as Dim);
    const ofTensor = this.#plan.profile === "ort-webgpu" && list.every(isPlain);
    return this.once(`dims|${list}`, () => (ofTensor ? this.#dimsOfTensor(list) : this.#joinedDims(list)));
  }

  #joinedDims(list: readonly Dim[]): string {
    const parts: string[] = [];
    let run: number[] = [];
    const flush = () => {
      if (run.length > 0) parts.push(this.ints(run));
      run = [];
    };
    for (const dim of list)
      if (isStatic(dim)) run.push(dim);
      else {
        flush();
        parts.push(this.dim(dim));
      }
    flush();
    return this.node("Concat", parts, { axis: 0 })[0] as string;
  }

  /** The sizes as the shape of a tensor made to have it, for a provider that computes nothing in i64. */
  #dimsOfTensor(list: readonly Dim[]): string {
    if (this.#members !== undefined) return this.#capture({ dims: list });
    const make = (op: string, inputs: readonly string[]): string => this.node(op, inputs)[0] as string;
    // One tensor for each symbol, as long as it along its axis and 1 long along the others; only sizes are read of them.
    const lines = list.flatMap((dim, axis) => {
      if (isStatic(dim)) return [];
      const { input, axis: own, type } = this.#plan.symbolSource(dim);
      const others = [...type.shape.keys()].filter((a) => a !== own);
      const each = (n: number): string => this.ints(others.map(() => n));
      const floats = this.cast(input, type.dtype, "f32"); // it has no Slice of i32
      const line = others.length === 0 ? floats : make("Slice", [floats, each(0), each(1), this.ints(others)]);
      const shape = list.map((_, a) => (a === axis ? -1 : 1));
      return [make("Reshape", [line, this.ints(shape)])];
    });
    const crossed = lines.reduce((all, line) => make("Add", [all, line]));
    const known = list.map((dim) => (isStatic(dim) ? dim : 1));
    const whole = known.every((n) => n === 1) ? crossed : make("Expand", [crossed, this.ints(known)]);
    return make("Shape", [whole]);
  }

  /** i64[1]: one dimension, computed from the sizes of the inputs where it has symbols. */
  dim(dim: Dim): string {
    if (isStatic(dim)) return this.ints([dim]);
    return this.once(`dim|${dim}`, () => {
      const parts = dimParts(dim);
      if (parts.kind === "symbol") return this.#symbol(parts.name);
      const [op, lhs, rhs] = [parts.kind, this.dim(parts.lhs), this.dim(parts.rhs)];
      if (op !== "Div") return this.node(op, [lhs, rhs])[0] as string;
      // Div truncates; dimensions divide down. They only differ below 0.
      const remainder = this.node("Mod", [lhs, rhs])[0] as string;
      return this.node("Div", [this.node("Sub", [lhs, remainder])[0] as string, rhs])[0] as string;
    });
  }

  #symbol(name: string): string {
    if (this.#members !== undefined) return this.#capture({ symbol: name });
    const { input, axis } = this.#plan.symbolSource(name);
    return this.node("Shape", [input], { start: axis, end: axis + 1 })[0] as string;
  }
}

export const keyOf = (value: Value): string => `${value.producer.id}.${value.index}`;

/** A symbol, or a size that a tensor can have. */
const isPlain = (dim: Dim): boolean => (isStatic(dim) ? dim > 0 : dimParts(dim).kind === "symbol");

const isSmall = (data: TensorData): boolean => data.values.byteLength <= inlineConstantBytes;
