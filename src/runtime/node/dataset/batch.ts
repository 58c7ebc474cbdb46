import { compileError } from "../../../ir/diagnostic.ts";
import { symbolsOf } from "../../../ir/dim.ts";
import { allocate, elementsOf, formatType, type TensorData } from "../../../ir/type.ts";
import type { SessionValue } from "../../session.ts";
import type { Example } from "./dataset.ts";

/** The last examples of a batch once more, until it is full. */
export const fill = (examples: readonly Example[], batch: number): readonly Example[] =>
  Array.from({ length: batch }, (_, i) => examples[Math.min(i, examples.length - 1)] as Example);

const standardBatch = 32; // examples

/** The first axis of every input is the batch: one symbol, or one size. Fails with `bad-input` and `bad-option`. */
export function batchOf(inputs: readonly SessionValue[], asked: number | undefined): { batch: number; fixed: boolean } {
  const firsts = new Set(inputs.map(({ shape }) => shape[0]));
  const [first] = firsts;
  if (firsts.size !== 1 || first === undefined || (typeof first === "string" && symbolsOf(first)[0] !== first))
    throw compileError(
      "bad-input",
      `the inputs have no common batch axis in front: ${inputs.map((v) => `${v.name}: ${formatType(v)}`).join(", ") || "there are none"}`,
    );
  if (typeof first === "string") return { batch: asked ?? standardBatch, fixed: false };
  if (asked !== undefined && asked !== first)
    throw compileError("bad-option", `the model takes batches of ${first}, not of ${asked}`);
  return { batch: first, fixed: true };
}

/** Contents of the inputs for some examples, each read once. Fails with `bad-input`, and as the first that cannot be read. */
export async function readBatch(
  examples: readonly Example[],
  inputs: readonly SessionValue[],
): Promise<Readonly<Record<string, TensorData>>> {
  const contents = new Map<Example, Readonly<Record<string, TensorData>>>();
  const waiting = new Set(examples).values();
  const readOn = async (): Promise<void> => {
    for (const example of waiting) contents.set(example, await example.read());
  };
  await Promise.all(Array.from({ length: readers }, readOn));
  return Object.fromEntries(
    inputs.map((input) => {
      const parts = examples.map((example) => contents.get(example)?.[input.name]);
      return [input.name, stack(input, examples, parts)] as const;
    }),
  );
}

const readers = 8; // at once; a large picture takes its size in memory while it is made smaller

/** One example under another along a new first axis, or along theirs of size 1. Fails with `bad-input`. */
function stack(
  input: SessionValue,
  examples: readonly Example[],
  parts: readonly (TensorData | undefined)[],
): TensorData {
  const { name, dtype, shape } = input;
  const own = (part: TensorData): readonly number[] =>
    part.shape.length === shape.length && part.shape[0] === 1 ? part.shape.slice(1) : part.shape;
  let first: readonly number[] | undefined;
  let values = allocate(dtype, 0);
  let elements = 0;
  parts.forEach((part, i) => {
    const { name: example } = examples[i] as Example;
    const wanted = `input ${name}: ${formatType({ dtype, shape: shape.slice(1) })} of one example`;
    if (part === undefined) throw compileError("bad-input", `${example} gives nothing for ${wanted}`);
    const row = own(part);
    const fits =
      part.dtype === dtype &&
      row.length === shape.length - 1 &&
      row.every((size, axis) => typeof shape[axis + 1] === "string" || shape[axis + 1] === size);
    if (!fits || part.values.length !== elementsOf(row))
      throw compileError(
        "bad-input",
        `${example} is ${formatType({ dtype: part.dtype, shape: row })}, wanted ${wanted}`,
      );
    if (first === undefined) {
      first = row;
      elements = elementsOf(row);
      values = allocate(dtype, parts.length * elements);
    } else if (row.some((size, axis) => size !== first?.[axis]))
      throw compileError(
        "bad-input",
        `${example} has shape [${row.join(",")}], others of its batch [${first.join(",")}]`,
        {
          help: "--batch 1 runs each by itself",
        },
      );
    values.set(part.values as never, i * elements);
  });
  return { dtype, shape: [parts.length, ...(first ?? [])], values };
}
