// The passes that `--pass NAME:option=value,...` can name, and the reader of such texts.
import { type CompileError, compileError, didYouMean } from "../ir/diagnostic.ts";
import { bindSymbols } from "./bindSymbols.ts";
import { decompose } from "./decompose.ts";
import { differentiate } from "./differentiate.ts";
import { foldConstants } from "./foldConstants.ts";
import { foldQueryScale } from "./foldQueryScale.ts";
import { mergeTokens } from "./mergeTokens/mergeTokens.ts";
import type { Reduction } from "./mergeTokens/schedule.ts";
import type { Contract, Pass } from "./pass.ts";
import { simplify } from "./simplify.ts";

/** What an option's text is read as: `3`, `0.5`, `true`, `any text`, `[1,2,3]` or `1;2;3`, `[a,b]` or `a;b`, `(6,-1.0)`. */
export type OptionKind = "int" | "number" | "boolean" | "string" | "list" | "words" | "tuple";

interface ValueOfKind {
  int: number;
  number: number;
  boolean: boolean;
  string: string;
  list: readonly number[];
  words: readonly string[];
  /** Kept apart from a list: `r=(6,-1.0)` and `r=[6,-1]` mean different things. */
  tuple: { readonly tuple: readonly number[] };
}
/** An option's value, of one of the kinds that its spec names. */
export type PassOptionValue = ValueOfKind[OptionKind];
/** Options of a pass as they were read, by name. */
export type PassOptionValues = Readonly<Record<string, PassOptionValue>>;

/** One option of a pass: how its text is read. */
export interface OptionSpec {
  /** Several kinds: the first one that the text fits. */
  readonly kind: OptionKind | readonly OptionKind[];
  /** Absent: the option must be given, unless it is marked optional. */
  readonly default?: PassOptionValue;
  readonly optional?: true;
  /** The words that a string option may be. */
  readonly choices?: readonly string[];
  /** One line for the pass list, with units. */
  readonly doc: string;
}
/** The options of a pass, by name. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/** One pass of the registry. */
export interface PassEntry {
  readonly name: string;
  readonly summary: string;
  readonly contract: Contract;
  readonly source?: string;
  readonly options: OptionSpecs;
  /** What any further option is, where their names are the user's own (symbols). */
  readonly others?: OptionSpec;
  /** The options that the pass's example was written with. */
  readonly exampleOptions: PassOptionValues;
  /** Options must fit `options`, as `parsePassSpec` makes sure; defaults are filled in. */
  make(options?: PassOptionValues): Pass;
}

type ValueOf<S> = S extends { readonly kind: infer K }
  ? K extends OptionKind
    ? ValueOfKind[K]
    : K extends readonly (infer L extends OptionKind)[]
      ? ValueOfKind[L]
      : never
  : never;
type ValuesOf<S extends OptionSpecs> = {
  readonly [K in keyof S]: ValueOf<S[K]> | (S[K] extends { readonly optional: true } ? undefined : never);
};

/** Declares a registry entry; name, summary, contract and source are those of the pass that `make` gives. */
export function passEntry<const S extends OptionSpecs>(declared: {
  readonly options: S;
  readonly others?: OptionSpec;
  readonly exampleOptions?: PassOptionValues;
  make(options: ValuesOf<S>, given: PassOptionValues): Pass;
}): PassEntry {
  const defaults = Object.fromEntries(
    Object.entries(declared.options as OptionSpecs).flatMap(([key, spec]) =>
      spec.default === undefined ? [] : [[key, spec.default] as const],
    ),
  );
  const make = (given: PassOptionValues = {}) => {
    const all = { ...defaults, ...given };
    return declared.make(all as ValuesOf<S>, all);
  };
  const exampleOptions = declared.exampleOptions ?? {};
  const { name, summary, contract, source } = make(exampleOptions);
  return {
    name,
    summary,
    contract,
    ...(source === undefined ? {} : { source }),
    options: declared.options,
    ...(declared.others === undefined ? {} : { others: declared.others }),
    exampleOptions,
    make,
  };
}

