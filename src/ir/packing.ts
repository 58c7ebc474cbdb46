import { InternalError } from "./diagnostic.ts";
import { allocate, bytesOf, type DType, dtypes, type Elements, type FloatType, type TensorData } from "./type.ts";

// Files hold elements packed and little-endian; memory holds them as `Elements` says. Every host that Node runs WebGPU
// on is little-endian, so kinds with a JavaScript array of their own are copied as bytes.

type SmallFloat = Exclude<FloatType, "f64" | "f32">;

/** Bits after the sign, and whether the top exponent means infinity and NaN (IEEE 754) or only code 0x7f is NaN (OCP). */
const smallFloats = {
  f16: { exponentBits: 5, mantissaBits: 10, infinity: true, overflow: "infinity" },
  bf16: { exponentBits: 8, mantissaBits: 7, infinity: true, overflow: "infinity" },
  f8e4m3: { exponentBits: 4, mantissaBits: 3, infinity: false, overflow: "saturate" },
  f8e5m2: { exponentBits: 5, mantissaBits: 2, infinity: true, overflow: "saturate" },
} as const satisfies Record<
  SmallFloat,
  { exponentBits: number; mantissaBits: number; infinity: boolean; overflow: "infinity" | "saturate" }
>;

const isSmallFloat = (dtype: DType): dtype is SmallFloat => Object.hasOwn(smallFloats, dtype);

/**
 * Unpacks `count` elements of `bytes`, the `skip`th first, to `into[at...]`. `skip` matters for kinds of less than a
 * byte, whose first element lies in the low bits (ONNX TensorProto).
 */
export function unpack(
  dtype: DType,
  bytes: Uint8Array,
  skip: number,
  into: Elements,
  range: { readonly at: number; readonly count: number },
): void {
  const { at, count } = range;
  const { bits, kind } = dtypes[dtype];
  if (isSmallFloat(dtype)) {
    const { values } = codecOf(dtype);
    if (bits === 8) for (let i = 0; i < count; i++) into[at + i] = values[bytes[skip + i] as number] as number;
    else
      for (let i = 0; i < count; i++) {
        const low = 2 * (skip + i);
        into[at + i] = values[(bytes[low] as number) | ((bytes[low + 1] as number) << 8)] as number;
      }
  } else if (bits < 8) {
    const perByte = 8 / bits;
    for (let i = 0; i < count; i++) {
      const index = skip + i;
      const field = ((bytes[Math.floor(index / perByte)] as number) >> (bits * (index % perByte))) & (2 ** bits - 1);
      into[at + i] = kind === "signed" && field >= 2 ** (bits - 1) ? field - 2 ** bits : field;
    }
  } else if (kind === "bool") for (let i = 0; i < count; i++) into[at + i] = bytes[skip + i] === 0 ? 0 : 1;
  else {
    const width = bits / 8;
    const target = new Uint8Array(into.buffer, into.byteOffset + at * width, count * width);
    target.set(bytes.subarray(skip * width, (skip + count) * width));
  }
}

/** Packs elements `start` to `end`; `start` must begin a byte. Small floats are rounded half to even. */
export function pack(dtype: DType, values: Elements, start: number, end: number): Uint8Array {
  if (Object.getPrototypeOf(values) !== Object.getPrototypeOf(allocate(dtype, 0)))
    throw new InternalError(`a tensor of ${dtype} holds its elements as ${values.constructor.name}`);
  const { bits } = dtypes[dtype];
  const count = end - start;
  if (isSmallFloat(dtype)) {
    const encode = codecOf(dtype).encode;
    const codes = bits === 8 ? new Uint8Array(count) : new Uint16Array(count);
    for (let i = 0; i < count; i++) codes[i] = encode(values[start + i] as number);
    return new Uint8Array(codes.buffer);
  }
  if (bits >= 8) return new Uint8Array(values.buffer, values.byteOffset + (start * bits) / 8, bytesOf(dtype, count));
  const perByte = 8 / bits;
  const packed = new Uint8Array(bytesOf(dtype, count));
  for (let i = 0; i < count; i++) {
    const byte = Math.floor(i / perByte);
    const field = (values[start + i] as number) & (2 ** bits - 1);
    packed[byte] = (packed[byte] as number) | (field << (bits * (i % perByte)));
  }
  return packed;
}

