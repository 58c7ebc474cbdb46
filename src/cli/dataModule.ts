import { relative } from "node:path";
import { compileError, type Loc, type TensorData } from "../index.ts";
import {
  type DataSet,
  type Example,
  labelReader,
  pictureReader,
  type SessionValue,
  startOf,
  tensorFromNested,
  type Wanted,
} from "../runtime/node/index.ts";
import { importFile } from "./importModel.ts";
import { theirsAsync } from "./theirs.ts";

/** What a module's examples look like. */
interface GivenExample {
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly label: unknown;
}

type Given = Iterable<unknown> | AsyncIterable<unknown>;

/**
 * The data set that a module exports as `default` or under `exportName`: an iterable or async iterable of
 * `{ inputs, label }`, or a function that gives one. An input is a tensor, a typed array, nested numbers or the path of a
 * picture; a label is a class or its name. `count` may be exported beside the default.
 * Fails with `model-import` and `data-format`; while it is read also with `model-error` and `data-label`.
 */
export async function openDataModule(file: string, exportName: string | undefined, wanted: Wanted): Promise<DataSet> {
  const shown = relative(process.cwd(), file);
  const loc = startOf(shown);
  const exported = await importFile(file);
  const name = exportName ?? "default";
  const value = exported[name];
  const given =
    typeof value === "function" ? await theirsAsync(`${name} of ${shown}`, () => value() as unknown) : value;
  if (!isGiven(given))
    throw compileError("data-format", `${shown} exports no examples as ${name}`, {
      loc,
      help: "export default async function* () { yield { inputs: { image }, label: 3 }; }",
    });
  const count = exportName === undefined ? exported["count"] : undefined;
  const read = labelReader(wanted);
  return {
    count: typeof count === "number" && Number.isInteger(count) && count > 0 ? count : undefined,
    notes: [],
    async *examples() {
      const iterator = Symbol.asyncIterator in given ? given[Symbol.asyncIterator]() : given[Symbol.iterator]();
      try {
        for (let i = 0; ; i++) {
          const of = `example ${i} of ${shown}`;
          const { done, value } = await theirsAsync(`${name} of ${shown}`, () => iterator.next());
          if (done === true) break;
          yield exampleOf(value, of, wanted, read, loc);
        }
      } finally {
        await iterator.return?.();
      }
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

const isGiven = (value: unknown): value is Given =>
  typeof value === "object" && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);

function exampleOf(
  value: unknown,
  name: string,
  { inputs: wanted, pictures }: Wanted,
  readLabel: ReturnType<typeof labelReader>,
  loc: Loc,
): Example {
  const { inputs, label } = (value ?? {}) as Partial<GivenExample>;
  if (typeof inputs !== "object" || inputs === null)
    throw compileError("data-format", `${name} is no { inputs, label }`, { loc });
  return {
    name,
    label: readLabel(label, loc, name),
    read: async () => {
      const entries = wanted.flatMap((input) => {
        const given = Object.hasOwn(inputs, input.name) ? inputs[input.name] : undefined;
        return given === undefined ? [] : [[input, given] as const];
      });
      const read = entries.map(async ([input, given]) => {
        const contents =
          typeof given === "string"
            ? pictureReader(input, pictures[input.name], given)(given)
            : tensorOf(given, input, name);
        return [input.name, await contents] as const;
      });
      return Object.fromEntries(await Promise.all(read));
    },
  };
}

/** A tensor as it is; numbers in the shape that the input has, without its batch axis. */
function tensorOf(given: unknown, { dtype, shape }: SessionValue, name: string): TensorData {
  if (typeof given === "object" && given !== null && "values" in given && "shape" in given && "dtype" in given)
    return given as TensorData;
  if (!ArrayBuffer.isView(given)) return tensorFromNested(given, { dtype, shape: shape.slice(1) }, name);
  const own = shape.slice(1);
  const elements = own.reduce<number>((product, dim) => product * (typeof dim === "number" ? dim : Number.NaN), 1);
  const numbers = Array.from(given as unknown as ArrayLike<number>);
  if (numbers.length !== elements)
    throw compileError(
      "bad-input",
      `${name} gives ${numbers.length} numbers, the input is ${dtype}[${own.join(",")}]`,
      {
        help: "give { dtype, shape, values } where a size is open",
      },
    );
  const flat = tensorFromNested(numbers, { dtype, shape: [elements] }, name);
  return { ...flat, shape: own as readonly number[] };
}
