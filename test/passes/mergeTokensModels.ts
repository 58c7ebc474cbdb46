// Models that merge tokens in the tests, their weights, and what plain loops make of them.
import { expect } from "vitest";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import {
  add,
  concat,
  expand,
  gelu,
  input,
  type ModelDefinition,
  mean,
  mul,
  nn,
  parameter,
  reshape,
  scope,
  slice,
  type Tensor,
  take,
  traceModel,
} from "../../src/dsl/index.ts";
import { CompileError, type Diagnostic } from "../../src/ir/diagnostic.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import { type Graph, parametersOf, sourceName } from "../../src/ir/graph.ts";
import type { NumberTensor, Registry } from "../../src/ir/op.ts";
import { builtinOps } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { type Dim, type TensorData, tensorData } from "../../src/ir/type.ts";
import type { ClipVisionConfig, VitConfig } from "../../src/models/index.ts";
import { type MergeTokensOptions, mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { type PassReport, runPasses } from "../../src/passes/pass.ts";
import {
  at,
  gelu as geluOf,
  type Linear,
  linear,
  type Matrix,
  type Merged,
  type Merging,
  type Norm,
  normalise,
  type PlainBlock,
  plus,
  pooled,
  quickGelu as quickGeluOf,
  rowOf,
  runBlocks,
} from "./mergeTokensPlain.ts";

// The pass

/** The report of mergeTokens over a graph or a model; the graph is verified before and after. */
export function merge(
  model: Graph | ModelDefinition,
  options: MergeTokensOptions,
  registry: Registry = builtinOps,
): PassReport {
  const graph = "build" in model ? traceModel(model, { registry }) : model;
  const [report] = runPasses({ graph, weights: new Map() }, [mergeTokens(options)], { registry }).reports;
  if (report === undefined) throw new Error("the pass was not run");
  return report;
}

/** The first finding of a pass that refuses. */
export function refusal(
  model: Graph | ModelDefinition,
  options: MergeTokensOptions = { r: 1 },
  registry: Registry = builtinOps,
): Diagnostic {
  try {
    merge(model, options, registry);
  } catch (error) {
    if (error instanceof CompileError && error.diagnostics[0] !== undefined) return error.diagnostics[0];
    throw error;
  }
  throw new Error("the pass was expected to refuse");
}

export const countOf = (graph: Graph, op: string): number => graph.nodes.filter((node) => node.op === op).length;

/** Tokens that each matching leaves, in order. */
export const countsAfter = (graph: Graph): readonly number[] =>
  graph.nodes.flatMap((node) => {
    if (node.op !== "tokenMatch") return [];
    const tokens = Number(node.operands[0]?.type.shape[1]);
    return [tokens - Number(node.attrs["r"])];
  });

// Numbers

/** Numbers in [-1, 1) that f32 holds exactly (Numerical Recipes' LCG). */
export function drawn(seed: number, count: number): number[] {
  let state = Math.imul(seed + 1, 2_654_435_761) >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 9) / 2 ** 22 - 1;
  });
}

export function drawnTensor(seed: number, shape: readonly number[]): TensorData {
  const count = shape.reduce((product, size) => product * size, 1);
  return tensorData("f32", shape, drawn(seed, count));
}

/** Contents for every parameter: around 1 for gains of norms, else around 0. */
export function drawnParameters(graph: Graph, seed = 1): ReadonlyMap<string, TensorData> {
  return new Map(
    parametersOf(graph).map((node, i) => {
      const name = sourceName(node);
      const type = node.results[0]?.type;
      const shape = type?.shape.map(Number) ?? [];
      const count = shape.reduce((product, size) => product * size, 1);
      const centre = /(norm|before|after)\w*\.weight$/.test(name) ? 1 : 0;
      const numbers = drawn(seed * 1000 + i, count).map((x) => centre + x / 2);
      return [name, tensorData(type?.dtype ?? "f32", shape, numbers)];
    }),
  );
}

