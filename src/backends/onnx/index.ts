import type { Model, WeightSource } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { builtinOps } from "../../ir/ops/index.ts";
import { bytesOf, elementsOf, type TensorData } from "../../ir/type.ts";
import { runPasses } from "../../passes/pass.ts";
import type { Backend } from "../backend.ts";
import { packElements } from "./elements.ts";
import { type EmittedGraph, emitGraph } from "./emit.ts";
import { legalize } from "./legalize/index.ts";
import { opset } from "./opset.ts";
import { irVersionOf, type Profile, profiles } from "./profile.ts";
import { encodeParts, type OnnxInitializer, type OnnxValue } from "./proto.ts";

export { type CheckOptions, checkOnnx } from "./check.ts";
export { isProfile, type Profile, profiles, providersOf } from "./profile.ts";
export type { OnnxValue } from "./proto.ts";

/** How `emitOnnx` writes a model; all of it has defaults. */
export interface OnnxOptions {
  /** Default portable. */
  readonly profile?: Profile;
  /** Token matching and merging by indices (Gather, ScatterND) or by permutation matrices; default: by profile. */
  readonly tokenForm?: "index" | "dense";
  /** Weights beside the .onnx file; auto: where they take more than 1 GiB. */
  readonly externalData?: "auto" | "always" | "never";
  /** One ONNX function per block of the model. Default true. */
  readonly functions?: boolean;
  /** Source line of every node. Default true. */
  readonly docStrings?: boolean;
  readonly registry?: Registry;
}

/** One tensor of the external file. */
export interface ExternalEntry {
  readonly name: string;
  /** In bytes; a multiple of 64 KiB. */
  readonly offset: number;
  readonly length: number;
  readonly source: WeightSource;
  /** The packed bytes in order, a few megabytes at a time. */
  bytes(): AsyncIterable<Uint8Array>;
}

