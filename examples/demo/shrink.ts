// What the demo measures: the Fashion-MNIST ViT at several merge degrees, on ONNX Runtime and on WebGPU.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  bindSymbols,
  costOf,
  emitOnnx,
  emitWgsl,
  type Graph,
  lower,
  type Model,
  mergeTokens,
  parametersOf,
  printGraph,
  sourceName,
  type TensorData,
  type WeightSource,
} from "tamis";
import {
  bindWeights,
  createOrtSession,
  createWebGpuSession,
  deviceProfile,
  loadWeights,
  type NodeDevice,
  type Session,
  writeFileAtomically,
  writeOnnx,
} from "tamis/runtime";
import { fashionVit } from "../01-fashion-vit.ts";

export const degrees = [0, 2, 4, 6, 8] as const;
/** Right answers of the first 500 test pictures that the authors' merge code gives with these weights, in float64. */
export const expectedRight = [453, 452, 455, 452, 449] as const;
export const labels: readonly string[] = fashionVit.labels ?? [];

const file = (name: string): string => new URL(`../data/${name}`, import.meta.url).pathname;

export interface Pictures {
  /** u8[count, 28, 28] */
  readonly pixels: Uint8Array;
  readonly labels: Int32Array;
  readonly count: number;
}

export async function readPictures(): Promise<Pictures> {
  await using data = await loadWeights(file("fashion-test-500.safetensors"));
  const read = async (name: string) => (await (data.tensors.get(name) as WeightSource).read()).values;
  const [pixels, answers] = [(await read("images")) as Uint8Array, (await read("labels")) as Int32Array];
  return { pixels, labels: answers, count: answers.length };
}

/** What one target answered, for the first pictures. */
export interface Answers {
  /** Pictures that it was asked about. */
  readonly count: number;
  /** f32[count, 10] */
  readonly logits: Float32Array;
  readonly right: number;
  /** Median over batches. */
  readonly msPerPicture: number;
}

export interface Outcome {
  readonly r: number;
  readonly tokens: readonly number[];
  /** Multiply-accumulates of one picture, matching and merging included. */
  readonly macs: number;
  /** Nodes of the IR. */
  readonly irNodes: number;
  /** `nodes`: of the ONNX file, its functions written out. */
  readonly onnx: Answers & { readonly nodes: number };
  readonly webgpu: Answers & { readonly dispatches: number };
  /** Largest difference between the logits of both targets, absolute and in parts of the largest logit. */
  readonly difference: { readonly absolute: number; readonly relative: number };
  /** For the pictures that are shown: which merged token each of the 50 tokens went to. */
  readonly groups: readonly (readonly number[])[];
  readonly files: readonly string[];
}

/** Where to run, what to write and whom to tell. */
export interface Setting {
  readonly device: NodeDevice;
  /** Pictures for WebGPU, of all. */
  readonly onWebgpu: number;
  /** Folder of the files. */
  readonly out: string;
  /** Called when something else begins, and after each batch. */
  readonly progress: (step: { readonly doing: string } | { readonly pictures: number }) => void;
}

export const shown = 12;

/** Compiles, writes and runs the ViT with r tokens merged per block. */
export async function shrink(r: number, pictures: Pictures, setting: Setting): Promise<Outcome> {
  const { out, progress } = setting;
  await mkdir(out, { recursive: true });
  await using checkpoint = await loadWeights(file("fashion-vit.safetensors"));
  const { source, model: unbound } = lower(fashionVit, {
    passes: r === 0 ? [] : [mergeTokens({ r })],
    root: process.cwd(),
  });
  const expected = new Map(parametersOf(source).map((node) => [sourceName(node), node.results[0]?.type ?? never()]));
  const model = { graph: unbound.graph, weights: bindWeights(expected, checkpoint) };
  const path = join(out, `fashion-vit-r${r}.onnx`);
  const ir = join(out, `fashion-vit-r${r}.ir`);
  await writeOnnx(emitOnnx(model, { profile: "portable" }), path);
  await writeFileAtomically(ir, printGraph(model.graph, { locations: true }));
  progress({ doing: `r = ${r} on ONNX Runtime` });
  const onnx = await onOnnxRuntime(path, pictures, progress);
  progress({ doing: `r = ${r} on WebGPU, whose kernels are built first` });
  const webgpu = await onWebgpu(model, pictures, setting);
  const one = lower(model.graph, { passes: [bindSymbols({ batch: 1 })] }).model.graph;
  return {
    r,
    tokens: tokensAfterBlocks(model.graph),
    macs: costOf(one).macs as number,
    irNodes: model.graph.nodes.length,
    // As they run, the functions of the file written out: unmerged blocks share one function, merged ones do not.
    onnx: { ...onnx, nodes: emitOnnx(model, { functions: false }).nodes },
    webgpu,
    difference: largestDifference(webgpu.logits, onnx.logits),
    groups: await mergedGroups(r, model.weights, pictures),
    files: [path, ir],
  };
}

