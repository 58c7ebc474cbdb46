import { basename, extname } from "node:path";
import { type CompileError, compileError } from "../../ir/diagnostic.ts";
import { convertFloats } from "../../ir/packing.ts";
import {
  type DType,
  dtypes,
  formatType,
  isFloat,
  type TensorData,
  type TensorType,
  tensorData,
} from "../../ir/type.ts";
import { readBytes, startOf } from "./files.ts";
import { readNpy } from "./npy.ts";
import { openSafetensors } from "./safetensors.ts";
import { quoted } from "./safetensorsHeader.ts";

const jsonLimit = 256 * 2 ** 20; // bytes
const rankLimit = 32;

/**
 * All tensors of a .safetensors file by name, the one of a .npy file under the file's name without its ending, and
 * those of a .json file: f32, from nested arrays of numbers, by name if the file holds an object of them.
 * Fails with `tensor-format`, `tensor-shape` and what the format's own reader refuses.
 */
export async function readTensors(path: string): Promise<ReadonlyMap<string, TensorData>> {
  const tensors = new Map<string, TensorData>();
  const ending = extname(path).toLowerCase();
  const stem = basename(path, extname(path));
  if (ending === ".npy") tensors.set(stem, await readNpy(path));
  else if (ending === ".json") {
    const value = await readJson(path);
    const named = typeof value === "object" && value !== null && !Array.isArray(value);
    for (const [name, nested] of named ? Object.entries(value) : [[stem, value] as const])
      tensors.set(name, tensorFromNested(nested, { dtype: "f32", shape: inferShape(nested) }, path));
  } else if (ending === ".safetensors") {
    const file = await openSafetensors(path);
    try {
      for (const [name, source] of file.tensors) tensors.set(name, await source.read());
    } finally {
      await file.close();
    }
  } else
    throw compileError("tensor-format", `${basename(path)} is no known kind of tensor file`, {
      loc: startOf(path),
      help: "give a .safetensors, .npy or .json file",
    });
  return tensors;
}

/**
 * The tensor that an input of type `wanted` is given: the one called `name`, or the only one of the file. A symbolic
 * dim takes any size, the same wherever it occurs in `wanted`. Floats are converted to the wanted float dtype; .json
 * numbers are read as any dtype that holds them. Fails with `tensor-missing`, `tensor-shape`, `tensor-dtype`,
 * `tensor-value` and as `readTensors`.
 */
export async function readTensor(path: string, wanted: TensorType, name: string): Promise<TensorData> {
  if (extname(path).toLowerCase() === ".json") {
    const value = await readJson(path);
    if (Array.isArray(value) || typeof value !== "object" || value === null)
      return tensorFromNested(value, wanted, path);
    return tensorFromNested(pick(new Map(Object.entries(value)), name, path), wanted, path);
  }
  const read = pick(await readTensors(path), name, path);
  checkShape(read.shape, wanted, path);
  if (read.dtype === wanted.dtype) return read;
  if (isFloat(read.dtype) && isFloat(wanted.dtype)) return convertFloats(read, wanted.dtype);
  throw fail(path, "tensor-dtype", `the tensor is ${formatType(read)} but the input is ${formatType(wanted)}`);
}

function pick<T>(tensors: ReadonlyMap<string, T>, name: string, path: string): T {
  const [only] = tensors.size === 1 ? tensors.values() : [];
  const picked = tensors.has(name) ? tensors.get(name) : only;
  if (picked !== undefined) return picked;
  const held = [...tensors.keys()].slice(0, 20).map(quoted).join(", ");
  throw fail(path, "tensor-missing", `the file holds no tensor ${quoted(name)} but ${tensors.size}: ${held}`);
}

async function readJson(path: string): Promise<unknown> {
  const bytes = await readBytes(path, jsonLimit);
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    throw fail(path, "tensor-format", "the file is not JSON");
  }
}

/** Nested arrays of numbers (or booleans, for bool) as a tensor of type `wanted`; see `readTensor`. */
export function tensorFromNested(nested: unknown, wanted: TensorType, path: string): TensorData {
  const { dtype } = wanted;
  const shape = inferShape(nested);
  checkShape(shape, wanted, path);
  let level: readonly unknown[] = [nested];
  for (const dim of shape) {
    const ragged = level.find((row) => !Array.isArray(row) || row.length !== dim);
    if (ragged !== undefined)
      throw fail(
        path,
        "tensor-shape",
        `the rows are ragged: one has ${describeLength(ragged)} where ${dim} are wanted`,
      );
    level = (level as readonly unknown[][]).flat();
  }
  const numbers = level.map((value) => numberOf(value, dtype, path));
  const exact = isFloat(dtype) ? "f64" : dtype;
  const read = tensorData(exact, shape, numbers);
  return isFloat(dtype) ? convertFloats(read, dtype) : read;
}

/** By the first element of each level; what has another shape is found when it is flattened. */
function inferShape(nested: unknown): readonly number[] {
  const shape: number[] = [];
  for (let level = nested; Array.isArray(level) && shape.length < rankLimit; level = level[0]) shape.push(level.length);
  return shape;
}

const describeLength = (row: unknown): string => (Array.isArray(row) ? `${row.length} elements` : "no elements");

function numberOf(value: unknown, dtype: DType, path: string): number {
  const { kind, bits } = dtypes[dtype];
  if (kind === "bool" ? typeof value === "boolean" || value === 0 || value === 1 : typeof value === "number") {
    const number = Number(value);
    if (kind === "float" || kind === "bool") return number;
    const least = kind === "signed" ? -(2 ** (bits - 1)) : 0;
    if (Number.isSafeInteger(number) && number >= least && number < least + 2 ** bits) return number;
  }
  const shown = typeof value === "object" ? "an array or object" : quoted(String(value));
  throw fail(path, "tensor-value", `${shown} is not a value of ${dtype}`);
}

function checkShape(shape: readonly number[], wanted: TensorType, path: string): void {
  const sizes = new Map<string, number>();
  const fits =
    shape.length === wanted.shape.length &&
    wanted.shape.every((dim, axis) => {
      const size = shape[axis] as number;
      if (typeof dim === "number") return dim === size;
      const same = (sizes.get(dim) ?? size) === size;
      sizes.set(dim, size);
      return same;
    });
  if (!fits)
    throw fail(
      path,
      "tensor-shape",
      `the tensor has shape [${shape.join(",")}] but the input is ${formatType(wanted)}`,
    );
}

/** Where an input of a model comes from, as the command line says it: `image=cat.npy` or `tokens=random:7`. */
export type InputSpec =
  | { readonly name: string; readonly from: "file"; readonly path: string }
  | { readonly name: string; readonly from: "random"; readonly seed: number };

/** Fails with `input-spec`. */
export function parseInput(spec: string): InputSpec {
  const equals = spec.indexOf("=");
  const name = spec.slice(0, Math.max(0, equals)).trim();
  const from = spec.slice(equals + 1);
  const seed = /^random:(\d+)$/.exec(from)?.[1];
  if (name !== "" && seed !== undefined && Number.isSafeInteger(Number(seed)))
    return { name, from: "random", seed: Number(seed) };
  if (name !== "" && from !== "" && !from.startsWith("random:")) return { name, from: "file", path: from };
  throw compileError("input-spec", `input ${quoted(spec)} is neither NAME=FILE nor NAME=random:SEED`, {
    help: "write, for example, image=cat.npy or image=random:7",
  });
}

const fail = (path: string, code: string, message: string): CompileError =>
  compileError(code, message, { loc: startOf(path) });
