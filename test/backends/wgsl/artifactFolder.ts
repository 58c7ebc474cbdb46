import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { emitWgslArtifact, type Plan } from "../../../src/backends/wgsl/artifact.ts";
import type { WgslOptions } from "../../../src/backends/wgsl/index.ts";
import type { Model, WeightSource } from "../../../src/ir/graph.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { type TensorData, tensorData } from "../../../src/ir/type.ts";
import { type ArtifactFiles, type OpenArtifact, openArtifact } from "../../../src/runtime/artifact/index.ts";
import { writeWebGpu } from "../../../src/runtime/node/index.ts";

/** A folder as the command line writes it, as far as running needs it, for a software adapter. */
export async function writeArtifactFolder(
  folder: string,
  model: Model,
  name: string,
  options: WgslOptions = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const artifact = emitWgslArtifact(model, { device: { storageBuffers: 8, software: true }, ...options });
  const names = await writeWebGpu(artifact, folder, "0.0.0");
  await writeManifest(folder, names, { name });
}

/** manifest.json with the sizes and hashes of the files as they are now. */
export async function writeManifest(folder: string, names: readonly string[], rest: object = {}): Promise<void> {
  const described = names.map(async (file) => {
    const bytes = await readFile(join(folder, file));
    return [file, { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") }] as const;
  });
  const files = Object.fromEntries(await Promise.all(described));
  const manifest = { format: 1, tamis: "0.0.0", name: "m", target: "webgpu", inputs: [], pictures: {}, labels: [] };
  await writeFile(join(folder, "manifest.json"), JSON.stringify({ ...manifest, files, ...rest }));
}

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
export const mixedGraph = parseGraph(`
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
export const mixedWeights: ReadonlyMap<string, TensorData> = new Map([
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
export const mixedModel: Model = {
  graph: mixedGraph,
  weights: new Map([...mixedWeights].map(([name, data]) => [name, source(data)])),
};

/** Everything that is read of a folder, weights included. */
export async function readAll(
  files: ArtifactFiles,
): Promise<OpenArtifact & { readonly contents: readonly TensorData[] }> {
  const opened = await openArtifact(files);
  const contents: TensorData[] = [];
  for (const { name } of opened.program.parameters)
    contents.push(await (opened.weights.get(name) as WeightSource).read());
  await opened.weights.close();
  return { ...opened, contents };
}

export const inMemory = (files: ReadonlyMap<string, Uint8Array>): ArtifactFiles => ({
  place: "memory",
  async *read(name) {
    const bytes = files.get(name);
    if (bytes === undefined) throw new Error(`no ${name}`);
    for (let at = 0; at < bytes.length; at += 100) yield bytes.subarray(at, at + 100);
  },
});

export async function filesOf(path: string): Promise<Map<string, Uint8Array>> {
  const names = (await readdir(path)).sort();
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(path, name))] as const)));
}

/** Changes plan.json as someone would who can also write its hash. */
export async function changePlan(folder: string, change: (plan: Plan) => unknown): Promise<void> {
  const path = join(folder, "plan.json");
  const plan = JSON.parse(await readFile(path, "utf8")) as Plan;
  change(plan);
  await writeFile(path, JSON.stringify(plan));
  const names = (await readdir(folder)).filter((name) => name !== "manifest.json");
  await writeManifest(folder, names, {});
}
