import { createHash } from "node:crypto";
import { readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emitWgslArtifact, type Plan, type TensorFile } from "../../../src/backends/wgsl/artifact.ts";
import { compile } from "../../../src/compile.ts";
import type { WeightSource } from "../../../src/ir/graph.ts";
import { pack } from "../../../src/ir/packing.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { type DType, dtypes, elementsOf, type TensorData, tensorData } from "../../../src/ir/type.ts";
import { streamTensors } from "../../../src/runtime/artifact/tensors.ts";
import {
  createFolderSession,
  createReferenceSession,
  openSafetensors,
  openWebGpu,
  writeWebGpu,
} from "../../../src/runtime/node/index.ts";
import { freshFolder, refusal } from "../../runtime/folder.ts";
import {
  changePlan,
  filesOf,
  inMemory,
  mixedGraph,
  mixedModel,
  mixedWeights,
  readAll,
  writeArtifactFolder,
  writeManifest,
} from "./artifactFolder.ts";

const place = freshFolder();
const folder = (): string => place("art");

describe("a program as files", () => {
  test("comes back as it was, parameters in the order of their bytes", async () => {
    await writeArtifactFolder(folder(), mixedModel, "mixed");
    const files = await filesOf(folder());
    expect([...files.keys()]).toEqual([
      "constants.safetensors",
      "kernels.wgsl",
      "manifest.json",
      "plan.json",
      "weights.safetensors",
    ]);
    const { program } = emitWgslArtifact(mixedModel, { device: { storageBuffers: 8, software: true } });
    const read = await readAll(inMemory(files));
    expect(read.program).toEqual(program);
    expect(program.parameters.map(({ name }) => name)).toEqual(["shift", "w", "code", "mask"]);
    expect(read.contents).toEqual(program.parameters.map(({ name }) => mixedWeights.get(name)));
  });

  test("is the same to the byte each time, and its weights are a plain checkpoint", async () => {
    await writeArtifactFolder(folder(), mixedModel, "mixed");
    await writeArtifactFolder(place("again"), mixedModel, "mixed");
    expect(await filesOf(place("again"))).toEqual(await filesOf(folder()));
    const checkpoint = await openSafetensors(join(folder(), "weights.safetensors"));
    for (const [name, data] of mixedWeights) expect(await checkpoint.tensors.get(name)?.read()).toEqual(data);
    await checkpoint.close();
  });

  test("keeps fields that this version does not know", async () => {
    await writeArtifactFolder(folder(), mixedModel, "mixed");
    await changePlan(folder(), ({ program }) => Object.assign(program, { later: { field: [1, "a"] } }));
    const { program } = await readAll(inMemory(await filesOf(folder())));
    expect(program).toMatchObject({ later: { field: [1, "a"] } });
  });

  test("has inputs for parameters that have no weights, and is made by compile() too", () => {
    const { artifact } = compile(mixedGraph, { target: "webgpu", weights: new Map() });
    expect(artifact.program.inputs.map(({ name }) => name)).toEqual(["x", "w", "mask", "code", "shift"]);
    expect([artifact.program.parameters, artifact.weights, artifact.weightBytes]).toEqual([[], [], 0]);
  });

  test("is written and read in ranges of at most 16 MiB, however large a weight is", async () => {
    const elements = 6 * 2 ** 20;
    const ranges: number[] = [];
    const large: WeightSource = {
      type: { dtype: "f32", shape: [elements] },
      hash: "large",
      read: async (start = 0, end = elements) => {
        ranges.push(end - start);
        return tensorData("f32", [end - start], new Float32Array(end - start).fill(start));
      },
    };
    const wide = parseGraph(
      `graph @wide(%x: f32[${elements}]) {\n  %w = parameter() : f32[${elements}]\n  %0 = add(%x, %w) : f32[${elements}]\n  return y: %0\n}`,
    );
    await writeArtifactFolder(folder(), { graph: wide, weights: new Map([["w", large]]) }, "wide");
    expect(Math.max(...ranges)).toBeLessThanOrEqual(4 * 2 ** 20);
    const { weights: file } = JSON.parse(await readFile(join(folder(), "plan.json"), "utf8")) as Plan;
    expect(file?.sha256.length).toBe(Math.ceil((file?.bytes ?? 0) / (file?.chunkBytes ?? 1)));
    expect(file?.chunkBytes).toBeLessThanOrEqual(16 * 2 ** 20);
  });
});

