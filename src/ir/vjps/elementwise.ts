// Gradients of elementwise ops. y stands for the op's own result.
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { type DType, isFloat } from "../type.ts";
import { like, type NoGradient, type Vjp, vjp } from "../vjp.ts";

type One = readonly [Value];
type Two = readonly [Value, Value];

const unary = (rule: (b: Builder, ct: Value, x: Value, y: Value) => Value): Vjp =>
  vjp((b, ct, [x]: One, { result }) => [rule(b, ct, x, result)]);
const binary = (rule: (b: Builder, ct: Value, x: Value, y: Value, result: Value) => readonly [Value, Value]): Vjp =>
  vjp((b, ct, [lhs, rhs]: Two, { result }) => rule(b, ct, lhs, rhs, result));

const constant: NoGradient = { none: "its result is constant between its steps" };
const logical: NoGradient = { none: "its result is no float" };

/** Both where they are equal get half, as in torch. */
const extremum = (wins: "less" | "greater"): Vjp =>
  binary((b, ct, lhs, rhs) => {
    const [half, zero] = [b.mul(ct, like(b, ct, 0.5)), like(b, ct, 0)];
    const tie = b.equal(lhs, rhs);
    const left = b.select(b[wins](lhs, rhs), ct, zero);
    const right = b.select(b[wins](rhs, lhs), ct, zero);
    return [b.select(tie, half, left), b.select(tie, half, right)];
  });

export const elementwiseVjps = {
  neg: unary((b, ct) => b.neg(ct)),
  abs: unary((b, ct, x) => b.mul(ct, b.sign(x))),
  sign: constant,
  exp: unary((b, ct, _x, y) => b.mul(ct, y)),
  log: unary((b, ct, x) => b.div(ct, x)),
  log1p: unary((b, ct, x) => b.div(ct, b.add(like(b, x, 1), x))),
  expm1: unary((b, ct, _x, y) => b.mul(ct, b.add(y, like(b, y, 1)))),
  sqrt: unary((b, ct, _x, y) => b.div(ct, b.add(y, y))),
  rsqrt: unary((b, ct, _x, y) => b.mul(b.mul(ct, like(b, y, -0.5)), b.mul(y, b.mul(y, y)))),
  reciprocal: unary((b, ct, _x, y) => b.neg(b.mul(ct, b.mul(y, y)))),
  sin: unary((b, ct, x) => b.mul(ct, b.cos(x))),
  cos: unary((b, ct, x) => b.neg(b.mul(ct, b.sin(x)))),
  tanh: unary((b, ct, _x, y) => b.mul(ct, b.sub(like(b, y, 1), b.mul(y, y)))),
  erf: unary((b, ct, x) => b.mul(ct, b.mul(like(b, x, 2 / Math.sqrt(Math.PI)), b.exp(b.neg(b.mul(x, x)))))),
  sigmoid: unary((b, ct, _x, y) => b.mul(ct, b.mul(y, b.sub(like(b, y, 1), y)))),
  relu: unary((b, ct, x) => b.select(b.greater(x, like(b, x, 0)), ct, like(b, ct, 0))),
  floor: constant,
  ceil: constant,
  trunc: constant,
  round: constant,
  isNan: logical,
  isInf: logical,
  not: logical,
  bitNot: logical,
  add: binary((_b, ct) => [ct, ct]),
  sub: binary((b, ct) => [ct, b.neg(ct)]),
  mul: binary((b, ct, lhs, rhs) => [b.mul(ct, rhs), b.mul(ct, lhs)]),
  div: binary((b, ct, _lhs, rhs, y) => {
    const scaled = b.div(ct, rhs);
    return [scaled, b.neg(b.mul(scaled, y))];
  }),
  mod: binary((b, ct, lhs, rhs) => [ct, b.neg(b.mul(ct, b.floor(b.div(lhs, rhs))))]),
  // The exponent's part is 0 where the base is not positive: there the power is defined for whole exponents alone.
  pow: binary((b, ct, lhs, rhs, y) => {
    const positive = b.greater(lhs, like(b, lhs, 0));
    const log = b.log(b.select(positive, lhs, like(b, lhs, 1)));
    return [b.mul(ct, b.mul(rhs, b.pow(lhs, b.sub(rhs, like(b, rhs, 1))))), b.mul(ct, b.mul(y, log))];
  }),
  min: extremum("less"),
  max: extremum("greater"),
  equal: logical,
  notEqual: logical,
  less: logical,
  lessEqual: logical,
  greater: logical,
  greaterEqual: logical,
  and: logical,
  or: logical,
  xor: logical,
  bitAnd: logical,
  bitOr: logical,
  bitXor: logical,
  shiftLeft: logical,
  shiftRight: logical,
  select: vjp((b, ct, [condition]: readonly [Value, Value, Value]) => {
    const zero = like(b, ct, 0);
    return [undefined, b.select(condition, ct, zero), b.select(condition, zero, ct)];
  }),
  cast: vjp<{ to: DType }>((b, ct, [x]: One) => [
    isFloat(x.type.dtype) && isFloat(ct.type.dtype) ? b.cast(ct, { to: x.type.dtype }) : undefined,
  ]),
} as const;
