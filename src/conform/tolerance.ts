import { type DType, isFloat } from "../ir/type.ts";

/** Who computed the value that is judged. `reference` and `host` work in f64, the others in the tensor's own dtype. */
export type Judged = "reference" | "host" | "onnx" | "webgpu";

/** The largest error allowed, and why. The error measure is max|a - b| / max(1, max|b|), b being the wanted values. */
export interface Tolerance {
  readonly error: number;
  readonly reason: string;
}

export interface ToleranceOptions {
  readonly target: Judged;
  /** How the wanted values were stored; F32 unless said otherwise. */
  readonly golden?: "F32" | "F64";
  /** Length of the longest sum that a result element went through. */
  readonly terms?: number;
  /** The values are gradients. */
  readonly gradient?: boolean;
}

/** One row per kind of comparison; nothing else in the project states a tolerance. */
export const tolerances = {
  exact: { error: 0, reason: "integers, booleans, indices and masks have one right answer" },
  f64Golden: { error: 1e-9, reason: "f64 on both sides: 2^-53 times a million roundings stays below" },
  f32Golden: { error: 1e-6, reason: "the wanted values were rounded to f32 (6e-8), some after several f32 steps" },
  f32: { error: 2e-5, reason: "f32 sums of up to 1,700 products and functions exact to a few units of 6e-8" },
  f32Gradient: { error: 1e-4, reason: "a gradient goes through the sums twice and divides by deviations" },
  f16: { error: 4e-3, reason: "eight roundings of 2^-11 with sums kept in f32" },
  bf16: { error: 3e-2, reason: "eight roundings of 2^-8 with sums kept in f32" },
  f8e4m3: { error: 2 ** -4, reason: "a storage kind: one rounding to 3 mantissa bits" },
  f8e5m2: { error: 2 ** -3, reason: "a storage kind: one rounding to 2 mantissa bits" },
} as const satisfies Record<string, Tolerance>;

/** Rounding of a sum of n terms grows like sqrt(n) units; 8 of them are never met (Higham and Mary, SISC 2019). */
const deviations = 8;
const f32Unit = 2 ** -24; // relative rounding error of one f32 operation

/** The tolerance for values of `dtype`, from the table and the length of accumulation. */
export function tolerance(
  dtype: DType,
  { target, golden = "F32", terms = 1, gradient = false }: ToleranceOptions,
): Tolerance {
  if (!isFloat(dtype)) return tolerances.exact;
  if (target === "reference" || target === "host" || dtype === "f64")
    return golden === "F64" ? tolerances.f64Golden : tolerances.f32Golden;
  const row = dtype === "f32" ? (gradient ? tolerances.f32Gradient : tolerances.f32) : tolerances[dtype];
  const summed = deviations * Math.sqrt(terms) * f32Unit;
  return summed <= row.error ? row : { error: summed, reason: `f32 sums of ${terms} terms` };
}

/** Any tensor whose elements can be read as numbers or, for i64, bigints. */
export interface Comparable {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: ArrayLike<number | bigint>;
}

export interface Comparison {
  readonly ok: boolean;
  /** Largest absolute difference; infinite where one side alone is NaN or infinite, or the types differ. */
  readonly maxAbs: number;
  /** maxAbs / max(1, the largest finite wanted magnitude). */
  readonly error: number;
  /** Row-major position of the largest difference; -1 where the tensors are equal or their types differ. */
  readonly at: number;
  /** Got and wanted, for a message; empty where ok. */
  readonly message: string;
}

/** Compares values with their wanted ones. NaN equals NaN, an infinity its like, -0 equals 0. */
export function compareTensors(actual: Comparable, wanted: Comparable, allowed: Tolerance): Comparison {
  const [got, want] = [actual, wanted].map(({ dtype, shape }) => `${dtype}[${shape.join(",")}]`);
  if (got !== want || actual.values.length !== wanted.values.length) {
    const message = `got ${got} of ${actual.values.length} elements, wanted ${want} of ${wanted.values.length}`;
    return { ok: false, maxAbs: Infinity, error: Infinity, at: -1, message };
  }
  let scale = 1;
  let maxAbs = 0;
  let at = -1;
  for (let i = 0; i < wanted.values.length; i++) {
    const [a, b] = [actual.values[i] as number | bigint, wanted.values[i] as number | bigint];
    const magnitude = Math.abs(Number(b));
    if (magnitude > scale && magnitude !== Infinity) scale = magnitude;
    const difference = differenceOf(a, b);
    if (difference > maxAbs) [maxAbs, at] = [difference, i];
  }
  const error = maxAbs / scale;
  const ok = error <= allowed.error;
  const message = ok
    ? ""
    : `element ${at}: got ${actual.values[at]}, wanted ${wanted.values[at]}; error ${error.toExponential(2)} is above ${allowed.error} (${allowed.reason})`;
  return { ok, maxAbs, error, at, message };
}

function differenceOf(a: number | bigint, b: number | bigint): number {
  if (typeof a === "bigint" && typeof b === "bigint") return Math.abs(Number(a - b));
  const [x, y] = [Number(a), Number(b)];
  if (Object.is(x, y) || x === y) return 0;
  const difference = Math.abs(x - y);
  return Number.isNaN(difference) ? Infinity : difference;
}
