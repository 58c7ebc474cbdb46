import { compileError } from "../../ir/diagnostic.ts";
import { evaluateDim, symbolsOf } from "../../ir/dim.ts";
import { allocate, type Elements, elementsOf, formatType, type TensorData, type TensorType } from "../../ir/type.ts";
import { checkRequirements, openArtifact, type PictureInput, type Progress } from "../artifact/index.ts";
import type { SessionValue } from "../session.ts";
import { createProgramSession } from "../webgpu/program.ts";
import { type BrowserDevice, openDevice } from "./device.ts";
import { fetchFiles } from "./fetchFiles.ts";

export interface LoadOptions {
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: Progress) => void;
  /** A device of the caller's, which stays open; otherwise the model asks the browser for one and destroys it at the end. */
  readonly device?: GPUDevice;
  /** Ends loading; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Row-major contents. `shape` may be left out where at most one size of the input is open. */
export interface PlainTensor {
  readonly data: Elements;
  readonly shape?: readonly number[];
}
export type Results = Record<string, { readonly data: Elements; readonly shape: readonly number[] }>;

export interface BrowserModel {
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

/**
 * Fetches a compiled folder and makes it ready to run; weights go to the device as they arrive. `base` is the address of
 * the folder. Fails with `no-adapter`, `device-limit`, `file-not-found`, `file-unreadable`, `artifact-damaged`,
 * `artifact-version` and `model-format`.
 */
export async function loadModel(base: string | URL, options: LoadOptions = {}): Promise<BrowserModel> {
  const files = fetchFiles(folderAddress(base), options.signal);
  const { manifest, program, weights } = await openArtifact(files, options.onProgress);
  let own = options.device === undefined ? await openDevice() : undefined;
  const device = options.device ?? (own as BrowserDevice).device;
  const close = (): void => own?.device.destroy();
  const reopen = async () => {
    own = await openDevice();
    return { device: own.device };
  };
  try {
    checkRequirements(program, device);
    const session = await createProgramSession(device, program, weights, own === undefined ? {} : { reopen, close });
    return {
      name: manifest.name,
      inputs: session.inputs,
      outputs: session.outputs,
      pictures: manifest.pictures,
      labels: manifest.labels,
      adapter: own?.adapter ?? "",
      dispatches: session.dispatches,
      run: async (inputs) => plainResults(await session.run(typedInputs(session.inputs, inputs))),
      dispose: () => session.dispose(),
    };
  } catch (error) {
    close();
    throw error;
  } finally {
    await weights.close();
  }
}

/** Relative addresses are the page's. */
function folderAddress(base: string | URL): URL {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  const url = new URL(base, location?.href);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  url.search = "";
  url.hash = "";
  return url;
}

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
