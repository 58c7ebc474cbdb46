import { emitOnnx, type OnnxArtifact, type OnnxOptions } from "./backends/onnx/index.ts";
import { emitWgslArtifact, type WgslArtifact } from "./backends/wgsl/artifact.ts";
import type { WgslOptions } from "./backends/wgsl/index.ts";
import { type ModelDefinition, type OptionValue, traceWithOps } from "./dsl/index.ts";
import type { Graph, Model, WeightSource } from "./ir/graph.ts";
import type { Registry } from "./ir/op.ts";
import { builtinOps } from "./ir/ops/index.ts";
import { type Pass, type PassReport, runPasses } from "./passes/pass.ts";

/** What happens to a model before it meets a target. */
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

/** A model after its passes, and what each did. */
export interface Lowered {
  readonly model: Model;
  /** The graph before any pass. */
  readonly source: Graph;
  /** The given one and the composites that the model called: what printing and parsing the graph need. */
  readonly registry: Registry;
  readonly reports: readonly PassReport[];
}

/** Traces a model definition (or takes a graph) and runs passes over it. */
export function lower(model: ModelDefinition | Graph, options: LowerOptions = {}): Lowered {
  const { passes = [], weights = new Map(), afterPass } = options;
  const { graph: source, registry } =
    "build" in model ? traceWithOps(model, pick(options)) : { graph: model, registry: options.registry ?? builtinOps };
  const result = runPasses({ graph: source, weights }, passes, { registry, ...(afterPass && { after: afterPass }) });
  return { ...result, source, registry };
}

const pick = ({ set, registry, root }: LowerOptions) => ({
  ...(set && { set }),
  ...(registry && { registry }),
  ...(root !== undefined && { root }),
});

/** `compile` for the ONNX target. */
export interface OnnxCompileOptions extends LowerOptions, OnnxOptions {
  readonly target: "onnx";
}

/** `compile` for the WebGPU target. */
export interface WebGpuCompileOptions extends LowerOptions, WgslOptions {
  readonly target: "webgpu";
}

/** Options of either target, told apart by `target`. */
export type CompileOptions = OnnxCompileOptions | WebGpuCompileOptions;

/** What `compile` gives: the lowered model, and the artefact for its target. */
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
  const { registry } = lowered;
  return options.target === "webgpu"
    ? { ...lowered, artifact: emitWgslArtifact(lowered.model, { ...options, registry }) }
    : { ...lowered, artifact: emitOnnx(lowered.model, { ...options, registry }) };
}
