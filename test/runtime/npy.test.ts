import { readFile, writeFile } from "node:fs/promises";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { type DType, tensorData } from "../../src/ir/type.ts";
import { readNpy, writeNpy } from "../../src/runtime/node/npy.ts";
import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

function npy(header: string, contents: Uint8Array, version = 1, claimed = header.length): Buffer {
  const prefix = Buffer.concat([Buffer.from("\x93NUMPY", "latin1"), Buffer.from([version, 0])]);
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  length.writeUIntLE(claimed, 0, length.length);
  return Buffer.concat([prefix, length, Buffer.from(header, "latin1"), contents]);
}

async function read(bytes: Buffer) {
  await writeFile(at("x.npy"), bytes);
  return readNpy(at("x.npy"));
}

const header = (descr: string, shape: string, fortran = "False") =>
  `{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;

for (const dtype of ["f64", "f32", "f16", "i64", "i32", "i16", "i8", "u32", "u16", "u8", "bool"] as DType[])
  for (const shape of [[], [3], [2, 1, 3], [0, 2]])
    test(`${dtype}[${shape}] is read as it was written`, async () => {
      const count = shape.reduce((a, b) => a * b, 1);
      const tensor = tensorData(
        dtype,
        shape,
        Array.from({ length: count }, (_, i) => i % 2),
      );
      await writeNpy(at("x.npy"), tensor);
      expect(await readNpy(at("x.npy"))).toEqual(tensor);
    });

test("the bytes are those that numpy.save writes", async () => {
  await writeNpy(at("x.npy"), tensorData("f32", [1, 2], [1, 2]));
  const expected = Buffer.concat([
    Buffer.from("\x93NUMPY\x01\x00\x76\x00", "latin1"),
    Buffer.from("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".padEnd(117)),
    Buffer.from("\n"),
    Buffer.from(Float32Array.of(1, 2).buffer),
  ]);
  expect(await readFile(at("x.npy"))).toEqual(expected);
});

test("Fortran order is turned into row-major order", async () => {
  // np.asfortranarray(np.arange(12, dtype="u1").reshape(2, 3, 2)), whose bytes are the transpose's.
  const bytes = Uint8Array.of(0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11);
  const tensor = await read(npy(header("'|u1'", "(2, 3, 2)", "True"), bytes));
  expect(tensor).toEqual(tensorData("u8", [2, 3, 2], [...Array(12).keys()]));
});

test("versions 2 and 3, keys in any order and no last comma are read", async () => {
  const text = "{'shape': (1,), 'fortran_order': False, 'descr': '<u1'}";
  for (const version of [2, 3]) expect((await read(npy(text, Uint8Array.of(7), version))).values[0]).toBe(7);
});

const good = header("'<f4'", "(2,)");
const eight = new Uint8Array(8);
const cases: readonly [name: string, code: string, bytes: Buffer][] = [
  ["an empty file", "weights-truncated", Buffer.alloc(0)],
  ["another format", "weights-header", Buffer.from("PK\x03\x04 and so on")],
  ["version 4", "weights-header", npy(good, eight, 4)],
  ["a header of 4 GB", "weights-header", npy(good, eight, 2, 2 ** 32 - 1)],
  ["a header longer than the file", "weights-truncated", npy(good, eight, 1, 60_000)],
  ["a header that is no dictionary", "weights-header", npy("[1, 2]\n", eight)],
  ["a header with a key twice", "weights-header", npy(good.replace("{", "{'shape': (2,), "), eight)],
  ["a header with another key", "weights-header", npy(good.replace("{", "{'x': True, "), eight)],
  ["a header with code in it", "weights-header", npy(good.replace(", }", ", __import__('os')}"), eight)],
  ["a header without a shape", "weights-header", npy("{'descr': '<f4', 'fortran_order': False}", eight)],
  ["a shape with a negative dim", "weights-header", npy(header("'<f4'", "(-1, -2)"), eight)],
  ["a shape with an empty dim", "weights-size", npy(header("'<f4'", "(1,,2)"), eight)],
  ["a shape that overflows", "weights-size", npy(header("'<f4'", `(${"9999999999, ".repeat(3)})`), eight)],
  ["a shape of 8 TB", "weights-truncated", npy(header("'<f8'", "(1000000000000,)"), eight)],
  ["fewer bytes than the shape needs", "weights-truncated", npy(header("'<f4'", "(3,)"), eight)],
  ["more bytes than the shape needs", "weights-size", npy(header("'<f4'", "(1,)"), eight)],
  ["big-endian elements", "weights-dtype", npy(header("'>f4'", "(2,)"), eight)],
  ["unsigned 64-bit integers", "weights-dtype", npy(header("'<u8'", "(1,)"), eight)],
  ["pickled objects", "weights-dtype", npy(header("'|O'", "(1,)"), eight)],
  ["structured elements", "weights-dtype", npy(header("[('x', '<f4')]", "(2,)"), eight)],
];
for (const [name, code, bytes] of cases)
  test(`${name} is refused as ${code}`, async () => expect((await refusal(read(bytes))).code).toBe(code));

test("dtypes that NumPy lacks are not written", async () =>
  expect((await refusal(writeNpy(at("x.npy"), tensorData("bf16", [1], [1])))).code).toBe("weights-dtype"));

test("any flip of a byte or truncation is read or refused", async () => {
  const whole = npy(good, eight);
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 }), async (index, flip) => {
      const bytes = Buffer.from(whole);
      bytes[index] = (bytes[index] as number) ^ flip;
      await read(flip === 0 ? bytes.subarray(0, index) : bytes).catch((error: unknown) =>
        expect(error).toBeInstanceOf(CompileError),
      );
    }),
    { numRuns: 200 },
  );
});
