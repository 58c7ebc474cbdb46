// A model of a compiled folder as programs use it, in Node and in browsers alike: plain arrays in, plain arrays out.
import { compileError } from "../../ir/diagnostic.ts";
import { evaluateDim, symbolsOf } from "../../ir/dim.ts";
import { allocate, type Elements, elementsOf, formatType, type TensorData, type TensorType } from "../../ir/type.ts";
import type { SessionValue } from "../session.ts";
import type { ProgramSession } from "../webgpu/program.ts";
import type { PictureInput, RunManifest } from "./manifest.ts";

/** Row-major contents. `shape` may be left out where at most one size of the input is open. */
export interface PlainTensor {
  readonly data: Elements;
  readonly shape?: readonly number[];
}
/** One row-major tensor per output, by name. */
export type Results = Record<string, { readonly data: Elements; readonly shape: readonly number[] }>;

/** A model that is ready to run. */
export interface PlainModel {
  readonly name: string;
  readonly inputs: readonly SessionValue[];
  readonly outputs: readonly SessionValue[];
  /** How a picture becomes an input, by input name. */
  readonly pictures: Readonly<Record<string, PictureInput>>;
  /** Names of the classes, by output position. */
  readonly labels: readonly string[];
  /** For people; empty where the caller gave the device. */
  readonly adapter: string;
  /** Kernels of one run. */
  readonly dispatches: number;
  /** One result per output. Calls wait for each other. Fails with `bad-input`. */
  run(inputs: Readonly<Record<string, PlainTensor>>): Promise<Results>;
  /** Frees what the model holds on the device. Safe to call twice. */
  dispose(): Promise<void>;
}

export const plainModel = (
  { name, pictures, labels }: RunManifest,
  session: ProgramSession,
  adapter: string,
): PlainModel => ({
  name,
  inputs: session.inputs,
  outputs: session.outputs,
  pictures,
  labels,
  adapter,
  dispatches: session.dispatches,
  run: async (inputs) => plainResults(await session.run(typedInputs(session.inputs, inputs))),
  dispose: () => session.dispose(),
});

/** Fails with `bad-input` where an input is missing, is unknown, or holds elements of another kind. */
function typedInputs(
  wanted: readonly SessionValue[],
  given: Readonly<Record<string, PlainTensor>>,
): Record<string, TensorData> {
  const names = new Set(wanted.map(({ name }) => name));
  const unknown = Object.keys(given).find((name) => !names.has(name));
  if (unknown !== undefined)
    throw compileError("bad-input", `there is no input ${JSON.stringify(unknown.slice(0, 60))}`, {
      help: `the inputs: ${[...names].join(", ")}`,
    });
  return Object.fromEntries(
    wanted.map((input) => {
      const tensor = Object.hasOwn(given, input.name) ? given[input.name] : undefined;
      if (tensor === undefined)
        throw compileError("bad-input", `input ${input.name} (${formatType(input)}) is missing`);
      return [input.name, typedInput(input, tensor)] as const;
    }),
  );
}

function typedInput(input: SessionValue, { data, shape }: PlainTensor): TensorData {
  const { name, dtype } = input;
  const wanted = allocate(dtype, 0).constructor;
  if (!(data instanceof wanted))
    throw compileError("bad-input", `the data of input ${name} is ${kindOf(data)}, ${dtype} wants ${wanted.name}`);
  const sizes = shape ?? completedShape(input, data.length);
  if (elementsOf(sizes) !== data.length)
    throw compileError("bad-input", `input ${name} has ${data.length} elements, its shape is [${sizes.join(",")}]`);
  return { dtype, shape: sizes, values: data };
}

const kindOf = (value: unknown): string =>
  typeof value === "object" && value !== null ? value.constructor.name : typeof value;

/** The shape of so many elements, where one size at most is open. */
function completedShape(
  { name, ...type }: TensorType & { readonly name: string },
  elements: number,
): readonly number[] {
  const open = type.shape.filter((dim) => typeof dim !== "number");
  const [symbol] = open;
  if (open.length > 1 || (symbol !== undefined && symbolsOf(symbol)[0] !== symbol))
    throw compileError("bad-input", `input ${name} needs its shape: ${formatType(type)} has more than one open size`);
  const known = type.shape.reduce<number>((product, dim) => (typeof dim === "number" ? product * dim : product), 1);
  const sizes = new Map(symbol === undefined ? [] : [[symbol as string, Math.floor(elements / known)]]);
  return type.shape.map((dim) => evaluateDim(dim, sizes));
}

const plainResults = (results: Readonly<Record<string, TensorData>>): Results =>
  Object.fromEntries(Object.entries(results).map(([name, { values, shape }]) => [name, { data: values, shape }]));
