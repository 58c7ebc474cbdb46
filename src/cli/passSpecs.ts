import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import {
  type CompileError,
  compileError,
  didYouMean,
  isComposite,
  type OptionSpec,
  type Pass,
  type PassEntry,
  parsePassSpec,
  passes,
} from "../index.ts";
import { startOf } from "../runtime/node/index.ts";
import { importFile } from "./importModel.ts";
import { registerComposites } from "./registry.ts";
import { theirs } from "./theirs.ts";

/** The passes of --pass: `mergeTokens:r=8`, or `./mine.ts:name:option=value` for one of the user's own files. */
export async function readPasses(
  texts: readonly string[],
  known: ReadonlyMap<string, PassEntry> = passes,
): Promise<readonly Pass[]> {
  const read: Pass[] = [];
  for (const text of texts) {
    const [, file, spec] = /^(.+\.[cm]?[jt]s):(.+)$/.exec(text) ?? [];
    if (file === undefined && /\.[cm]?[jt]s:?$/.test(text)) throw await unnamed(text.replace(/:$/, ""));
    read.push(parsePassSpec(spec ?? text, file === undefined ? known : await entriesOf(file, spec as string)).make());
  }
  return read;
}

async function unnamed(file: string): Promise<CompileError> {
  const own = ownPasses(await importOwn(file));
  return compileError("unknown-pass", `--pass ${file} names a file, but no pass of it`, {
    loc: startOf(file),
    help:
      own.length === 0
        ? "it exports none; rewritePass makes one"
        : `write ${own.map((name) => `${file}:${name}`).join(" or ")}`,
  });
}

/** The export that `spec` names as a registry of its own, so that its options are read as any pass's. */
async function entriesOf(file: string, spec: string): Promise<ReadonlyMap<string, PassEntry>> {
  const exported = await importOwn(file);
  const name = (spec.split(":")[0] as string).trim();
  const found = Object.hasOwn(exported, name) ? exported[name] : undefined;
  if (isEntry(found) || isPass(found)) return new Map([[name, passEntryOf(found)]]);
  if (typeof found === "function" && !isComposite(found)) return new Map([[name, made(name, file, found)]]);
  const own = ownPasses(exported);
  throw compileError("unknown-pass", `${file} exports no pass named ${JSON.stringify(name)}`, {
    loc: startOf(file),
    help:
      found === undefined
        ? (didYouMean(name, own) ?? `its passes: ${own.join(", ") || "none"}`)
        : `its ${name} is ${isComposite(found) ? "a composite" : `no pass but ${typeof found}`}; rewritePass makes a pass`,
  });
}

/** What a file of the user's exports; composites among it become known. */
async function importOwn(file: string): Promise<Readonly<Record<string, unknown>>> {
  if ((await stat(file).catch(() => undefined)) === undefined)
    throw compileError("file-not-found", `there is no file ${file}`, { loc: startOf(file) });
  const exported = await importFile(resolve(file));
  registerComposites(Object.values(exported).filter(isComposite));
  return exported;
}

const ownPasses = (exported: Readonly<Record<string, unknown>>): readonly string[] =>
  Object.entries(exported).flatMap(([name, value]) => (isEntry(value) || isPass(value) ? [name] : []));

export const isPass = (x: unknown): x is Pass => typeof x === "object" && x !== null && "run" in x && "contract" in x;
export const isEntry = (x: unknown): x is PassEntry =>
  typeof x === "object" && x !== null && "make" in x && "options" in x;

/** A pass without options as an entry of a registry. */
export const passEntryOf = (given: Pass | PassEntry): PassEntry =>
  isEntry(given) ? given : { ...described(given), options: {}, exampleOptions: {}, make: () => given };

/** A function from options to a pass: the options are read by their looks. */
function made(name: string, file: string, make: unknown): PassEntry {
  const others: OptionSpec = { kind: ["int", "number", "boolean", "list", "tuple", "string"], doc: "an option" };
  return {
    name,
    summary: "",
    contract: "approximate",
    options: {},
    others,
    exampleOptions: {},
    make: (options = {}) => {
      const pass = theirs(name, () => (make as (options: object) => unknown)(options));
      if (isPass(pass)) return pass;
      throw compileError("unknown-pass", `${name} is a function that gives no pass`, { loc: startOf(file) });
    },
  };
}

const described = ({ name, summary, contract }: Pass) => ({ name, summary, contract });
