import { mkdir, readdir, readFile, symlink, truncate, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { WeightSource } from "../../src/ir/graph.ts";
import { allocate, type DType, type TensorData, tensorData } from "../../src/ir/type.ts";
import { openSafetensors, openShardedSafetensors, writeSafetensors } from "../../src/runtime/node/safetensors.ts";

import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

async function contentsOf(path: string): Promise<Record<string, TensorData>> {
  const file = await openSafetensors(path);
  const contents: Record<string, TensorData> = {};
  for (const [name, source] of file.tensors) contents[name] = await source.read();
  await file.close();
  return contents;
}

describe("round trips", () => {
  const numbers: Partial<Record<DType, readonly number[]>> = {
    f64: [0.1, -1e300, Infinity],
    f32: [Math.fround(0.1), -0, Number.NaN],
    f16: [65504, 2 ** -24, -Infinity],
    bf16: [1.0078125, -(2 ** -133), Infinity],
    f8e4m3: [448, -(2 ** -9), Number.NaN],
    f8e5m2: [57344, 2 ** -16, -Infinity],
    i64: [2 ** 40, -1, 0],
    i32: [2 ** 31 - 1, -(2 ** 31), 7],
    i16: [32767, -32768, 7],
    i8: [127, -128, 7],
    u32: [2 ** 32 - 1, 0, 7],
    u16: [65535, 0, 7],
    u8: [255, 0, 7],
    bool: [1, 0, 1],
  };
  for (const [dtype, values] of Object.entries(numbers))
    test(`keeps ${dtype} exactly`, async () => {
      const path = at("one.safetensors");
      const source = tensorData(dtype as DType, [1, 3], values);
      await writeSafetensors(path, [{ name: "w", source }]);
      expect((await contentsOf(path))["w"]).toEqual(source);
    });

  test("keeps metadata, scalars, empty tensors and names that JavaScript objects treat specially", async () => {
    const path = at("odd.safetensors");
    const entries = ["__proto__", "constructor", "10", "2", 'quo"te\\', "é"].map((name, i) => ({
      name,
      source: tensorData("f32", [], [i]),
    }));
    await writeSafetensors(path, [...entries, { name: "empty", source: tensorData("i8", [0, 3], []) }], { by: "test" });
    const file = await openSafetensors(path);
    expect({ ...file.metadata }).toEqual({ by: "test" });
    expect(file.metadata["constructor"]).toBeUndefined();
    for (const { name, source } of entries) expect(await file.tensors.get(name)?.read()).toEqual(source);
    expect((await file.tensors.get("empty")?.read())?.shape).toEqual([0, 3]);
    await file.close();
  });

  test("takes names with quotes, braces and colons for what they are", async () => {
    const names = ['a":{', '{"', '\\"', "\\\\", "}:"];
    const entries = names.map((name) => ({ name, source: tensorData("u8", [1], [1]) }));
    await writeSafetensors(at("names"), entries, { "a:b": '"a":{' });
    expect(Object.keys(await contentsOf(at("names"))).sort()).toEqual(names.sort());
  });

  test("writes the same bytes whatever the order of entries and metadata, largest elements first", async () => {
    const a = { name: "a", source: tensorData("i8", [1], [1]) };
    const b = { name: "b", source: tensorData("f64", [1], [2]) };
    await writeSafetensors(at("1"), [a, b], { x: "1", y: "2" });
    await writeSafetensors(at("2"), [b, a], { y: "2", x: "1" });
    const bytes = await readFile(at("1"));
    expect(await readFile(at("2"))).toEqual(bytes);
    expect(
      bytes
        .subarray(8, 8 + Number(bytes.readBigUInt64LE()))
        .toString()
        .trimEnd(),
    ).toBe(
      '{"__metadata__":{"x":"1","y":"2"},"b":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},' +
        '"a":{"dtype":"I8","shape":[1],"data_offsets":[8,9]}}',
    );
  });

  test("copies tensors of more than one chunk from one file to another, and in place", async () => {
    const count = 5 * 2 ** 20; // f16 is written 4 Mi elements at a time
    const values = new Float32Array(count).map((_, i) => i % 2048);
    await writeSafetensors(at("a"), [{ name: "w", source: { dtype: "f16", shape: [count], values } }]);
    const file = await openSafetensors(at("a"));
    await writeSafetensors(at("a"), [{ name: "w", source: file.tensors.get("w") as WeightSource }]);
    await file.close();
    const copied = (await contentsOf(at("a")))["w"]?.values as Float32Array;
    expect(Buffer.compare(Buffer.from(copied.buffer), Buffer.from(values.buffer))).toBe(0);
  });
});

describe("reading by range", () => {
  test("gives the elements from start to end, flat", async () => {
    await writeSafetensors(at("r"), [{ name: "w", source: tensorData("bf16", [2, 3], [0, 1, 2, 3, 4, 5]) }]);
    const file = await openSafetensors(at("r"));
    expect(await file.tensors.get("w")?.read(2, 5)).toEqual(tensorData("bf16", [3], [2, 3, 4]));
    expect((await file.tensors.get("w")?.read(6))?.values.length).toBe(0);
    await expect(file.tensors.get("w")?.read(2, 7)).rejects.toThrow("elements 2 to 7 of 6");
    await file.close();
    await file.close();
    await expect(file.tensors.get("w")?.read()).rejects.toThrow("read after it was closed");
  });

  test("gives the same hash while the file is untouched, and another after it is replaced", async () => {
    const hash = async () => {
      const file = await openSafetensors(at("h"));
      await file.close();
      return [...file.tensors.values()].map((source) => source.hash);
    };
    const write = (value: number) =>
      writeSafetensors(
        at("h"),
        ["a", "b"].map((name) => ({ name, source: tensorData("f32", [1], [value]) })),
      );
    await write(1);
    const [a, b] = await hash();
    expect(a).not.toBe(b);
    expect(await hash()).toEqual([a, b]);
    await write(2);
    expect((await hash())[0]).not.toBe(a);
  });

  test("refuses a file that shrank after it was opened", async () => {
    await writeSafetensors(at("s"), [{ name: "w", source: tensorData("f32", [4], [1, 2, 3, 4]) }]);
    const file = await openSafetensors(at("s"));
    await truncate(at("s"), 72);
    expect((await refusal(file.tensors.get("w")?.read() ?? Promise.resolve())).code).toBe("weights-truncated");
    await file.close();
  });
});

describe("what the writer refuses", () => {
  const one = tensorData("f32", [1], [1]);

  test("dtypes that safetensors lacks, taken names, and values that do not fill the shape", async () => {
    const code = async (...entries: { name: string; source: TensorData }[]) =>
      (await refusal(writeSafetensors(at("w"), entries))).code;
    expect(await code({ name: "w", source: tensorData("i4", [1], [1]) })).toBe("weights-dtype");
    expect(await code({ name: "w", source: one }, { name: "w", source: one })).toBe("weights-duplicate");
    expect(await code({ name: "__metadata__", source: one })).toBe("weights-duplicate");
    expect(await code({ name: "w", source: { ...one, shape: [2] } })).toBe("weights-size");
    expect(await readdir(at())).toEqual([]);
  });

  test("leaves the old file, and nothing beside it, when a source fails half-way", async () => {
    await writeSafetensors(at("w"), [{ name: "old", source: one }]);
    const broken: WeightSource = {
      type: { dtype: "f32", shape: [8 * 2 ** 20] },
      hash: "",
      read: async (start = 0, end = 0) => {
        if (start > 0) throw new Error("the disk broke");
        return { dtype: "f32", shape: [end], values: allocate("f32", end) };
      },
    };
    await expect(writeSafetensors(at("w"), [{ name: "new", source: broken }])).rejects.toThrow("the disk broke");
    expect(await readdir(at())).toEqual(["w"]);
    expect(Object.keys(await contentsOf(at("w")))).toEqual(["old"]);
  });
});

describe("shards", () => {
  async function writeShards(weightMap: unknown): Promise<string> {
    await writeSafetensors(at("one.safetensors"), [{ name: "a", source: tensorData("f32", [1], [1]) }]);
    await mkdir(at("sub"));
    await writeSafetensors(at("sub/two.safetensors"), [
      { name: "blocks.0.weight", source: tensorData("f32", [1], [2]) },
    ]);
    const index = at("model.safetensors.index.json");
    await writeFile(index, JSON.stringify({ metadata: { total_size: 8 }, weight_map: weightMap }));
    return index;
  }

  test("are read as one checkpoint, through links as well", async () => {
    const index = await writeShards({ "blocks.0.weight": "sub/two.safetensors", a: "linked.safetensors" });
    await symlink(at("one.safetensors"), at("linked.safetensors"));
    const file = await openShardedSafetensors(index);
    expect([...file.tensors.keys()]).toEqual(["blocks.0.weight", "a"]);
    expect(await file.tensors.get("blocks.0.weight")?.read()).toEqual(tensorData("f32", [1], [2]));
    await file.close();
  });

  for (const shard of ["../one.safetensors", "sub/../../x", "/etc/passwd", "C:\\x", "..\\x", "C:x", "a\0b", ""])
    test(`may not be ${JSON.stringify(shard)}`, async () =>
      expect((await refusal(openShardedSafetensors(await writeShards({ a: shard })))).code).toBe("weights-path"));

  test("that are missing are all named, with what is near", async () => {
    const index = await writeShards({ a: "one.safetensor", b: "three.safetensors" });
    const error = await refusal(openShardedSafetensors(index));
    expect(error.diagnostics.map((d) => d.code)).toEqual(["file-not-found", "file-not-found"]);
    expect(error.message).toContain(`there is no file ${at("one.safetensor")}`);
    expect(error.message).toContain("help: did you mean one.safetensors?");
    expect(error.message).toContain(`${index}:1:1 named by this index`);
  });

  test("that lack tensors are named with them", async () => {
    const index = await writeShards({ "blocks.0.weigth": "sub/two.safetensors", b: "one.safetensors" });
    const error = await refusal(openShardedSafetensors(index));
    expect(error.diagnostics.map((d) => d.message)).toEqual([
      'shard "sub/two.safetensors" does not hold tensor "blocks.0.weigth"',
      'shard "one.safetensors" does not hold tensor "b"',
    ]);
    expect(error.diagnostics[0]?.help).toBe("did you mean blocks.0.weight?");
  });

  test("need an index that is an object of file names without repetition", async () => {
    const code = async (text: string) => {
      await writeFile(at("index.json"), text);
      return (await refusal(openShardedSafetensors(at("index.json")))).code;
    };
    expect(await code("nonsense")).toBe("weights-header");
    expect(await code("{}")).toBe("weights-header");
    expect(await code('{"weight_map": ["a"]}')).toBe("weights-header");
    expect(await code('{"weight_map": {"a": 1}}')).toBe("weights-header");
    expect(await code('{"weight_map": {"a": "x", "a": "y"}}')).toBe("weights-duplicate");
  });
});