/** The same numbers in another float dtype, rounded half to even; both must be floats. */
export function convertFloats({ dtype, shape, values }: TensorData, wanted: FloatType): TensorData {
  if (dtype === wanted) return { dtype, shape, values };
  if (wanted === "f64") return { dtype: wanted, shape, values: Float64Array.from(values as Float32Array) };
  if (wanted === "f32")
    return { dtype: wanted, shape, values: values instanceof Float32Array ? values : new Float32Array(floats(values)) };
  const rounded = new Float32Array(values.length);
  const { encode, values: decoded } = codecOf(wanted);
  for (let i = 0; i < rounded.length; i++) rounded[i] = decoded[encode(values[i] as number)] as number;
  return { dtype: wanted, shape, values: rounded };
}

function floats(values: Elements): Float32Array | Float64Array {
  if (values instanceof Float32Array || values instanceof Float64Array) return values;
  throw new InternalError(`a float tensor holds its elements as ${values.constructor.name}`);
}

/** The value of every code, and the code of every number. */
interface Codec {
  readonly values: Float32Array;
  readonly encode: (value: number) => number;
}

const codecs = new Map<SmallFloat, Codec>();

function codecOf(dtype: SmallFloat): Codec {
  let codec = codecs.get(dtype);
  if (codec === undefined) {
    codec = { values: decodeAll(dtype), encode: encoder(dtype) };
    codecs.set(dtype, codec);
  }
  return codec;
}

function decodeAll(dtype: SmallFloat): Float32Array {
  const { exponentBits, mantissaBits, infinity } = smallFloats[dtype];
  const signCode = 2 ** (exponentBits + mantissaBits);
  const topExponent = 2 ** exponentBits - 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  return Float32Array.from({ length: 2 * signCode }, (_, code) => {
    const exponent = (code >> mantissaBits) & topExponent;
    const mantissa = code % 2 ** mantissaBits;
    const fraction = mantissa / 2 ** mantissaBits;
    const sign = code < signCode ? 1 : -1;
    if (infinity && exponent === topExponent) return mantissa === 0 ? sign * Infinity : Number.NaN;
    if (!infinity && code % signCode === signCode - 1) return Number.NaN;
    return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
  });
}

/**
 * Finite numbers beyond the range become infinity in f16 and bf16 (IEEE 754) and the largest number in f8 (ONNX Cast
 * with saturate); infinity stays infinity, or is NaN where there is none.
 */
function encoder(dtype: SmallFloat): (value: number) => number {
  const { exponentBits, mantissaBits, infinity, overflow } = smallFloats[dtype];
  const signCode = 2 ** (exponentBits + mantissaBits);
  const infinityCode = (2 ** exponentBits - 1) * 2 ** mantissaBits;
  const nan = infinity ? infinityCode + 2 ** (mantissaBits - 1) : signCode - 1;
  const largest = infinity ? infinityCode - 1 : signCode - 2;
  const beyond = overflow === "infinity" ? infinityCode : largest;
  const least = 2 - 2 ** (exponentBits - 1); // exponent of the smallest normal number
  // By biased exponent of a double: what brings the last mantissa bit to 1, and the code that its exponent stands for.
  const scale = new Float64Array(2048);
  const base = new Float64Array(2048);
  for (let biased = 0; biased < 2047; biased++) {
    const exponent = Math.max(biased - 1023, least);
    scale[biased] = 2 ** (mantissaBits - exponent);
    base[biased] = (exponent - least) * 2 ** mantissaBits;
  }
  const double = new Float64Array(1);
  const words = new Uint32Array(double.buffer);
  return (value) => {
    if (Number.isNaN(value)) return nan;
    double[0] = value;
    const high = words[1] as number;
    const sign = high >>> 31 === 0 ? 0 : signCode;
    const magnitude = Math.abs(value);
    if (magnitude === Infinity) return sign + (infinity ? infinityCode : nan);
    const biased = (high >>> 20) & 0x7ff;
    const whole = magnitude * (scale[biased] as number) + 2 ** 52 - 2 ** 52; // rounds half to even below 2^51
    const code = (base[biased] as number) + whole; // a carry out of the mantissa raises the exponent by itself
    return sign + (code > largest ? beyond : code);
  };
}
