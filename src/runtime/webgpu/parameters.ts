// A program's parameters and constants on a device: read, uploaded and let go of chunk by chunk.
import type { ProgramValue, WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { elementsOf, formatType, type TensorData } from "../../ir/type.ts";
import { type Ledger, storageUsage } from "./ledger.ts";
import { bytesPerWord, toWords } from "./words.ts";

/**
 * Where parameters come from, by name. A source is read in rising ranges that do not overlap, one parameter after the
 * other in the program's order, so that a stream can be one; and again from the start after a device was lost.
 */
export interface Weights {
  get(name: string): WeightSource | TensorData | undefined;
}

/** Called after each chunk, with bytes on the device. */
export type UploadProgress = (doneBytes: number, totalBytes: number) => void;

export interface Uploaded {
  /** By buffer name. */
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  readonly parameterBytes: number;
  readonly constantBytes: number;
}

const chunkElements = 4 * 2 ** 20; // 16 MiB
const chunksInFlight = 4; // copies that the device's queue may hold

/** Fails with `missing-weights`, `weights-mismatch`, `device-limit` and `out-of-memory`; then nothing stays behind. */
export async function uploadParameters(
  ledger: Ledger,
  program: WgslProgram,
  weights: Weights,
  progress: UploadProgress | undefined,
): Promise<Uploaded> {
  const sources = program.parameters.map((wanted) => ({ wanted, source: weights.get(wanted.name) }));
  checkSources(sources);
  const total = program.parameters.reduce((sum, { shape }) => sum + elementsOf(shape) * bytesPerWord, 0);
  const buffers = new Map<string, GPUBuffer>();
  const reserve = async (name: string, elements: number, purpose: string): Promise<GPUBuffer> => {
    ledger.checkBinding(elements * bytesPerWord, purpose);
    const buffer = await ledger.create(elements * bytesPerWord, storageUsage, purpose);
    buffers.set(name, buffer);
    return buffer;
  };
  try {
    let constantBytes = 0;
    for (const { buffer: name, data } of program.constants) {
      const buffer = await reserve(name, data.values.length, `a constant (${formatType(data)})`);
      write(ledger, buffer, 0, data);
      constantBytes += buffer.size;
    }
    let done = 0;
    let parameterBytes = 0;
    let chunks = 0;
    for (const { wanted, source } of sources) {
      if (source === undefined) continue;
      const elements = elementsOf(wanted.shape);
      const buffer = await reserve(wanted.buffer, elements, `parameter ${wanted.name} (${formatType(wanted)})`);
      parameterBytes += buffer.size;
      for (let start = 0; start < elements; start += chunkElements) {
        const end = Math.min(elements, start + chunkElements);
        write(ledger, buffer, start, await readRange(wanted, source, start, end));
        done += (end - start) * bytesPerWord;
        progress?.(done, total);
        if (end - start === chunkElements && ++chunks % chunksInFlight === 0)
          await ledger.device.queue.onSubmittedWorkDone();
      }
    }
    return { buffers, parameterBytes, constantBytes };
  } catch (error) {
    for (const buffer of buffers.values()) ledger.destroy(buffer);
    throw error;
  }
}

type Sourced = { readonly wanted: ProgramValue; readonly source: WeightSource | TensorData | undefined };

const typeOf = (source: WeightSource | TensorData) => ("values" in source ? source : source.type);

function checkSources(sources: readonly Sourced[]): void {
  const missing = sources.flatMap(({ wanted, source }) => (source === undefined ? [wanted.name] : []));
  if (missing.length > 0) {
    const more = missing.length > shownNames ? ` and ${missing.length - shownNames} more` : "";
    const what = missing.length === 1 ? "parameter" : "parameters";
    throw compileError("missing-weights", `no contents for ${what} ${missing.slice(0, shownNames).join(", ")}${more}`);
  }
  for (const { wanted, source } of sources) {
    if (source === undefined) continue;
    const type = typeOf(source);
    if (type.dtype !== wanted.dtype || type.shape.join() !== wanted.shape.join())
      throw compileError(
        "weights-mismatch",
        `parameter ${wanted.name} is ${formatType(type)}, the program wants ${formatType(wanted)}`,
      );
  }
}

const shownNames = 5;

async function readRange(
  { name, dtype }: ProgramValue,
  source: WeightSource | TensorData,
  start: number,
  end: number,
): Promise<TensorData> {
  const contents =
    "values" in source
      ? { dtype: source.dtype, shape: [end - start], values: source.values.subarray(start, end) }
      : await source.read(start, end);
  if (contents.values.length !== end - start || contents.dtype !== dtype)
    throw compileError(
      "weights-mismatch",
      `parameter ${name} gave ${contents.values.length} elements of ${contents.dtype} where ${end - start} of ${dtype} were asked for`,
    );
  return contents;
}

function write({ device }: Ledger, buffer: GPUBuffer, start: number, contents: TensorData): void {
  const words = toWords(contents);
  if (words.byteLength > 0) device.queue.writeBuffer(buffer, start * bytesPerWord, words);
}
