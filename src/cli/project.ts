import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import {
  passes as builtinPasses,
  type Config,
  compileError,
  didYouMean,
  type FileBackend,
  isComposite,
  isFileBackend,
  type Loc,
  type NamedComposite,
  type PassEntry,
} from "../index.ts";
import { startOf } from "../runtime/node/index.ts";
import { importFile } from "./importModel.ts";
import { isEntry, isPass, passEntryOf } from "./passSpecs.ts";
import { registerComposites, resetRegistry } from "./registry.ts";
import { setSourceRoot, shownPath } from "./sourceRoot.ts";

/** What the nearest tamis.config.ts says, its relative paths resolved. */
export interface Project {
  /** Every pass that --pass can name: the built-in ones and the project's. */
  readonly passes: ReadonlyMap<string, PassEntry>;
  readonly backends: ReadonlyMap<string, FileBackend>;
  readonly composites: readonly NamedComposite[];
  /** Folder that weights are looked for in where they are not beside the model. */
  readonly weights?: string;
  /** Folder that source places are named relative to. */
  readonly root: string;
}

const configNames = ["tamis.config.ts", "tamis.config.mts", "tamis.config.js", "tamis.config.mjs"];

/**
 * Reads the config of the working folder or of the nearest folder above it, and makes its composites known. Fails with
 * `model-import` where the file cannot be imported, `bad-config` where it says what no config says, `duplicate-op` and
 * `duplicate-name`.
 */
export async function loadProject(): Promise<Project> {
  resetRegistry();
  setSourceRoot(undefined);
  const file = findConfig(process.cwd());
  if (file === undefined) return { passes: builtinPasses, backends: new Map(), composites: [], root: process.cwd() };
  const project = await readConfig(file);
  setSourceRoot(project.root);
  registerComposites(project.composites);
  return project;
}

function findConfig(from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const file = configNames.map((name) => join(folder, name)).find(existsSync);
    if (file !== undefined || dirname(folder) === folder) return file;
  }
}

async function readConfig(file: string): Promise<Project> {
  const shown = shownPath(file);
  const at = startOf(shown);
  const { default: config } = await importFile(file);
  if (typeof config !== "object" || config === null || Array.isArray(config))
    throw compileError("bad-config", `${shown} has no config as its default export`, {
      loc: at,
      help: "write export default defineConfig({ ... })",
    });
  const known = Object.keys(readers);
  for (const key of Object.keys(config))
    if (!known.includes(key))
      throw compileError("bad-config", `a config has no ${JSON.stringify(key.slice(0, 60))}`, {
        loc: at,
        help: didYouMean(key, known) ?? `it has ${known.join(", ")}`,
      });
  const { passes, composites, backends, weights, root } = config as { readonly [K in keyof Config]?: unknown };
  const folder = dirname(file);
  return {
    passes: namedPasses(readers.passes(passes, at), at),
    composites: readers.composites(composites, at),
    backends: byName(readers.backends(backends, at), new Set(), "backend", at),
    root: resolve(folder, readers.root(root, at) ?? "."),
    ...(weights !== undefined && { weights: resolve(folder, readers.weights(weights, at) as string) }),
  };
}

const list =
  <T>(key: string, wants: string, is: (x: unknown) => x is T) =>
  (value: unknown, loc: Loc): readonly T[] => {
    if (value === undefined) return [];
    if (Array.isArray(value) && value.every(is)) return value;
    const wrong = Array.isArray(value) ? `its item ${value.findIndex((item) => !is(item))} is none` : "it is no list";
    throw compileError("bad-config", `${key} wants a list of ${wants}, but ${wrong}`, { loc });
  };

const path =
  (key: string) =>
  (value: unknown, loc: Loc): string | undefined => {
    if (value === undefined || typeof value === "string") return value;
    throw compileError("bad-config", `${key} wants the path of a folder, got ${typeof value}`, { loc });
  };

const readers = {
  passes: list("passes", "passes, made by rewritePass, passEntry or by hand", (x) => isEntry(x) || isPass(x)),
  composites: list("composites", "what composite({ ... }) gives", isComposite),
  backends: list("backends", "what backend({ ... }) gives", isFileBackend),
  weights: path("weights"),
  root: path("root"),
} satisfies { readonly [K in keyof Config]-?: (value: unknown, loc: Loc) => unknown };

function namedPasses(own: ReturnType<typeof readers.passes>, loc: Loc): Project["passes"] {
  const entries = own.map(passEntryOf);
  return new Map([...builtinPasses, ...byName(entries, new Set(builtinPasses.keys()), "pass", loc)]);
}

function byName<T extends { readonly name: string }>(
  items: readonly T[],
  taken: ReadonlySet<string>,
  kind: string,
  loc: Loc,
): ReadonlyMap<string, T> {
  const named = new Map<string, T>();
  for (const item of items) {
    if (taken.has(item.name) || named.has(item.name))
      throw compileError("duplicate-name", `there is already a ${kind} named ${item.name}`, { loc });
    named.set(item.name, item);
  }
  return named;
}
