import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { compileError, didYouMean, type FileBackend, isComposite, isFileBackend } from "../index.ts";
import { startOf } from "../runtime/node/index.ts";
import { importFile } from "./importModel.ts";
import { registerComposites } from "./registry.ts";

/**
 * The target of the user's own that --target names: `./toy.ts:name`, or one of the project's by its name; undefined
 * where it names none. Fails with `file-not-found`, `model-import` and `unknown-target`.
 */
export async function readBackend(
  text: string | undefined,
  known: ReadonlyMap<string, FileBackend>,
): Promise<FileBackend | undefined> {
  const [, file, name] = /^(.+\.[cm]?[jt]s)(?::(\w*))?$/.exec(text ?? "") ?? [];
  if (file === undefined) return known.get(text ?? "");
  if ((await stat(file).catch(() => undefined)) === undefined)
    throw compileError("file-not-found", `there is no file ${file}`, { loc: startOf(file) });
  const exported = await importFile(resolve(file));
  registerComposites(Object.values(exported).filter(isComposite));
  const own = Object.entries(exported).flatMap(([key, value]) => (isFileBackend(value) ? [key] : []));
  const found = name !== undefined && Object.hasOwn(exported, name) ? exported[name] : undefined;
  if (isFileBackend(found)) return found;
  const listed = own.map((key) => `${file}:${key}`).join(" or ");
  throw compileError(
    "unknown-target",
    name === undefined || name === ""
      ? `--target ${file} names a file, but no backend of it`
      : `${file} exports no backend named ${JSON.stringify(name.slice(0, 60))}`,
    {
      loc: startOf(file),
      help:
        (name === undefined ? undefined : didYouMean(name, own)) ??
        (listed === "" ? "it exports none; backend({ ... }) makes one" : `write ${listed}`),
    },
  );
}
