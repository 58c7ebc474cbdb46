import { readFile, writeFile } from "node:fs/promises";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { bytesOf, tensorData } from "../../src/ir/type.ts";
import { openSafetensors, writeSafetensors } from "../../src/runtime/node/safetensors.ts";

import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

/** The bytes of a file with this header, whose length is claimed to be `claimed`. */
function fileOf(header: unknown, dataBytes: number, claimed?: bigint): Buffer {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(claimed ?? BigInt(text.length));
  return Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]);
}

async function refusalOf(bytes: Buffer): Promise<CompileError> {
  const path = at("hostile.safetensors");
  await writeFile(path, bytes);
  const error = await refusal(openSafetensors(path));
  expect(error.diagnostics[0]?.loc).toEqual({ kind: "file", file: path, line: 1, column: 1 });
  return error;
}

const f32 = (shape: readonly number[], begin: number, end: number) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

describe("hostile headers", () => {
  const cases: readonly [name: string, code: string, bytes: Buffer][] = [
    ["an empty file", "weights-truncated", Buffer.alloc(0)],
    ["a file of less than a header length", "weights-truncated", Buffer.alloc(7)],
    ["a header longer than the file", "weights-truncated", fileOf("{}", 0, 3n)],
    ["a header of 10 GB", "weights-header", fileOf("{}", 0, 10_000_000_000n)],
    ["a header of 2^64 - 1 bytes", "weights-header", fileOf("{}", 0, 2n ** 64n - 1n)],
    ["an empty header", "weights-header", fileOf("", 0)],
    ["a header that is not JSON", "weights-header", fileOf("{'w': 1}", 0)],
    ["a header that is not UTF-8", "weights-header", Buffer.concat([fileOf("", 0, 2n), Buffer.from([0xff, 0xfe])])],
    ["a header that is an array", "weights-header", fileOf([], 0)],
    ["a header that is null", "weights-header", fileOf(null, 0)],
    ["a header nested 100,000 deep", "weights-header", fileOf("[".repeat(1e5) + "]".repeat(1e5), 0)],
    ["an entry that is a number", "weights-header", fileOf({ w: 1 }, 0)],
    ["an entry that is null", "weights-header", fileOf({ w: null }, 0)],
    ["an entry without a dtype", "weights-header", fileOf({ w: { shape: [], data_offsets: [0, 4] } }, 4)],
    ["an entry without a shape", "weights-header", fileOf({ w: { dtype: "F32", data_offsets: [0, 4] } }, 4)],
    ["an entry without offsets", "weights-offsets", fileOf({ w: { dtype: "F32", shape: [] } }, 4)],
    ["three offsets", "weights-offsets", fileOf({ w: { ...f32([1], 0, 4), data_offsets: [0, 4, 8] } }, 4)],
    ["offsets that are strings", "weights-offsets", fileOf({ w: { ...f32([1], 0, 4), data_offsets: ["0", "4"] } }, 4)],
    ["a negative offset", "weights-offsets", fileOf({ w: f32([1], -4, 0) }, 4)],
    ["a fractional offset", "weights-offsets", fileOf({ w: f32([1], 0.5, 4.5) }, 8)],
    ["an offset of 2^60", "weights-offsets", fileOf({ w: f32([1], 2 ** 60, 2 ** 60) }, 8)],
    ["a start after its end", "weights-offsets", fileOf({ w: f32([1], 4, 0) }, 4)],
    ["an end after the file's", "weights-truncated", fileOf({ w: f32([2], 0, 8) }, 4)],
    ["overlapping tensors", "weights-offsets", fileOf({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12)],
    ["two tensors over the same bytes", "weights-offsets", fileOf({ a: f32([2], 0, 8), b: f32([2], 0, 8) }, 8)],
    ["a hole at the start", "weights-offsets", fileOf({ a: f32([1], 4, 8) }, 8)],
    ["a hole between tensors", "weights-offsets", fileOf({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12)],
    ["bytes after the last tensor", "weights-offsets", fileOf({ a: f32([1], 0, 4) }, 5)],
    ["bytes of no tensor at all", "weights-offsets", fileOf({}, 1)],
    ["a shape larger than its bytes", "weights-size", fileOf({ w: f32([3], 0, 8) }, 8)],
    ["a shape smaller than its bytes", "weights-size", fileOf({ w: f32([1], 0, 8) }, 8)],
    ["a negative dim", "weights-size", fileOf({ w: f32([-1, -1], 0, 4) }, 4)],
    ["a fractional dim", "weights-size", fileOf({ w: f32([0.5, 2], 0, 4) }, 4)],
    ["a dim of minus zero", "weights-size", fileOf('{"w":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', 0)],
    ["a dim that is a string", "weights-size", fileOf({ w: { ...f32([1], 0, 4), shape: ["1"] } }, 4)],
    ["a dim beyond 2^53", "weights-size", fileOf({ w: f32([2 ** 60], 0, 4) }, 4)],
    ["dims whose product overflows", "weights-size", fileOf({ w: f32([2 ** 32, 2 ** 32, 0], 0, 0) }, 0)],
    [
      "one name twice",
      "weights-duplicate",
      fileOf(
        '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        1,
      ),
    ],
    [
      "one name twice, once escaped",
      "weights-duplicate",
      fileOf(
        '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "\\u0077" :{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        1,
      ),
    ],
    [
      "one field twice",
      "weights-duplicate",
      fileOf('{"w":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', 1),
    ],
    ["an unknown dtype", "weights-dtype", fileOf({ w: { dtype: "Q4", shape: [1], data_offsets: [0, 1] } }, 1)],
    [
      "a dtype that every object has",
      "weights-dtype",
      fileOf({ w: { dtype: "toString", shape: [1], data_offsets: [0, 1] } }, 1),
    ],
    ["metadata that is a string", "weights-header", fileOf({ __metadata__: "x" }, 0)],
    ["metadata that is an array", "weights-header", fileOf({ __metadata__: [] }, 0)],
    ["a number in the metadata", "weights-header", fileOf({ __metadata__: { format: 1 } }, 0)],
  ];
  for (const [name, code, bytes] of cases)
    test(`refuses ${name} as ${code}`, async () => expect((await refusalOf(bytes)).code).toBe(code));

  test("says what to do about U64", async () => {
    const error = await refusalOf(fileOf({ ids: { dtype: "U64", shape: [1], data_offsets: [0, 8] } }, 8));
    expect(error.message).toContain('error[weights-dtype]: tensor "ids" has dtype "U64", which is not supported');
    expect(error.message).toContain("help: save it as I64");
  });

  test("reads any flip of a byte, and any truncation, as tensors inside the file or refuses it", async () => {
    const path = at("flipped");
    await writeSafetensors(
      at("whole"),
      [
        { name: "a.weight", source: tensorData("f16", [2, 3], [1, 2, 3, 4, 5, 6]) },
        { name: "b", source: tensorData("i64", [2], [1, 2]) },
      ],
      { format: "pt" },
    );
    const whole = await readFile(at("whole"));
    const readsOrRefuses = async (bytes: Buffer): Promise<"read" | "refused"> => {
      await writeFile(path, bytes);
      try {
        const file = await openSafetensors(path);
        let held = 0;
        for (const { type } of file.tensors.values())
          held += bytesOf(
            type.dtype,
            type.shape.reduce((a, b) => a * b, 1),
          );
        expect(held).toBeLessThan(bytes.length);
        for (const source of file.tensors.values()) await source.read();
        await file.close();
        return "read";
      } catch (error) {
        expect(error).toBeInstanceOf(CompileError);
        return "refused";
      }
    };
    for (let length = 0; length < whole.length; length++)
      expect(await readsOrRefuses(whole.subarray(0, length))).toBe("refused");
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (index, flip) => {
        const bytes = Buffer.from(whole);
        bytes[index] = (bytes[index] as number) ^ flip;
        await readsOrRefuses(bytes);
      }),
      { numRuns: 400 },
    );
  });
});
