import { compileError, didYouMean, type Loc, unknownLoc } from "../ir/diagnostic.ts";
import type { Graph, WeightSource } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { callerLoc } from "./place.ts";
import { Tensor } from "./tensor.ts";
import { withTrace } from "./trace.ts";

/** Plain values that configure an architecture; `--set depth=6` overrides one. */
export type Options = Readonly<Record<string, OptionValue>>;
/** A value that a model's option may have. */
export type OptionValue = string | number | boolean | readonly OptionValue[];

/** How a picture becomes an input: (pixel / 255 - mean) / std per channel. */
export interface PictureInput {
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly fit?: "cover" | "contain" | "fill";
}

/** A model before it is traced: its name, options and build function, and how checkpoints and pictures fit it. */
export interface ModelDefinition<O extends Options = Options> {
  readonly kind: "model";
  readonly name: string;
  readonly options: O;
  /** A method, so that a definition with options of its own is a ModelDefinition. */
  build(options: O): Readonly<Record<string, Tensor>>;
  /** Where it is defined. */
  readonly loc?: Loc;
  /** File the weights come from unless the user names another; relative to the model's own file. */
  readonly weights?: string | URL;
  /** A parameter's name in that file, where it differs. */
  readonly weightName?: (parameter: string) => string | undefined;
  /**
   * A checkpoint's tensors under the model's own names, whichever of the usual spellings it has; what it does not know
   * it leaves as it is. Called before the weights are bound.
   */
  adaptWeights?(tensors: ReadonlyMap<string, WeightSource>, options: O): ReadonlyMap<string, WeightSource>;
  /** Options that are dimensions: a size or a symbol, whichever of the two they are by default. */
  readonly dims?: readonly string[];
  /** How pictures are read, by input name. */
  readonly pictures?: Readonly<Record<string, PictureInput>>;
  /** Names of the classes, by output position. */
  readonly labels?: readonly string[];
}

/** Declares a model: a function from options to named outputs over symbolic tensors, traced once when compiled. */
export function defineModel<const O extends Options = Record<never, never>>(
  definition: Omit<ModelDefinition<Widened<O>>, "kind" | "options"> & { readonly options?: O },
): ModelDefinition<Widened<O>> {
  return {
    ...definition,
    loc: callerLoc(undefined),
    kind: "model",
    options: (definition.options ?? {}) as unknown as Widened<O>,
  };
}

/** Default options lose their literal types, so that `depth: 12` may be set to 6. */
type Widened<O> = {
  readonly [K in keyof O]: O[K] extends number
    ? number
    : O[K] extends boolean
      ? boolean
      : O[K] extends string
        ? string
        : O[K];
};

/** Whether a value, such as an export of a file, was made by `defineModel`. */
export function isModelDefinition(x: unknown): x is ModelDefinition {
  return typeof x === "object" && x !== null && (x as { kind?: unknown }).kind === "model" && "build" in x;
}

/** How `traceModel` runs a build function. */
export interface TraceOptions {
  /** Overrides of the model's options. */
  readonly set?: Readonly<Record<string, OptionValue>>;
  readonly registry?: Registry;
  /** Files below this folder are named relative to it. */
  readonly root?: string;
}

/** Runs a model's build function once and gives its graph. */
export const traceModel = (model: ModelDefinition, options: TraceOptions = {}): Graph =>
  traceWithOps(model, options).graph;

/** A traced model. */
export interface Traced {
  readonly graph: Graph;
  /** The given one and the composites that the model called. */
  readonly registry: Registry;
}

/** As `traceModel`, with the registry that knows every op of the graph: what passes, printers and targets need. */
export function traceWithOps(model: ModelDefinition, options: TraceOptions = {}): Traced {
  const settings = { ...model.options, ...checkedOptions(model, options.set ?? {}) };
  const { registry, root } = options;
  return withTrace({ ...(registry && { registry }), ...(root !== undefined && { root }) }, (b) => {
    const outputs: unknown = model.build(settings);
    if (outputs instanceof Promise)
      throw compileError(
        "async-model",
        `model ${model.name} is built by an async function, but tracing is synchronous`,
        { loc: placeOf(model, root), help: "load what it needs before defineModel" },
      );
    const named = Object.entries((outputs ?? {}) as Record<string, unknown>);
    if (named.length === 0 || !named.every(([, t]) => t instanceof Tensor))
      throw compileError(
        "no-outputs",
        `the build function of ${model.name} must return its outputs by name, such as { logits }`,
        { loc: placeOf(model, root) },
      );
    const results = named.map(([name, tensor]) => ({ name, value: (tensor as Tensor).value }));
    return { graph: b.finish(model.name, results), registry: b.registry };
  });
}

const isDim = (x: OptionValue): boolean =>
  typeof x === "number" ? Number.isInteger(x) && x >= 1 : typeof x === "string" && /^[A-Za-z_]\w*$/.test(x);

/** Where the model is defined, named relative to the root. */
function placeOf({ loc = unknownLoc }: ModelDefinition, root: string | undefined): Loc {
  if (loc.kind !== "file" || root === undefined || !loc.file.startsWith(`${root}/`)) return loc;
  return { ...loc, file: loc.file.slice(root.length + 1) };
}

function checkedOptions(model: ModelDefinition, set: Readonly<Record<string, OptionValue>>): Options {
  for (const [key, value] of Object.entries(set)) {
    const standard = model.options[key];
    if (standard === undefined)
      throw compileError("unknown-option", `model ${model.name} has no option ${key}`, {
        help:
          didYouMean(key, Object.keys(model.options)) ??
          `its options: ${Object.keys(model.options).join(", ") || "none"}`,
      });
    const kindOf = (x: OptionValue) => (Array.isArray(x) ? "list" : typeof x);
    if (model.dims?.includes(key)) {
      if (isDim(value)) continue;
      throw compileError(
        "bad-option",
        `option ${key} of ${model.name} wants a size or a symbol, got ${JSON.stringify(value)}`,
      );
    }
    if (kindOf(value) !== kindOf(standard))
      throw compileError(
        "bad-option",
        `option ${key} of ${model.name} wants a ${kindOf(standard)}, got ${JSON.stringify(value)}`,
      );
  }
  return set;
}
