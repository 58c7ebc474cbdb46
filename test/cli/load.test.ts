import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { type Manifest, readManifest, writeFolder } from "../../src/cli/artifact.ts";
import { readBindings, readCount, readProfile, readTarget } from "../../src/cli/choice.ts";
import { readInputs } from "../../src/cli/inputs.ts";
import { loadModel } from "../../src/cli/load.ts";
import { readSettings } from "../../src/cli/set.ts";
import {
  createBuilder,
  defineModel,
  largeConstants,
  printGraph,
  type TensorData,
  tensorData,
} from "../../src/index.ts";
import { writeSafetensors } from "../../src/runtime/node/index.ts";
import { freshFolder, refusal } from "../runtime/folder.ts";

const path = freshFolder();

describe("IR files", () => {
  test("large constants come from the file beside it", async () => {
    const b = createBuilder();
    const table = b.constant(
      tensorData(
        "f32",
        [100],
        Array.from({ length: 100 }, (_, i) => i / 7),
      ),
    );
    const graph = b.finish("g", { y: b.add(b.input("x", { dtype: "f32", shape: [100] }), table) });
    await writeFile(path("g.ir"), printGraph(graph));
    expect((await refusal(loadModel(path("g.ir")))).message).toContain("are not at hand");
    const entries = largeConstants(graph).map(([name, node]) => ({ name, source: node.data as TensorData }));
    await writeSafetensors(path("g.ir.safetensors"), entries);
    const loaded = await loadModel(path("g.ir"));
    expect(loaded.source.kind === "graph" && printGraph(loaded.source.graph)).toBe(printGraph(graph));
  });

  test("a misspelt file name is met with the nearest one", async () => {
    await writeFile(path("model.ir"), "");
    const { code, diagnostics } = await refusal(loadModel(path("modle.ir")));
    expect([code, diagnostics[0]?.help]).toEqual(["file-not-found", "did you mean model.ir?"]);
  });

  test("other files and folders are refused", async () => {
    await writeFile(path("model.onnx"), "");
    expect((await refusal(loadModel(path("model.onnx")))).code).toBe("model-format");
    expect((await refusal(loadModel(path()))).code).toBe("model-format");
  });
});

describe("--set", () => {
  const definition = defineModel({
    name: "m",
    options: { depth: 12, bias: true, kind: "plain", sizes: [1, 2], batch: "batch" },
    dims: ["batch"],
    build: () => ({}),
  });
  const read = (...texts: string[]) => readSettings(definition, texts);

  test("a text is read as the kind that its default has", () =>
    expect(read("depth=6", "bias=false", "kind=7", "sizes=[3,4]", "batch=2")).toEqual({
      depth: 6,
      bias: false,
      kind: "7",
      sizes: [3, 4],
      batch: 2,
    }));
  test("a list may stand without brackets, a dimension may be a symbol", () =>
    expect(read("sizes=3,4", "batch=n")).toEqual({ sizes: [3, 4], batch: "n" }));
  test.each([
    ["depth=six", "bad-option", "wants a number"],
    ["bias=yes", "bad-option", "wants true or false"],
    ["sizes=[[", "bad-option", "wants a list"],
    ["depth", "bad-option", "KEY=VALUE"],
    ["dept=6", "unknown-option", "did you mean depth?"],
  ])("%s is refused", async (text, code, says) => {
    const error = await refusal(() => read(text));
    expect(error.code).toBe(code);
    expect(error.message).toContain(says);
  });
});

describe("choices", () => {
  test("a target or a profile that is not there is met with the nearest one", async () => {
    expect((await refusal(() => readTarget("onxn", "onnx"))).message).toContain("did you mean onnx?");
    expect((await refusal(() => readProfile("ort-cude"))).message).toContain("did you mean ort-cuda?");
    expect(readTarget("webgpu", "onnx")).toBe("webgpu");
  });
  test("sizes and counts are whole and positive", async () => {
    expect(readBindings(["batch=2", "n=3"])).toEqual(new Map([["batch", 2], ["n", 3]])); // biome-ignore format: a table
    expect((await refusal(() => readBindings(["batch=0"]))).code).toBe("bad-option");
    expect((await refusal(() => readCount("repeat", "1.5", 1))).code).toBe("bad-option");
  });
});

