import type { Builder } from "../ir/builder.ts";
import { compileError } from "../ir/diagnostic.ts";
import { divideDims, productOfDims, subtractDims } from "../ir/dim.ts";
import type { Value } from "../ir/graph.ts";
import { type Dim, type DType, type FloatType, formatType, type Shape } from "../ir/type.ts";
import { record, scopedName } from "./trace.ts";

/** The same rank, sizes unknown to the type checker. */
export type SameRank<S extends Shape> = { readonly [K in keyof S]: Dim };
/** One axis fewer. */
export type Fewer<S extends Shape> = S extends readonly [unknown, ...infer Rest extends Dim[]] ? SameRank<Rest> : Shape;
/** The shape type of the operand with more axes. */
export type Longer<S extends Shape, T extends Shape> = number extends S["length"]
  ? Shape
  : number extends T["length"]
    ? Shape
    : S extends readonly [...SameRank<T>, ...Dim[]]
      ? S
      : T;
/** A tensor, or a number that becomes one of the other operand's dtype. */
export type Operand<D extends DType, S extends Shape> = Tensor<D, S> | number;

/** A value of the model being traced. Typed by dtype and rank: `Tensor<"f32", [Dim, Dim, Dim]>`. */
export class Tensor<out D extends DType = DType, out S extends Shape = Shape> {
  readonly value: Value;
  constructor(value: Value) {
    this.value = value;
  }
  get dtype(): D {
    return this.value.type.dtype as D;
  }
  get shape(): S {
    return this.value.type.shape as S;
  }
  get rank(): number {
    return this.value.type.shape.length;
  }
  /** Size of an axis; negative counts from the end. */
  dim(axis: number): Dim {
    return this.shape[axisOf(this.value, axis)] as Dim;
  }
}

const wrap = <D extends DType, S extends Shape>(value: Value): Tensor<D, S> => new Tensor<D, S>(value);

/** A non-negative axis; `bad-axis` where it is none of the tensor's. */
function axisOf(value: Value, axis: number, extra = 0): number {
  const rank = value.type.shape.length + extra;
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank)
    throw compileError(
      "bad-axis",
      `axis ${axis} is outside ${formatType(value.type)}`,
      record((b) => ({ loc: b.loc })),
    );
  return at;
}

// Sources

/** An input of the model. Named symbols ("batch") are dimensions too. */
export function input<D extends DType, const S extends Shape>(
  name: string,
  dtype: D,
  shape: S,
): Tensor<D, SameRank<S>> {
  return record((b) => wrap(b.input(name, { dtype, shape: [...shape] })));
}

/** A weight, named below the scope in force. */
export function parameter<const S extends Shape, D extends DType = "f32">(
  name: string,
  shape: S,
  dtype?: D,
): Tensor<D, SameRank<S>> {
  return record((b) => wrap(b.parameter(scopedName(name), { dtype: dtype ?? "f32", shape: [...shape] })));
}

/** Fixed numbers, row-major. */
export function constant<D extends DType, const S extends readonly number[]>(
  dtype: D,
  shape: S,
  numbers: ArrayLike<number>,
): Tensor<D, SameRank<S>> {
  return record((b) => wrap(b.constant({ dtype, shape: [...shape], numbers })));
}

/** One number everywhere. */
export function full<D extends DType, const S extends Shape>(
  dtype: D,
  shape: S,
  value: number,
): Tensor<D, SameRank<S>> {
  return record((b) => wrap(b.full({ dtype, shape: [...shape] }, value)));
}

/** 0, 1, 2, ... */
export function arange(count: Dim): Tensor<"i32", [Dim]> {
  return record((b) => wrap(b.iota({ shape: [count], axis: 0 })));
}

// Broadcasting

/** The common shape of two under numpy's rule: aligned at the end, size 1 stretches. */
function commonShape(a: Shape, b: Shape, loc: Builder["loc"]): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw compileError("shape-mismatch", `[${a.join(",")}] and [${b.join(",")}] do not broadcast: ${x} against ${y}`, {
      loc,
    });
  });
}

/** Stretches a value to a shape under numpy's rule. */
function stretch(b: Builder, x: Value, shape: Shape): Value {
  const offset = shape.length - x.type.shape.length;
  const axes = shape
    .map((_, axis) => axis)
    .filter((axis) => axis < offset || x.type.shape[axis - offset] !== shape[axis]);
  if (axes.length === 0) return x;
  const kept = shape.filter((_, axis) => !axes.includes(axis));
  return b.broadcast(kept.length === x.type.shape.length ? x : b.reshape(x, { shape: kept }), { shape, axes });
}

