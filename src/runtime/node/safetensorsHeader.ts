import { type CompileError, compileError } from "../../ir/diagnostic.ts";
import { bytesOf, type DType } from "../../ir/type.ts";
import { startOf } from "./files.ts";
import { countElements, isCount } from "./packedSource.ts";

/** One tensor of a safetensors file: bytes `begin` to `end` after the header. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes. */
  readonly entries: readonly HeaderEntry[];
}

/** Name in a safetensors header; undefined where the format has none. */
export const safetensorsNames = {
  f64: "F64",
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f8e4m3: "F8_E4M3",
  f8e5m2: "F8_E5M2",
  i64: "I64",
  i32: "I32",
  i16: "I16",
  i8: "I8",
  i4: undefined,
  u32: "U32",
  u16: "U16",
  u8: "U8",
  u4: undefined,
  u2: undefined,
  bool: "BOOL",
} as const satisfies Record<DType, string | undefined>;

const dtypesByName: ReadonlyMap<string, DType> = new Map(
  Object.entries(safetensorsNames).flatMap(([dtype, name]) =>
    name === undefined ? [] : [[name as string, dtype as DType] as const],
  ),
);

export const metadataName = "__metadata__";

/**
 * Reads the JSON text of a header of a file with `dataBytes` bytes after it, believing none of it. Fails with
 * `weights-header`, `weights-dtype`, `weights-size`, `weights-offsets`, `weights-duplicate` or `weights-truncated`.
 * Source: huggingface/safetensors, README "Format".
 */
export function parseHeader(text: string, path: string, dataBytes: number): Header {
  const header = parseObject(text, path, "the header");
  let metadata: Readonly<Record<string, string>> = {};
  const entries: HeaderEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === metadataName) metadata = parseMetadata(value, path);
    else entries.push(parseEntry(name, value, path));
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end || (a.name < b.name ? -1 : 1));
  checkCoverage(entries, dataBytes, path);
  return { metadata, entries };
}

function parseMetadata(value: unknown, path: string): Readonly<Record<string, string>> {
  if (!isObject(value)) throw fail(path, "weights-header", `${metadataName} is not an object`);
  for (const [key, text] of Object.entries(value))
    if (typeof text !== "string")
      throw fail(path, "weights-header", `the value of ${quoted(key)} in ${metadataName} is not a string`);
  // No prototype: a key that is absent reads as undefined even when it is called "constructor".
  return Object.freeze(Object.assign(Object.create(null), value)) as Readonly<Record<string, string>>;
}

function parseEntry(name: string, value: unknown, path: string): HeaderEntry {
  const what = `tensor ${quoted(name)}`;
  if (!isObject(value)) throw fail(path, "weights-header", `the entry of ${what} is not an object`);
  const { dtype: dtypeName, shape, data_offsets: offsets } = value;
  if (typeof dtypeName !== "string") throw fail(path, "weights-header", `${what} has no dtype`);
  const dtype = dtypesByName.get(dtypeName);
  if (dtype === undefined) throw unknownDtype(what, dtypeName, path);
  if (!Array.isArray(shape)) throw fail(path, "weights-header", `${what} has no shape`);
  const elements = countElements(shape);
  if (elements === undefined)
    throw fail(path, "weights-size", `the shape of ${what} is not a list of sizes whose product is below 2^53`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !isCount(offsets[0]) || !isCount(offsets[1]))
    throw fail(path, "weights-offsets", `the data_offsets of ${what} are not two byte counts`);
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw fail(path, "weights-offsets", `${what} begins at byte ${begin}, after its end at ${end}`);
  const wanted = bytesOf(dtype, elements);
  if (end - begin !== wanted) {
    const type = `${dtypeName}[${shape.length > 16 ? `${shape.length} dims` : shape.join(",")}]`;
    throw fail(path, "weights-size", `${what} is ${type}, ${wanted} bytes, but its offsets span ${end - begin} bytes`);
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

function unknownDtype(what: string, dtype: string, path: string): CompileError {
  const help = dtype === "U64" ? "save it as I64" : `known dtypes are ${[...dtypesByName.keys()].join(", ")}`;
  return compileError("weights-dtype", `${what} has dtype ${quoted(dtype)}, which is not supported`, {
    loc: startOf(path),
    help,
  });
}

/** Every byte after the header belongs to exactly one tensor. */
function checkCoverage(entries: readonly HeaderEntry[], dataBytes: number, path: string): void {
  let covered = 0;
  let previous = "the header";
  for (const { name, begin, end } of entries) {
    if (begin < covered)
      throw fail(path, "weights-offsets", `the bytes of tensor ${quoted(name)} overlap those of ${previous}`);
    if (begin > covered)
      throw fail(
        path,
        "weights-offsets",
        `the ${begin - covered} bytes before tensor ${quoted(name)} belong to no tensor`,
      );
    if (end > dataBytes)
      throw fail(
        path,
        "weights-truncated",
        `tensor ${quoted(name)} ends at byte ${end} of the data, but the file holds ${dataBytes} bytes of data`,
      );
    covered = end;
    previous = `tensor ${quoted(name)}`;
  }
  if (covered < dataBytes)
    throw fail(path, "weights-offsets", `the last ${dataBytes - covered} bytes belong to no tensor`);
}

/** A JSON object in which no object holds a name twice (JSON.parse would keep the last and hide the others). */
export function parseObject(text: string, path: string, what: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // SyntaxError, or RangeError where it is nested too deeply; the message would quote the text, which may be binary.
    throw fail(path, "weights-header", `${what} is not JSON (${(error as Error).name})`);
  }
  if (!isObject(value)) throw fail(path, "weights-header", `${what} is not a JSON object`);
  const repeated = firstRepeatedKey(text);
  if (repeated !== undefined) throw fail(path, "weights-duplicate", `${what} holds ${quoted(repeated)} twice`);
  return value;
}

/** The first name that occurs twice in one object of a text that is known to be JSON. */
function firstRepeatedKey(text: string): string | undefined {
  const punctuation = /["{}[\]]/g;
  const colon = /\s*:/y;
  const open: Set<string>[] = []; // of an array: a set that stays empty
  for (let match = punctuation.exec(text); match !== null; match = punctuation.exec(text)) {
    if (match[0] === "{" || match[0] === "[") open.push(new Set());
    else if (match[0] !== '"') open.pop();
    else {
      const end = endOfString(text, match.index);
      punctuation.lastIndex = colon.lastIndex = end;
      if (!colon.test(text)) continue;
      const key = JSON.parse(text.slice(match.index, end)) as string;
      const seen = open.at(-1);
      if (seen?.has(key)) return key;
      seen?.add(key);
    }
  }
  return undefined;
}

/** Just after the quote that ends the string beginning at `start`. No regular expression: strings may be 100 MB. */
function endOfString(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); ; quote = text.indexOf('"', quote + 1)) {
    let escapes = 0;
    while (text[quote - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return quote + 1;
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A name from a file, cut so that a message stays a line. */
export const quoted = (name: string): string => JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);

const fail = (path: string, code: string, message: string): CompileError =>
  compileError(code, message, { loc: startOf(path) });
