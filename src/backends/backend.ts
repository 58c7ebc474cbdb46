import type { Model } from "../ir/graph.ts";
import type { Pass } from "../passes/pass.ts";

/**
 * A target that a model is written for. `Options` names the profile and what the target leaves open; each method
 * depends on nothing else, so equal calls give equal results.
 */
export interface Backend<Artifact, Options extends { readonly profile: string }> {
  readonly name: string;
  readonly profiles: readonly Options["profile"][];
  /** Composites that may be emitted whole under a profile; every other one is decomposed first. */
  native(profile: Options["profile"]): ReadonlySet<string>;
  /** Private rewrites, last, in this order; `emit` runs them itself. */
  legalize(options: Options): readonly Pass[];
  /** Pure: text, bytes, plain data. Weights are not read. */
  emit(model: Model, options: Options): Artifact;
}