type BinaryName = "add" | "sub" | "mul" | "div" | "mod" | "pow" | "min" | "max";
type CompareName = "equal" | "notEqual" | "less" | "lessEqual" | "greater" | "greaterEqual";
type BitName = "and" | "or" | "xor" | "bitAnd" | "bitOr" | "bitXor" | "shiftLeft" | "shiftRight";

function applyBinary(name: BinaryName | CompareName | BitName, lhs: Tensor | number, rhs: Tensor | number): Value {
  return record((b) => {
    const like = typeof lhs === "number" ? rhs : lhs;
    if (typeof like === "number") throw compileError("bad-input", `${name} wants at least one tensor`, { loc: b.loc });
    const value = (x: Tensor | number): Value =>
      typeof x === "number" ? b.full({ dtype: like.dtype, shape: like.shape }, x) : x.value;
    const [left, right] = [value(lhs), value(rhs)];
    const shape = commonShape(left.type.shape, right.type.shape, b.loc);
    return b[name](stretch(b, left, shape), stretch(b, right, shape));
  });
}

function arithmetic(name: BinaryName) {
  return <D extends DType, S extends Shape, T extends Shape = []>(
    lhs: Tensor<D, S>,
    rhs: Operand<NoInfer<D>, T>,
  ): Tensor<D, Longer<S, T>> => wrap(applyBinary(name, lhs, rhs));
}

function comparison(name: CompareName) {
  return <D extends DType, S extends Shape, T extends Shape = []>(
    lhs: Tensor<D, S>,
    rhs: Operand<NoInfer<D>, T>,
  ): Tensor<"bool", Longer<S, T>> => wrap(applyBinary(name, lhs, rhs));
}

export const add = arithmetic("add");
export const sub = arithmetic("sub");
export const mul = arithmetic("mul");
export const div = arithmetic("div");
export const mod = arithmetic("mod");
export const pow = arithmetic("pow");
export const minimum = arithmetic("min");
export const maximum = arithmetic("max");
export const equal = comparison("equal");
export const notEqual = comparison("notEqual");
export const less = comparison("less");
export const lessEqual = comparison("lessEqual");
export const greater = comparison("greater");
export const greaterEqual = comparison("greaterEqual");

function bits(name: BitName) {
  return <D extends DType, S extends Shape, T extends Shape = []>(
    lhs: Tensor<D, S>,
    rhs: Tensor<NoInfer<D>, T>,
  ): Tensor<D, Longer<S, T>> => wrap(applyBinary(name, lhs, rhs));
}
export const and = bits("and");
export const or = bits("or");
export const xor = bits("xor");
export const bitAnd = bits("bitAnd");
export const bitOr = bits("bitOr");
export const bitXor = bits("bitXor");
export const shiftLeft = bits("shiftLeft");
export const shiftRight = bits("shiftRight");

/** `yes` where the condition holds, else `no`; all three broadcast. */
export function where<D extends DType, S extends Shape>(
  condition: Tensor<"bool">,
  yes: Tensor<D, S>,
  no: Operand<NoInfer<D>, Shape>,
): Tensor<D, S> {
  return record((b) => {
    const other = typeof no === "number" ? b.full({ dtype: yes.dtype, shape: [] }, no) : no.value;
    const shape = commonShape(commonShape(yes.shape, other.type.shape, b.loc), condition.shape, b.loc);
    return wrap(b.select(stretch(b, condition.value, shape), stretch(b, yes.value, shape), stretch(b, other, shape)));
  });
}

// One operand

type FloatUnary =
  | "exp" | "log" | "log1p" | "expm1" | "sqrt" | "rsqrt" | "reciprocal" | "sin" | "cos" | "tanh" | "erf" | "sigmoid"
  | "floor" | "ceil" | "trunc" | "round" | "gelu" | "silu" | "quickGelu" | "softplus"; // biome-ignore format: a list of words
const floatUnary =
  (name: FloatUnary) =>
  <D extends FloatType, S extends Shape>(x: Tensor<D, S>): Tensor<D, S> =>
    record((b) => wrap(b[name](x.value)));
export const exp = floatUnary("exp");
export const log = floatUnary("log");
export const log1p = floatUnary("log1p");
export const expm1 = floatUnary("expm1");
export const sqrt = floatUnary("sqrt");
export const rsqrt = floatUnary("rsqrt");
export const reciprocal = floatUnary("reciprocal");
export const sin = floatUnary("sin");
export const cos = floatUnary("cos");
export const tanh = floatUnary("tanh");
export const erf = floatUnary("erf");
export const sigmoid = floatUnary("sigmoid");
export const floor = floatUnary("floor");
export const ceil = floatUnary("ceil");
export const trunc = floatUnary("trunc");
export const round = floatUnary("round");
export const silu = floatUnary("silu");
export const quickGelu = floatUnary("quickGelu");
export const softplus = floatUnary("softplus");
const anyUnary =
  (name: "neg" | "abs" | "sign" | "relu") =>
  <D extends DType, S extends Shape>(x: Tensor<D, S>): Tensor<D, S> =>
    record((b) => wrap(b[name](x.value)));
