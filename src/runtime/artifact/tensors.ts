import type { PlannedTensor, TensorFile } from "../../backends/wgsl/artifact.ts";
import { compileError, InternalError } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { unpack } from "../../ir/packing.ts";
import { allocate, dtypes, elementsOf, type TensorData } from "../../ir/type.ts";
import { type Arrived, type ArtifactFiles, damaged, verifiedChunks } from "./files.ts";

/** Tensors of a file, read from front to back as they arrive; one range at a time. */
export interface TensorStream {
  /** A source whose ranges come at once where they follow those read before; an earlier one begins the file again. */
  get(name: string): WeightSource | undefined;
  close(): Promise<void>;
}

/** Holds one chunk and the range that is read. Fails with `artifact-damaged` at the first chunk whose hash differs. */
export function streamTensors(files: ArtifactFiles, name: string, file: TensorFile, arrived?: Arrived): TensorStream {
  const bytes = new ByteStream(files, name, file, arrived);
  const sources = new Map(file.tensors.map((tensor) => [tensor.name, sourceOf(tensor, name, file, bytes)]));
  return { get: (wanted) => sources.get(wanted), close: () => bytes.close() };
}

function sourceOf(
  tensor: PlannedTensor,
  file: string,
  { chunkBytes, sha256 }: TensorFile,
  stream: ByteStream,
): WeightSource {
  const { dtype, shape, offset, bytes } = tensor;
  const total = elementsOf(shape);
  const width = dtypes[dtype].bits / 8;
  const chunks = sha256.slice(Math.floor(offset / chunkBytes), Math.ceil((offset + bytes) / chunkBytes));
  return {
    type: { dtype, shape },
    hash: `${dtype}[${shape.join(",")}] at ${offset % chunkBytes} of ${chunks.join(" ")}`,
    async read(start = 0, end = total) {
      const values = allocateRange(file, dtype, end - start);
      await stream.seek(offset + start * width);
      let at = 0;
      let rest: Uint8Array = new Uint8Array(); // the first bytes of an element that two chunks share
      while (at < values.length) {
        const piece = await stream.next(offset + end * width);
        const packed = rest.length === 0 ? piece : concat(rest, piece);
        const count = Math.floor(packed.length / width);
        unpack(dtype, packed, 0, values, { at, count });
        at += count;
        rest = packed.slice(count * width);
      }
      return { dtype, shape: start === 0 && end === total ? shape : [end - start], values };
    },
  };
}

/** The confirmed bytes of a file, and a place in them. */
class ByteStream {
  readonly #open: () => AsyncGenerator<Uint8Array>;
  readonly #ended: () => Error;
  #chunks: AsyncGenerator<Uint8Array> | undefined;
  #chunk: Uint8Array = new Uint8Array();
  /** Of the chunk in the file. */
  #start = 0;
  /** In the file; inside the chunk or at its end. */
  #position = 0;

  constructor(files: ArtifactFiles, name: string, file: TensorFile, arrived?: Arrived) {
    this.#open = () => verifiedChunks(files, name, file, arrived);
    this.#ended = () => damaged(files.place, name, "ends before its tensors do");
  }

  /** Goes to a place in the file; back to its beginning first where it lies behind. */
  async seek(place: number): Promise<void> {
    if (this.#chunks === undefined || place < this.#position) {
      await this.close();
      this.#chunks = this.#open();
      [this.#chunk, this.#start, this.#position] = [new Uint8Array(), 0, 0];
    }
    while (this.#position < place) await this.next(place);
  }

  /** The bytes from here to `end` that the chunk at hand holds, or the one after it where it holds none. */
  async next(end: number): Promise<Uint8Array> {
    while (this.#position >= this.#start + this.#chunk.length) {
      const next = await this.#chunks?.next();
      if (next === undefined || next.done === true) throw this.#ended();
      this.#start += this.#chunk.length;
      this.#chunk = next.value;
    }
    const until = Math.min(end, this.#start + this.#chunk.length);
    const bytes = this.#chunk.subarray(this.#position - this.#start, until - this.#start);
    this.#position = until;
    return bytes;
  }

  async close(): Promise<void> {
    const open = this.#chunks;
    this.#chunks = undefined;
    await open?.return(undefined);
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function allocateRange(file: string, dtype: TensorData["dtype"], count: number): TensorData["values"] {
  if (!Number.isSafeInteger(count) || count < 0) throw new InternalError(`${count} elements are asked of ${file}`);
  try {
    return allocate(dtype, count);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw compileError("file-too-large", `${count} elements of ${file} do not fit in memory`);
  }
}
