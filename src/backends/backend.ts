import { compileError, didYouMean } from "../ir/diagnostic.ts";
import type { Model } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import { decompose } from "../passes/decompose.ts";
import { type Pass, runPasses } from "../passes/pass.ts";

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

/** Files by path below the artefact's folder, with `/` between folders: text or bytes. */
export type EmittedFiles = Readonly<Record<string, string | Uint8Array>>;

/** What a backend's rewrites and its `emit` get beside the model. */
export interface EmitOptions {
  /** One of the backend's `profiles`; the first one by default. */
  readonly profile: string;
  /** Every op of the graph. */
  readonly registry: Registry;
}

/** What `backend` takes: a target of the user's own. */
export interface BackendDeclaration {
  /** Its word for `--target`, where tamis.config.ts lists it. */
  readonly name: string;
  /** One line: what it writes. */
  readonly summary: string;
  /** Variants that --profile may name; default one, `plain`. */
  readonly profiles?: readonly string[];
  /** Composites that it writes itself, or "every"; all others are expanded first. Default none. */
  readonly native?: "every" | ((profile: string) => Iterable<string>);
  /** Private rewrites, last, in this order, before composites are expanded. */
  readonly legalize?: (options: EmitOptions) => readonly Pass[];
  /** The files; weights may be read, one after the other. What it cannot express is a CompileError at the node's `locs`. */
  emit(model: Model, options: EmitOptions): EmittedFiles | Promise<EmittedFiles>;
}

/** A target of the user's own, for `tamis compile --target ./file.ts:name` and `emitFiles`. */
export interface FileBackend extends Backend<EmittedFiles | Promise<EmittedFiles>, EmitOptions> {
  readonly kind: "backend";
  readonly summary: string;
}

/** Declares a target: a function from a model to files. */
export function backend(declared: BackendDeclaration): FileBackend {
  const { name, summary, profiles = ["plain"], native = () => [], legalize = () => [], emit } = declared;
  const whole = (profile: string, registry: Registry = builtinOps): ReadonlySet<string> =>
    new Set(native === "every" ? registry.keys() : native(profile));
  return Object.freeze({
    kind: "backend",
    name,
    summary,
    profiles,
    native: whole,
    legalize: (options: EmitOptions) => [...legalize(options), decompose(whole(options.profile, options.registry))],
    emit,
  });
}

/** Whether a value, such as an export of a file of the user's, was made by `backend`. */
export const isFileBackend = (x: unknown): x is FileBackend =>
  typeof x === "object" && x !== null && (x as { kind?: unknown }).kind === "backend" && "emit" in x;

/**
 * A model as the files of a backend: its rewrites, then `emit`. Fails with `unknown-profile`, with `bad-backend` where
 * what `emit` gives is no set of files, and as the backend does.
 */
export async function emitFiles(
  target: FileBackend,
  model: Model,
  given: { readonly profile?: string; readonly registry?: Registry } = {},
): Promise<EmittedFiles> {
  const { profile = target.profiles[0] ?? "plain", registry = builtinOps } = given;
  if (!target.profiles.includes(profile))
    throw compileError("unknown-profile", `${target.name} has no profile ${JSON.stringify(profile.slice(0, 60))}`, {
      help: didYouMean(profile, target.profiles) ?? `one of ${target.profiles.join(", ")}`,
    });
  const options = { profile, registry };
  const legal = runPasses(model, target.legalize(options), { registry }).model;
  const files: unknown = await target.emit(legal, options);
  const refuse = (what: string): never => {
    throw compileError("bad-backend", `${target.name}: emit ${what}`, {
      help: 'give { "file.txt": "text", "folder/file.bin": bytes }',
    });
  };
  if (typeof files !== "object" || files === null)
    return refuse(`gives ${files === null ? "null" : typeof files}, not files`);
  const entries = Object.entries(files);
  if (entries.length === 0) refuse("gives no files");
  for (const [path, contents] of entries) {
    if (!/^[\w-][\w.-]*(?:\/[\w-][\w.-]*)*$/.test(path))
      refuse(`names ${JSON.stringify(path)}, which is no path below a folder`);
    if (typeof contents !== "string" && !(contents instanceof Uint8Array))
      refuse(`gives ${path} as neither text nor a Uint8Array`);
  }
  return files as EmittedFiles;
}
