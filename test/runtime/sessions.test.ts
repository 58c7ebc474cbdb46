import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emitOnnx } from "../../src/backends/onnx/index.ts";
import type { Model } from "../../src/ir/graph.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { tensorData } from "../../src/ir/type.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { createReferenceSession } from "../../src/runtime/node/reference.ts";
import { writeOnnx } from "../../src/runtime/node/writeOnnx.ts";
import type { Session } from "../../src/runtime/session.ts";

const modelOf = (text: string): Model => ({ graph: parseGraph(text), weights: new Map() });

const mixed = modelOf(`
graph @mixed(%x: f32[batch,4], %flags: bool[batch,4], %half: f16[batch,4]) {
  %0 = argMax(%x) {axis=1} : i32[batch]
  %1 = not(%flags) : bool[batch,4]
  %2 = add(%half, %half) : f16[batch,4]
  return best: %0, flipped: %1, doubled: %2
}`);

const inputs = {
  x: tensorData("f32", [2, 4], [1, 5, 2, 5, 3, 0, 1, 2]),
  flags: tensorData("bool", [2, 4], [1, 0, 1, 1, 0, 0, 1, 0]),
  half: tensorData("f16", [2, 4], [0.5, -1, 2, 60000, 0.000061, 3, 0, -0.25]),
};

const makers: Readonly<Record<string, (model: Model) => Promise<Session>>> = {
  "the reference": (model) => createReferenceSession(model),
  "ONNX Runtime": (model) => createOrtSession(emitOnnx(model), { threads: 1 }),
};

describe.each(Object.entries(makers))("a session on %s", (target, make) => {
  test("states its inputs and outputs with their symbols", async () => {
    await using session = await make(mixed);
    expect(session.inputs).toEqual([
      { name: "x", dtype: "f32", shape: ["batch", 4] },
      { name: "flags", dtype: "bool", shape: ["batch", 4] },
      { name: "half", dtype: "f16", shape: ["batch", 4] },
    ]);
    expect(session.outputs.map(({ name, dtype }) => [name, dtype])).toEqual([
      ["best", "i32"],
      ["flipped", "bool"],
      ["doubled", "f16"],
    ]);
  });

  test("gives each output in the graph's dtype", async () => {
    await using session = await make(mixed);
    const { best, flipped, doubled } = await session.run(inputs);
    expect(best).toEqual(tensorData("i32", [2], [1, 0]));
    expect(flipped).toEqual(tensorData("bool", [2, 4], [0, 1, 0, 0, 1, 1, 0, 1]));
    expect(doubled?.dtype).toBe("f16");
    expect(doubled?.values[1]).toBe(-2);
  });

  test("refuses a missing input, another dtype, and sizes that do not go together", async () => {
    await using session = await make(mixed);
    const { x, flags, half } = inputs;
    await expect(session.run({ x, flags })).rejects.toThrow(/bad-input.*half/);
    await expect(session.run({ x: flags, flags, half })).rejects.toThrow(/bad-input.*input x is bool/);
    const three = tensorData(
      "bool",
      [3, 4],
      Array.from({ length: 12 }, () => 0),
    );
    await expect(session.run({ x, flags: three, half })).rejects.toThrow(/bad-input.*input flags has 3 elements/);
  });

  test("may be disposed of twice", async () => {
    const session = await make(mixed);
    await session.dispose();
    await session.dispose();
  });
});

describe("ONNX Runtime", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tamis-test-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("loads a file, its bytes, and an artefact alike", async () => {
    const artifact = emitOnnx(mixed);
    const path = join(folder, "mixed.onnx");
    await writeOnnx(artifact, path);
    for (const source of [path, await artifact.encode(), artifact]) {
      await using session = await createOrtSession(source, { threads: 1 });
      expect((await session.run(inputs))["best"]).toEqual(tensorData("i32", [2], [1, 0]));
    }
  });

  test("keeps i64 where the graph says i64", async () => {
    const model = modelOf("graph @wide(%x: i64[2]) {\n  %0 = add(%x, %x) : i64[2]\n  return y: %0\n}");
    await using session = await createOrtSession(emitOnnx(model), { threads: 1 });
    const { y } = await session.run({ x: tensorData("i64", [2], [2 ** 40, -3]) });
    expect(y?.values).toEqual(BigInt64Array.of(2n ** 41n, -6n));
  });

  test("says what is wrong with a file that is no model", async () => {
    const path = join(folder, "broken.onnx");
    await writeFile(path, "not a model");
    await expect(createOrtSession(path)).rejects.toThrow(/onnx-load/);
    await expect(createOrtSession(join(folder, "missing.onnx"))).rejects.toThrow(/onnx-load|file-not-found/);
  });

  test("has no CUDA provider where none is installed, and says so", async () => {
    await expect(createOrtSession(emitOnnx(mixed), { provider: "cuda" })).rejects.toThrow(/provider-unavailable/);
  });
});

test("the reference refuses weights of another shape", async () => {
  const { graph } = modelOf(
    "graph @scale(%x: f32[2]) {\n  %w = parameter() : f32[2]\n  %0 = mul(%x, %w) : f32[2]\n  return y: %0\n}",
  );
  const w = tensorData("f32", [3], [1, 2, 3]);
  const weights = new Map([["w", { type: w, hash: "w", read: async () => w }]]);
  await using session = await createReferenceSession({ graph, weights });
  await expect(session.run({ x: tensorData("f32", [2], [1, 2]) })).rejects.toThrow(/weights-mismatch/);
});
