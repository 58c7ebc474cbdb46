import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkOnnx, emitOnnx, type OnnxOptions, onnxBackend } from "../../src/backends/onnx/index.ts";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError } from "../../src/ir/diagnostic.ts";
import type { Model, WeightSource } from "../../src/ir/graph.ts";
import { tensorData } from "../../src/ir/type.ts";
import { openOnnxWeights } from "../../src/runtime/node/onnxWeights.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { writeOnnx } from "../../src/runtime/node/writeOnnx.ts";
import { inputsOf, smallLlama, smallVit, sourceOf, weighted } from "./models.ts";

const { onnx } = onnxProto;
type ModelProto = onnxProto.onnx.ModelProto;

const decode = async (model: Model, options: OnnxOptions = {}): Promise<ModelProto> =>
  onnx.ModelProto.decode(await emitOnnx(model, options).encode());

/** Every operator of the file, functions included, as `domain::name`. */
function operatorsOf({ graph, functions }: ModelProto): ReadonlySet<string> {
  const nodes = [...(graph?.node ?? []), ...functions.flatMap((f) => f.node ?? [])];
  return new Set(nodes.map((node) => `${node.domain ?? ""}::${node.opType}`));
}

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tamis-test-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the file", () => {
  test("is the same bytes each time", async () => {
    for (const profile of onnxBackend.profiles) {
      const [first, second] = await Promise.all(
        [0, 1].map(() => emitOnnx(weighted(smallVit({ r: 2 })), { profile }).encode()),
      );
      expect(Buffer.from(first as Uint8Array).equals(second as Uint8Array)).toBe(true);
    }
  });

  test("names inputs, outputs and the batch as the graph does", async () => {
    const { graph } = await decode(weighted(smallVit()));
    const [image, logits] = [graph?.input?.[0], graph?.output?.[0]];
    expect(graph?.input?.length).toBe(1);
    expect([image?.name, logits?.name]).toEqual(["image", "logits"]);
    expect(image?.type?.tensorType?.shape?.dim?.[0]?.dimParam).toBe("batch");
    expect(logits?.type?.tensorType?.shape?.dim?.[0]?.dimParam).toBe("batch");
  });

  test("takes the batch through without a single node that computes shapes, where no tensor is repeated over it", async () => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "f32", shape: ["batch", 6, 8] });
    const split = b.transpose(b.reshape(x, { shape: ["batch", 6, 2, 4] }), { perm: [0, 2, 1, 3] });
    const y = b.softmax(b.matmul(split, b.transpose(split, { perm: [0, 1, 3, 2] })), { axis: 3 });
    const operators = operatorsOf(await decode({ graph: b.finish("scores", { y }), weights: new Map() }));
    expect(operators).not.toContain("::Shape");
    expect(operators).not.toContain("::Expand");
  });

  test("says of every node which line and pass it comes from", async () => {
    const { graph, functions } = await decode(weighted(smallVit()));
    const block = functions.find((f) => f.name === "blocks");
    for (const node of block?.node ?? []) expect(node.docString).toMatch(/^model\.ts:20:3/);
    expect(block?.node?.some((node) => node.docString?.includes("(made by fuseProducts)"))).toBe(true);
    expect(graph?.node?.some((node) => node.opType === "blocks" && node.docString === "model.ts:20:3")).toBe(true);
  });

  test("says nothing of lines where it is asked not to", async () => {
    const { graph, functions } = await decode(weighted(smallVit()), { docStrings: false });
    for (const node of [...(graph?.node ?? []), ...functions.flatMap((f) => f.node ?? [])])
      expect(node.docString ?? "").toBe("");
  });

  test("carries source lines as metadata from IR version 10 on", async () => {
    const bytes = Buffer.from(await emitOnnx(weighted(smallVit()), { profile: "standard" }).encode());
    const entry = Buffer.from("\x0a\x06source\x12", "latin1");
    expect(bytes.includes(entry)).toBe(true);
    expect(Buffer.from(await emitOnnx(weighted(smallVit())).encode()).includes(entry)).toBe(false);
  });

  test("reads its own weights back", async () => {
    const model = weighted(smallVit());
    const path = join(folder, "vit.onnx");
    await writeOnnx(emitOnnx(model), path);
    const weights = await openOnnxWeights(path);
    const name = "blocks.1.fc1.weight";
    expect(await weights.tensors.get(name)?.read()).toEqual(await (model.weights.get(name) as WeightSource).read());
    await weights.close();
  });
});

