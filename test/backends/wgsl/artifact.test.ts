import { createHash } from "node:crypto";
import { readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { emitWgslArtifact, type Plan, type TensorFile } from "../../../src/backends/wgsl/artifact.ts";
import { compile } from "../../../src/compile.ts";
import type { Model, WeightSource } from "../../../src/ir/graph.ts";
import { pack } from "../../../src/ir/packing.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { type DType, dtypes, elementsOf, type TensorData, tensorData } from "../../../src/ir/type.ts";
import { type ArtifactFiles, type OpenArtifact, openArtifact } from "../../../src/runtime/artifact/index.ts";
import { streamTensors } from "../../../src/runtime/artifact/tensors.ts";
import {
  createFolderSession,
  createReferenceSession,
  openSafetensors,
  openWebGpu,
  writeWebGpu,
} from "../../../src/runtime/node/index.ts";
import { freshFolder, refusal } from "../../runtime/folder.ts";
import { writeArtifactFolder, writeManifest } from "./artifactFolder.ts";

const source = ({ dtype, shape, values }: TensorData): WeightSource => ({
  type: { dtype, shape },
  hash: "h",
  read: async (start, end) => ({
    dtype,
    shape: start === undefined || end === undefined ? shape : [end - start],
    values: values.subarray(start, end),
  }),
});

/** Parameters of four kinds and a constant that does not fit in a kernel's text. */
const graph = parseGraph(`
graph @mixed(%x: f32[batch,3]) {
  %w = parameter() : f32[3,4]
  %mask = parameter() : bool[5]
  %code = parameter() : i8[3]
  %shift = parameter() : i32[4]
  %table = constant() {data=[${Array.from({ length: 64 }, (_, i) => i / 8).join(",")}]} : f32[64]
  %0 = matmul(%x, %w) : f32[batch,4]
  %1 = cast(%shift) {to="f32"} : f32[4]
  %2 = broadcast(%1) {shape=["batch",4], axes=[0]} : f32[batch,4]
  %3 = add(%0, %2) : f32[batch,4]
  return y: %3, mask: %mask, code: %code, table: %table
}`);
const weights: ReadonlyMap<string, TensorData> = new Map([
  [
    "w",
    tensorData(
      "f32",
      [3, 4],
      Array.from({ length: 12 }, (_, i) => Math.cos(i)),
    ),
  ],
  ["mask", tensorData("bool", [5], [1, 0, 1, 1, 0])],
  ["code", tensorData("i8", [3], [-128, 0, 127])],
  ["shift", tensorData("i32", [4], [1, -2, 3, -4])],
]);
const model: Model = { graph, weights: new Map([...weights].map(([name, data]) => [name, source(data)])) };

const place = freshFolder();
const folder = (): string => place("art");

/** Everything that is read of a folder, weights included. */
async function readAll(files: ArtifactFiles): Promise<OpenArtifact & { readonly contents: readonly TensorData[] }> {
  const opened = await openArtifact(files);
  const contents: TensorData[] = [];
  for (const { name } of opened.program.parameters)
    contents.push(await (opened.weights.get(name) as WeightSource).read());
  await opened.weights.close();
  return { ...opened, contents };
}

const inMemory = (files: ReadonlyMap<string, Uint8Array>): ArtifactFiles => ({
  place: "memory",
  async *read(name) {
    const bytes = files.get(name);
    if (bytes === undefined) throw new Error(`no ${name}`);
    for (let at = 0; at < bytes.length; at += 100) yield bytes.subarray(at, at + 100);
  },
});

async function filesOf(path: string): Promise<Map<string, Uint8Array>> {
  const names = (await readdir(path)).sort();
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(path, name))] as const)));
}

