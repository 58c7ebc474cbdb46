import { compileError, InternalError } from "../ir/diagnostic.ts";
import type { WeightSource } from "../ir/graph.ts";
import { allocate, type Elements, formatType, type TensorData } from "../ir/type.ts";

/**
 * The parts one below the other (along axis 0), read where they lie: only the parts that a range touches are read.
 * Fails with `weights-dtype` or `weights-shape` where they do not fit together; `name` is what they make.
 */
export function concatWeights(name: string, parts: readonly [WeightSource, ...WeightSource[]]): WeightSource {
  const [first] = parts;
  const { dtype, shape } = first.type;
  for (const { type } of parts) {
    if (type.dtype !== dtype)
      throw compileError("weights-dtype", `${name} joins ${formatType(first.type)} and ${formatType(type)}`);
    const fits =
      type.shape.length === shape.length && type.shape.every((size, axis) => axis === 0 || size === shape[axis]);
    if (!fits || shape.length === 0)
      throw compileError("weights-shape", `${name} joins ${formatType(first.type)} and ${formatType(type)}`);
  }
  const rows = parts.reduce((sum, { type }) => sum + (type.shape[0] ?? 0), 0);
  return pieced(
    { dtype, shape: [rows, ...shape.slice(1)] },
    `concat(${parts.map((part) => part.hash).join(",")})`,
    async (start, end, into) => {
      let at = 0; // the part's first element in the whole
      for (const part of parts) {
        const size = countOf(part.type.shape);
        const [from, to] = [Math.max(start, at), Math.min(end, at + size)];
        if (from < to) copy(await part.read(from - at, to - at), 0, into, from - start, to - from);
        at += size;
      }
    },
  );
}

/** Rows of axis 0 in another order: row i is the source's row `rowOf(i)`; `order` names that order in the hash. */
export function reorderRows(source: WeightSource, order: string, rowOf: (row: number) => number): WeightSource {
  const [rows = 0] = source.type.shape;
  const width = rows === 0 ? 0 : countOf(source.type.shape) / rows;
  return pieced(source.type, `rows(${order},${source.hash})`, async (start, end, into) => {
    for (let at = start; at < end; ) {
      const row = Math.floor(at / width);
      const skip = at - row * width;
      const count = Math.min(width - skip, end - at);
      const from = rowOf(row) * width + skip;
      copy(await source.read(from, from + count), 0, into, at - start, count);
      at += count;
    }
  });
}

/** A matrix with rows and columns exchanged. Every read reads the whole source. */
export function transposeWeight(name: string, source: WeightSource): WeightSource {
  const { dtype, shape } = source.type;
  const [rows, columns] = shape;
  if (rows === undefined || columns === undefined || shape.length !== 2)
    throw compileError("weights-shape", `${name} is the transpose of a matrix, got ${formatType(source.type)}`);
  return pieced({ dtype, shape: [columns, rows] }, `transpose(${source.hash})`, async (start, end, into) => {
    const whole = await source.read();
    for (let at = start; at < end; at++)
      copy(whole, (at % rows) * columns + Math.floor(at / rows), into, at - start, 1);
  });
}

/** The same elements in another shape; `weights-shape` where their number differs. */
export function reshapeWeight(name: string, source: WeightSource, shape: readonly number[]): WeightSource {
  const { dtype } = source.type;
  const count = countOf(shape);
  if (countOf(source.type.shape) !== count)
    throw compileError(
      "weights-shape",
      `${name} is ${formatType({ dtype, shape })} but the file holds ${formatType(source.type)}`,
    );
  return {
    type: { dtype, shape },
    hash: `reshape([${shape.join(",")}],${source.hash})`,
    read: async (start = 0, end = count) => {
      const { values } = await source.read(start, end);
      return { dtype, shape: start === 0 && end === count ? shape : [end - start], values };
    },
  };
}

const countOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** A source whose ranges are filled into storage of the right kind. */
function pieced(
  type: WeightSource["type"],
  hash: string,
  fill: (start: number, end: number, into: Elements) => Promise<void>,
): WeightSource {
  const total = countOf(type.shape);
  return {
    type,
    hash,
    read: async (start = 0, end = total) => {
      if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= total))
        throw new InternalError(`elements ${start} to ${end} of ${total} are asked of ${hash}`);
      const values = allocate(type.dtype, end - start);
      await fill(start, end, values);
      return { dtype: type.dtype, shape: start === 0 && end === total ? type.shape : [end - start], values };
    },
  };
}

function copy(from: TensorData, start: number, into: Elements, at: number, count: number): void {
  const part = from.values.subarray(start, start + count);
  if (into instanceof BigInt64Array) into.set(part as BigInt64Array, at);
  else into.set(part as Exclude<Elements, BigInt64Array>, at);
}
