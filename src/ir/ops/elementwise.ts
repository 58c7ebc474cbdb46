import type { Value } from "../graph.ts";
import type { Scalar, Structured } from "../op.ts";
import type { DType, TensorType } from "../type.ts";
import { sameTypes, wantKind } from "./rules.ts";

type Kind = "float" | "signed" | "unsigned" | "bool";
type Unary = Structured<[x: Value]>;
type Binary = Structured<[lhs: Value, rhs: Value]>;

const anyNumber: readonly Kind[] = ["float", "signed", "unsigned"];
const integers: readonly Kind[] = ["signed", "unsigned"];

function unary(
  summary: string,
  source: string,
  kinds: readonly Kind[],
  scalar: <E>(s: Scalar<E>, x: E, dtype: DType) => E,
  result: (type: TensorType) => TensorType = (type) => type,
): Unary {
  return {
    kind: "structured",
    summary,
    source,
    operands: ["x"],
    attrs: {},
    infer: ([x]) => {
      wantKind(x as TensorType, kinds);
      return [result(x as TensorType)];
    },
    form: { kind: "elementwise", scalar: (s, [x], _attrs, dtype) => scalar(s, x as never, dtype) },
  };
}

function binary(
  summary: string,
  source: string,
  kinds: readonly Kind[],
  scalar: <E>(s: Scalar<E>, lhs: E, rhs: E, dtype: DType) => E,
  result: (type: TensorType) => TensorType = (type) => type,
): Binary {
  return {
    kind: "structured",
    summary,
    source,
    operands: ["lhs", "rhs"],
    attrs: {},
    infer: (types) => {
      const type = sameTypes(types);
      wantKind(type, kinds);
      return [result(type)];
    },
    form: {
      kind: "elementwise",
      scalar: (s, [lhs, rhs], _attrs, dtype) => scalar(s, lhs as never, rhs as never, dtype),
    },
  };
}

const float: readonly Kind[] = ["float"];
const bool: readonly Kind[] = ["bool"];
const toBool = (type: TensorType): TensorType => ({ dtype: "bool", shape: type.shape });
const isFloatKind = (dtype: DType) => dtype.startsWith("f") || dtype === "bf16";

export const neg: Unary = unary("minus x", "ONNX Neg-13", ["float", "signed"], (s, x) => s.neg(x));
export const abs: Unary = unary("absolute value", "ONNX Abs-13", ["float", "signed"], (s, x) => s.abs(x));
export const sign: Unary = unary("-1, 0 or 1", "ONNX Sign-13", ["float", "signed"], (s, x) => s.sign(x));
export const exp: Unary = unary("e to the power x", "ONNX Exp-13", float, (s, x) => s.exp(x));
export const log: Unary = unary("natural logarithm", "ONNX Log-13", float, (s, x) => s.log(x));
export const log1p: Unary = unary("ln(1 + x), exact near 0", "C99 log1p", float, (s, x) => s.log1p(x));
export const expm1: Unary = unary("e^x - 1, exact near 0", "C99 expm1", float, (s, x) => s.expm1(x));
export const sqrt: Unary = unary("square root", "ONNX Sqrt-13", float, (s, x) => s.sqrt(x));
export const rsqrt: Unary = unary("1 / sqrt(x)", "WGSL inverseSqrt", float, (s, x) => s.rsqrt(x));
export const reciprocal: Unary = unary("1 / x", "ONNX Reciprocal-13", float, (s, x) => s.div(s.lit(1), x));
export const sin: Unary = unary("sine, x in radians", "ONNX Sin-7", float, (s, x) => s.sin(x));
export const cos: Unary = unary("cosine, x in radians", "ONNX Cos-7", float, (s, x) => s.cos(x));
export const tanh: Unary = unary("hyperbolic tangent", "ONNX Tanh-13", float, (s, x) => s.tanh(x));
export const erf: Unary = unary("Gauss error function", "ONNX Erf-13", float, (s, x) => s.erf(x));
export const sigmoid: Unary = unary("1 / (1 + e^-x)", "ONNX Sigmoid-13", float, (s, x) =>
  s.div(s.lit(1), s.add(s.lit(1), s.exp(s.neg(x)))),
);
export const relu: Unary = unary("max(x, 0)", "ONNX Relu-14", ["float", "signed"], (s, x) => s.max(x, s.lit(0)));
export const floor: Unary = unary("largest integer not above x", "ONNX Floor-13", float, (s, x) => s.floor(x));
export const ceil: Unary = unary("smallest integer not below x", "ONNX Ceil-13", float, (s, x) => s.ceil(x));
export const trunc: Unary = unary("toward zero", "IEEE 754 roundToIntegralTowardZero", float, (s, x) => s.trunc(x));
export const round: Unary = unary("to nearest, halves to even", "ONNX Round-11", float, (s, x) => s.round(x));
export const isNan: Unary = unary("whether x is not a number", "ONNX IsNaN-13", float, (s, x) => s.isNan(x), toBool);
export const isInf: Unary = unary("whether x is infinite", "ONNX IsInf-10", float, (s, x) => s.isInf(x), toBool);
export const not: Unary = unary("logical negation", "ONNX Not-1", bool, (s, x) => s.not(x));
export const bitNot: Unary = unary("every bit flipped", "ONNX BitwiseNot-18", integers, (s, x) => s.bitNot(x));

