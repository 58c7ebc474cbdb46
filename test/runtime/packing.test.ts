import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { convertFloats, pack, unpack } from "../../src/ir/packing.ts";
import { allocate, type DType, type FloatType, tensorData } from "../../src/ir/type.ts";

function decode(dtype: DType, bytes: Uint8Array, count: number, skip = 0) {
  const values = allocate(dtype, count);
  unpack(dtype, bytes, skip, values, { at: 0, count });
  return values;
}

const round = (dtype: FloatType, value: number): number =>
  convertFloats(tensorData("f64", [1], [value]), dtype).values[0] as number;

describe("small floats", () => {
  for (const [dtype, bits] of [
    ["f16", 16],
    ["bf16", 16],
    ["f8e4m3", 8],
    ["f8e5m2", 8],
  ] as const) {
    const codes = bits === 16 ? Uint16Array.from({ length: 65536 }, (_, i) => i) : Uint8Array.from(Array(256).keys());
    const values = decode(dtype, new Uint8Array(codes.buffer), codes.length) as Float32Array;

    test(`of ${dtype} keep every code but those of NaN, which become one`, () => {
      const packed = pack(dtype, values, 0, values.length);
      const again = bits === 16 ? new Uint16Array(packed.buffer) : packed;
      const changed = [...codes.keys()].filter((i) => codes[i] !== again[i]);
      expect(changed.every((i) => Number.isNaN(values[i]))).toBe(true);
    });

    test(`of ${dtype} are the nearest to any number in range, ties to even`, () => {
      const half = [...values.subarray(0, codes.length / 2)].map((value, code) => ({ value, code }));
      const finite = half.filter(({ value }) => Number.isFinite(value));
      const largest = finite.at(-1)?.value as number;
      fc.assert(
        fc.property(fc.double({ min: 0, max: largest, noNaN: true }), fc.nat(finite.length - 2), (value, code) => {
          const [low, high] = [finite[code]?.value as number, finite[code + 1]?.value as number];
          const tie = code % 2 === 0 ? low : high;
          expect(round(dtype, (low + high) / 2)).toBe(tie);
          expect(round(dtype, -(low + high) / 2)).toBe(-tie);
          const error = Math.abs(round(dtype, value) - value);
          for (const { value: other } of bits === 8 ? finite : finite.slice(code, code + 100))
            expect(error).toBeLessThanOrEqual(Math.abs(other - value));
        }),
        { numRuns: 200 },
      );
    });
  }

  test("overflow to infinity in f16 and bf16 and to the largest number in f8", () => {
    expect([65519.99, 65520, -1e300].map((v) => round("f16", v))).toEqual([65504, Infinity, -Infinity]);
    expect(round("bf16", 3.4e38)).toBe(Infinity);
    expect([1e9, -1e9, Infinity].map((v) => round("f8e4m3", v))).toEqual([448, -448, Number.NaN]);
    expect([1e9, -1e9, -Infinity].map((v) => round("f8e5m2", v))).toEqual([57344, -57344, -Infinity]);
  });

  test("are rounded once, not by way of f32", () => {
    // Just above the tie between 1 and 1 + 2^-10, and on it once rounded to f32.
    expect(round("f16", 1 + 2 ** -11 + 2 ** -40)).toBe(1 + 2 ** -10);
  });
});

describe("elements of less than a byte", () => {
  test("lie lowest bits first, and may begin inside a byte", () => {
    expect([...decode("u4", Uint8Array.of(0x21, 0xf3), 4)]).toEqual([1, 2, 3, 15]);
    expect([...decode("i4", Uint8Array.of(0x87, 0x0f), 3)]).toEqual([7, -8, -1]);
    expect([...decode("u2", Uint8Array.of(0b11_10_01_00, 0b10), 5)]).toEqual([0, 1, 2, 3, 2]);
    expect([...decode("u4", Uint8Array.of(0x21, 0xf3), 2, 1)]).toEqual([2, 3]);
  });

  test("are packed as they are unpacked, with zeros at the end", () => {
    expect([...pack("i4", Int8Array.of(7, -8, -1), 0, 3)]).toEqual([0x87, 0x0f]);
    expect([...pack("u2", Uint8Array.of(0, 1, 2, 3, 2), 0, 5)]).toEqual([0b11_10_01_00, 0b10]);
  });
});

test("any byte but 0 is true", () => expect([...decode("bool", Uint8Array.of(0, 1, 255), 3)]).toEqual([0, 1, 1]));

test("elements in an array of another kind are a defect", () =>
  expect(() => pack("i32", Float32Array.of(1), 0, 1)).toThrow("a tensor of i32 holds its elements as Float32Array"));
