import { mkdir, writeFile } from "node:fs/promises";
import onnxProto from "onnx-proto";
import { describe, expect, test } from "vitest";
import { type TensorData, tensorData } from "../../src/ir/type.ts";
import { openOnnxWeights } from "../../src/runtime/node/onnxWeights.ts";
import { freshFolder, refusal } from "./folder.ts";

const { onnx } = onnxProto;
type Initializer = Omit<onnxProto.onnx.ITensorProto, "dataType"> & { dataType: number };

const at = freshFolder();

async function writeModel(...initializer: Initializer[]): Promise<string> {
  const model = { irVersion: 8, graph: { name: "g", initializer }, metadataProps: [{ key: "by", value: "test" }] };
  await writeFile(at("m.onnx"), onnx.ModelProto.encode(model as onnxProto.onnx.IModelProto).finish());
  return at("m.onnx");
}

async function contentsOf(...initializer: Initializer[]): Promise<TensorData | undefined> {
  const weights = await openOnnxWeights(await writeModel(...initializer));
  const contents = await [...weights.tensors.values()][0]?.read();
  await weights.close();
  return contents;
}

const refusalOf = async (initializer: Initializer) => refusal(openOnnxWeights(await writeModel(initializer)));

const external = (location: string, properties: Record<string, string> = {}): Initializer => ({
  name: "w",
  dims: [2],
  dataType: 1,
  dataLocation: 1,
  externalData: Object.entries({ location, ...properties }).map(([key, value]) => ({ key, value })),
});

describe("initializers inside the file", () => {
  const bytes = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  // Data types by number: onnx.proto, TensorProto.DataType.
  const cases: readonly [name: string, initializer: Initializer, expected: TensorData][] = [
    [
      "raw_data of floats",
      { dataType: 1, dims: [1, 2], rawData: bytes(Float32Array.of(1, -2)) },
      tensorData("f32", [1, 2], [1, -2]),
    ],
    ["float_data", { dataType: 1, dims: [2], floatData: [1, -2] }, tensorData("f32", [2], [1, -2])],
    ["double_data", { dataType: 11, dims: [2], doubleData: [0.1, -2] }, tensorData("f64", [2], [0.1, -2])],
    ["int64_data", { dataType: 7, dims: [2], int64Data: [2 ** 40, -3] }, tensorData("i64", [2], [2 ** 40, -3])],
    ["int32_data", { dataType: 6, dims: [2], int32Data: [7, -8] }, tensorData("i32", [2], [7, -8])],
    ["int32_data of int8", { dataType: 3, dims: [2], int32Data: [7, -8] }, tensorData("i8", [2], [7, -8])],
    ["int32_data of int16", { dataType: 5, dims: [2], int32Data: [7, -8] }, tensorData("i16", [2], [7, -8])],
    ["int32_data of uint16", { dataType: 4, dims: [1], int32Data: [65535] }, tensorData("u16", [1], [65535])],
    ["int32_data of bool", { dataType: 9, dims: [2], int32Data: [0, 1] }, tensorData("bool", [2], [0, 1])],
    [
      "uint64_data of uint32",
      { dataType: 12, dims: [1], uint64Data: [2 ** 32 - 1] },
      tensorData("u32", [1], [2 ** 32 - 1]),
    ],
    [
      "int32_data of float16 bits",
      { dataType: 10, dims: [2], int32Data: [0x3c00, 0xc000] },
      tensorData("f16", [2], [1, -2]),
    ],
    ["int32_data of bfloat16 bits", { dataType: 16, dims: [1], int32Data: [0xbf80] }, tensorData("bf16", [1], [-1])],
    ["int32_data of f8 bits", { dataType: 17, dims: [1], int32Data: [0xb8] }, tensorData("f8e4m3", [1], [-1])],
    [
      "int32_data of two int4 each",
      { dataType: 22, dims: [3], int32Data: [0x87, 0x0f] },
      tensorData("i4", [3], [7, -8, -1]),
    ],
    [
      "raw_data of uint4",
      { dataType: 21, dims: [3], rawData: Uint8Array.of(0x87, 5) },
      tensorData("u4", [3], [7, 8, 5]),
    ],
    ["a scalar", { dataType: 1, floatData: [3] }, tensorData("f32", [], [3])],
    ["an empty tensor", { dataType: 1, dims: [0, 4] }, tensorData("f32", [0, 4], [])],
  ];
  for (const [name, initializer, expected] of cases)
    test(`are read from ${name}`, async () =>
      expect(await contentsOf({ name: "w", ...initializer })).toEqual(expected));

  test("come in the order of the file, with the model's metadata, and can be read in parts", async () => {
    const path = await writeModel(
      { name: "b", dataType: 6, dims: [3], int32Data: [1, 2, 3] },
      { name: "a", dataType: 6, dims: [3], int32Data: [1, 2, 3] },
    );
    const weights = await openOnnxWeights(path);
    expect([...weights.tensors.keys()]).toEqual(["b", "a"]);
    expect({ ...weights.metadata }).toEqual({ by: "test" });
    expect(await weights.tensors.get("a")?.read(1, 3)).toEqual(tensorData("i32", [2], [2, 3]));
    await weights.close();
  });
});

