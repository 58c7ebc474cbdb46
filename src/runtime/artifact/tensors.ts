import type { PlannedTensor, TensorFile } from "../../backends/wgsl/artifact.ts";
import { compileError, InternalError } from "../../ir/diagnostic.ts";
import { unpack } from "../../ir/packing.ts";
import { allocate, dtypes, elementsOf, type TensorData } from "../../ir/type.ts";
import { type Arrived, type ArtifactFiles, damaged, verifiedChunks } from "./files.ts";

/** Tensors of a file, read from front to back as they arrive. */
export interface TensorStream {
  /** One tensor. Those before it are passed over; asking for an earlier one begins the file again. */
  read(name: string): Promise<TensorData>;
  close(): Promise<void>;
}

/** Holds one chunk and the tensor that is read. Fails with `artifact-damaged` at the first chunk whose hash differs. */
export function streamTensors(files: ArtifactFiles, name: string, file: TensorFile, arrived?: Arrived): TensorStream {
  const byName = new Map(file.tensors.map((tensor) => [tensor.name, tensor]));
  let chunks: AsyncGenerator<Uint8Array> | undefined;
  let chunk: Uint8Array = new Uint8Array();
  let start = 0; // of the chunk in the file
  let position = 0; // in the file; inside the chunk or at its end

  const close = async (): Promise<void> => {
    const open = chunks;
    chunks = undefined;
    await open?.return(undefined);
  };
  const restart = async (): Promise<void> => {
    await close();
    chunks = verifiedChunks(files, name, file, arrived);
    [chunk, start, position] = [new Uint8Array(), 0, 0];
  };
  /** The bytes from `position` to `end` that the chunk at hand holds; fetches the next one where it holds none. */
  const piece = async (end: number): Promise<Uint8Array> => {
    while (position >= start + chunk.length) {
      const next = await chunks?.next();
      if (next === undefined || next.done === true) throw damaged(files.place, name, "ends before its tensors do");
      start += chunk.length;
      chunk = next.value;
    }
    const until = Math.min(end, start + chunk.length);
    const bytes = chunk.subarray(position - start, until - start);
    position = until;
    return bytes;
  };
  const fill = async ({ dtype, shape, offset, bytes }: PlannedTensor): Promise<TensorData> => {
    const values = allocateTensor(name, dtype, shape);
    while (position < offset) await piece(offset);
    const width = dtypes[dtype].bits / 8;
    const end = offset + bytes;
    let at = 0;
    let rest: Uint8Array = new Uint8Array(); // the first bytes of an element that two chunks share
    while (position < end) {
      const arrivedBytes = await piece(end);
      const packed = rest.length === 0 ? arrivedBytes : concat(rest, arrivedBytes);
      const elements = Math.floor(packed.length / width);
      unpack(dtype, packed, 0, values, { at, count: elements });
      at += elements;
      rest = packed.slice(elements * width);
    }
    return { dtype, shape, values };
  };
  return {
    async read(wanted) {
      const tensor = byName.get(wanted);
      if (tensor === undefined) throw new InternalError(`${name} holds no tensor ${wanted}`);
      if (chunks === undefined || tensor.offset < position) await restart();
      return fill(tensor);
    },
    close,
  };
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function allocateTensor(file: string, dtype: TensorData["dtype"], shape: readonly number[]): TensorData["values"] {
  try {
    return allocate(dtype, elementsOf(shape));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw compileError("file-too-large", `a tensor of ${file}, ${dtype}[${shape.join(",")}], does not fit in memory`);
  }
}