async function onOnnxRuntime(path: string, pictures: Pictures, progress: Setting["progress"]): Promise<Answers> {
  await using session = await createOrtSession(path, { provider: "cpu" });
  return await classify(session, pictures, { count: pictures.count, batch: 50, progress });
}

async function onWebgpu(
  model: Model,
  pictures: Pictures,
  { device, onWebgpu: count, progress }: Setting,
): Promise<Outcome["webgpu"]> {
  const program = emitWgsl(model, { device: deviceProfile(device) });
  await using session = await createWebGpuSession(program, model.weights, device);
  const { dispatches } = session;
  return { dispatches, ...(await classify(session, pictures, { count, batch: 25, progress })) };
}

/** Of the values that both have. */
function largestDifference(some: Float32Array, others: Float32Array): Outcome["difference"] {
  const pairs = Array.from(some, (x, i) => [x, others[i] as number] as const);
  const absolute = Math.max(...pairs.map(([x, y]) => Math.abs(x - y)));
  return { absolute, relative: absolute / Math.max(1, ...pairs.map(([, y]) => Math.abs(y))) };
}

const never = (): never => {
  throw new TypeError("a parameter without a result");
};

/** Normalised as in training: (pixel / 255 - 0.286) / 0.353. */
function inputs(pictures: Pictures, from: number, count: number): Readonly<Record<string, TensorData>> {
  const pixels = pictures.pixels.subarray(from * 784, (from + count) * 784);
  const values = Float32Array.from(pixels, (pixel) => (pixel / 255 - 0.286) / 0.353);
  return { image: { dtype: "f32", shape: [count, 1, 28, 28], values } };
}

async function classify(
  session: Pick<Session, "run">,
  pictures: Pictures,
  { count, batch, progress }: { count: number; batch: number; progress: Setting["progress"] },
): Promise<Answers> {
  const logits = new Float32Array(count * labels.length);
  const times: number[] = [];
  await session.run(inputs(pictures, 0, 1)); // warm-up
  for (let from = 0; from < count; from += batch) {
    const size = Math.min(batch, count - from);
    const given = inputs(pictures, from, size);
    const start = performance.now();
    const result = await session.run(given);
    times.push((performance.now() - start) / size);
    logits.set(result["logits"]?.values as Float32Array, from * labels.length);
    progress({ pictures: size });
  }
  return { count, logits, right: countRight(logits, pictures.labels.subarray(0, count)), msPerPicture: median(times) };
}

/** Token count after each block, read off the residual stream: every fold of the stream is one tokenMerge of width dim. */
function tokensAfterBlocks(graph: Graph): readonly number[] {
  const depth = fashionVit.options.depth;
  const counts = new Map<string, number>();
  for (const node of graph.nodes) {
    const block = /^blocks\.(\d+)/.exec(node.scope)?.[1];
    const { shape } = node.results[0]?.type ?? { shape: [] };
    if (
      block !== undefined &&
      shape.length === 3 &&
      shape[2] === fashionVit.options.dim &&
      typeof shape[1] === "number"
    )
      counts.set(block, shape[1]);
  }
  return Array.from({ length: depth }, (_, i) => counts.get(String(i)) ?? 0);
}

/** Where each token of the shown pictures ended up, from a second compilation with tracking. */
async function mergedGroups(
  r: number,
  weights: ReadonlyMap<string, WeightSource>,
  pictures: Pictures,
): Promise<readonly (readonly number[])[]> {
  const every = Array.from({ length: shown }, () => Array.from({ length: 50 }, (_, token) => token));
  if (r === 0) return every;
  const { model } = lower(fashionVit, { passes: [mergeTokens({ r, track: true })] });
  await using session = await createOrtSession(emitOnnx({ graph: model.graph, weights }));
  const { shape, values: source } = (await session.run(inputs(pictures, 0, shown)))["tokenSource"] as TensorData;
  const [, merged, tokens] = shape as readonly [number, number, number];
  return every.map((group, picture) =>
    group.map((token) => {
      for (let to = 0; to < merged; to++) if (source[(picture * merged + to) * tokens + token] === 1) return to;
      return -1;
    }),
  );
}

export function answer(logits: Float32Array, picture: number): { label: number; confidence: number } {
  const row = logits.subarray(picture * labels.length, (picture + 1) * labels.length);
  const peak = Math.max(...row);
  const total = row.reduce((sum, x) => sum + Math.exp(x - peak), 0);
  return { label: row.indexOf(peak), confidence: 1 / total };
}

function countRight(logits: Float32Array, answers: Int32Array): number {
  return answers.reduce((right, wanted, i) => right + (answer(logits, i).label === wanted ? 1 : 0), 0);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