export const add: Binary = binary("lhs + rhs", "ONNX Add-14", anyNumber, (s, a, b) => s.add(a, b));
export const sub: Binary = binary("lhs - rhs", "ONNX Sub-14", anyNumber, (s, a, b) => s.sub(a, b));
export const mul: Binary = binary("lhs * rhs", "ONNX Mul-14", anyNumber, (s, a, b) => s.mul(a, b));
export const div: Binary = binary("lhs / rhs; integers toward zero", "ONNX Div-14", anyNumber, (s, a, b, dtype) =>
  isFloatKind(dtype) ? s.div(a, b) : s.intDiv(a, b),
);
export const mod: Binary = binary("remainder with the divisor's sign", "ONNX Mod-13", anyNumber, (s, a, b) =>
  s.mod(a, b),
);
export const pow: Binary = binary("lhs to the power rhs", "ONNX Pow-15", float, (s, a, b) => s.pow(a, b));
export const min: Binary = binary("the smaller", "ONNX Min-13", anyNumber, (s, a, b) => s.min(a, b));
export const max: Binary = binary("the larger", "ONNX Max-13", anyNumber, (s, a, b) => s.max(a, b));
const anyKind: readonly Kind[] = ["float", "signed", "unsigned", "bool"];
export const equal: Binary = binary("lhs = rhs", "ONNX Equal-13", anyKind, (s, a, b) => s.equal(a, b), toBool);
export const notEqual: Binary = binary(
  "lhs differs from rhs",
  "ONNX Not(Equal)",
  anyKind,
  (s, a, b) => s.not(s.equal(a, b)),
  toBool,
);
export const less: Binary = binary("lhs < rhs", "ONNX Less-13", anyNumber, (s, a, b) => s.less(a, b), toBool);
export const lessEqual: Binary = binary(
  "lhs <= rhs",
  "ONNX LessOrEqual-16",
  anyNumber,
  (s, a, b) => s.lessEqual(a, b),
  toBool,
);
export const greater: Binary = binary("lhs > rhs", "ONNX Greater-13", anyNumber, (s, a, b) => s.less(b, a), toBool);
export const greaterEqual: Binary = binary(
  "lhs >= rhs",
  "ONNX GreaterOrEqual-16",
  anyNumber,
  (s, a, b) => s.lessEqual(b, a),
  toBool,
);
export const and: Binary = binary("both", "ONNX And-7", bool, (s, a, b) => s.and(a, b));
export const or: Binary = binary("either", "ONNX Or-7", bool, (s, a, b) => s.or(a, b));
export const xor: Binary = binary("exactly one", "ONNX Xor-7", bool, (s, a, b) => s.xor(a, b));
export const bitAnd: Binary = binary("bits in both", "ONNX BitwiseAnd-18", integers, (s, a, b) => s.bitAnd(a, b));
export const bitOr: Binary = binary("bits in either", "ONNX BitwiseOr-18", integers, (s, a, b) => s.bitOr(a, b));
export const bitXor: Binary = binary("bits in one", "ONNX BitwiseXor-18", integers, (s, a, b) => s.bitXor(a, b));
export const shiftLeft: Binary = binary(
  "lhs << rhs, rhs in bits below the width",
  "ONNX BitShift-11",
  integers,
  (s, a, b) => s.shiftLeft(a, b),
);
export const shiftRight: Binary = binary(
  "lhs >> rhs, rhs in bits below the width; keeps the sign of signed types",
  "ONNX BitShift-11",
  integers,
  (s, a, b, dtype) => s.shiftRight(a, b, dtype),
);

export const select: Structured<[condition: Value, yes: Value, no: Value]> = {
  kind: "structured",
  summary: "yes where condition holds, else no",
  source: "ONNX Where-16",
  operands: ["condition", "yes", "no"],
  attrs: {},
  infer: ([condition, yes, no]) => {
    const type = sameTypes([yes as TensorType, no as TensorType], ["yes", "no"]);
    wantKind(condition as TensorType, bool);
    sameTypes([{ dtype: "bool", shape: type.shape }, condition as TensorType], ["yes", "condition"]);
    return [type];
  },
  form: {
    kind: "elementwise",
    scalar: (s, [condition, yes, no]) => s.select(condition as never, yes as never, no as never),
  },
};

export const cast: Structured<[x: Value], { to: DType }> = {
  kind: "structured",
  summary: "conversion; floats to integers go toward zero, to bool: differs from zero",
  source: "ONNX Cast-13",
  operands: ["x"],
  attrs: { to: { kind: "dtype" } },
  infer: ([x], { to }) => [{ dtype: to, shape: (x as TensorType).shape }],
  form: { kind: "elementwise", scalar: (s, [x], { to }, dtype) => s.cast(x as never, dtype, to) },
};
