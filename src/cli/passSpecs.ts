import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { compileError, didYouMean, type OptionSpec, type Pass, type PassEntry, parsePassSpec } from "../index.ts";
import { startOf } from "../runtime/node/index.ts";
import { importFile } from "./importModel.ts";

/** The passes of --pass: `mergeTokens:r=8`, or `./mine.ts:name:option=value` for one of the user's own files. */
export async function readPasses(texts: readonly string[]): Promise<readonly Pass[]> {
  const passes: Pass[] = [];
  for (const text of texts) {
    const [, file, spec] = /^(.+\.[cm]?[jt]s):(.+)$/.exec(text) ?? [];
    const known = file === undefined ? undefined : await entriesOf(file, spec as string);
    passes.push(parsePassSpec(spec ?? text, known).make());
  }
  return passes;
}

/** The export that `spec` names as a registry of its own, so that its options are read as any pass's. */
async function entriesOf(file: string, spec: string): Promise<ReadonlyMap<string, PassEntry>> {
  if ((await stat(file).catch(() => undefined)) === undefined)
    throw compileError("file-not-found", `there is no file ${file}`, { loc: startOf(file) });
  const exported = await importFile(resolve(file));
  const name = (spec.split(":")[0] as string).trim();
  const found = exported[name];
  const entry = isEntry(found)
    ? found
    : isPass(found)
      ? fixed(found)
      : typeof found === "function"
        ? made(name, found)
        : undefined;
  if (entry === undefined) {
    const known = Object.entries(exported).flatMap(([key, value]) => (isEntry(value) || isPass(value) ? [key] : []));
    throw compileError("unknown-pass", `${file} exports no pass named ${JSON.stringify(name)}`, {
      loc: startOf(file),
      help: didYouMean(name, known) ?? `its passes: ${known.join(", ") || "none"}`,
    });
  }
  return new Map([[name, entry]]);
}

const isPass = (x: unknown): x is Pass => typeof x === "object" && x !== null && "run" in x && "contract" in x;
const isEntry = (x: unknown): x is PassEntry => typeof x === "object" && x !== null && "make" in x && "options" in x;

const fixed = (pass: Pass): PassEntry => ({ ...described(pass), options: {}, exampleOptions: {}, make: () => pass });

/** A function from options to a pass: the options are read by their looks. */
function made(name: string, make: unknown): PassEntry {
  const others: OptionSpec = { kind: ["int", "number", "boolean", "list", "tuple", "string"], doc: "an option" };
  return {
    name,
    summary: "",
    contract: "approximate",
    options: {},
    others,
    exampleOptions: {},
    make: (options = {}) => {
      const pass: unknown = (make as (options: object) => unknown)(options);
      if (isPass(pass)) return pass;
      throw compileError("unknown-pass", `${name} is a function that gives no pass`);
    },
  };
}

const described = ({ name, summary, contract }: Pass) => ({ name, summary, contract });