/** All outputs, never rounded. */
export const evaluate = (
  graph: Graph,
  inputs: Readonly<Record<string, TensorData>>,
  parameters: ReadonlyMap<string, TensorData>,
): Readonly<Record<string, NumberTensor>> => evaluateExact(graph, inputs, { parameters });

export function output(outputs: Readonly<Record<string, NumberTensor>>, name: string): NumberTensor {
  const found = outputs[name];
  if (found === undefined) throw new Error(`no output ${name} among ${Object.keys(outputs).join(", ")}`);
  return found;
}

/** Sequences of a [batch, tokens, channels] tensor, row by row; [batch, channels] is one row each. */
export function sequencesOf({ shape, values }: TensorData | NumberTensor): readonly Matrix[] {
  const [batch = 1] = shape;
  const channels = shape.at(-1) ?? 1;
  const rows = values.length / batch / channels;
  const numbers = Array.from(values, Number);
  return Array.from({ length: batch }, (_, b) =>
    Array.from({ length: rows }, (_, i) => numbers.slice((b * rows + i) * channels, (b * rows + i + 1) * channels)),
  );
}

/** Interpreter and plain loops both compute in f64 from the same f32 constants. */
export function expectClose(actual: NumberTensor, wanted: readonly (Matrix | readonly number[])[]): void {
  const values = wanted.flat(2) as readonly number[];
  const shown = { dtype: actual.dtype, shape: actual.shape, values };
  expect(compareTensors(actual, shown, tolerance("f32", { target: "reference" })).message).toBe("");
}

export const expectSame = (actual: NumberTensor, wanted: NumberTensor): void =>
  expectClose(actual, [Array.from(wanted.values, Number)]);

// Names

/** A graph under other names, and where each old name went. */
export interface Renamed {
  readonly graph: Graph;
  readonly names: ReadonlyMap<string, string>;
}

/**
 * The same graph with every input, parameter and output name, every scope, every location and the graph's name
 * replaced: by words that mean nothing, or by each other's.
 */
export function renamed(graph: Graph, seed: number, how: "nonsense" | "shuffled"): Renamed {
  const random = drawn(seed, 4096);
  let drawnSoFar = 0;
  const draw = (below: number): number => Math.floor(((at(random, drawnSoFar++ % random.length) + 1) / 2) * below);
  const nonsense = (): string =>
    `${["q", "norm", "conv", "x", "token", "layer 1", "mlp.fc"][draw(7)]}${drawnSoFar}${["", ".weight", ".é", "-"][draw(4)]}`;
  const sources = graph.nodes.flatMap((node) =>
    node.op === "input" || node.op === "parameter" ? [sourceName(node)] : [],
  );
  const keys = new Map(sources.map((name) => [name, draw(2 ** 20)]));
  const others = sources.toSorted((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0));
  const names = new Map(sources.map((name, i) => [name, how === "nonsense" ? nonsense() : (others[i] ?? name)]));
  for (const { name } of graph.outputs) names.set(`output ${name}`, nonsense());
  const quoted = (name: string | undefined): string => JSON.stringify(name ?? "?");
  const bare = (word: string): string => (word.startsWith('"') ? (JSON.parse(word) as string) : word);
  const word = String.raw`("(?:[^"\\]|\\.)*"|[A-Za-z_][\w.-]*)`;
  const text = printGraph(graph, { locations: true })
    .replace(new RegExp(`graph @${word}`), () => `graph @${quoted(nonsense())}`)
    .replace(new RegExp(`%${word}`, "g"), (_, name: string) => `%${quoted(names.get(bare(name)))}`)
    .replace(new RegExp(` in ${word}`, "g"), () => ` in ${quoted(nonsense())}`)
    .replace(/ loc\([^)]*\)/g, () => ` loc(${quoted(`${nonsense()}.ts`)}:${1 + draw(900)}:${1 + draw(80)})`)
    .replace(
      /return (.*)/,
      (_, list: string) =>
        `return ${list.replace(new RegExp(`(^|, )${word}:`, "g"), (_, comma: string, name: string) => `${comma}${quoted(names.get(`output ${bare(name)}`))}:`)}`,
    );
  return { graph: parseGraph(text), names };
}

