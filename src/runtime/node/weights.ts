import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { CompileError, compileError, type Diagnostic, diagnostic, didYouMean } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { convertFloats } from "../../ir/packing.ts";
import { type FloatType, formatType, isFloat, type TensorType } from "../../ir/type.ts";
import { startOf } from "./files.ts";
import { openOnnxWeights } from "./onnxWeights.ts";
import { openSafetensors, openShardedSafetensors } from "./safetensors.ts";

/** Weights of one checkpoint, whatever its format; `await using` closes them. Reads after closing are defects. */
export interface OpenWeights extends AsyncDisposable {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightSource>;
  readonly metadata: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

const indexEnd = ".safetensors.index.json";

/**
 * Opens a .safetensors file, the index of a sharded checkpoint, an .onnx file, or the one of these that a folder holds.
 * Fails with `weights-format`, `file-not-found` and what the format's own reader refuses.
 */
export async function loadWeights(path: string): Promise<OpenWeights> {
  const file = (await isFolder(path)) ? await checkpointIn(path) : path;
  const lower = file.toLowerCase();
  const open = lower.endsWith(".onnx")
    ? openOnnxWeights
    : lower.endsWith(".safetensors")
      ? openSafetensors
      : lower.endsWith(".json")
        ? openShardedSafetensors
        : undefined;
  if (open === undefined)
    throw compileError("weights-format", `${basename(file)} is no known kind of weights file`, {
      loc: startOf(file),
      help: `give a .safetensors file, a *${indexEnd}, an .onnx file, or a folder that holds one`,
    });
  const weights = await open(file);
  return { ...weights, [Symbol.asyncDispose]: weights.close };
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined); // what is wrong with it, opening it will say
  return found?.isDirectory() ?? false;
}

/** The names that Hugging Face gives checkpoints win, then the only index, the only .safetensors, the only .onnx. */
async function checkpointIn(folder: string): Promise<string> {
  const names = (await readdir(folder)).sort();
  const ending = (end: string): string[] => names.filter((name) => name.endsWith(end));
  const candidates = [
    names.filter((name) => name === "model.safetensors"),
    names.filter((name) => name === `model${indexEnd}`),
    ending(indexEnd),
    ending(".safetensors"),
    ending(".onnx"),
  ].find((found) => found.length > 0);
  const [only, ...others] = candidates ?? [];
  if (only !== undefined && others.length === 0) return join(folder, only);
  const held =
    only === undefined ? "no weights" : `${1 + others.length} weights files: ${[only, ...others].join(", ")}`;
  throw compileError("weights-format", `folder ${folder} holds ${held}`, {
    loc: startOf(folder),
    help: "name the file",
  });
}

/** How a checkpoint's weights go to a model's parameters. */
export interface BindOptions {
  /**
   * The model's name of a weight, given the checkpoint's; undefined leaves that weight out on purpose.
   * Two weights that get one name are refused (`weights-duplicate`).
   */
  readonly rename?: (name: string) => string | undefined;
  /** Ignores weights that the model does not have. Default false. */
  readonly allowExtra?: boolean;
}

/**
 * The weight of every expected name. Float weights of another float dtype are converted when read. Throws one error
 * with every `weights-missing`, `weights-extra`, `weights-shape`, `weights-dtype` and `weights-duplicate` found, at most
 * 500 of each.
 */
export function bindWeights(
  expected: ReadonlyMap<string, TensorType>,
  weights: Pick<OpenWeights, "path" | "tensors">,
  options: BindOptions = {},
): Map<string, WeightSource> {
  const { rename = (name) => name, allowExtra = false } = options;
  const loc = startOf(weights.path);
  const found = new Map<string, { source: WeightSource; heldAs: string }>();
  const duplicates: Report[] = [];
  for (const [heldAs, source] of weights.tensors) {
    const name = rename(heldAs);
    if (name === undefined) continue;
    const other = found.get(name);
    if (other === undefined) found.set(name, { source, heldAs });
    else duplicates.push({ message: `weights ${other.heldAs} and ${heldAs} would both be ${name}` });
  }
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const extra = [...found.keys()].filter((name) => !expected.has(name));
  const shapes: Report[] = [];
  const types: Report[] = [];
  const bound = new Map<string, WeightSource>();
  for (const [name, wanted] of expected) {
    const held = found.get(name);
    if (held === undefined) continue;
    const { type } = held.source;
    const alias = held.heldAs === name ? name : `${name} (${held.heldAs} in the file)`;
    const message = `weight ${alias} is ${formatType(type)} but the model declares ${formatType(wanted)}`;
    const sameShape = type.shape.length === wanted.shape.length && type.shape.every((d, i) => d === wanted.shape[i]);
    if (!sameShape) shapes.push({ message });
    else if (type.dtype === wanted.dtype) bound.set(name, held.source);
    else if (isFloat(type.dtype) && isFloat(wanted.dtype)) bound.set(name, converted(held.source, wanted.dtype));
    else types.push({ message });
  }
  const diagnostics = [
    ...atMostTwenty("weights-missing", missing, loc, (name) => {
      const { dtype, shape } = expected.get(name) as TensorType;
      const message = `weight ${name} of ${formatType({ dtype, shape })} is missing`;
      return { message, help: didYouMean(name, extra) };
    }),
    ...(allowExtra
      ? []
      : atMostTwenty("weights-extra", extra, loc, (name) => ({
          message: `weight ${found.get(name)?.heldAs} is not one of the model's`,
          help: didYouMean(name, missing),
        }))),
    ...atMostTwenty("weights-shape", shapes, loc, (report) => report),
    ...atMostTwenty("weights-dtype", types, loc, (report) => report),
    ...atMostTwenty("weights-duplicate", duplicates, loc, (report) => report),
  ];
  if (diagnostics.length > 0) throw new CompileError(diagnostics);
  return bound;
}

interface Report {
  readonly message: string;
  readonly help?: string | undefined;
}

const mostOfAKind = 500;

/** A diagnostic for each of the first 500, then one that counts the rest. */
function atMostTwenty<T>(
  code: string,
  findings: readonly T[],
  loc: Diagnostic["loc"],
  report: (finding: T) => Report,
): readonly Diagnostic[] {
  const shown = findings.slice(0, mostOfAKind).map((finding) => {
    const { message, help } = report(finding);
    return diagnostic(code, message, { loc, help });
  });
  const rest = findings.length - shown.length;
  return rest === 0 ? shown : [...shown, diagnostic(code, `and ${rest} more`, { loc })];
}

/** The same weight in another float dtype; only what is read is converted. */
function converted(source: WeightSource, dtype: FloatType): WeightSource {
  return {
    type: { dtype, shape: source.type.shape },
    hash: `${source.hash} as ${dtype}`,
    read: async (start, end) => convertFloats(await source.read(start, end), dtype),
  };
}