export const neg = anyUnary("neg");
export const abs = anyUnary("abs");
export const sign = anyUnary("sign");
export const relu = anyUnary("relu");

export function not<S extends Shape>(x: Tensor<"bool", S>): Tensor<"bool", S> {
  return record((b) => wrap(b.not(x.value)));
}

/** x Phi(x), by erf or by its tanh approximation. */
export function gelu<D extends FloatType, S extends Shape>(
  x: Tensor<D, S>,
  approximate: "none" | "tanh" = "none",
): Tensor<D, S> {
  return record((b) => wrap(b.gelu(x.value, { approximate })));
}

export function cast<D extends DType, S extends Shape>(x: Tensor<DType, S>, to: D): Tensor<D, S> {
  return record((b) => wrap(x.value.type.dtype === to ? x.value : b.cast(x.value, { to })));
}

// Shape

/** Another shape for the same elements; one size may be -1 and is worked out. */
export function reshape<D extends DType, const T extends Shape>(x: Tensor<D>, shape: T): Tensor<D, SameRank<T>> {
  return record((b) => {
    const open = shape.indexOf(-1);
    const wanted = [...shape];
    if (open >= 0) {
      const rest = divideDims(productOfDims(x.shape), productOfDims(shape.filter((_, i) => i !== open)));
      if (rest === undefined || shape.filter((d) => d === -1).length > 1)
        throw compileError("shape-mismatch", `${formatType(x.value.type)} does not divide into [${shape.join(",")}]`, {
          loc: b.loc,
        });
      wanted[open] = rest;
    }
    return wrap(b.reshape(x.value, { shape: wanted }));
  });
}

/** Axes in another order: result axis i is x's axis perm[i]. */
export function transpose<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  perm: readonly number[],
): Tensor<D, SameRank<S>> {
  return record((b) => wrap(b.transpose(x.value, { perm: perm.map((axis) => axisOf(x.value, axis)) })));
}

/** Repetition to a shape under numpy's rule. */
export function expand<D extends DType, const T extends Shape>(x: Tensor<D>, shape: T): Tensor<D, SameRank<T>> {
  return record((b) => {
    commonShape(x.shape, shape, b.loc);
    return wrap(stretch(b, x.value, [...shape]));
  });
}

/** Elements start, start + step, ... below end of one axis; negative ends count from the back. */
export function slice<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  range: { axis: number; start?: number; end?: Dim; step?: number },
): Tensor<D, SameRank<S>> {
  return record((b) => {
    const axis = axisOf(x.value, range.axis);
    const size = x.shape[axis] as Dim;
    const fromBack = (at: Dim): Dim => (typeof at === "number" && at < 0 ? subtractDims(size, -at) : at);
    const start = fromBack(range.start ?? 0);
    return wrap(b.slice(x.value, { axis, start, end: fromBack(range.end ?? size), step: range.step ?? 1 }));
  });
}

/** One position of an axis, which disappears. */
export function take<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  index: number,
  axis: number,
): Tensor<D, Fewer<S>> {
  return record((b) => {
    const at = axisOf(x.value, axis);
    const one = slice(x, index === -1 ? { axis: at, start: -1 } : { axis: at, start: index, end: index + 1 });
    return wrap(b.reshape(one.value, { shape: one.shape.filter((_, a) => a !== at) }));
  });
}

/** Equal parts along an axis. */
export function split<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  parts: number,
  axis: number,
): Tensor<D, SameRank<S>>[] {
  return record((b) => {
    const size = x.dim(axis);
    if (typeof size !== "number" || size % parts !== 0)
      throw compileError("shape-mismatch", `${size} elements do not split into ${parts} equal parts`, { loc: b.loc });
    const each = size / parts;
    return Array.from({ length: parts }, (_, i) => slice(x, { axis, start: i * each, end: (i + 1) * each }));
  });
}

export function concat<D extends DType, S extends Shape>(
  parts: readonly [Tensor<D, S>, ...Tensor<NoInfer<D>, SameRank<NoInfer<S>>>[]],
  axis: number,
): Tensor<D, SameRank<S>> {
  return record((b) =>
    wrap(
      b.concat(
        parts.map((p) => p.value),
        { axis: axisOf(parts[0].value, axis) },
      ),
    ),
  );
}

/** Zeros (or `value`) added before and after; [low, high] per axis. */
export function pad<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  amounts: readonly (readonly [number, number])[],
  mode: "constant" | "reflect" | "edge" = "constant",
  value = 0,
): Tensor<D, SameRank<S>> {
  return record((b) =>
    wrap(b.pad(x.value, { low: amounts.map((a) => a[0]), high: amounts.map((a) => a[1]), mode, value })),
  );
}

