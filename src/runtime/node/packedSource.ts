import { createHash } from "node:crypto";
import { type CompileError, compileError, InternalError } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { unpack } from "../../ir/packing.ts";
import { allocate, bytesOf, type DType, dtypes, type Elements } from "../../ir/type.ts";
import { type ByteReader, startOf } from "./files.ts";

/** Bytes in one step of reading or writing; bounds what is held beside the elements asked for. */
export const chunkBytes = 16 * 2 ** 20;

/** Packed little-endian elements from byte `offset` of `bytes` on; the caller has checked that they fit. */
export interface PackedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: ByteReader;
  readonly offset: number;
  /** Equal identities mean equal bytes at equal offsets. */
  readonly identity: string;
}

/**
 * A weight that stays where it is until it is read. A part (`read(start, end)`) has shape [end - start].
 * The hash covers type, offset and identity of the bytes, not the contents, so that opening a file never reads it.
 */
export function packedSource(tensor: PackedTensor): WeightSource {
  const { dtype, shape, bytes, offset, identity } = tensor;
  const total = shape.reduce((product, dim) => product * dim, 1);
  return {
    type: { dtype, shape },
    hash: createHash("sha256")
      .update(JSON.stringify([dtype, shape, offset, identity]))
      .digest("hex"),
    async read(start = 0, end = total) {
      if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= total))
        throw new InternalError(`elements ${start} to ${end} of ${total} are asked of ${bytes.path}`);
      const values = allocateOrFail(dtype, end - start, bytes.path);
      const { bits } = dtypes[dtype];
      const perChunk = (chunkBytes * 8) / bits;
      const buffer = new Uint8Array(Math.min(chunkBytes, bytesOf(dtype, end - start) + 1)); // + 1: a part may straddle
      for (let at = 0; at < values.length; ) {
        const firstByte = Math.floor(((start + at) * bits) / 8);
        const skip = start + at - (firstByte * 8) / bits;
        const count = Math.min(values.length - at, perChunk - skip);
        const chunk = buffer.subarray(0, bytesOf(dtype, skip + count));
        await bytes.read(chunk, offset + firstByte);
        unpack(dtype, chunk, skip, values, { at, count });
        at += count;
      }
      return { dtype, shape: start === 0 && end === total ? shape : [end - start], values };
    },
  };
}

function allocateOrFail(dtype: DType, count: number, path: string): Elements {
  try {
    return allocate(dtype, count);
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge(path, count);
    throw error;
  }
}

const tooLarge = (path: string, count: number): CompileError =>
  compileError("weights-size", `${count} elements of ${path} do not fit in memory at once`, {
    loc: startOf(path),
    help: "read them in parts",
  });

/** Product of dims that come from a file: undefined unless every dim is a size and the product is exact. */
export function countElements(shape: readonly unknown[]): number | undefined {
  let product = 1;
  for (const dim of shape) {
    if (!isCount(dim)) return undefined;
    product *= dim;
    if (!Number.isSafeInteger(product)) return undefined;
  }
  return product;
}

/** A whole number from 0 to 2^53 - 1. */
export const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
