import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import {
  compileError,
  type Graph,
  parametersOf,
  sourceName,
  type TensorType,
  type Value,
  type WeightSource,
} from "../index.ts";
import { bindWeights, loadWeights, type OpenWeights, randomSource } from "../runtime/node/index.ts";
import type { LoadedModel } from "./load.ts";
import { readSettings } from "./set.ts";
import { say } from "./terminal.ts";

export interface BoundWeights {
  readonly sources: ReadonlyMap<string, WeightSource>;
  close(): Promise<void>;
}

/** Contents of a graph's parameters from --weights, or from where the model says they are. */
export async function bindModelWeights(
  loaded: LoadedModel,
  graph: Graph,
  options: { readonly weights?: string; readonly set?: readonly string[] },
  { optional, folder }: { readonly optional: boolean; readonly folder?: string },
): Promise<BoundWeights> {
  const none: BoundWeights = { sources: new Map(), close: async () => undefined };
  const expected = new Map(
    parametersOf(graph).map((node) => [sourceName(node), (node.results[0] as Value).type] as const),
  );
  const seed = /^random(?::(\d+))?$/.exec(options.weights ?? "");
  if (seed !== null) return { ...none, sources: randomWeights(expected, Number(seed[1] ?? 0)) };
  const named = options.weights ?? loaded.weights;
  if (named === undefined || expected.size === 0) return none;
  const path = await placed(named, options.weights ?? basename(named), folder);
  if (optional && options.weights === undefined && !(await isThere(path))) {
    say(`tamis: the model's weights are not there (${path}); going on without`);
    return none;
  }
  const opened = await loadWeights(path);
  try {
    return { sources: bind(loaded, expected, opened, options), close: opened.close };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** The path itself where something is there, else what the project's folder of weights has under a name. */
async function placed(path: string, name: string, folder: string | undefined): Promise<string> {
  if (folder === undefined || (await isThere(path))) return path;
  const held = resolve(folder, name);
  return (await isThere(held)) ? held : path;
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

function bind(
  { source, weightsHoldMore }: LoadedModel,
  expected: ReadonlyMap<string, TensorType>,
  opened: OpenWeights,
  options: { readonly weights?: string; readonly set?: readonly string[] },
): ReadonlyMap<string, WeightSource> {
  if (source.kind === "graph")
    return bindWeights(expected, opened, { allowExtra: weightsHoldMore === true && options.weights === undefined });
  const { definition } = source;
  const settings = { ...definition.options, ...readSettings(definition, options.set ?? []) };
  const tensors = definition.adaptWeights?.(opened.tensors, settings) ?? opened.tensors;
  const parameterOf = new Map<string, string>();
  for (const name of expected.keys()) {
    const heldAs = definition.weightName?.(name);
    if (heldAs !== undefined) parameterOf.set(heldAs, name);
  }
  return bindWeights(expected, { path: opened.path, tensors }, { rename: (name) => parameterOf.get(name) ?? name });
}

function randomWeights(expected: ReadonlyMap<string, TensorType>, seed: number): ReadonlyMap<string, WeightSource> {
  return new Map(
    [...expected].map(([name, { dtype, shape }]) => {
      const symbol = shape.find((dim) => typeof dim !== "number");
      if (symbol !== undefined)
        throw compileError("weights-shape", `parameter ${name} has no fixed size: ${symbol} is a symbol`);
      return [name, randomSource(name, { dtype, shape: shape as readonly number[] }, seed)];
    }),
  );
}