/** Outputs of a renamed graph under their old names. */
export function evaluateRenamed(
  { graph, names }: Renamed,
  inputs: Readonly<Record<string, TensorData>>,
  parameters: ReadonlyMap<string, TensorData>,
): Readonly<Record<string, NumberTensor>> {
  const moved = <T>(entries: Iterable<readonly [string, T]>): [string, T][] =>
    Array.from(entries, ([name, x]) => [names.get(name) ?? name, x]);
  const outputs = evaluate(graph, Object.fromEntries(moved(Object.entries(inputs))), new Map(moved(parameters)));
  const old = new Map([...names].flatMap(([name, now]) => (name.startsWith("output ") ? [[now, name.slice(7)]] : [])));
  return Object.fromEntries(Object.entries(outputs).map(([name, x]) => [old.get(name) ?? name, x]));
}

// Plain networks on named weights

class Weights {
  readonly #parameters: ReadonlyMap<string, TensorData>;
  constructor(parameters: ReadonlyMap<string, TensorData>) {
    this.#parameters = parameters;
  }
  vector(name: string): readonly number[] {
    const found = this.#parameters.get(name);
    if (found === undefined) throw new Error(`no parameter ${name}`);
    return Array.from(found.values, Number);
  }
  optional(name: string): readonly number[] | undefined {
    return this.#parameters.has(name) ? this.vector(name) : undefined;
  }
  rows(name: string, columns: number): Matrix {
    const numbers = this.vector(name);
    return Array.from({ length: numbers.length / columns }, (_, i) => numbers.slice(i * columns, (i + 1) * columns));
  }
  linear(name: string, columns: number): Linear {
    return { weight: this.rows(`${name}.weight`, columns), bias: this.optional(`${name}.bias`) };
  }
  norm(name: string, epsilon: number): Norm {
    return { gain: this.vector(`${name}.weight`), bias: this.vector(`${name}.bias`), epsilon };
  }
  packed(name: string, dim: number, part: number): Linear {
    const { weight, bias } = this.linear(name, dim);
    const [start, end] = [part * dim, (part + 1) * dim];
    return { weight: weight.slice(start, end), bias: bias?.slice(start, end) };
  }
}

type Embedded = Pick<VitConfig, "imageSize" | "patch" | "channels" | "dim">;

/** Patches of one picture [channels, rows, columns], projected, behind their read-out tokens, with positions. */
function embed(pixels: readonly number[], config: Embedded, weights: Weights): Matrix {
  const { imageSize, patch, channels, dim } = config;
  const grid = imageSize / patch;
  const flat = Array.from({ length: grid * grid }, (_, i) => {
    const [top, left] = [Math.floor(i / grid) * patch, (i % grid) * patch];
    const taken: number[] = [];
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < patch; y++)
        for (let x = 0; x < patch; x++) taken.push(at(pixels, (c * imageSize + top + y) * imageSize + left + x));
    return taken;
  });
  const patches = linear(flat, weights.linear("patch_embed.proj", channels * patch * patch));
  const prefix = ["cls_token", "dist_token"].flatMap((name) => {
    const token = weights.optional(name);
    return token === undefined ? [] : [token];
  });
  return plus([...prefix, ...patches], weights.rows("pos_embed", dim));
}

