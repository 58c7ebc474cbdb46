import type { IntScalar, Scalar } from "../op.ts";
import { type Dim, type DType, dtypes, toInt64 } from "../type.ts";

const truth = (condition: boolean): number => (condition ? 1 : 0);

/** Number arithmetic in f64; booleans are 0 and 1. Results are wrapped to their dtype by the caller. */
export const numberScalar: Scalar<number> = {
  lit: (x) => x,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  intDiv: (a, b) => Math.trunc(a / b),
  mod: floorMod,
  pow: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b), // IEEE 754; ** gives NaN
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
  neg: (a) => -a,
  abs: Math.abs,
  sign: Math.sign,
  exp: Math.exp,
  log: Math.log,
  log1p: Math.log1p,
  expm1: Math.expm1,
  sqrt: Math.sqrt,
  rsqrt: (a) => 1 / Math.sqrt(a),
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  erf,
  floor: Math.floor,
  ceil: Math.ceil,
  trunc: Math.trunc,
  round: roundHalfEven,
  equal: (a, b) => truth(a === b),
  less: (a, b) => truth(a < b),
  lessEqual: (a, b) => truth(a <= b),
  isNan: (a) => truth(Number.isNaN(a)),
  isInf: (a) => truth(a === Infinity || a === -Infinity),
  and: (a, b) => truth(a !== 0 && b !== 0),
  or: (a, b) => truth(a !== 0 || b !== 0),
  xor: (a, b) => truth((a !== 0) !== (b !== 0)),
  not: (a) => truth(a === 0),
  bitAnd: (a, b) => a & b,
  bitOr: (a, b) => a | b,
  bitXor: (a, b) => a ^ b,
  bitNot: (a) => ~a,
  shiftLeft: (a, b) => a << b,
  shiftRight: (a, b, dtype) => (dtypes[dtype].kind === "signed" ? a >> b : a >>> b),
  select: (condition, yes, no) => (condition !== 0 ? yes : no),
  cast: (a, _from, to) => castNumber(a, to),
};

/** `%` with the sign of the divisor, also of a zero: exact, and finite for an infinite divisor of equal sign. */
function floorMod(a: number, b: number): number {
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 === b < 0 ? rest : rest + b;
}

/** The same for integers of 32 bits and below: products keep their low 32 bits, as wrap-around wants them. */
const narrowScalar: Scalar<number> = { ...numberScalar, mul: Math.imul };

/** 64-bit integers as f64 numbers: exact up to 2^53, beyond it wrapped exactly and then rounded to 53 bits. */
const wideScalar: Scalar<number> = {
  ...numberScalar,
  add: (a, b) => wide(a + b, () => toInt64(a) + toInt64(b)),
  sub: (a, b) => wide(a - b, () => toInt64(a) - toInt64(b)),
  mul: (a, b) => wide(a * b, () => toInt64(a) * toInt64(b)),
  neg: (a) => wide(-a, () => -toInt64(a)),
  abs: (a) => wide(Math.abs(a), () => (a < 0 ? -toInt64(a) : toInt64(a))),
  bitAnd: (a, b) => wrap64(toInt64(a) & toInt64(b)),
  bitOr: (a, b) => wrap64(toInt64(a) | toInt64(b)),
  bitXor: (a, b) => wrap64(toInt64(a) ^ toInt64(b)),
  bitNot: (a) => wrap64(~toInt64(a)),
  // By at most 63 places, as the shift ops state; a huge one would not fit in memory.
  shiftLeft: (a, b) => wrap64(toInt64(a) << (toInt64(b) & 63n)),
  shiftRight: (a, b) => wrap64(toInt64(a) >> (toInt64(b) & 63n)),
};

export const integerScalar = (dtype: DType): Scalar<number> => (dtypes[dtype].bits === 64 ? wideScalar : narrowScalar);

const wrap64 = (x: bigint): number => Number(BigInt.asIntN(64, x));
const wide = (x: number, exactly: () => bigint): number => (Math.abs(x) <= 2 ** 53 ? x : wrap64(exactly()));

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const share = x - below;
  if (share < 0.5) return below;
  if (share > 0.5) return below + 1;
  return below % 2 === 0 ? below : below + 1;
}

export function castNumber(x: number, to: DType): number {
  const { kind } = dtypes[to];
  if (kind === "bool") return truth(x !== 0);
  if (kind === "float") return x;
  return wrap(Math.trunc(x), to);
}

/**
 * Two's complement wrap-around of an integer result; 64-bit kinds saturate, as far as their own arithmetic has not
 * wrapped already. NaN is 0, and so is an infinity below 64 bits. Floats pass (the reference works in f64).
 */
export function wrap(x: number, dtype: DType): number {
  const { kind, bits } = dtypes[dtype];
  if (kind === "float" || kind === "bool") return x;
  if (bits === 64) return Number.isNaN(x) ? 0 : Math.max(-(2 ** 63), Math.min(x, 2 ** 63)) + 0;
  if (kind === "signed") return bits === 32 ? x | 0 : (x << (32 - bits)) >> (32 - bits);
  return bits === 32 ? x >>> 0 : x & (2 ** bits - 1);
}

/** Error function to f64 rounding: Maclaurin series near 0, continued fraction (Lentz) of erfc beyond 3. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const magnitude = Math.abs(x);
  if (magnitude > 6) return Math.sign(x); // erfc(6) is below 2.2e-17, half a unit of 1
  if (magnitude < 3) {
    let term = x;
    let total = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
      term *= (-x * x) / n;
      total += term / (2 * n + 1);
      if (n > 100) break;
    }
    return (2 / Math.sqrt(Math.PI)) * total;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (magnitude + fraction);
  return Math.sign(x) * (1 - Math.exp(-magnitude * magnitude) / (Math.sqrt(Math.PI) * (magnitude + fraction)));
}

/** Index arithmetic on numbers; booleans are 0 and 1. */
export const indexScalar: IntScalar<number> = {
  lit: (x) => x,
  dim: (d: Dim) => d as number,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => Math.floor(a / b),
  mod: (a, b) => a % b,
  min: Math.min,
  max: Math.max,
  abs: Math.abs,
  less: (a, b) => truth(a < b),
  lessEqual: (a, b) => truth(a <= b),
  and: (a, b) => truth(a !== 0 && b !== 0),
};
