import { compileError } from "../ir/diagnostic.ts";
import type { Value } from "../ir/graph.ts";
import type { DType, FloatType } from "../ir/type.ts";
import { commonShape, stretch } from "./broadcast.ts";
import { type Tensor, wrap } from "./tensor.ts";
import { record } from "./trace.ts";
import type { Arg, Both, Dims, NumberType, Res, SameDType } from "./types/result.ts";
import type { Broadcast } from "./types/shapes.ts";

type BinaryName = "add" | "sub" | "mul" | "div" | "mod" | "pow" | "min" | "max";
type EqualityName = "equal" | "notEqual";
type OrderName = "less" | "lessEqual" | "greater" | "greaterEqual";
type LogicName = "and" | "or" | "xor";
type BitName = "bitAnd" | "bitOr" | "bitXor" | "shiftLeft" | "shiftRight";

function applyBinary(
  name: BinaryName | EqualityName | OrderName | LogicName | BitName,
  lhs: Tensor | number,
  rhs: Tensor | number,
): Value {
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

/** What the right side of an elementwise op is: of the left one's dtype, and of a shape that broadcasts with it. */
type Right<A, S extends Dims, B extends DType, T extends Dims> = Arg<
  Both<SameDType<A, B>, Broadcast<S, T>>,
  Tensor<B, T>
>;

function arithmetic<Allowed extends NumberType = NumberType>(name: BinaryName) {
  function apply<A extends Allowed, S extends Dims, B extends DType = A, T extends Dims = []>(
    lhs: Tensor<A, S>,
    rhs: Right<A, S, B, T> | number,
  ): Tensor<A, Res<Broadcast<S, T>>>;
  function apply(lhs: Tensor, rhs: Tensor | number): Tensor {
    return wrap(applyBinary(name, lhs, rhs));
  }
  return apply;
}
export const add = arithmetic("add");
export const sub = arithmetic("sub");
export const mul = arithmetic("mul");
export const div = arithmetic("div");
export const mod = arithmetic("mod");
export const pow = arithmetic<FloatType>("pow");
export const minimum = arithmetic("min");
export const maximum = arithmetic("max");

function comparison<Allowed extends DType>(name: EqualityName | OrderName) {
  function apply<A extends Allowed, S extends Dims, B extends DType = A, T extends Dims = []>(
    lhs: Tensor<A, S>,
    rhs: Right<A, S, B, T> | number,
  ): Tensor<"bool", Res<Broadcast<S, T>>>;
  function apply(lhs: Tensor, rhs: Tensor | number): Tensor {
    return wrap(applyBinary(name, lhs, rhs));
  }
  return apply;
}
export const equal = comparison<DType>("equal");
export const notEqual = comparison<DType>("notEqual");
export const less = comparison<NumberType>("less");
export const lessEqual = comparison<NumberType>("lessEqual");
export const greater = comparison<NumberType>("greater");
export const greaterEqual = comparison<NumberType>("greaterEqual");

function bits<Allowed extends DType>(name: LogicName | BitName) {
  function apply<A extends Allowed, S extends Dims, B extends DType, T extends Dims>(
    lhs: Tensor<A, S>,
    rhs: Right<A, S, B, T>,
  ): Tensor<A, Res<Broadcast<S, T>>>;
  function apply(lhs: Tensor, rhs: Tensor): Tensor {
    return wrap(applyBinary(name, lhs, rhs));
  }
  return apply;
}
type Integer = Exclude<NumberType, FloatType>;
export const and = bits<"bool">("and");
export const or = bits<"bool">("or");
export const xor = bits<"bool">("xor");
export const bitAnd = bits<Integer>("bitAnd");
export const bitOr = bits<Integer>("bitOr");
export const bitXor = bits<Integer>("bitXor");
export const shiftLeft = bits<Integer>("shiftLeft");
export const shiftRight = bits<Integer>("shiftRight");

/** `yes` where the condition holds, else `no`; all three broadcast. */
export function where<C extends Dims, A extends DType, S extends Dims, B extends DType = A, T extends Dims = []>(
  condition: Arg<Broadcast<Res<Broadcast<S, T>>, C>, Tensor<"bool", C>>,
  yes: Tensor<A, S>,
  no: Right<A, S, B, T> | number,
): Tensor<A, Res<Broadcast<Res<Broadcast<S, T>>, C>>>;
export function where(condition: Tensor, yes: Tensor, no: Tensor | number): Tensor {
  return record((b) => {
    const other = typeof no === "number" ? b.full({ dtype: yes.dtype, shape: [] }, no) : no.value;
    const shape = commonShape(commonShape(yes.shape, other.type.shape, b.loc), condition.shape, b.loc);
    return wrap(b.select(stretch(b, condition.value, shape), stretch(b, yes.value, shape), stretch(b, other, shape)));
  });
}

type FloatUnary =
  | "exp" | "log" | "log1p" | "expm1" | "sqrt" | "rsqrt" | "reciprocal" | "sin" | "cos" | "tanh" | "erf" | "sigmoid"
  | "floor" | "ceil" | "trunc" | "round" | "gelu" | "silu" | "quickGelu" | "softplus"; // biome-ignore format: a list of words
const floatUnary =
  (name: FloatUnary) =>
  <D extends FloatType, S extends Dims>(x: Tensor<D, S>): Tensor<D, S> =>
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
type Signed = FloatType | "i64" | "i32" | "i16" | "i8" | "i4";
const signedUnary =
  (name: "neg" | "abs" | "sign" | "relu") =>
  <D extends Signed, S extends Dims>(x: Tensor<D, S>): Tensor<D, S> =>
    record((b) => wrap(b[name](x.value)));
export const neg = signedUnary("neg");
export const abs = signedUnary("abs");
export const sign = signedUnary("sign");
export const relu = signedUnary("relu");

export function not<S extends Dims>(x: Tensor<"bool", S>): Tensor<"bool", S> {
  return record((b) => wrap(b.not(x.value)));
}

/** x Phi(x), by erf or by its tanh approximation. */
export function gelu<D extends FloatType, S extends Dims>(
  x: Tensor<D, S>,
  approximate: "none" | "tanh" = "none",
): Tensor<D, S> {
  return record((b) => wrap(b.gelu(x.value, { approximate })));
}

export function cast<D extends DType, S extends Dims>(x: Tensor<DType, S>, to: D): Tensor<D, S> {
  return record((b) => wrap(x.value.type.dtype === to ? x.value : b.cast(x.value, { to })));
}
