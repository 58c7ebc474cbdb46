import type { Dim } from "./dim.ts";

export type { Dim } from "./dim.ts";
/** Sizes by axis; [] is a scalar. */
export type Shape = readonly Dim[];

/** What a tensor element is. `i4`, `u4`, `u2` and the f8 kinds are storage kinds of weights: cast before computing. */
export const dtypes = {
  f64: { kind: "float", bits: 64 },
  f32: { kind: "float", bits: 32 },
  f16: { kind: "float", bits: 16 },
  bf16: { kind: "float", bits: 16 },
  f8e4m3: { kind: "float", bits: 8 },
  f8e5m2: { kind: "float", bits: 8 },
  i64: { kind: "signed", bits: 64 },
  i32: { kind: "signed", bits: 32 },
  i16: { kind: "signed", bits: 16 },
  i8: { kind: "signed", bits: 8 },
  i4: { kind: "signed", bits: 4 },
  u32: { kind: "unsigned", bits: 32 },
  u16: { kind: "unsigned", bits: 16 },
  u8: { kind: "unsigned", bits: 8 },
  u4: { kind: "unsigned", bits: 4 },
  u2: { kind: "unsigned", bits: 2 },
  bool: { kind: "bool", bits: 8 },
} as const satisfies Record<string, { kind: "float" | "signed" | "unsigned" | "bool"; bits: number }>;

/** The name of a dtype: `f32`, `i32`, `bool` ... */
export type DType = keyof typeof dtypes;
/** The names of the floating-point dtypes. */
export type FloatType = "f64" | "f32" | "f16" | "bf16" | "f8e4m3" | "f8e5m2";

/** Whether a text names a dtype. */
export const isDType = (text: string): text is DType => Object.hasOwn(dtypes, text);
/** Whether a dtype is one of the floating-point kinds. */
export const isFloat = (dtype: DType): dtype is FloatType => dtypes[dtype].kind === "float";
/** Whether a dtype is a signed or unsigned integer. */
export const isInteger = (dtype: DType): boolean =>
  dtypes[dtype].kind === "signed" || dtypes[dtype].kind === "unsigned";

/** What is known of a tensor before it has contents. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** `f32[batch,197,384]` */
export const formatType = (type: TensorType): string => `${type.dtype}[${type.shape.join(",")}]`;

/** Elements of a shape whose dimensions are all sizes; NaN while a symbol is left. */
export function elementsOf(shape: Shape): number {
  let total = 1;
  for (const dim of shape) total *= typeof dim === "number" ? dim : Number.NaN;
  return total;
}

/** Bytes that `count` elements take when packed. */
export const bytesOf = (dtype: DType, count: number): number => Math.ceil((count * dtypes[dtype].bits) / 8);

/**
 * Element storage in memory. Kinds without a JavaScript array of their own are held widened (f16, bf16 and f8 as
 * Float32Array; i4, u4, u2 and bool one element a byte); i64 as BigInt64Array. Files are packed at the border.
 */
export type Elements =
  | Float64Array
  | Float32Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array
  | BigInt64Array;

/** A tensor's contents, row-major. `values.length` equals the product of `shape`. */
export interface TensorData {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly values: Elements;
}

/** Memory for `count` elements of a dtype, all 0. */
export function allocate(dtype: DType, count: number): Elements {
  switch (dtype) {
    case "f64":
      return new Float64Array(count);
    case "f32":
    case "f16":
    case "bf16":
    case "f8e4m3":
    case "f8e5m2":
      return new Float32Array(count);
    case "i64":
      return new BigInt64Array(count);
    case "i32":
      return new Int32Array(count);
    case "u32":
      return new Uint32Array(count);
    case "i16":
      return new Int16Array(count);
    case "u16":
      return new Uint16Array(count);
    case "i8":
    case "i4":
      return new Int8Array(count);
    case "u8":
    case "u4":
    case "u2":
    case "bool":
      return new Uint8Array(count);
    default:
      return dtype satisfies never;
  }
}

/** A tensor from plain numbers, nested or flat, in row-major order. */
export function tensorData(dtype: DType, shape: readonly number[], numbers: ArrayLike<number>): TensorData {
  const values = allocate(dtype, numbers.length);
  if (values instanceof BigInt64Array)
    for (let i = 0; i < numbers.length; i++) values[i] = toInt64(numbers[i] as number);
  else values.set(numbers as ArrayLike<number> & Iterable<number>);
  return { dtype, shape, values };
}

const [leastInt64, mostInt64] = [-(2n ** 63n), 2n ** 63n - 1n];

/** A number toward zero as a 64-bit integer: the nearest one where it is out of range, 0 for NaN. */
export function toInt64(x: number): bigint {
  if (Number.isNaN(x)) return 0n;
  if (Math.abs(x) < 2 ** 63) return BigInt(Math.trunc(x));
  return x < 0 ? leastInt64 : mostInt64;
}

/** The least and the largest number of a dtype. */
export function rangeOf(dtype: DType): readonly [number, number] {
  const { kind, bits } = dtypes[dtype];
  if (kind === "float") return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  if (kind === "signed") return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
  return [0, kind === "bool" ? 1 : 2 ** bits - 1];
}

/** Whether a dtype has this number: integers and booleans have whole numbers in their range, floats all. */
export function isNumberOf(x: number, dtype: DType): boolean {
  const [least, most] = rangeOf(dtype);
  return isFloat(dtype) || (Number.isInteger(x) && x >= least && x <= most);
}

/** The contents as plain f64 numbers (i64 beyond 2^53 loses its low bits). */
export function toNumbers(data: TensorData): Float64Array {
  if (data.values instanceof Float64Array) return data.values;
  if (data.values instanceof BigInt64Array) return Float64Array.from(data.values, Number);
  return Float64Array.from(data.values);
}