describe("inputs", () => {
  const wanted = [
    { name: "ids", dtype: "i32", shape: ["batch", 3] },
    { name: "mask", dtype: "bool", shape: ["batch"] },
  ] as const;
  const read = (...texts: string[]) => readInputs(wanted, { texts, pictures: {}, sizes: new Map() });

  test("a file decides the symbols of what is drawn at random", async () => {
    await writeFile(path("ids.json"), "[[1,2,3],[4,5,6]]");
    const { ids, mask } = await read("mask=random:1", `ids=${path("ids.json")}`);
    expect(ids?.shape).toEqual([2, 3]);
    expect(mask?.shape).toEqual([2]);
    expect([...(mask?.values ?? [])].every((x) => x === 0 || x === 1)).toBe(true);
  });
  test("equal seeds draw equal numbers", async () =>
    expect(await read("ids=random:3", "mask=random:4")).toEqual(await read("ids=random:3", "mask=random:4")));
  test("all that is missing is named at once", async () =>
    expect((await refusal(read())).message).toContain("nothing is given for ids: i32[batch,3], mask: bool[batch]"));
  test("an unknown input is met with the nearest one, a picture with what would help", async () => {
    expect((await refusal(read("idx=random:1"))).message).toContain("did you mean ids?");
    expect((await refusal(read("ids=cat.png", "mask=random:1"))).message).toContain("takes no pictures");
  });
});

describe("folders", () => {
  const manifest: Manifest = {
    format: 1,
    tamis: "0",
    name: "m",
    passes: [],
    inputs: [],
    outputs: [],
    symbols: [],
    weights: null,
    pictures: {},
    labels: [],
    files: { "a.txt": { bytes: 1, sha256: "" } },
  };
  const write = (text: string) => async (folder: string) => {
    await writeFile(`${folder}/a.txt`, text);
    await writeFile(`${folder}/manifest.json`, JSON.stringify(manifest));
  };

  test("an earlier artefact is replaced, and nothing else is left behind", async () => {
    await writeFolder(path("out"), write("1"));
    await writeFolder(path("out"), write("2"));
    expect(await readFile(path("out/a.txt"), "utf8")).toBe("2");
    expect(await readdir(path())).toEqual(["out"]);
    expect((await readManifest(path("out")))?.name).toBe("m");
  });
  test("a failure leaves the earlier artefact and no unfinished folder", async () => {
    await writeFolder(path("out"), write("1"));
    const fails = writeFolder(path("out"), async (folder) => {
      await writeFile(`${folder}/a.txt`, "2");
      throw new Error("half-way");
    });
    await expect(fails).rejects.toThrow("half-way");
    expect(await readFile(path("out/a.txt"), "utf8")).toBe("1");
    expect(await readdir(path())).toEqual(["out"]);
  });
  test("what is not ours is never replaced", async () => {
    await mkdir(path("out"));
    await writeFile(path("out/notes.txt"), "dear diary");
    expect((await refusal(writeFolder(path("out"), write("1")))).code).toBe("output-exists");
    await writeFile(path("out/manifest.json"), '{"name":"a web app"}');
    expect((await refusal(writeFolder(path("out"), write("1")))).code).toBe("output-exists");
    await writeFile(path("out/manifest.json"), JSON.stringify(manifest));
    expect((await refusal(writeFolder(path("out"), write("1")))).message).toContain("notes.txt");
    expect(await readFile(path("out/notes.txt"), "utf8")).toBe("dear diary");
  });
  test("a place where nothing can be made is refused", async () => {
    await writeFile(path("file"), "");
    for (const place of [path("file/out"), "/proc/out"])
      expect((await refusal(writeFolder(place, write("1")))).code).toBe("file-unwritable");
  });
  test("a manifest may not name files outside its folder", async () => {
    await mkdir(path("bad"));
    const hostile = { ...manifest, files: { "../../etc/passwd": { bytes: 1, sha256: "" } } };
    await writeFile(path("bad/manifest.json"), JSON.stringify(hostile));
    expect((await refusal(loadModel(path("bad")))).code).toBe("artifact-damaged");
  });
});
