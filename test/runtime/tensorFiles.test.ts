import { writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { type TensorType, tensorData } from "../../src/ir/type.ts";
import { writeNpy } from "../../src/runtime/node/npy.ts";
import { writeSafetensors } from "../../src/runtime/node/safetensors.ts";
import { parseInput, readTensor, readTensors } from "../../src/runtime/node/tensorFiles.ts";
import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

async function json(text: string): Promise<string> {
  await writeFile(at("in.json"), text);
  return at("in.json");
}

const two = tensorData("f32", [2], [1, 2]);

describe("readTensors", () => {
  test("reads all tensors of .safetensors, .npy and .json", async () => {
    await writeSafetensors(at("a.safetensors"), [{ name: "x", source: two }]);
    await writeNpy(at("b.npy"), two);
    expect(await readTensors(at("a.safetensors"))).toEqual(new Map([["x", two]]));
    expect(await readTensors(at("b.npy"))).toEqual(new Map([["b", two]]));
    expect(await readTensors(await json("[1, 2]"))).toEqual(new Map([["in", two]]));
    expect(await readTensors(await json('{"x": [1, 2], "y": 3}'))).toEqual(
      new Map([
        ["x", two],
        ["y", tensorData("f32", [], [3])],
      ]),
    );
  });

  test("refuses other formats", async () =>
    expect((await refusal(readTensors(at("x.txt")))).code).toBe("tensor-format"));
});

describe("readTensor", () => {
  const read = async (text: string, type: TensorType, name = "x") => readTensor(await json(text), type, name);
  const code = async (text: string, dtype: TensorType["dtype"], shape: TensorType["shape"]) =>
    (await refusal(read(text, { dtype, shape }))).code;

  test("reads .json numbers as the wanted dtype", async () => {
    expect(await read("[[1, -2, 3]]", { dtype: "i64", shape: [1, 3] })).toEqual(tensorData("i64", [1, 3], [1, -2, 3]));
    expect(await read("[true, 0]", { dtype: "bool", shape: [2] })).toEqual(tensorData("bool", [2], [1, 0]));
    expect(await read("[0.1]", { dtype: "f16", shape: [1] })).toEqual(tensorData("f16", [1], [0.0999755859375]));
    expect(await read("7", { dtype: "u8", shape: [] })).toEqual(tensorData("u8", [], [7]));
    expect(await read("[[], []]", { dtype: "f32", shape: [2, 0] })).toEqual(tensorData("f32", [2, 0], []));
  });

  test("lets a symbolic dim take any one size", async () => {
    expect((await read("[[1], [2]]", { dtype: "f32", shape: ["batch", 1] })).shape).toEqual([2, 1]);
    expect((await read("[[1, 2], [3, 4]]", { dtype: "f32", shape: ["n", "n"] })).shape).toEqual([2, 2]);
    expect(await code("[[1], [2]]", "f32", ["n", "n"])).toBe("tensor-shape");
  });

  test("takes the input's tensor by name, or the only one", async () => {
    const type = { dtype: "f32", shape: [2] } as const;
    expect(await read('{"x": [1, 2], "y": [3, 4]}', type)).toEqual(two);
    expect(await read('{"z": [1, 2]}', type)).toEqual(two);
    const error = await refusal(read('{"y": [1], "z": [2]}', type));
    expect(error.code).toBe("tensor-missing");
    expect(error.message).toContain('the file holds no tensor "x" but 2: "y", "z"');
  });

  test("refuses shapes, rows and values that do not fit", async () => {
    expect(await code("[1, 2, 3]", "f32", [2])).toBe("tensor-shape");
    expect(await code("[[1, 2]]", "f32", [2])).toBe("tensor-shape");
    expect(await code("[[1, 2], [3]]", "f32", [2, 2])).toBe("tensor-shape");
    expect(await code("[[1, 2], 3]", "f32", [2, 2])).toBe("tensor-shape");
    expect(await code("[1, [2]]", "f32", [2])).toBe("tensor-value");
    expect(await code('[1, "2"]', "f32", [2])).toBe("tensor-value");
    expect(await code("[1, null]", "f32", [2])).toBe("tensor-value");
    expect(await code("[1.5]", "i32", [1])).toBe("tensor-value");
    expect(await code("[256]", "u8", [1])).toBe("tensor-value");
    expect(await code("[-1]", "u8", [1])).toBe("tensor-value");
    expect(await code("[8]", "i4", [1])).toBe("tensor-value");
    expect(await code("[9007199254740993]", "i64", [1])).toBe("tensor-value");
    expect(await code("[2]", "bool", [1])).toBe("tensor-value");
    expect(await code("nonsense", "f32", [1])).toBe("tensor-format");
    expect(await code("[".repeat(50_000) + "]".repeat(50_000), "f32", [1])).toBe("tensor-shape");
  });

  test("converts floats of other files, and nothing else", async () => {
    await writeNpy(at("x.npy"), two);
    expect(await readTensor(at("x.npy"), { dtype: "f64", shape: [2] }, "x")).toEqual(tensorData("f64", [2], [1, 2]));
    const integers = readTensor(at("x.npy"), { dtype: "i32", shape: [2] }, "x");
    expect((await refusal(integers)).code).toBe("tensor-dtype");
    expect((await refusal(readTensor(at("x.npy"), { dtype: "f32", shape: [3] }, "x"))).code).toBe("tensor-shape");
  });
});

describe("parseInput", () => {
  test("reads NAME=FILE and NAME=random:SEED", () => {
    expect(parseInput("image=a=b.npy")).toEqual({ name: "image", from: "file", path: "a=b.npy" });
    expect(parseInput("x=random:7")).toEqual({ name: "x", from: "random", seed: 7 });
  });

  for (const spec of ["", "x", "=a.npy", "x=", "x=random:", "x=random:-1", "x=random:1e3"])
    test(`refuses ${JSON.stringify(spec)}`, async () =>
      expect((await refusal(() => parseInput(spec))).code).toBe("input-spec"));
});
