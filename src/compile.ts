import { emitOnnx, type OnnxArtifact, type OnnxOptions } from "./backends/onnx/index.ts";
import { emitWgslArtifact, type WgslArtifact } from "./backends/wgsl/artifact.ts";
import type { WgslOptions } from "./backends/wgsl/index.ts";
import { type ModelDefinition, type OptionValue, traceModel } from "./dsl/index.ts";
import type { Graph, Model, WeightSource } from "./ir/graph.ts";
import type { Registry } from "./ir/op.ts";
import { type Pass, type PassReport, runPasses } from "./passes/pass.ts";

export interface LowerOptions {
  /** Run in this order; the graph is verified around each. */
  readonly passes?: readonly Pass[];
  /** Contents of the parameters; without them the parameters become inputs of the artefact. */
  readonly weights?: ReadonlyMap<string, WeightSource>;
  /** Overrides of the model's own options. */
  readonly set?: Readonly<Record<string, OptionValue>>;
  readonly registry?: Registry;
  /** Files below this folder are named relative to it in locations. */
  readonly root?: string;
  readonly afterPass?: (report: PassReport) => void;
}

export interface Lowered {
  readonly model: Model;
  /** The graph before any pass. */
  readonly source: Graph;
  readonly reports: readonly PassReport[];
}

/** Traces a model definition (or takes a graph) and runs passes over it. */
export function lower(model: ModelDefinition | Graph, options: LowerOptions = {}): Lowered {
  const { passes = [], weights = new Map(), registry, afterPass } = options;
  const source = "build" in model ? traceModel(model, pick(options)) : model;
  const result = runPasses({ graph: source, weights }, passes, {
    ...(registry && { registry }),
    ...(afterPass && { after: afterPass }),
  });
  return { ...result, source };
}

const pick = ({ set, registry, root }: LowerOptions) => ({
  ...(set && { set }),
  ...(registry && { registry }),
  ...(root !== undefined && { root }),
});

export interface OnnxCompileOptions extends LowerOptions, OnnxOptions {
  readonly target: "onnx";
}

export interface WebGpuCompileOptions extends LowerOptions, WgslOptions {
  readonly target: "webgpu";
}

export type CompileOptions = OnnxCompileOptions | WebGpuCompileOptions;

export interface Compiled<Artifact> extends Lowered {
  readonly artifact: Artifact;
}

/** Model to artefact in memory: pure, no file is touched. */
export function compile(model: ModelDefinition | Graph, options: OnnxCompileOptions): Compiled<OnnxArtifact>;
export function compile(model: ModelDefinition | Graph, options: WebGpuCompileOptions): Compiled<WgslArtifact>;
export function compile(
  model: ModelDefinition | Graph,
  options: CompileOptions,
): Compiled<OnnxArtifact> | Compiled<WgslArtifact> {
  const lowered = lower(model, options);
  return options.target === "webgpu"
    ? { ...lowered, artifact: emitWgslArtifact(lowered.model, options) }
    : { ...lowered, artifact: emitOnnx(lowered.model, options) };
}