describe("parameters without weights", () => {
  test("are inputs, so that the file runs", async () => {
    const model = weighted(smallVit());
    const artifact = emitOnnx({ graph: model.graph, weights: new Map() });
    expect(artifact.inputs.map((v) => v.name)).toContain("blocks.0.q.weight");
    await using whole = await createOrtSession(emitOnnx(model), { threads: 1 });
    await using open = await createOrtSession(artifact, { threads: 1 });
    const inputs = inputsOf(model.graph, 2);
    const parameters = Object.fromEntries(
      await Promise.all([...model.weights].map(async ([name, source]) => [name, await source.read()] as const)),
    );
    const [wanted, got] = [await whole.run(inputs), await open.run({ ...inputs, ...parameters })];
    expect(Array.from(got["logits"]?.values as Float32Array)).toEqual(
      Array.from(wanted["logits"]?.values as Float32Array, (x) => expect.closeTo(x, 4)),
    );
  });

  test("may not share their name with an output", () => {
    const b = createBuilder();
    const w = b.parameter("w", { dtype: "f32", shape: [2] });
    const graph = b.finish("step", { w: b.add(w, w) });
    expect(() => emitOnnx({ graph, weights: new Map() })).toThrow(/duplicate-name/);
    expect(
      emitOnnx({ graph, weights: new Map([["w", sourceOf(tensorData("f32", [2], [1, 2]), "w")]]) }).outputs[0]?.name,
    ).toBe("w");
  });
});

describe("external weights", () => {
  test("lie at multiples of 64 KiB in one file, streamed, and run", async () => {
    const model = weighted(smallVit());
    const artifact = emitOnnx(model, { externalData: "always" });
    const path = join(folder, "vit.onnx");
    expect(await writeOnnx(artifact, path)).toEqual([path, `${path}.data`]);
    const entries = artifact.externalFile?.entries ?? [];
    expect(entries.length).toBeGreaterThan(3);
    for (const { offset } of entries) expect(offset % 65536).toBe(0);
    const { size } = await stat(`${path}.data`);
    expect(size).toBe(artifact.externalFile?.length);
    expect(checkOnnx(await readFile(path), { externalBytes: size })).toEqual([]);
    expect(checkOnnx(await readFile(path), { externalBytes: size - 1 })[0]?.message).toMatch(/ends at byte/);
    const inputs = inputsOf(model.graph, 2);
    await using outside = await createOrtSession(path, { threads: 1 });
    await using unwritten = await createOrtSession(artifact, { threads: 1 });
    await using inside = await createOrtSession(emitOnnx(model), { threads: 1 });
    const wanted = await inside.run(inputs);
    expect(await outside.run(inputs)).toEqual(wanted);
    expect(await unwritten.run(inputs)).toEqual(wanted);
  });

  test("are chosen by themselves above 1 GiB, and never read to say so", () => {
    const b = createBuilder();
    const table = b.parameter("table", { dtype: "f32", shape: [2 ** 18, 1025] });
    const graph = b.finish("large", { y: b.embedding(table, b.input("ids", { dtype: "i32", shape: ["n"] })) });
    const read = () => Promise.reject(new Error("read while compiling"));
    const source: WeightSource = { type: { dtype: "f32", shape: [2 ** 18, 1025] }, hash: "table", read };
    const weights = new Map([["table", source]]);
    expect(emitOnnx({ graph, weights }).externalFile?.length).toBe(2 ** 20 * 1025);
    expect(emitOnnx({ graph, weights }, { externalData: "never" }).externalFile).toBeUndefined();
  });

  test("leave nothing behind when a weight cannot be read", async () => {
    const model = weighted(smallVit());
    const read = () => Promise.reject(new Error("gone"));
    const broken = new Map([...model.weights].map(([name, source]) => [name, { ...source, read }]));
    const artifact = emitOnnx({ ...model, weights: broken }, { externalData: "always" });
    await expect(writeOnnx(artifact, join(folder, "vit.onnx"))).rejects.toThrow("gone");
    expect(await readdir(folder)).toEqual([]);
  });
});

