import { basename } from "node:path";
import {
  compileError,
  didYouMean,
  expandForKernels,
  type FileBackend,
  formatDiagnostic,
  type Graph,
  lower,
  type Model,
  onnxBackend,
  type Pass,
  type PassReport,
  type Profile,
  parametersOf,
  traceWithOps,
  type WeightSource,
} from "../index.ts";
import { readDevice, readProfile, readTarget, type Target, type TargetDevice } from "./choice.ts";
import { type LoadedModel, loadModel } from "./load.ts";
import { readPasses } from "./passSpecs.ts";
import { loadProject } from "./project.ts";
import { readBackend } from "./readBackend.ts";
import { registerOps, registry } from "./registry.ts";
import { readSettings } from "./set.ts";
import { sourceRoot } from "./sourceRoot.ts";
import { say } from "./terminal.ts";
import { outputToErrors, theirs } from "./theirs.ts";
import { bindModelWeights } from "./weights.ts";

/** What inspect, compile and run share. */
export interface ModelOptions {
  readonly pass?: readonly string[];
  readonly set?: readonly string[];
  readonly weights?: string;
  readonly target?: string;
  readonly profile?: string;
  readonly stopAfter?: string;
  readonly json?: boolean;
}

/** A model of the command line, loaded and lowered as the options say; holds the weights' files open. */
export interface Prepared extends AsyncDisposable {
  readonly loaded: LoadedModel;
  readonly model: Model;
  /** The graph before any pass. */
  readonly source: Graph;
  /** Those that were run, and what each did. */
  readonly passes: readonly Pass[];
  readonly reports: readonly PassReport[];
  readonly target: Target;
  /** The user's own target, in the place of `target`. */
  readonly backend?: FileBackend;
  /** Of onnx. */
  readonly profile: Profile;
  /** Of webgpu. */
  readonly device: TargetDevice;
  /** Contents of the source's parameters; passes may have made others. */
  readonly given: ReadonlyMap<string, WeightSource>;
  /** The texts of --pass that were run: not those behind the stage that compilation was to stop after. */
  readonly passTexts: readonly string[];
  /** Every parameter of the source has contents. */
  readonly weighted: boolean;
  /** `trace` or the name of a pass, where compilation ends before the target. */
  readonly stoppedAfter?: string;
}

export interface PrepareSettings {
  /** Where neither the user nor the artefact names one. */
  readonly target: Target;
  /** The target may be one of the user's own. */
  readonly ownTargets?: boolean;
  /** Without the file that the model itself names, go on without weights. */
  readonly weightsOptional?: boolean;
  readonly afterPass?: (report: PassReport) => void;
}

export async function prepare(text: string, options: ModelOptions, settings: PrepareSettings): Promise<Prepared> {
  const restore = outputToErrors();
  try {
    const project = await loadProject();
    const backend = await readBackend(options.target, project.backends);
    if (backend !== undefined && settings.ownTargets !== true)
      throw compileError("not-available", `${backend.name} is a target of your own, which nothing here runs`, {
        help: "tamis compile writes its files",
      });
    const named = backend === undefined ? options.target : undefined;
    const asked = readTarget(named, settings.target, project.backends.keys());
    const given = await readPasses(options.pass ?? [], project.passes);
    const loaded = await loadModel(text);
    const written = loaded.artifact?.manifest;
    const target = options.target === undefined ? (written?.target ?? asked) : asked;
    const profileNamed = options.profile ?? (written?.target === target ? written.profile : undefined);
    const profile = readProfile(target === "webgpu" || backend !== undefined ? undefined : profileNamed);
    const device = readDevice(target === "webgpu" ? profileNamed : undefined);
    const source = trace(loaded, options.set ?? []);
    const legalize =
      backend !== undefined
        ? backend.legalize({ profile: options.profile ?? backend.profiles[0] ?? "plain", registry })
        : target === "webgpu"
          ? [expandForKernels()]
          : onnxBackend.legalize({ profile });
    const passes = stages(given, legalize, options.stopAfter);
    const weights = await bindModelWeights(loaded, source, options, {
      optional: settings.weightsOptional === true,
      ...(project.weights !== undefined && { folder: project.weights }),
    });
    try {
      const lowered = theirs("a pass", () =>
        lower(source, {
          passes: passes.run,
          weights: weights.sources,
          registry,
          ...(settings.afterPass && { afterPass: settings.afterPass }),
        }),
      );
      for (const note of lowered.reports.flatMap((report) => report.notes)) say(formatDiagnostic(note));
      return {
        loaded,
        target,
        ...(backend && { backend }),
        profile,
        device,
        ...lowered,
        passes: passes.run,
        given: weights.sources,
        passTexts: (options.pass ?? []).slice(0, passes.run.length),
        weighted: parametersOf(source).every((node) => weights.sources.has(node.attrs["name"] as string)),
        ...(passes.stoppedAfter !== undefined && { stoppedAfter: passes.stoppedAfter }),
        [Symbol.asyncDispose]: weights.close,
      };
    } catch (error) {
      await weights.close();
      throw error;
    }
  } finally {
    restore();
  }
}

function trace({ source, path }: LoadedModel, texts: readonly string[]): Graph {
  if (source.kind === "graph") {
    if (texts.length > 0)
      throw compileError("bad-option", `--set ${texts[0]}: ${basename(path)} is a graph, whose options are settled`, {
        help: "give the .ts file, or --pass bindSymbols:batch=1 for a size",
      });
    return source.graph;
  }
  const { definition } = source;
  const set = readSettings(definition, texts);
  const traced = theirs(`the build function of ${definition.name}`, () =>
    traceWithOps(definition, { set, root: sourceRoot(), registry }),
  );
  registerOps(traced.registry);
  return traced.graph;
}

/** The passes up to `stopAfter`; those of the backend, `legalize`, only where it is `legalize` or one of them. */
function stages(
  passes: readonly Pass[],
  legalize: readonly Pass[],
  stopAfter: string | undefined,
): { readonly run: readonly Pass[]; readonly stoppedAfter?: string } {
  if (stopAfter === undefined) return { run: passes };
  if (stopAfter === "trace") return { run: [], stoppedAfter: stopAfter };
  const all = [...passes, ...legalize];
  if (stopAfter === "legalize") return { run: all, stoppedAfter: stopAfter };
  const last = all.findLastIndex((pass) => pass.name === stopAfter);
  if (last >= 0) return { run: all.slice(0, last + 1), stoppedAfter: stopAfter };
  const known = ["trace", ...new Set(all.map((pass) => pass.name)), "legalize"];
  throw compileError("unknown-stage", `there is no stage ${JSON.stringify(stopAfter)} to stop after`, {
    help: didYouMean(stopAfter, known) ?? `the stages: ${known.join(", ")}`,
  });
}
