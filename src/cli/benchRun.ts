import {
  emitOnnx,
  type Model,
  type ModelDefinition,
  type OnnxOptions,
  parametersOf,
  parsePassSpec,
  runPasses,
  sourceName,
  type TensorData,
  type TensorType,
  traceModel,
  type Value,
  type WeightSource,
} from "../index.ts";
import { deitSmall, fashionVit } from "../models/index.ts";
import { createOrtSession, randomSource, randomTensor, type Session } from "../runtime/node/index.ts";
import { print, printJson, progress, table } from "./terminal.ts";

/** Idle threads of one session spin for a while and take the cores from the next one in turn. */
export const noSpinning = { extra: { session: { intra_op: { allow_spinning: "0" } } } };

interface Contestant {
  readonly name: string;
  readonly passes: readonly string[];
  readonly options: OnnxOptions;
}

/** The first is what the others are measured against: the file that an exporter of plain operators writes. */
const contestants: readonly Contestant[] = [
  { name: "every composite written out", passes: ["decompose"], options: { functions: false } },
  { name: "portable", passes: [], options: {} },
  { name: "ort-cuda", passes: [], options: { profile: "ort-cuda" } },
  { name: "portable, mergeTokens r=13", passes: ["mergeTokens:r=13"], options: {} },
];

export interface RunRow {
  readonly model: string;
  readonly file: string;
  readonly leastMs: number;
  readonly medianMs: number;
  /** Median over the rounds of the first file's time over this one's. */
  readonly speed: number;
}

const rounds = 20; // after two that warm up
const warmUps = 2;

/** `tamis bench run`: files of ours on ONNX Runtime's CPU provider, in turns, so that other load meets all alike. */
export async function benchRun(options: { readonly json?: boolean }): Promise<void> {
  const rows: RunRow[] = [];
  for (const definition of [deitSmall, fashionVit] as readonly ModelDefinition[])
    rows.push(...(await race(definition)));
  printRows(rows, "batch 1, random weights", { provider: "cpu" }, options.json);
}

async function race(definition: ModelDefinition): Promise<readonly RunRow[]> {
  const graph = traceModel(definition);
  const model: Model = { graph, weights: await randomWeights(graph) };
  const entries: Entry[] = [];
  for (const { name, passes, options } of contestants) {
    const lowered = runPasses(
      model,
      passes.map((spec) => parsePassSpec(spec).make()),
    ).model;
    entries.push({ file: name, session: await createOrtSession(emitOnnx(lowered, options), { ort: noSpinning }) });
  }
  const inputs = Object.fromEntries(
    graph.inputs.map(({ producer, type }) => [sourceName(producer), randomTensor(atOne(type), 1)]),
  );
  try {
    return await takeTurns(definition.name, entries, inputs);
  } finally {
    for (const { session } of entries) await session.dispose();
  }
}

interface Entry {
  /** What is told apart from the others. */
  readonly file: string;
  readonly session: Session;
}

/** One run of each entry in every round; the first entry is what the others are measured against. */
export async function takeTurns(
  model: string,
  entries: readonly Entry[],
  inputs: Readonly<Record<string, TensorData>>,
): Promise<readonly RunRow[]> {
  const times = entries.map((): number[] => []);
  const steps = progress(`bench run ${model}`, (rounds + warmUps) * entries.length);
  for (let round = 0; round < rounds + warmUps; round++)
    for (const [i, { session }] of entries.entries()) {
      const start = performance.now();
      await session.run(inputs);
      if (round >= warmUps) times[i]?.push(performance.now() - start);
      steps.advance();
    }
  steps.stop();
  const [base = []] = times;
  return entries.map(({ file }, i) => {
    const timesMs = times[i] ?? [];
    return {
      model,
      file,
      leastMs: Math.min(...timesMs),
      medianMs: median(timesMs),
      speed: median(timesMs.map((ms, round) => (base[round] ?? ms) / ms)),
    };
  });
}

/** The document of --json, or a table; `title` says what was raced. */
export function printRows(rows: readonly RunRow[], title: string, about: object, json: boolean | undefined): void {
  if (json === true) return printJson({ ...about, rounds, rows });
  const shown = rows.map(({ model, file, leastMs, medianMs, speed }) => [
    `${model}: ${file}`,
    ...[leastMs, medianMs].map((ms) => ms.toFixed(2)),
    `${speed.toFixed(2)} x`,
  ]);
  print(table([`${rounds} rounds in turns, ${title}`, "least ms", "median ms", "speed"], shown));
}

const atOne = ({ dtype, shape }: TensorType) => ({ dtype, shape: shape.map((d) => (typeof d === "number" ? d : 1)) });

/** Made once, since each file reads them all. */
async function randomWeights(graph: Model["graph"]): Promise<ReadonlyMap<string, WeightSource>> {
  const held = parametersOf(graph).map(async (node, i) => {
    const name = sourceName(node);
    const { type, hash, read } = randomSource(name, atOne((node.results[0] as Value).type), i);
    const whole: TensorData = await read();
    const part: WeightSource["read"] = async (start = 0, end = whole.values.length) => ({
      ...whole,
      values: whole.values.subarray(start, end),
    });
    return [name, { type, hash, read: part }] as const;
  });
  return new Map(await Promise.all(held));
}

function median(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}
