import type { Plan, TensorFile } from "../../backends/wgsl/artifact.ts";
import { symbolsOf } from "../../ir/dim.ts";
import { bytesOf, elementsOf } from "../../ir/type.ts";
import {
  type Check,
  count,
  dim,
  dtype,
  first,
  hash,
  list,
  literal,
  mapOf,
  nullable,
  optional,
  positive,
  record,
  symbol,
  text,
} from "./check.ts";
import { damaged } from "./files.ts";
import { checkFormat, parseJson } from "./manifest.ts";

export const planFile = "plan.json";
const planFormat: Plan["format"] = 1;
const largestChunk = 2 ** 26; // bytes held while one is confirmed

/**
 * Reads the text of a plan, field by field, and that its parts fit together: every buffer, shader and tensor that is
 * named is there, and sizes are what dtypes and shapes make them. Fields that this version does not know pass.
 * Fails with `artifact-damaged`, and with `artifact-version` where another version of Tamis wrote it.
 */
export function readPlan(source: string, place: string): Plan {
  const value = parseJson(source, place, planFile);
  checkFormat(value, planFormat, place, planFile);
  const wrong = plan(value, "") ?? disagreement(value as unknown as Plan);
  if (wrong !== undefined) throw damaged(place, planFile, `cannot be used: ${wrong}`);
  return value as unknown as Plan;
}

const values = list(record({ name: text, dtype, shape: list(dim), buffer: text }));
const dispatch = record({
  shader: count,
  buffers: list(text),
  writes: list(text),
  params: list(dim),
  groups: record({ parts: list(record({ dim, per: positive })), threads: positive }),
  label: text,
  scope: text,
  ops: list(text),
});
const tensorFile = record({
  bytes: count,
  chunkBytes: (value, path) =>
    positive(value, path) ?? ((value as number) > largestChunk ? `${path} is above ${largestChunk}` : undefined),
  sha256: list(hash),
  tensors: list(record({ name: text, dtype, shape: list(count), offset: count, bytes: count })),
});
const plan: Check = record({
  tamis: text,
  program: record({
    kind: literal("webgpu"),
    version: literal(1),
    name: text,
    symbols: list(symbol),
    buffers: list(record({ name: text, register: text, elements: dim })),
    inputs: values,
    parameters: values,
    constants: list(record({ buffer: text })),
    outputs: values,
    dispatches: list(dispatch),
    donate: optional(mapOf(text)),
  }),
  kernels: record({ bytes: count, sha256: hash, shaders: list(record({ offset: count, bytes: count })) }),
  constants: nullable(tensorFile),
  weights: nullable(tensorFile),
});

/** What does not fit together in a plan whose fields are all of their kind. */
function disagreement({ program, kernels, constants, weights }: Plan): string | undefined {
  const { inputs, outputs, parameters, buffers, dispatches, symbols } = program;
  const held = new Set(buffers.map(({ name }) => name));
  const bound = new Set(inputs.flatMap(({ shape }) => shape.flatMap(symbolsOf)));
  const known = new Set(symbols);
  const dims = [
    ...buffers.map(({ elements }) => elements),
    ...[...inputs, ...outputs, ...parameters].flatMap(({ shape }) => shape),
    ...dispatches.flatMap(({ params, groups }) => [...params, ...groups.parts.map((part) => part.dim)]),
  ];
  const used = [
    ...[...inputs, ...outputs, ...parameters, ...program.constants].map(({ buffer }) => buffer),
    ...dispatches.flatMap((one) => [...one.buffers, ...one.writes]),
  ];
  return first([
    () => missing("buffer", used, held),
    () => missing("symbol", dims.flatMap(symbolsOf), known),
    () => missing("size of symbol", symbols, bound),
    () => repeated("buffer", buffers),
    () => repeated("input", [...inputs, ...parameters]),
    () => repeated("output", outputs),
    () =>
      dispatches.some(({ shader }) => shader >= kernels.shaders.length)
        ? "a dispatch names a shader too many"
        : undefined,
    () => (apart(kernels.shaders, kernels.bytes) ? undefined : "the texts of the shaders overlap"),
    () => fileProblem("constants", constants),
    () => fileProblem("weights", weights),
    () => {
      const given = new Map(weights?.tensors.map((tensor) => [tensor.name, tensor]));
      const wrong = parameters.find(({ name, dtype, shape }) => {
        const tensor = given.get(name);
        return tensor === undefined || tensor.dtype !== dtype || tensor.shape.join() !== shape.join();
      });
      return wrong && `no tensor of weights.safetensors is parameter ${JSON.stringify(wrong.name.slice(0, 60))}`;
    },
    () => {
      const given = new Set(constants?.tensors.map(({ name }) => name));
      return missing("constant", [...program.constants.keys()].map(String), given);
    },
  ]);
}

function missing(what: string, wanted: readonly string[], held: ReadonlySet<string>): string | undefined {
  const absent = wanted.find((name) => !held.has(name));
  return absent === undefined ? undefined : `there is no ${what} ${JSON.stringify(absent.slice(0, 60))}`;
}

function repeated(what: string, list: readonly { readonly name: string }[]): string | undefined {
  const names = new Set(list.map(({ name }) => name));
  return names.size === list.length ? undefined : `two are named alike: ${what}s`;
}

/** Whether spans follow each other inside `bytes`. */
function apart(spans: readonly { readonly offset: number; readonly bytes: number }[], bytes: number): boolean {
  let end = 0;
  return (
    spans.every((span) => {
      const follows = span.offset >= end;
      end = span.offset + span.bytes;
      return follows;
    }) && end <= bytes
  );
}

function fileProblem(name: string, file: TensorFile | null): string | undefined {
  if (file === null) return undefined;
  const { bytes, chunkBytes, sha256, tensors } = file;
  const sized = ({ dtype, shape, bytes: held }: TensorFile["tensors"][number]): boolean =>
    bytesOf(dtype, elementsOf(shape)) === held;
  return first([
    () => repeated(`tensors of ${name}`, tensors),
    () => (sha256.length === Math.ceil(bytes / chunkBytes) ? undefined : `${name} has ${sha256.length} hashes`),
    () => (tensors.every(sized) ? undefined : `a tensor of ${name} has other bytes than its shape`),
    () => (apart(tensors, bytes) ? undefined : `tensors of ${name} overlap or lie outside of it`),
  ]);
}