/** A model as an ONNX file that is not yet written: what it will hold, and its bytes on demand. */
export interface OnnxArtifact {
  readonly kind: "onnx";
  readonly name: string;
  readonly profile: Profile;
  readonly opset: number;
  readonly irVersion: number;
  /** Nodes of the main graph and of the functions. */
  readonly nodes: number;
  readonly functions: readonly string[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly symbols: readonly string[];
  /** Bytes of all weights. */
  readonly weightBytes: number;
  /** The weights' file, where they do not lie in the .onnx file. */
  readonly externalFile?: { readonly length: number; readonly entries: readonly ExternalEntry[] };
  /** Bytes of the .onnx file; `location` names the external file beside it. Reads the weights that it holds. */
  encode(location?: string): Promise<Uint8Array>;
  /** The same bytes in order, weights a few megabytes at a time. */
  chunks(location?: string): AsyncIterable<Uint8Array>;
}

const externalAbove = 2 ** 30; // bytes
const externalAlignment = 2 ** 16; // bytes; what every platform can map
const elementsAtOnce = 2 ** 20; // elements read while streaming
export const defaultLocation = "model.onnx.data";

/** A model as an ONNX file for a profile. Fails with `unsupported-op`, `unsupported-dtype` or `duplicate-name`. */
export function emitOnnx(model: Model, options: OnnxOptions = {}): OnnxArtifact {
  const { profile = "portable", externalData = "auto", functions = true, docStrings = true } = options;
  const { passes, withNative } = legalize({ ...options, profile });
  const registry = withNative(options.registry ?? builtinOps);
  const { graph } = runPasses(model, passes, { registry }).model;
  const known = new Set(model.weights.keys());
  const emitted = emitGraph(graph, { profile, functions, docStrings, known, registry });
  const weights = [
    ...[...emitted.parameters].map(([name, parameter]) => ({
      name,
      source: model.weights.get(parameter) as WeightSource,
    })),
    ...[...emitted.constants].map(([name, data]) => ({ name, source: constantSource(name, data) })),
  ];
  const weightBytes = weights.reduce((sum, { source }) => sum + bytesIn(source), 0);
  const external = externalData === "always" || (externalData === "auto" && weightBytes > externalAbove);
  const entries = external ? layOut(weights) : [];
  const irVersion = irVersionOf(emitted.opset);
  const last = entries.at(-1);
  return {
    kind: "onnx",
    name: graph.name,
    profile,
    opset: emitted.opset,
    irVersion,
    nodes: emitted.nodes.length + emitted.functions.reduce((sum, f) => sum + f.nodes.length, 0),
    functions: emitted.functions.map((f) => f.name),
    inputs: emitted.inputs,
    outputs: emitted.outputs,
    symbols: emitted.symbols,
    weightBytes,
    ...(last && { externalFile: { length: last.offset + last.length, entries } }),
    async *chunks(location = defaultLocation) {
      const placed = new Map(entries.map((entry) => [entry.name, entry]));
      const initializers = weights.map(({ name, source }): OnnxInitializer => {
        const entry = placed.get(name);
        const contents = entry
          ? { location, offset: entry.offset, length: entry.length }
          : { bytes: { length: bytesIn(source), stream: () => stream(source) } };
        return { name, dtype: source.type.dtype, shape: source.type.shape, contents };
      });
      const model = { ...partsOf(emitted), name: graph.name, irVersion, initializers, metadata: { profile } };
      for (const part of encodeParts(model)) {
        if (part instanceof Uint8Array) yield part;
        else yield* part.stream();
      }
    },
    async encode(location) {
      const parts: Uint8Array[] = [];
      for await (const part of this.chunks(location)) parts.push(part);
      const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      parts.reduce((at, part) => {
        bytes.set(part, at);
        return at + part.length;
      }, 0);
      return bytes;
    },
  };
}

const partsOf = ({ opset, nodes, functions, inputs, outputs }: EmittedGraph) => {
  const used = new Set([...nodes, ...functions.flatMap((f) => f.nodes)].map((node) => node.domain));
  const domains = Object.fromEntries([...used].filter((d) => d === "com.microsoft").map((d) => [d, 1]));
  return { opset, nodes, functions, inputs, outputs, domains };
};

const packed = ({ dtype, values }: TensorData): Uint8Array => packElements(dtype, values);
const bytesIn = ({ type }: WeightSource): number => bytesOf(type.dtype, elementsOf(type.shape));

function constantSource(name: string, data: TensorData): WeightSource {
  return {
    type: data,
    hash: `constant ${name}`,
    read: async (start = 0, end = data.values.length) => ({ ...data, values: data.values.subarray(start, end) }),
  };
}

/** Large tensors go to the external file in order; small ones stay in the .onnx file. */
function layOut(
  weights: readonly { readonly name: string; readonly source: WeightSource }[],
): readonly ExternalEntry[] {
  let offset = 0;
  const entries: ExternalEntry[] = [];
  for (const { name, source } of weights) {
    const length = bytesIn(source);
    if (length <= smallestExternal) continue;
    entries.push({ name, offset, length, source, bytes: () => stream(source) });
    offset = Math.ceil((offset + length) / externalAlignment) * externalAlignment;
  }
  return entries;
}

const smallestExternal = 1024; // bytes; shapes and scalars must be at hand while a runtime loads the graph

async function* stream(source: WeightSource): AsyncGenerator<Uint8Array> {
  const count = elementsOf(source.type.shape);
  for (let start = 0; start < count; start += elementsAtOnce)
    yield packed(await source.read(start, Math.min(count, start + elementsAtOnce)));
}

/** The ONNX target as passes and `--stop-after legalize` see it. */
export const onnxBackend: Backend<OnnxArtifact, OnnxOptions & { readonly profile: Profile }> = {
  name: "onnx",
  profiles,
  native: (profile) =>
    new Set(
      Object.entries(opset).flatMap(([op, row]) => ("profiles" in row && row.profiles.includes(profile) ? [op] : [])),
    ),
  legalize: (options) => legalize(options).passes,
  emit: emitOnnx,
};
