import { readFileSync } from "node:fs";
import { register } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { CompileError, compileError, didYouMean, isModelDefinition, type Loc, type ModelDefinition } from "../index.ts";
import { startOf } from "../runtime/node/index.ts";
import { diagnosticsOf } from "./failure.ts";
import { shownPath } from "./sourceRoot.ts";
import { packageRoot } from "./version.ts";

const running = import.meta.url.endsWith(".ts") ? "ts" : "js"; // sources in a checkout, else what was built
const ownFolder = new URL("../", import.meta.url).href;
const ownBin = new URL("bin/", packageRoot).href;

let prepared: Promise<void> | undefined;

/** Node alone runs no .ts, and a second copy of the DSL would not see the trace that the first one opened. */
function prepareLoader(): Promise<void> {
  prepared ??= (async () => {
    if (running === "js") (await import("tsx/esm/api")).register();
    const entry = (path: string): string => new URL(`${path}.${running}`, ownFolder).href;
    register(new URL("bin/modelHooks.js", packageRoot), {
      data: {
        tamis: entry("index"),
        "tamis/runtime": entry("runtime/node/index"),
        "tamis/models": entry("models/index"),
      },
    });
  })();
  return prepared;
}

/** What a file of the user's exports. Fails with `model-import`. */
export async function importFile(file: string): Promise<Readonly<Record<string, unknown>>> {
  await prepareLoader();
  try {
    return (await import(pathToFileURL(file).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw importFailure(file, error);
  }
}

/** The model that a file exports: its only one, or the one called `exportName`. Fails with `model-import` or `no-model`. */
export async function importModel(file: string, exportName: string | undefined): Promise<ModelDefinition> {
  const exported = await importFile(file);
  const models = Object.entries(exported).filter(([, value]) => isModelDefinition(value)) as [
    string,
    ModelDefinition,
  ][];
  const [first, ...others] = new Map(models.map((entry) => [entry[1], entry] as const)).values();
  const shown = shownPath(file);
  if (exportName !== undefined) {
    const found = models.find(([name]) => name === exportName);
    if (found !== undefined) return found[1];
    throw compileError("no-model", `${shown} exports no model named ${exportName}`, {
      loc: startOf(shown),
      help:
        didYouMean(
          exportName,
          models.map(([name]) => name),
        ) ?? `its models: ${listed(models) || "none"}`,
    });
  }
  if (first === undefined)
    throw compileError("no-model", `${shown} exports no model`, {
      loc: startOf(shown),
      help: "export the result of defineModel(...)",
    });
  if (others.length > 0)
    throw compileError("several-models", `${shown} exports ${1 + others.length} models: ${listed(models)}`, {
      loc: startOf(shown),
      help: `name one, such as ${shown}#${first[0]}`,
    });
  return first[1];
}

const listed = (models: readonly (readonly [string, unknown])[]): string => models.map(([name]) => name).join(", ");

/** What the user's file did wrong while it was imported, at its line. */
function importFailure(file: string, error: unknown): CompileError {
  const known = diagnosticsOf(error);
  if (known !== undefined) return new CompileError(known.map((d) => ({ ...d, loc: shownLoc(d.loc) })));
  const message = error instanceof Error ? error.message : String(error);
  const syntax = /^(.+?):(\d+):(\d+): ERROR: (.+)$/m.exec(message);
  if (syntax !== null) {
    const [, path, line, column, what] = syntax as unknown as [string, string, string, string, string];
    const loc = { kind: "file", file: shownPath(path), line: Number(line), column: Number(column) + 1 } as const;
    return compileError("model-import", `the file cannot be read: ${what}`, { loc });
  }
  const missing = /^Cannot find (?:module|package) '(.+?)' imported from (.+)$/m.exec(message);
  if (missing !== null) {
    const [, wanted, importer] = missing as unknown as [string, string, string];
    const named = wanted.split("/").at(-1) as string;
    return compileError("model-import", `there is no module ${shownPath(wanted)}`, {
      loc: lineWith(importer.replace(/^file:\/\//, ""), named.replace(/\.[cm]?[jt]s$/, "")),
    });
  }
  const absent = /does not provide an export named '(.+?)'/.exec(message)?.[1];
  if (absent !== undefined) return compileError("model-import", message, { loc: lineWith(file, absent) });
  return compileError("model-import", `the file fails when it is imported: ${message}`, {
    loc: userFrame(error)?.loc ?? startOf(shownPath(file)),
  });
}

const shownLoc = (loc: Loc): Loc => (loc.kind === "file" ? { ...loc, file: shownPath(loc.file) } : loc);

/** The first line of a file that has a word; its start where none has. */
function lineWith(file: string, word: string): Loc {
  const lines = readFileSync(file, "utf8").split("\n");
  const line = lines.findIndex((text) => text.includes(word));
  if (line < 0) return startOf(shownPath(file));
  const column = (lines[line] as string).indexOf(word) + 1;
  return { kind: "file", file: shownPath(file), line: line + 1, column, length: word.length };
}

/** The user's innermost frame of an error, and whether the error was thrown in code of ours that it called. */
export function userFrame(error: unknown): { readonly loc: Loc; readonly ours: boolean } | undefined {
  if (!(error instanceof Error) || error.stack === undefined) return undefined;
  let ours = false;
  for (const frame of error.stack.split("\n")) {
    const [, place, line, column] = framePattern.exec(frame) ?? [];
    if (place === undefined) continue;
    const plain = place.replace(/\?.*$/, "");
    const path = plain.startsWith("file://") ? fileURLToPath(plain) : plain;
    const url = pathToFileURL(path).href;
    if (url.startsWith(ownFolder)) ours = true;
    else if (!url.startsWith(ownBin) && !path.includes("/node_modules/"))
      return { loc: { kind: "file", file: shownPath(path), line: Number(line), column: Number(column) }, ours };
  }
  return undefined;
}

const framePattern = /^\s+at (?:.*? \()?((?:file:\/\/|\/)[^()]+?):(\d+):(\d+)\)?$/;
