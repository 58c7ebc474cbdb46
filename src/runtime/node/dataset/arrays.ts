import { compileError } from "../../../ir/diagnostic.ts";
import type { WeightSource } from "../../../ir/graph.ts";
import { convertFloats } from "../../../ir/packing.ts";
import { formatType, isFloat, isInteger, type TensorData, toNumbers } from "../../../ir/type.ts";
import type { SessionValue } from "../../session.ts";
import { startOf } from "../files.ts";
import type { RgbPixels } from "../resample.ts";
import { labelReader } from "./classes.ts";
import type { DataSet, Wanted } from "./dataset.ts";
import type { PictureInputOf } from "./pictureFolder.ts";

/** Tensors of one file, or of one for pictures and one for labels; the first axis of each counts examples. */
export interface Arrays {
  readonly path: string;
  /** By name; `labels` holds the classes. */
  readonly tensors: ReadonlyMap<string, WeightSource>;
  close(): Promise<void>;
}

type RowReader = (row: number) => Promise<TensorData>;

/**
 * Examples whose contents stand in tensors by the names of the inputs, or whose pixels stand in one of u8. Rows are read
 * when they are wanted. Fails with `data-format`, `data-empty` and `data-label`.
 */
export async function openArrays(arrays: Arrays, wanted: Wanted, pictureOf: () => PictureInputOf): Promise<DataSet> {
  const { path, tensors } = arrays;
  const loc = startOf(path);
  const labelled = tensors.get("labels");
  if (labelled === undefined || !isInteger(labelled.type.dtype) || labelled.type.shape.length !== 1)
    throw compileError("data-format", `${path} holds no integers called labels, one for each example`, {
      loc,
      help: `it holds ${[...tensors].map(([name, { type }]) => `${name}: ${formatType(type)}`).join(", ") || "nothing"}`,
    });
  const [count = 0] = labelled.type.shape;
  if (count === 0) throw compileError("data-empty", `${path} holds no examples`, { loc });
  const others = new Map([...tensors].filter(([name]) => name !== "labels"));
  for (const [name, { type }] of others)
    if (type.shape[0] !== count)
      throw compileError("data-format", `${path} holds ${count} labels but ${name} is ${formatType(type)}`, { loc });
  const readers = rowReaders(others, wanted, pictureOf, path);
  const read = labelReader(wanted);
  const labels = Array.from(toNumbers(await labelled.read()), (label, row) => read(label, loc, `example ${row}`));
  return {
    count,
    notes: [],
    async *examples() {
      for (const [row, label] of labels.entries())
        yield {
          name: `example ${row} of ${path}`,
          label,
          read: async () => {
            const entries = readers.map(async ([name, readRow]) => [name, await readRow(row)] as const);
            return Object.fromEntries(await Promise.all(entries));
          },
        };
    },
    [Symbol.asyncDispose]: arrays.close,
  };
}

function rowReaders(
  tensors: ReadonlyMap<string, WeightSource>,
  { inputs }: Wanted,
  pictureOf: () => PictureInputOf,
  path: string,
): readonly (readonly [input: string, RowReader])[] {
  const [only] = tensors.size === 1 ? tensors.values() : [];
  return inputs.map((input) => {
    const source = tensors.get(input.name) ?? (inputs.length === 1 ? only : undefined);
    if (source === undefined)
      throw compileError(
        "data-format",
        `${path} holds no tensor called ${input.name}, which is an input of the model`,
        {
          loc: startOf(path),
          help: `it holds ${[...tensors].map(([name, { type }]) => `${name}: ${formatType(type)}`).join(", ") || "labels alone"}`,
        },
      );
    const pixels = source.type.dtype === "u8" && isFloat(input.dtype);
    return [input.name, pixels ? pixelReader(source, pictureOf(), path) : tensorReader(source, input, path)];
  });
}

function tensorReader(source: WeightSource, input: SessionValue, path: string): RowReader {
  const { dtype, shape } = source.type;
  if (dtype !== input.dtype && !(isFloat(dtype) && isFloat(input.dtype)))
    throw compileError(
      "data-format",
      `${path} holds ${formatType(source.type)} for input ${input.name}: ${formatType(input)}`,
      {
        loc: startOf(path),
      },
    );
  const readRow = rowOf(source);
  return async (row) => {
    const read: TensorData = { dtype, shape: shape.slice(1), values: (await readRow(row)).values };
    return isFloat(input.dtype) && dtype !== input.dtype ? convertFloats(read, input.dtype) : read;
  };
}

const rowOf = (source: WeightSource): RowReader => {
  const elements = source.type.shape.slice(1).reduce((product, dim) => product * dim, 1);
  return (row) => source.read(row * elements, (row + 1) * elements);
};

/** Pixels [n, height, width], [n, height, width, channels] or [n, channels, height, width], grey or of three colours. */
function pixelReader(source: WeightSource, { reader }: PictureInputOf, path: string): RowReader {
  const { shape } = source.type;
  const isColour = (dim: number | undefined): boolean => dim === 1 || dim === 3;
  const [, first, second, third] = shape;
  const planar = shape.length === 4 && !isColour(third) && isColour(first);
  if (!(shape.length === 3 || (shape.length === 4 && (planar || isColour(third)))))
    throw compileError("data-format", `${path} holds ${formatType(source.type)}, which are no pictures`, {
      loc: startOf(path),
      help: "give u8[n,height,width], u8[n,height,width,channels] or u8[n,channels,height,width] with 1 or 3 channels",
    });
  const [height, width, channels] = (planar ? [second, third, first] : [first, second, third ?? 1]) as [
    number,
    number,
    number,
  ];
  const readRow = rowOf(source);
  return async (row) => {
    const { values } = await readRow(row);
    const rgb = new Uint8Array(3 * height * width);
    for (let pixel = 0; pixel < height * width; pixel++)
      for (let colour = 0; colour < 3; colour++) {
        const channel = channels === 1 ? 0 : colour;
        rgb[3 * pixel + colour] = values[
          planar ? channel * height * width + pixel : channels * pixel + channel
        ] as number;
      }
    const picture: RgbPixels = { width, height, rgb };
    return reader(picture);
  };
}
