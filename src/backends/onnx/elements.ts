// Elements as TensorProto.raw_data holds them: packed, little-endian (as is every host that Node runs on).
import { compileError } from "../../ir/diagnostic.ts";
import { bytesOf, type DType, dtypes, type Elements } from "../../ir/type.ts";

/** TensorProto.DataType by dtype; the numbers after 16 are younger than onnx-proto's. Source: onnx/onnx.proto. */
export const elementType = {
  f32: 1,
  u8: 2,
  i8: 3,
  u16: 4,
  i16: 5,
  i32: 6,
  i64: 7,
  bool: 9,
  f16: 10,
  f64: 11,
  u32: 12,
  bf16: 16,
  f8e4m3: 17,
  f8e5m2: 19,
  u4: 21,
  i4: 22,
  u2: 25,
} as const satisfies { readonly [K in DType]: number };

/** The opset that first let tensors of a dtype through, where it is later than 17. Source: ONNX Cast-19, -21, -25. */
export const dtypeSince: Partial<Readonly<Record<DType, number>>> = { f8e4m3: 19, f8e5m2: 19, i4: 21, u4: 21, u2: 25 };

/** Packs elements `start` to `end`; for kinds of less than a byte, `start` begins a byte. */
export function packElements(dtype: DType, values: Elements, start = 0, end = values.length): Uint8Array {
  const { bits } = dtypes[dtype];
  switch (dtype) {
    case "f16":
      return codes16(values, start, end, halfCode);
    case "bf16":
      return codes16(values, start, end, bfloatCode);
    case "f8e4m3":
    case "f8e5m2":
      throw compileError("unsupported-dtype", `weights of ${dtype} cannot be written to an ONNX file yet`, {
        help: "convert them to f16",
      });
    default:
      if (bits >= 8)
        return new Uint8Array(values.buffer, values.byteOffset + (start * bits) / 8, bytesOf(dtype, end - start));
      return packBits(bits, values, start, end);
  }
}

function packBits(bits: number, values: Elements, start: number, end: number): Uint8Array {
  const perByte = 8 / bits;
  const packed = new Uint8Array(Math.ceil((end - start) / perByte));
  for (let i = 0; i < end - start; i++) {
    const byte = Math.floor(i / perByte);
    const field = Number(values[start + i]) & (2 ** bits - 1);
    packed[byte] = (packed[byte] as number) | (field << (bits * (i % perByte)));
  }
  return packed;
}

function codes16(values: Elements, start: number, end: number, code: (bits: number) => number): Uint8Array {
  const out = new Uint16Array(end - start);
  const word = new Float32Array(1);
  const bits = new Uint32Array(word.buffer);
  for (let i = 0; i < out.length; i++) {
    word[0] = Number(values[start + i]);
    out[i] = code(bits[0] as number);
  }
  return new Uint8Array(out.buffer);
}

/** bf16 code of f32 bits, rounded half to even. */
function bfloatCode(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** f16 code of f32 bits, rounded half to even; beyond the range is infinity. */
function halfCode(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and above
  if (magnitude < 0x33000000) return sign; // below half of the smallest subnormal
  if (magnitude < 0x38800000) {
    const shift = 126 - (magnitude >>> 23); // subnormal: the implicit one moves into the mantissa
    return sign | roundShift((magnitude & 0x7fffff) | 0x800000, shift);
  }
  return sign | roundShift(magnitude - 0x38000000, 13); // a carry raises the exponent by itself
}

function roundShift(value: number, shift: number): number {
  const half = 2 ** (shift - 1);
  const odd = Math.floor(value / 2 ** shift) & 1;
  return Math.floor((value + half - 1 + odd) / 2 ** shift);
}