function timmBlocks(
  config: Pick<VitConfig, "dim" | "depth" | "heads" | "mlpRatio" | "epsilon">,
  weights: Weights,
  activation: (x: number) => number,
): readonly PlainBlock[] {
  const { depth, dim, heads, mlpRatio, epsilon } = config;
  return Array.from({ length: depth }, (_, i) => {
    const name = `blocks.${i}`;
    return {
      heads,
      keyHeads: heads,
      norm1: weights.norm(`${name}.norm1`, epsilon),
      query: weights.packed(`${name}.attn.qkv`, dim, 0),
      key: weights.packed(`${name}.attn.qkv`, dim, 1),
      value: weights.packed(`${name}.attn.qkv`, dim, 2),
      project: weights.linear(`${name}.attn.proj`, dim),
      norm2: weights.norm(`${name}.norm2`, epsilon),
      expand: weights.linear(`${name}.mlp.fc1`, dim),
      contract: weights.linear(`${name}.mlp.fc2`, dim * mlpRatio),
      activation,
    };
  });
}

/** Logits of one picture. */
export function plainVit(
  config: VitConfig,
  parameters: ReadonlyMap<string, TensorData>,
  pixels: readonly number[],
  merging: Merging,
): { readonly logits: readonly number[]; readonly merged: Merged } {
  const weights = new Weights(parameters);
  const { dim, epsilon } = config;
  const merged = runBlocks(embed(pixels, config, weights), timmBlocks(config, weights, geluOf), merging);
  const head = (name: string, features: readonly number[]) => rowOf(linear([features], weights.linear(name, dim)), 0);
  if (config.globalPool === "avg") {
    const features = normalise([pooled(merged, config.classToken ? 1 : 0)], weights.norm("fc_norm", epsilon));
    return { logits: head("head", rowOf(features, 0)), merged };
  }
  const normed = normalise(merged.x, weights.norm("norm", epsilon));
  const first = head("head", rowOf(normed, 0));
  if (!config.distillToken) return { logits: first, merged };
  const second = head("head_dist", rowOf(normed, 1));
  return { logits: first.map((x, i) => (x + at(second, i)) / 2), merged };
}

/** Embedding of one picture by CLIP's tower. */
export function plainClip(
  config: ClipVisionConfig,
  parameters: ReadonlyMap<string, TensorData>,
  pixels: readonly number[],
  merging: Merging,
): readonly number[] {
  const weights = new Weights(parameters);
  const { dim, epsilon } = config;
  const activation = config.activation === "quickGelu" ? quickGeluOf : geluOf;
  const tokens = normalise(embed(pixels, config, weights), weights.norm("norm_pre", epsilon));
  const { x } = runBlocks(tokens, timmBlocks(config, weights, activation), merging);
  const features = normalise([rowOf(x, 0)], weights.norm("norm", epsilon));
  return rowOf(linear(features, weights.linear("head", dim)), 0);
}

// A network of the tests' own

export type OwnConfig = {
  readonly depth: number;
  /** Tokens of the input: a size, or a symbol. */
  readonly tokens: Dim;
  readonly dim: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly bias: boolean;
  readonly layerScale: boolean;
  /** Linears over [batch * tokens, channels]. */
  readonly flattened: boolean;
  /** f(x) + x instead of x + f(x). */
  readonly branchFirst: boolean;
  /** Learned tokens in front. */
  readonly leading: 0 | 1 | 2;
  /** "patches": a mean over the tokens behind the learned ones. */
  readonly readOut: "first" | "mean" | "patches" | "tokens";
  readonly batch: Dim;
};
export const ownConfig: OwnConfig = {
  depth: 3,
  tokens: 9,
  dim: 8,
  heads: 2,
  keyHeads: 2,
  bias: true,
  layerScale: false,
  flattened: false,
  branchFirst: false,
  leading: 0,
  readOut: "mean",
  batch: "batch",
};

type Tokens = Tensor<"f32", nn.Rank3>;