describe("profiles", () => {
  test("portable stays at opset 17 with plain operators", async () => {
    for (const graph of [smallVit({ r: 2 }), smallLlama()]) {
      const artifact = emitOnnx(weighted(graph));
      expect([artifact.opset, artifact.irVersion]).toEqual([17, 8]);
      const operators = [...operatorsOf(await decode(weighted(graph)))];
      expect(operators.filter((name) => !name.startsWith("::") && !name.startsWith("tamis::"))).toEqual([]);
    }
  });

  test("portable keeps index values as i64 from their source to their reader", async () => {
    const { functions } = await decode(weighted(smallVit({ r: 2 })));
    const casts = functions.flatMap((f) => f.node ?? []).filter((node) => node.opType === "Cast");
    expect(casts).toEqual([]);
  });

  test("standard has the operators of opset 23", async () => {
    const operators = operatorsOf(await decode(weighted(smallLlama()), { profile: "standard" }));
    for (const name of ["Attention", "RMSNormalization", "RotaryEmbedding"]) expect(operators).toContain(`::${name}`);
    expect(operatorsOf(await decode(weighted(smallVit()), { profile: "standard" }))).toContain("::Gelu");
  });

  test("ort-cuda has ONNX Runtime's operators", async () => {
    const operators = operatorsOf(await decode(weighted(smallVit({ r: 2 })), { profile: "ort-cuda" }));
    for (const name of ["MultiHeadAttention", "SkipLayerNormalization", "BiasGelu", "FusedMatMul"])
      expect(operators).toContain(`com.microsoft::${name}`);
  });

  test("ort-webgpu merges tokens without an operator or tensor of i64 that is not a shape", async () => {
    const operators = operatorsOf(await decode(weighted(smallVit({ r: 2 })), { profile: "ort-webgpu" }));
    for (const name of ["TopK", "ArgMax", "GatherND", "ScatterND", "OneHot"])
      expect(operators).not.toContain(`::${name}`);
    expect(operators).not.toContain("com.microsoft::FusedMatMul");
  });

  test("raise the opset only for what needs it", () => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "i32", shape: [4] });
    const plain = { graph: b.finish("plain", { y: b.add(x, x) }), weights: new Map() };
    const bits = { graph: b.finish("bits", { y: b.bitAnd(x, x) }), weights: new Map() };
    expect(emitOnnx(plain).opset).toBe(17);
    expect(emitOnnx(bits).opset).toBe(18);
  });
});

test("an op without a kernel in its dtype is refused at its line", () => {
  const b = createBuilder();
  const x = b.input("x", { dtype: "f64", shape: [4] });
  const y = b.at({ loc: { kind: "file", file: "model.ts", line: 7, column: 9 } }, () => b.erf(x));
  const emit = () => emitOnnx({ graph: b.finish("precise", { y }), weights: new Map() });
  expect(emit).toThrow(CompileError);
  expect(emit).toThrow(/model\.ts:7:9 error\[unsupported-dtype\]: erf of f64/);
});

describe("the checker", () => {
  const broken = async (change: (model: ModelProto) => void): Promise<string> => {
    const model = await decode(weighted(smallVit()));
    change(model);
    return checkOnnx(onnx.ModelProto.encode(model).finish())
      .map((d) => d.message)
      .join("; ");
  };
  const node = (model: ModelProto, i: number) => (model.graph?.node ?? [])[i] as onnxProto.onnx.INodeProto;
  const graphOf = (model: ModelProto) => model.graph as onnxProto.onnx.IGraphProto;

  test.each<[string, (model: ModelProto) => void, RegExp]>([
    ["a name assigned twice", (m) => (node(m, 1).output = [...(node(m, 0).output ?? [])]), /is assigned twice/],
    ["a node before what it reads", (m) => graphOf(m).node?.reverse(), /is made after it/],
    ["a tensor that nothing makes", (m) => (node(m, 1).input = ["nowhere"]), /reads nowhere, which nothing makes/],
    ["an unknown operator", (m) => (node(m, 0).opType = "Convolve"), /is no operator of ai\.onnx/],
    ["an operator younger than the opset", (m) => (node(m, 0).opType = "Attention"), /needs opset 23/],
    ["a domain that is not imported", (m) => (node(m, 0).domain = "elsewhere"), /which is not imported/],
    [
      "an output that no node makes",
      (m) => (graphOf(m).output = [{ ...graphOf(m).output?.[0], name: "lost" }]),
      /lost is made by no node/,
    ],
    ["an input without a type", (m) => (graphOf(m).input = [{ name: "image" }]), /image has no element type/],
    ["an opset too new for the IR version", (m) => (m.irVersion = 3), /opset 17 needs IR version 8/],
    [
      "a function that calls itself",
      (m) => m.functions[0]?.node?.push({ opType: "blocks", domain: "tamis" }),
      /blocks calls itself/,
    ],
    ["a function that is gone", (m) => (m.functions = []), /is no known operator of tamis/],
    [
      "an attribute that holds a graph",
      (m) => (node(m, 0).attribute = [{ name: "body", type: 5 }]),
      /is not plain data/,
    ],
    [
      "an initializer cut short",
      (m) => (((graphOf(m).initializer ?? [])[0] as onnxProto.onnx.ITensorProto).rawData = new Uint8Array(3)),
      /holds 3 bytes instead of/,
    ],
  ])("finds %s", async (_, change, wanted) => {
    expect(await broken(change)).toMatch(wanted);
  });

  test("takes bytes that are no model for what they are", () => {
    expect(checkOnnx(Uint8Array.of(255, 255, 255))[0]?.message).toMatch(/is not an ONNX model/);
    expect(checkOnnx(new Uint8Array())[0]?.message).toMatch(/holds no graph/);
  });
});
