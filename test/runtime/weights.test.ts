import { mkdir, writeFile } from "node:fs/promises";
import onnxProto from "onnx-proto";
import { describe, expect, test } from "vitest";
import type { WeightSource } from "../../src/ir/graph.ts";
import { type TensorData, type TensorType, tensorData } from "../../src/ir/type.ts";
import { writeSafetensors } from "../../src/runtime/node/safetensors.ts";
import { bindWeights, loadWeights } from "../../src/runtime/node/weights.ts";
import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

describe("loadWeights", () => {
  const write = (name: string) => writeSafetensors(at(name), [{ name, source: tensorData("f32", [1], [1]) }]);
  const namesIn = async (path: string) => {
    await using weights = await loadWeights(path);
    return [...weights.tensors.keys()];
  };

  test("picks the format by the file's ending", async () => {
    await write("w.safetensors");
    await writeFile(at("i.json"), '{"weight_map": {"w.safetensors": "w.safetensors"}}');
    const graph = { name: "g", initializer: [{ name: "o", dims: [1], dataType: 1, floatData: [1] }] };
    await writeFile(at("m.ONNX"), onnxProto.onnx.ModelProto.encode({ graph }).finish());
    expect(await namesIn(at("w.safetensors"))).toEqual(["w.safetensors"]);
    expect(await namesIn(at("i.json"))).toEqual(["w.safetensors"]);
    expect(await namesIn(at("m.ONNX"))).toEqual(["o"]);
  });

  test("finds the checkpoint in a folder", async () => {
    await write("other.safetensors");
    expect(await namesIn(at())).toEqual(["other.safetensors"]);
    await writeFile(at("model.safetensors.index.json"), '{"weight_map": {}}');
    expect(await namesIn(at())).toEqual([]);
    await write("model.safetensors");
    expect(await namesIn(at())).toEqual(["model.safetensors"]);
  });

  test("refuses folders with none or several, and files of another kind", async () => {
    const code = async (path: string) => (await refusal(loadWeights(path))).code;
    expect(await code(at())).toBe("weights-format");
    await write("a.safetensors");
    await write("b.safetensors");
    const several = await refusal(loadWeights(at()));
    expect(several.message).toContain("holds 2 weights files: a.safetensors, b.safetensors");
    await mkdir(at("sub"));
    await writeFile(at("sub/w.pt"), "");
    expect(await code(at("sub/w.pt"))).toBe("weights-format");
    expect(await code(at("none.safetensors"))).toBe("file-not-found");
  });

  test("closes with its scope", async () => {
    await write("w.safetensors");
    let source: WeightSource | undefined;
    {
      await using weights = await loadWeights(at("w.safetensors"));
      source = weights.tensors.get("w.safetensors");
      expect((await source?.read())?.values).toEqual(Float32Array.of(1));
    }
    await expect(source?.read()).rejects.toThrow("read after it was closed");
  });
});

describe("bindWeights", () => {
  const source = (data: TensorData): WeightSource => ({
    type: data,
    hash: "h",
    read: async (start = 0, end = data.values.length) => ({
      ...data,
      shape: [end - start],
      values: data.values.slice(start, end),
    }),
  });
  const checkpoint = (tensors: Record<string, TensorData>) => ({
    path: "w.safetensors",
    tensors: new Map(Object.entries(tensors).map(([name, data]) => [name, source(data)])),
  });
  const model = (types: Record<string, TensorType>) => new Map(Object.entries(types));
  const one = tensorData("f32", [2], [1, 2]);

  test("gives every expected name its weight, in the order of the model", () => {
    const bound = bindWeights(model({ b: one, a: one }), checkpoint({ a: one, b: one }));
    expect([...bound.keys()]).toEqual(["b", "a"]);
  });

  test("lists everything wrong at once, with near names", async () => {
    const expected = model({
      "head.weight": { dtype: "f32", shape: [10, 64] },
      "head.bias": { dtype: "f32", shape: [10] },
      norm: { dtype: "f32", shape: [2] },
      ids: { dtype: "i32", shape: [2] },
    });
    const held = checkpoint({
      "head.weigth": one,
      "head.bias": one,
      norm: one,
      ids: tensorData("i64", [2], [1, 2]),
      unrelated: one,
    });
    const error = await refusal(() => bindWeights(expected, held));
    expect(error.message).toBe(
      [
        "w.safetensors:1:1 error[weights-missing]: weight head.weight of f32[10,64] is missing",
        "  help: did you mean head.weigth?",
        "w.safetensors:1:1 error[weights-extra]: weight head.weigth is not one of the model's",
        "  help: did you mean head.weight?",
        "w.safetensors:1:1 error[weights-extra]: weight unrelated is not one of the model's",
        "w.safetensors:1:1 error[weights-shape]: weight head.bias is f32[2] but the model declares f32[10]",
        "w.safetensors:1:1 error[weights-dtype]: weight ids is i64[2] but the model declares i32[2]",
      ].join("\n"),
    );
  });

  test("prints 500 of a kind and counts the rest", async () => {
    const names = Array.from({ length: 505 }, (_, i) => `layers.${i}`);
    const expected = model(Object.fromEntries(names.map((name) => [name, one])));
    const error = await refusal(() => bindWeights(expected, checkpoint({ ok: one })));
    expect(error.diagnostics.map((d) => d.code)).toEqual([...Array(501).fill("weights-missing"), "weights-extra"]);
    expect(error.diagnostics[500]?.message).toBe("and 5 more");
  });

  test("renames, leaves out what the renaming leaves out, and ignores extras only when asked", async () => {
    const held = checkpoint({ "vit.w": one, "vit.position_ids": one, extra: one });
    const rename = (name: string) => (name.endsWith("position_ids") ? undefined : name.replace("vit.", ""));
    const expected = model({ w: one });
    expect([...bindWeights(expected, held, { rename, allowExtra: true }).keys()]).toEqual(["w"]);
    const error = await refusal(() => bindWeights(expected, held, { rename }));
    expect(error.diagnostics.map((d) => d.message)).toEqual(["weight extra is not one of the model's"]);
    const clash = await refusal(() => bindWeights(expected, held, { rename: () => "w" }));
    expect(clash.code).toBe("weights-duplicate");
    expect(clash.message).toContain("weights vit.w and vit.position_ids would both be w");
  });

  test("converts floats to the wanted float dtype when they are read, whole or in part", async () => {
    const held = checkpoint({ w: tensorData("f64", [2], [0.1, 1 + 2 ** -11]), x: tensorData("bf16", [1], [0.5]) });
    const bound = bindWeights(model({ w: { dtype: "f16", shape: [2] }, x: { dtype: "f32", shape: [1] } }), held);
    expect(bound.get("w")?.type).toEqual({ dtype: "f16", shape: [2] });
    expect(bound.get("w")?.hash).not.toBe("h");
    expect((await bound.get("w")?.read())?.values).toEqual(Float32Array.of(0.0999755859375, 1)); // 0x2e66, 0x3c00
    expect(await bound.get("w")?.read(1)).toEqual(tensorData("f16", [1], [1]));
    expect(await bound.get("x")?.read()).toEqual(tensorData("f32", [1], [0.5]));
  });
});