/** Blocks as one writes them by hand: three projections, each on its own. Input `x` f32[batch, tokens, dim], output `y`. */
export function ownModel(config: Partial<OwnConfig> = {}): ModelDefinition<OwnConfig> {
  return {
    kind: "model",
    name: "own",
    dims: ["batch", "tokens"],
    options: { ...ownConfig, ...config },
    build: (options) => {
      const { batch, depth, dim, leading, readOut } = options;
      let x: Tokens = input("x", "f32", [batch, options.tokens, dim]);
      for (let i = leading - 1; i >= 0; i--)
        x = concat([expand(parameter(`leading.${i}`, [1, 1, dim]), [batch, 1, dim]), x], 1);
      for (let i = 0; i < depth; i++) {
        const before = x;
        x = scope(`layer.${i}`, () => ownBlock(before, options));
      }
      if (readOut === "tokens") return { y: x };
      if (readOut === "patches") return { y: mean(slice(x, { axis: 1, start: leading }), 1) };
      return { y: readOut === "mean" ? mean(x, 1) : take(x, 0, 1) };
    },
  };
}

function ownBlock(x: Tokens, options: OwnConfig): Tokens {
  const { bias, dim, flattened, heads, keyHeads } = options;
  const width = dim / heads;
  const project = (name: string, from: Tokens, out: number): Tokens => {
    if (!flattened) return nn.linear(name, from, { out, bias });
    const flat = nn.linear(name, reshape(from, [-1, from.dim(2)]), { out, bias });
    return reshape(flat, [from.dim(0), from.dim(1), out]);
  };
  const scaleBy = (name: string, branch: Tokens): Tokens =>
    options.layerScale ? mul(branch, parameter(name, [dim])) : branch;
  const join = (stream: Tokens, branch: Tokens): Tokens =>
    options.branchFirst ? add(branch, stream) : add(stream, branch);
  const normed = nn.layerNorm("before", x);
  const mixed = nn.attention(
    nn.splitHeads(project("q", normed, dim), heads),
    nn.splitHeads(project("k", normed, keyHeads * width), keyHeads),
    nn.splitHeads(project("v", normed, keyHeads * width), keyHeads),
  );
  const attended = join(x, scaleBy("gamma1", project("o", nn.mergeHeads(mixed), dim)));
  const hidden = gelu(project("up", nn.layerNorm("after", attended), 2 * dim));
  return join(attended, scaleBy("gamma2", project("down", hidden, dim)));
}

/** The output `y` of every sequence. */
export function plainOwn(
  config: OwnConfig,
  parameters: ReadonlyMap<string, TensorData>,
  x: TensorData,
  merging: Merging,
): { readonly y: readonly Matrix[]; readonly merged: readonly Merged[] } {
  const weights = new Weights(parameters);
  const { depth, dim, heads, keyHeads, leading, readOut } = config;
  const prefix = Array.from({ length: leading }, (_, i) => weights.vector(`leading.${i}`));
  const blocks = Array.from({ length: depth }, (_, i): PlainBlock => {
    const name = `layer.${i}`;
    return {
      heads,
      keyHeads,
      norm1: weights.norm(`${name}.before`, 1e-5),
      query: weights.linear(`${name}.q`, dim),
      key: weights.linear(`${name}.k`, dim),
      value: weights.linear(`${name}.v`, dim),
      project: weights.linear(`${name}.o`, dim),
      scale1: weights.optional(`${name}.gamma1`),
      norm2: weights.norm(`${name}.after`, 1e-5),
      expand: weights.linear(`${name}.up`, dim),
      contract: weights.linear(`${name}.down`, 2 * dim),
      scale2: weights.optional(`${name}.gamma2`),
      activation: geluOf,
    };
  });
  const merged = sequencesOf(x).map((tokens) => runBlocks([...prefix, ...tokens], blocks, merging));
  const read = (run: Merged): Matrix => {
    if (readOut === "tokens") return run.x;
    if (readOut === "first") return [rowOf(run.x, 0)];
    return [pooled(run, readOut === "patches" ? leading : 0)];
  };
  return { y: merged.map(read), merged };
}