describe("external initializers", () => {
  test("are read by offset and length from files below the model's folder", async () => {
    await mkdir(at("sub"));
    await writeFile(at("sub/w.bin"), new Uint8Array(Float32Array.of(0, 1, 2, 3).buffer));
    const range = { offset: "4", length: "8" };
    expect(await contentsOf(external("sub/w.bin", range))).toEqual(tensorData("f32", [2], [1, 2]));
    expect(await contentsOf(external("./sub/w.bin"))).toEqual(tensorData("f32", [2], [0, 1]));
  });

  for (const location of ["../w.bin", "/etc/passwd", "sub/../../w.bin", "C:\\w.bin", ""])
    test(`may not lie at ${JSON.stringify(location)}`, async () =>
      expect((await refusalOf(external(location))).code).toBe("weights-path"));

  const ranges: readonly [name: string, code: string, range: Record<string, string>][] = [
    ["an offset past the end", "weights-truncated", { offset: "12" }],
    ["an offset that is negative", "weights-offsets", { offset: "-4" }],
    ["an offset beyond 2^53", "weights-offsets", { offset: "99999999999999999999" }],
    ["a length that is no number", "weights-offsets", { length: "0x8" }],
    ["a length past the end", "weights-truncated", { length: "80000000000" }],
    ["a length that is not the tensor's", "weights-size", { length: "4" }],
  ];
  for (const [name, code, range] of ranges)
    test(`are refused for ${name} as ${code}`, async () => {
      await writeFile(at("w.bin"), Buffer.alloc(16));
      expect((await refusalOf(external("w.bin", range))).code).toBe(code);
    });

  test("need their file", async () => {
    const error = await refusalOf(external("w.bin"));
    expect(error.code).toBe("file-not-found");
    expect(error.message).toContain(at("w.bin"));
  });
});

describe("hostile models", () => {
  const cases: readonly [name: string, code: string, initializer: Initializer][] = [
    ["dims larger than the data", "weights-size", { dataType: 1, dims: [3], floatData: [1, 2] }],
    ["dims smaller than the data", "weights-size", { dataType: 1, dims: [1], rawData: new Uint8Array(8) }],
    ["dims of 8 TB without data", "weights-size", { dataType: 11, dims: [1e12] }],
    ["dims whose product overflows", "weights-size", { dataType: 1, dims: [2 ** 40, 2 ** 40] }],
    ["a negative dim", "weights-size", { dataType: 1, dims: [-1], rawData: new Uint8Array(4) }],
    ["a segment", "weights-size", { dataType: 1, dims: [1], floatData: [1], segment: { begin: 0, end: 1 } }],
    ["values in the wrong field", "weights-size", { dataType: 1, dims: [1], int32Data: [1] }],
    ["strings", "weights-dtype", { dataType: 8, dims: [1], stringData: [new Uint8Array(1)] }],
    ["unsigned 64-bit integers", "weights-dtype", { dataType: 13, dims: [1], uint64Data: [1] }],
    ["an unknown data type", "weights-dtype", { dataType: 99, dims: [1], floatData: [1] }],
  ];
  for (const [name, code, initializer] of cases)
    test(`are refused for ${name} as ${code}`, async () =>
      expect((await refusalOf({ name: "w", ...initializer })).code).toBe(code));

  test("are refused for two initializers of one name", async () => {
    const w = { name: "w", dataType: 1, dims: [1], floatData: [1] };
    expect((await refusal(openOnnxWeights(await writeModel(w, w)))).code).toBe("weights-duplicate");
  });

  test("are refused when they are cut off, or no model at all", async () => {
    const code = async (bytes: Uint8Array) => {
      await writeFile(at("m.onnx"), bytes);
      return (await refusal(openOnnxWeights(at("m.onnx")))).code;
    };
    const graph = { name: "g", initializer: [{ name: "w", dims: [4], dataType: 1, rawData: new Uint8Array(16) }] };
    const whole = onnx.ModelProto.encode({ irVersion: 8, graph }).finish();
    for (let length = 0; length < whole.length; length++)
      expect(await code(whole.subarray(0, length))).toBe("weights-header");
    expect(await code(Buffer.from("this is text, not a model"))).toBe("weights-header");
    expect(await code(Buffer.alloc(100_000, 0x0b))).toBe("weights-header"); // groups nested 100,000 deep
  });
});