const entries: readonly PassEntry[] = [
  passEntry({
    options: {},
    others: { kind: "int", doc: "the size of the symbol of that name" },
    exampleOptions: { batch: 1 },
    make: (_, given) => bindSymbols(given as Readonly<Record<string, number>>),
  }),
  passEntry({ options: {}, make: () => simplify }),
  passEntry({
    options: {
      views: { kind: "boolean", default: false, doc: "fold views of constants and weights on their own too" },
    },
    make: foldConstants,
  }),
  passEntry({ options: {}, make: () => foldQueryScale }),
  passEntry({
    options: { keep: { kind: "words", default: [], doc: "composites that stay whole" } },
    make: ({ keep }) => decompose(new Set(keep)),
  }),
  passEntry({
    options: {
      r: {
        kind: ["int", "list", "tuple"],
        doc: "tokens merged in each block: a number, a list by block, or (mean, inflection)",
      },
      protect: {
        kind: "int",
        optional: true,
        doc: "leading tokens that never merge (1: class, 2: and distillation); found in the graph if not given",
      },
      proportional: { kind: "boolean", default: true, doc: "weigh keys by the patches they stand for" },
      track: { kind: "boolean", default: false, doc: "further outputs tokenSizes and tokenSource" },
    },
    exampleOptions: { r: 2 },
    make: ({ r, protect, proportional, track }) =>
      mergeTokens({ r: readReduction(r), ...(protect !== undefined && { protect }), proportional, track }),
  }),
  passEntry({
    options: {
      of: { kind: "words", doc: "outputs whose sum is differentiated" },
      wrt: {
        kind: "words",
        optional: true,
        doc: "parameters and inputs; every parameter of a float kind if not given",
      },
      cotangents: { kind: "boolean", default: false, doc: "an input cot.NAME weighs each output, of any shape" },
    },
    exampleOptions: { of: ["loss"] },
    make: ({ of, wrt, cotangents }) => differentiate({ of, ...(wrt !== undefined && { wrt }), cotangents }),
  }),
];

/** Every pass by name, in the order of a full recipe. */
export const passes: ReadonlyMap<string, PassEntry> = new Map(entries.map((entry) => [entry.name, entry]));

/** A pass of the registry with the options that a text gave it. */
export interface PassSpec {
  readonly entry: PassEntry;
  readonly options: PassOptionValues;
  make(): Pass;
}

/**
 * Reads `mergeTokens:r=8,protect=1`; commas inside brackets and parentheses belong to the value. A boolean option may
 * stand without its value. Fails with `unknown-pass`, `unknown-option` or `bad-option`.
 */
export function parsePassSpec(text: string, known: ReadonlyMap<string, PassEntry> = passes): PassSpec {
  const colon = text.indexOf(":");
  const name = (colon < 0 ? text : text.slice(0, colon)).trim();
  const entry = known.get(name);
  if (entry === undefined)
    throw compileError("unknown-pass", `there is no pass named ${JSON.stringify(name.slice(0, 60))}`, {
      help: didYouMean(name, known.keys()) ?? `the passes: ${[...known.keys()].join(", ")}`,
    });
  const options = new Map<string, PassOptionValue>();
  for (const part of colon < 0 ? [] : splitOptions(name, text.slice(colon + 1))) {
    const [key, value] = keyAndValue(part);
    const spec = Object.hasOwn(entry.options, key) ? entry.options[key] : entry.others;
    if (spec === undefined)
      throw compileError("unknown-option", `${name} has no option ${JSON.stringify(key.slice(0, 60))}`, {
        help:
          didYouMean(key, Object.keys(entry.options)) ??
          `its options: ${Object.keys(entry.options).join(", ") || "none"}`,
      });
    if (options.has(key)) throw bad(name, `option ${key} is given twice`);
    options.set(key, readOption(name, key, spec, value));
  }
  for (const [key, spec] of Object.entries(entry.options))
    if (spec.default === undefined && spec.optional !== true && !options.has(key))
      throw bad(name, `option ${key} (${spec.doc}) is missing`, `write ${name}:${key}=...`);
  const values: PassOptionValues = Object.fromEntries(options);
  return { entry, options: values, make: () => entry.make(values) };
}

const bad = (pass: string, message: string, help?: string): CompileError =>
  compileError("bad-option", `${pass}: ${message}`, { help });

