import type { FileBackend } from "./backends/backend.ts";
import type { NamedComposite } from "./ir/op.ts";
import type { PassEntry } from "./passes/index.ts";
import type { Pass } from "./passes/pass.ts";

/** What a project adds to the command line: the default export of `tamis.config.ts`. */
export interface Config {
  /** For --pass, by their names; `passEntry` makes one that takes options. */
  readonly passes?: readonly (Pass | PassEntry)[];
  /** Ops that IR text, artefacts, passes and `tamis fuzz` may hold; a model that calls one brings it along by itself. */
  readonly composites?: readonly NamedComposite[];
  /** For `tamis compile --target`, by their names. */
  readonly backends?: readonly FileBackend[];
  /** Folder that weights are looked for in where they are not beside the model; relative to this file. */
  readonly weights?: string;
  /** Folder that source places are named relative to, wherever a command runs; this file's by default. */
  readonly root?: string;
}

/** Types a `tamis.config.ts`, which is found in the working folder or the nearest one above it. */
export const defineConfig = (config: Config): Config => config;