// Reductions

type Reduce = "reduceSum" | "reduceMean" | "reduceMax" | "reduceMin" | "reduceProd" | "logSumExp";
function reduction(name: Reduce) {
  function reduce<D extends DType, S extends Shape>(
    x: Tensor<D, S>,
    axis: number,
    keepDims: true,
  ): Tensor<D, SameRank<S>>;
  function reduce<D extends DType, S extends Shape>(x: Tensor<D, S>, axis: number): Tensor<D, Fewer<S>>;
  function reduce<D extends DType>(x: Tensor<D>, axes: readonly number[], keepDims?: boolean): Tensor<D>;
  function reduce(x: Tensor, axis: number | readonly number[], keepDims = false): Tensor {
    return record((b) => {
      const axes = (typeof axis === "number" ? [axis] : [...axis]).map((a) => axisOf(x.value, a)).sort((m, n) => m - n);
      return wrap(b[name](x.value, { axes, keepDims }));
    });
  }
  return reduce;
}
export const sum = reduction("reduceSum");
export const mean = reduction("reduceMean");
export const amax = reduction("reduceMax");
export const amin = reduction("reduceMin");
export const prod = reduction("reduceProd");
export const logSumExp = reduction("logSumExp");

export function argMax<S extends Shape>(x: Tensor<DType, S>, axis: number): Tensor<"i32", Fewer<S>> {
  return record((b) => wrap(b.argMax(x.value, { axis: axisOf(x.value, axis) })));
}
export function cumsum<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  axis: number,
  options: { exclusive?: boolean; reverse?: boolean } = {},
): Tensor<D, S> {
  return record((b) => wrap(b.cumsum(x.value, { axis: axisOf(x.value, axis), ...options })));
}

// Products, gathers, order

/** Matrix product over the last two axes; leading axes of rhs equal lhs's, or rhs is one matrix. */
export function matmul<D extends DType, S extends Shape, T extends Shape>(
  lhs: Tensor<D, S>,
  rhs: Tensor<NoInfer<D>, T>,
): Tensor<D, Longer<S, T>> {
  return record((b) => wrap(b.matmul(lhs.value, rhs.value)));
}

/** Einsum of two operands: `bij,bjk->bik`. */
export function einsum<D extends DType>(spec: string, lhs: Tensor<D>, rhs: Tensor<NoInfer<D>>): Tensor<D> {
  return record((b) => wrap(b.contract(lhs.value, rhs.value, { spec })));
}

/** Slices of x along an axis at i32 indices; the first `batch` axes go together. */
export function gather<D extends DType>(x: Tensor<D>, indices: Tensor<"i32">, axis: number, batch = 0): Tensor<D> {
  return record((b) => wrap(b.gather(x.value, indices.value, { axis: axisOf(x.value, axis), batch })));
}

export function oneHot<S extends Shape>(indices: Tensor<"i32", S>, depth: Dim): Tensor<"f32"> {
  return record((b) => wrap(b.oneHot(indices.value, { depth })));
}

export function topK<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  k: number,
  axis = -1,
): { values: Tensor<D, SameRank<S>>; indices: Tensor<"i32", SameRank<S>> } {
  return record((b) => {
    const [values, indices] = b.topK(x.value, { axis: axisOf(x.value, axis), k });
    return { values: wrap(values), indices: wrap(indices) };
  });
}

/** Stable sort; indices say where each element came from. */
export function sort<D extends DType, S extends Shape>(
  x: Tensor<D, S>,
  axis = -1,
  descending = false,
): { values: Tensor<D, S>; indices: Tensor<"i32", S> } {
  return record((b) => {
    const [values, indices] = b.sort(x.value, { axis: axisOf(x.value, axis), descending });
    return { values: wrap(values), indices: wrap(indices) };
  });
}

export function softmax<D extends FloatType, S extends Shape>(x: Tensor<D, S>, axis = -1): Tensor<D, S> {
  return record((b) => wrap(b.softmax(x.value, { axis: axisOf(x.value, axis) })));
}
export function logSoftmax<D extends FloatType, S extends Shape>(x: Tensor<D, S>, axis = -1): Tensor<D, S> {
  return record((b) => wrap(b.logSoftmax(x.value, { axis: axisOf(x.value, axis) })));
}

/** Applies an op by name: composites of one's own, or table ops without a function here. */
export function apply(
  op: string,
  operands: readonly Tensor[],
  attrs: Readonly<Record<string, unknown>> = {},
): readonly Tensor[] {
  return record((b) =>
    b
      .make(
        op,
        operands.map((t) => t.value),
        attrs,
      )
      .map((value) => wrap(value)),
  );
}