describe("a program as files", () => {
  test("comes back as it was, parameters in the order of their bytes", async () => {
    await writeArtifactFolder(folder(), model, "mixed");
    const files = await filesOf(folder());
    expect([...files.keys()]).toEqual([
      "constants.safetensors",
      "kernels.wgsl",
      "manifest.json",
      "plan.json",
      "weights.safetensors",
    ]);
    const { program } = emitWgslArtifact(model, { device: { storageBuffers: 8, software: true } });
    const read = await readAll(inMemory(files));
    expect(read.program).toEqual(program);
    expect(program.parameters.map(({ name }) => name)).toEqual(["shift", "w", "code", "mask"]);
    expect(read.contents).toEqual(program.parameters.map(({ name }) => weights.get(name)));
  });

  test("is the same to the byte each time, and its weights are a plain checkpoint", async () => {
    await writeArtifactFolder(folder(), model, "mixed");
    await writeArtifactFolder(place("again"), model, "mixed");
    expect(await filesOf(place("again"))).toEqual(await filesOf(folder()));
    const checkpoint = await openSafetensors(join(folder(), "weights.safetensors"));
    for (const [name, data] of weights) expect(await checkpoint.tensors.get(name)?.read()).toEqual(data);
    await checkpoint.close();
  });

  test("keeps fields that this version does not know", async () => {
    await writeArtifactFolder(folder(), model, "mixed");
    await changePlan(({ program }) => Object.assign(program, { later: { field: [1, "a"] } }));
    const { program } = await readAll(inMemory(await filesOf(folder())));
    expect(program).toMatchObject({ later: { field: [1, "a"] } });
  });

  test("has inputs for parameters that have no weights, and is made by compile() too", () => {
    const { artifact } = compile(graph, { target: "webgpu", weights: new Map() });
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

/** Changes plan.json as someone would who can also write its hash. */
async function changePlan(change: (plan: Plan) => unknown): Promise<void> {
  const path = join(folder(), "plan.json");
  const plan = JSON.parse(await readFile(path, "utf8")) as Plan;
  change(plan);
  await writeFile(path, JSON.stringify(plan));
  const names = (await readdir(folder())).filter((name) => name !== "manifest.json");
  await writeManifest(folder(), names, {});
}

/** Sets what lies at a path of a plan, to a value or to a function of what is there. */
function change(root: object, path: readonly string[], value: unknown): void {
  const [key = "", ...rest] = path;
  const here = root as Record<string, unknown>;
  if (rest.length > 0) change(here[key] as object, rest, value);
  else here[key] = typeof value === "function" ? value(here[key]) : value;
}

describe("a folder that is not what was written", () => {
  beforeEach(() => writeArtifactFolder(folder(), model, "mixed"));

  test("is told wherever one bit differs", async () => {
    const files = await filesOf(folder());
    const intact = await readAll(inMemory(files));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...files.keys()), fc.nat(), fc.nat({ max: 7 }), async (name, at, bit) => {
        const bytes = Uint8Array.from(files.get(name) as Uint8Array);
        const place = at % bytes.length;
        bytes[place] = (bytes[place] as number) ^ (1 << bit);
        const read = readAll(inMemory(new Map([...files, [name, bytes]])));
        if (name !== "manifest.json") {
          const error = await refusal(read);
          expect([error.code, error.message]).toEqual([
            "artifact-damaged",
            expect.stringContaining(`${name} of memory`),
          ]);
        } else {
          // It has no hash; what it says of other files has.
          const got = await read.catch((error: unknown) => error);
          if (!(got instanceof Error))
            expect([(got as typeof intact).program, (got as typeof intact).contents]).toEqual([
              intact.program,
              intact.contents,
            ]);
        }
      }),
      { numRuns: 200 },
    );
  });

  test.each(["plan.json", "kernels.wgsl", "weights.safetensors", "constants.safetensors"])(
    "%s that is shorter, longer or gone",
    async (name) => {
      const files = await filesOf(folder());
      const bytes = files.get(name) as Uint8Array;
      for (const other of [bytes.subarray(0, -1), bytes.subarray(0, 0), Buffer.concat([bytes, Buffer.from("x")])]) {
        // What follows the last tensor is not fetched at all.
        if (name === "weights.safetensors" && other.length > bytes.length) continue;
        const error = await refusal(readAll(inMemory(new Map([...files, [name, other]]))));
        expect(error.code).toBe("artifact-damaged");
      }
      await unlink(join(folder(), name));
      expect((await refusal(createFolderSession(folder()))).message).toContain(
        `there is no file ${join(folder(), name)}`,
      );
    },
  );

  const again = (value: unknown): unknown => [...(value as readonly unknown[]), (value as readonly unknown[])[0]];
  const add = (more: unknown) => (value: unknown) => (Array.isArray(value) ? [...value, more] : (value as number) + 4);
  const hostile: readonly (readonly [says: string, path: string, value: unknown])[] = [
    ["program.buffers[0].elements", "program.buffers.0.elements", "process.exit(1)"],
    ["program.buffers[0].elements", "program.buffers.0.elements", -4],
    ["program.buffers[0].elements", "program.buffers.0.elements", 1e300],
    ["program.buffers[0].elements", "program.buffers.0.elements", "(".repeat(5000)],
    ["program.buffers[0].elements", "program.buffers.0.elements", { valueOf: 1 }],
    ["there is no symbol", "program.buffers.0.elements", "other"],
    ["there is no size of symbol", "program.symbols", add("other")],
    ["program.symbols[0]", "program.symbols.0", "a b"],
    ["program.inputs[0].dtype", "program.inputs.0.dtype", "constructor"],
    ["program.outputs", "program.outputs", {}],
    ["there is no buffer", "program.outputs.0.buffer", "v99"],
    ["there is no buffer", "program.dispatches.0.buffers.0", "__proto__"],
    ["two are named alike", "program.buffers", again],
    ["two are named alike", "program.outputs", again],
    ["a dispatch names a shader too many", "program.dispatches.0.shader", 99],
    ["program.dispatches[0].shader", "program.dispatches.0.shader", 0.5],
    ["program.dispatches[0].groups.threads", "program.dispatches.0.groups.threads", 0],
    ["program.version", "program.version", 2],
    ["the texts of the shaders overlap", "kernels.shaders.0.bytes", 2 ** 40],
    ["kernels.sha256", "kernels.sha256", "0"],
    ["no tensor of weights.safetensors is parameter", "weights.tensors.0.name", "other"],
    ["no tensor of weights.safetensors is parameter", "weights", null],
    ["there is no constant", "constants", null],
    ["a tensor of weights has other bytes", "weights.tensors.0.bytes", add(4)],
    ["a tensor of weights has other bytes", "weights.tensors.0.shape", [2 ** 30, 2 ** 30]],
    ["tensors of weights overlap", "weights.tensors.1.offset", 8],
    ["tensors of weights overlap", "weights.tensors.3.offset", 2 ** 40],
    ["weights.chunkBytes", "weights.chunkBytes", 2 ** 50],
    ["weights has 0 hashes", "weights.sha256", []],
    ["weights.bytes", "weights.bytes", "1e9"],
    ["program.donate.y", "program.donate", { y: 1 }],
    ["states no format", "format", "1"],
  ];
  test.each(hostile)("a plan that says something else is refused: %s", async (says, path, value) => {
    await changePlan((plan) => change(plan, path.split("."), value));
    const error = await refusal(createFolderSession(folder()));
    expect([error.code, error.message]).toEqual(["artifact-damaged", expect.stringContaining(says)]);
    expect(error.message.length).toBeLessThan(600);
  });

  test("sizes beyond all memory are not allocated before they are found wrong", async () => {
    const files = await filesOf(folder());
    const manifest = JSON.parse(Buffer.from(files.get("manifest.json") as Uint8Array).toString()) as {
      files: Record<string, { bytes: number }>;
    };
    (manifest.files["plan.json"] as { bytes: number }).bytes = 2 ** 52;
    files.set("manifest.json", Buffer.from(JSON.stringify(manifest)));
    expect((await refusal(openArtifact(inMemory(files)))).message).toContain("plan.json of memory is said to hold");
  });

  test("another version is told by its number, and another target by its name", async () => {
    const names = (await readdir(folder())).filter((name) => name !== "manifest.json");
    await writeManifest(folder(), names, { format: 2, tamis: "9.0.0" });
    const newer = await refusal(createFolderSession(folder()));
    expect([newer.code, newer.message]).toEqual([
      "artifact-version",
      expect.stringContaining("has format 2, written by tamis 9.0.0"),
    ]);
    await writeManifest(folder(), names, { target: "onnx" });
    expect((await refusal(createFolderSession(folder()))).code).toBe("model-format");
    await writeManifest(folder(), names, {});
    await changePlan((plan) => Object.assign(plan, { format: 3 }));
    expect((await refusal(createFolderSession(folder()))).message).toContain("plan.json of ");
  });
});

describe("a folder on a device", () => {
  test("gives what the interpreter gives, at any size, and tells of bytes as they come", async () => {
    await writeArtifactFolder(folder(), model, "mixed");
    const opened = await openWebGpu();
    const progress: { readonly loaded: number; readonly total: number }[] = [];
    try {
      await using session = await createFolderSession(folder(), opened, (at) => progress.push(at));
      await using reference = await createReferenceSession(model);
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
    const bare = emitWgslArtifact({ graph, weights: new Map() }, { device: { storageBuffers: 8, software: true } });
    await writeArtifactFolder(folder(), model, "mixed");
    for (const name of await readdir(folder())) await unlink(join(folder(), name));
    await writeManifest(folder(), await writeWebGpu(bare, folder(), "0.0.0"), {});
    expect((await readdir(folder())).includes("weights.safetensors")).toBe(false);
    const opened = await openWebGpu();
    try {
      await using session = await createFolderSession(folder(), opened);
      const x = tensorData("f32", [1, 3], [1, 2, 3]);
      const { code, y } = await session.run({ x, ...Object.fromEntries(weights) });
      expect(code).toEqual(weights.get("code"));
      await using reference = await createReferenceSession(model);
      expect(y?.values[0]).toBeCloseTo(Number((await reference.run({ x }))["y"]?.values[0]), 5);
    } finally {
      opened.close();
    }
  });
});