describe("a stream of tensors", () => {
  const kinds = ["f32", "f16", "i8", "bool", "i32", "u16"] as const satisfies readonly DType[];
  const shapes = fc.array(fc.tuple(fc.constantFrom(...kinds), fc.integer({ min: 0, max: 20 })), { maxLength: 5 });

  test("gives any range of any tensor, wherever chunks end and in whatever order it is asked", () =>
    fc.assert(
      fc.asyncProperty(
        shapes,
        fc.integer({ min: 1, max: 50 }),
        fc.infiniteStream(fc.nat()),
        async (list, chunk, more) => {
          const next = (below: number): number => (more.next().value as number) % below;
          const tensors = list.map(([dtype, count]) =>
            tensorData(
              dtype,
              [count],
              Array.from({ length: count }, () => next(2)),
            ),
          );
          const parts = [new Uint8Array(8), ...tensors.map((t) => pack(t.dtype, t.values, 0, t.values.length))];
          const { file, bytes } = tensorFile(parts, tensors, chunk);
          const stream = streamTensors(inMemory(new Map([["t", bytes]])), "t", file);
          for (let turn = 0; turn < 2 * tensors.length; turn++) {
            const k = next(tensors.length);
            const { dtype, values } = tensors[k] as TensorData;
            const start = next(values.length + 1);
            const end = start + next(values.length - start + 1);
            const got = await (stream.get(String(k)) as WeightSource).read(start, end);
            expect([got.dtype, [...got.values]]).toEqual([dtype, [...values.subarray(start, end)]]);
          }
          await stream.close();
        },
      ),
      { numRuns: 100 },
    ));
});

function tensorFile(parts: readonly Uint8Array[], tensors: readonly TensorData[], chunkBytes: number) {
  const bytes = Buffer.concat(parts);
  const sha256: string[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes)
    sha256.push(
      createHash("sha256")
        .update(bytes.subarray(at, at + chunkBytes))
        .digest("hex"),
    );
  let offset = 8;
  const described = tensors.map(({ dtype, shape }, k) => {
    const size = (elementsOf(shape) * dtypes[dtype].bits) / 8;
    offset += size;
    return { name: String(k), dtype, shape, offset: offset - size, bytes: size };
  });
  const file: TensorFile = { bytes: bytes.length, chunkBytes, sha256, tensors: described };
  return { file, bytes };
}

describe("a folder on a device", () => {
  test("gives what the interpreter gives, at any size, and tells of bytes as they come", async () => {
    await writeArtifactFolder(folder(), mixedModel, "mixed");
    const opened = await openWebGpu();
    const progress: { readonly loaded: number; readonly total: number }[] = [];
    try {
      await using session = await createFolderSession(folder(), opened, (at) => progress.push(at));
      await using reference = await createReferenceSession(mixedModel);
      for (const batch of [1, 3]) {
        const x = tensorData(
          "f32",
          [batch, 3],
          Array.from({ length: 3 * batch }, (_, i) => Math.sin(i)),
        );
        const [got, wanted] = [await session.run({ x }), await reference.run({ x })];
        expect([got["mask"], got["code"], got["table"]]).toEqual([wanted["mask"], wanted["code"], wanted["table"]]);
        wanted["y"]?.values.forEach((value, i) => expect(got["y"]?.values[i]).toBeCloseTo(Number(value), 5));
      }
      expect(progress.at(-1)?.loaded).toBe(progress.at(-1)?.total);
      expect((await refusal(session.run({ x: tensorData("f32", [1, 4], [0, 0, 0, 0]) }))).code).toBe("bad-input");
    } finally {
      opened.close();
    }
  });

  test("carries state that the compiler was told is given up", async () => {
    const step = parseGraph(`
graph @step(%state: f32[4], %x: f32[4]) {
  %0 = add(%state, %x) : f32[4]
  return state: %0
}`);
    const donate = { state: "state" };
    await writeArtifactFolder(folder(), { graph: step, weights: new Map() }, "step", { donate });
    const opened = await openWebGpu();
    try {
      await using session = await createFolderSession(folder(), opened);
      const x = tensorData("f32", [4], [1, 2, 3, 4]);
      let state = await session.upload(x);
      for (let i = 0; i < 3; i++) ({ state } = await session.run({ state, x }, { keep: ["state"] }));
      expect([...(await state.read()).values]).toEqual([4, 8, 12, 16]);
    } finally {
      opened.close();
    }
  });

  test("takes its parameters as inputs where it was compiled without weights", async () => {
    const bare = emitWgslArtifact(
      { graph: mixedGraph, weights: new Map() },
      { device: { storageBuffers: 8, software: true } },
    );
    await writeArtifactFolder(folder(), mixedModel, "mixed");
    for (const name of await readdir(folder())) await unlink(join(folder(), name));
    await writeManifest(folder(), await writeWebGpu(bare, folder(), "0.0.0"), {});
    expect((await readdir(folder())).includes("weights.safetensors")).toBe(false);
    const opened = await openWebGpu();
    try {
      await using session = await createFolderSession(folder(), opened);
      const x = tensorData("f32", [1, 3], [1, 2, 3]);
      const { code, y } = await session.run({ x, ...Object.fromEntries(mixedWeights) });
      expect(code).toEqual(mixedWeights.get("code"));
      await using reference = await createReferenceSession(mixedModel);
      expect(y?.values[0]).toBeCloseTo(Number((await reference.run({ x }))["y"]?.values[0]), 5);
    } finally {
      opened.close();
    }
  });
});
