import { extname } from "node:path";
import {
  compileError,
  didYouMean,
  evaluateDim,
  formatType,
  type PictureInput,
  symbolsOf,
  type TensorData,
} from "../index.ts";
import {
  type InputSpec,
  parseInput,
  pictureReader,
  randomTensor,
  readTensor,
  type SessionValue,
} from "../runtime/node/index.ts";

export interface GivenInputs {
  /** The texts of --input, in order. */
  readonly texts: readonly string[];
  readonly pictures: Readonly<Record<string, PictureInput>>;
  /** Sizes of symbols that no file decides; 1 for the others. */
  readonly sizes: ReadonlyMap<string, number>;
}

/**
 * The contents of every input: files first, since their shapes decide the symbols, then random numbers.
 * Fails with `input-spec`, `bad-input` and as the readers of the files.
 */
export async function readInputs(
  wanted: readonly SessionValue[],
  { texts, pictures, sizes }: GivenInputs,
): Promise<Record<string, TensorData>> {
  const specs = specsByName(wanted, texts.map(parseInput));
  const inputs: Record<string, TensorData> = {};
  const symbols = new Map(sizes);
  const known = new Set(wanted.flatMap((value) => value.shape.flatMap(symbolsOf)));
  for (const symbol of sizes.keys())
    if (!known.has(symbol))
      throw compileError("unknown-symbol", `--bind ${symbol}: no input has a dimension of that name`, {
        help: didYouMean(symbol, known) ?? `the symbols: ${[...known].join(", ") || "none"}`,
      });
  for (const value of wanted) {
    const spec = specs.get(value.name);
    if (spec?.from !== "file") continue;
    const contents = await readFile(spec.path, value, pictures[value.name]);
    inputs[value.name] = contents;
    value.shape.forEach((dim, axis) => {
      if (typeof dim === "string" && symbolsOf(dim)[0] === dim) symbols.set(dim, contents.shape[axis] as number);
    });
  }
  for (const value of wanted) {
    const spec = specs.get(value.name);
    if (spec?.from !== "random") continue;
    for (const symbol of value.shape.flatMap(symbolsOf)) if (!symbols.has(symbol)) symbols.set(symbol, 1);
    const shape = value.shape.map((dim) => evaluateDim(dim, symbols));
    inputs[value.name] = randomTensor({ dtype: value.dtype, shape }, spec.seed);
  }
  return inputs;
}

function specsByName(wanted: readonly SessionValue[], specs: readonly InputSpec[]): ReadonlyMap<string, InputSpec> {
  const names = wanted.map(({ name }) => name);
  const byName = new Map<string, InputSpec>();
  for (const spec of specs) {
    if (!names.includes(spec.name))
      throw compileError("bad-input", `the model has no input ${JSON.stringify(spec.name)}`, {
        help: didYouMean(spec.name, names) ?? `its inputs: ${names.join(", ") || "none"}`,
      });
    if (byName.has(spec.name)) throw compileError("input-spec", `input ${spec.name} is given twice`);
    byName.set(spec.name, spec);
  }
  const missing = wanted.filter(({ name }) => !byName.has(name));
  if (missing.length > 0)
    throw compileError(
      "bad-input",
      `nothing is given for ${missing.map((v) => `${v.name}: ${formatType(v)}`).join(", ")}`,
      {
        help: `add ${missing.map(({ name }) => `--input ${name}=FILE or ${name}=random:1`).join(", ")}`,
      },
    );
  return byName;
}

const tensorEndings: ReadonlySet<string> = new Set([".safetensors", ".npy", ".json"]);

/** A tensor file, or a picture where the model says how it reads one. */
async function readFile(path: string, value: SessionValue, picture: PictureInput | undefined): Promise<TensorData> {
  const { name, dtype, shape } = value;
  if (tensorEndings.has(extname(path).toLowerCase())) return readTensor(path, { dtype, shape }, name);
  return pictureReader(value, picture, path)(path);
}