/** Splits at the commas outside brackets and parentheses; empty parts are dropped. */
function splitOptions(pass: string, text: string): readonly string[] {
  const parts: string[] = [];
  const open: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i] as string;
    if (character === "[" || character === "(") open.push(character === "[" ? "]" : ")");
    else if (character === "]" || character === ")") {
      if (open.pop() !== character) throw bad(pass, `${JSON.stringify(text.slice(0, 80))} has a stray ${character}`);
    } else if (character === "," && open.length === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (open.length > 0) throw bad(pass, `${JSON.stringify(text.slice(0, 80))} lacks a ${open.at(-1)}`);
  return [...parts, text.slice(start)].filter((part) => part.trim() !== "");
}

function keyAndValue(part: string): readonly [key: string, value: string | undefined] {
  const at = part.indexOf("=");
  return at < 0 ? [part.trim(), undefined] : [part.slice(0, at).trim(), part.slice(at + 1).trim()];
}

function readOption(pass: string, key: string, spec: OptionSpec, text: string | undefined): PassOptionValue {
  const kinds = typeof spec.kind === "string" ? [spec.kind] : spec.kind;
  if (text === undefined) {
    if (kinds.includes("boolean")) return true;
    throw bad(pass, `option ${key} wants a value: ${key}=...`);
  }
  for (const kind of kinds) {
    const value = readers[kind].read(text);
    if (value === undefined) continue;
    if (spec.choices !== undefined && !spec.choices.includes(String(value)))
      throw bad(
        pass,
        `option ${key} is one of ${spec.choices.join(", ")}, got ${JSON.stringify(text.slice(0, 60))}`,
        didYouMean(text, spec.choices),
      );
    return value;
  }
  throw bad(
    pass,
    `option ${key} wants ${kinds.map((kind) => readers[kind].wants).join(" or ")}, got ${JSON.stringify(text.slice(0, 60))}`,
  );
}

const numberText = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const readNumber = (text: string): number | undefined => (numberText.test(text) ? Number(text) : undefined);

/** The items between `open` and `close`; without them, items stand between semicolons. */
function readItems(text: string, open: string, close: string): readonly string[] | undefined {
  const inner = text.startsWith(open) && text.endsWith(close) ? text.slice(1, -1) : undefined;
  if (inner === undefined) return undefined;
  return inner.trim() === "" ? [] : inner.split(",").map((item) => item.trim());
}

const readList = (text: string): readonly string[] | undefined =>
  readItems(text, "[", "]") ?? (/[[\]()]/.test(text) ? undefined : text.split(";").map((item) => item.trim()));

function allNumbers(items: readonly string[] | undefined): readonly number[] | undefined {
  const numbers = items?.map(readNumber);
  return numbers?.every((x) => x !== undefined) ? (numbers as readonly number[]) : undefined;
}

const readers: {
  readonly [K in OptionKind]: {
    readonly wants: string;
    readonly read: (text: string) => ValueOfKind[K] | undefined;
  };
} = {
  int: {
    wants: "an integer",
    read: (text) => (/^[+-]?\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) + 0 : undefined),
  },
  number: { wants: "a number", read: readNumber },
  boolean: {
    wants: "true or false",
    read: (text) => (text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : undefined),
  },
  string: { wants: "a text", read: (text) => text },
  list: { wants: "a list of numbers such as [1,2,3] or 1;2;3", read: (text) => allNumbers(readList(text)) },
  words: {
    wants: "a list of words such as [a,b] or a;b",
    read: (text) => {
      const items = readList(text);
      return items?.every((item) => item !== "") ? items : undefined;
    },
  },
  tuple: {
    wants: "a tuple of numbers such as (6,-1.0)",
    read: (text) => {
      const tuple = allNumbers(readItems(text, "(", ")"));
      return tuple === undefined ? undefined : { tuple };
    },
  },
};

function readReduction(r: number | readonly number[] | { readonly tuple: readonly number[] }): Reduction {
  if (typeof r === "number" || !("tuple" in r)) return r;
  const [mean, inflection] = r.tuple;
  if (mean === undefined || inflection === undefined || r.tuple.length !== 2)
    throw compileError("bad-option", `mergeTokens: r as a pair is (mean, inflection), got (${r.tuple.join(",")})`);
  return { r: mean, inflection };
}
