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
/** lhs + rhs; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-mismatch`. */
export const add = arithmetic("add");
/** lhs - rhs; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-mismatch`. */
export const sub = arithmetic("sub");
/**
 * lhs times rhs; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-mismatch`.
 */
export const mul = arithmetic("mul");
/**
 * lhs over rhs; of integers toward zero; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch`
 * and `shape-mismatch`.
 */
export const div = arithmetic("div");
/**
 * Remainder with the divisor's sign; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and
 * `shape-mismatch`.
 */
export const mod = arithmetic("mod");
/**
 * lhs to the power of rhs, of floats; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch`
 * and `shape-mismatch`.
 */
export const pow = arithmetic<FloatType>("pow");
/**
 * The lesser of lhs and rhs; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const minimum = arithmetic("min");
/**
 * The greater of lhs and rhs; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and
 * `shape-mismatch`.
 */
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
/**
 * lhs == rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const equal = comparison<DType>("equal");
/**
 * lhs != rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const notEqual = comparison<DType>("notEqual");
/**
 * lhs < rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const less = comparison<NumberType>("less");
/**
 * lhs <= rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const lessEqual = comparison<NumberType>("lessEqual");
/**
 * lhs > rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const greater = comparison<NumberType>("greater");
/**
 * lhs >= rhs -> bool; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
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
/**
 * Both of two booleans; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const and = bits<"bool">("and");
/**
 * Either of two booleans; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const or = bits<"bool">("or");
/**
 * Exactly one of two booleans; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and
 * `shape-mismatch`.
 */
export const xor = bits<"bool">("xor");
/**
 * lhs & rhs, of integers; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const bitAnd = bits<Integer>("bitAnd");
/**
 * lhs | rhs, of integers; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const bitOr = bits<Integer>("bitOr");
/**
 * lhs ^ rhs, of integers; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-mismatch` and `shape-
 * mismatch`.
 */
export const bitXor = bits<Integer>("bitXor");
/**
 * lhs << rhs, of integers; rhs in 0 to bits - 1; of equal dtypes, shapes stretched by numpy's rule. Fails with `dtype-
 * mismatch` and `shape-mismatch`.
 */
export const shiftLeft = bits<Integer>("shiftLeft");
/**
 * lhs >> rhs, of integers, arithmetic for signed ones; rhs in 0 to bits - 1; of equal dtypes, shapes stretched by
 * numpy's rule. Fails with `dtype-mismatch` and `shape-mismatch`.
 */
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
/** e to the power of x, element by element, of floats. */
export const exp = floatUnary("exp");
/** Natural logarithm of x; NaN below 0, element by element, of floats. */
export const log = floatUnary("log");
/** log(1 + x), exact near 0, element by element, of floats. */
export const log1p = floatUnary("log1p");
/** e^x - 1, exact near 0, element by element, of floats. */
export const expm1 = floatUnary("expm1");
/** Square root; NaN below 0, element by element, of floats. */
export const sqrt = floatUnary("sqrt");
/** 1 over the square root, element by element, of floats. */
export const rsqrt = floatUnary("rsqrt");
/** 1 / x, element by element, of floats. */
export const reciprocal = floatUnary("reciprocal");
/** Sine of radians, element by element, of floats. */
export const sin = floatUnary("sin");
/** Cosine of radians, element by element, of floats. */
export const cos = floatUnary("cos");
/** Hyperbolic tangent, element by element, of floats. */
export const tanh = floatUnary("tanh");
/** Error function, element by element, of floats. */
export const erf = floatUnary("erf");
/** 1 / (1 + e^-x), element by element, of floats. */
export const sigmoid = floatUnary("sigmoid");
/** The greatest whole number up to x, element by element, of floats. */
export const floor = floatUnary("floor");
/** The least whole number from x on, element by element, of floats. */
export const ceil = floatUnary("ceil");
/** x without its fraction, element by element, of floats. */
export const trunc = floatUnary("trunc");
/** To the nearest whole number, halves to even, element by element, of floats. */
export const round = floatUnary("round");
/** x times its sigmoid, element by element, of floats. */
export const silu = floatUnary("silu");
/** x sigmoid(1.702 x), element by element, of floats. */
export const quickGelu = floatUnary("quickGelu");
/** log(1 + e^x), element by element, of floats. */
export const softplus = floatUnary("softplus");
type Signed = FloatType | "i64" | "i32" | "i16" | "i8" | "i4";
const signedUnary =
  (name: "neg" | "abs" | "sign" | "relu") =>
  <D extends Signed, S extends Dims>(x: Tensor<D, S>): Tensor<D, S> =>
    record((b) => wrap(b[name](x.value)));
/** -x, element by element, of floats and signed integers. */
export const neg = signedUnary("neg");
/** |x|, element by element, of floats and signed integers. */
export const abs = signedUnary("abs");
/** -1, 0 or 1, element by element, of floats and signed integers. */
export const sign = signedUnary("sign");
/** max(x, 0), element by element, of floats and signed integers. */
export const relu = signedUnary("relu");

/** The opposite of each boolean. */
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

/** The same numbers in another dtype: floats to integers toward zero, to bool whether not 0; nothing where x has it. */
export function cast<D extends DType, S extends Dims>(x: Tensor<DType, S>, to: D): Tensor<D, S> {
  return record((b) => wrap(x.value.type.dtype === to ? x.value : b.cast(x.value, { to })));
}
