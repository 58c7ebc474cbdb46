import { compileError, type Loc, OpError } from "./diagnostic.ts";
import { evaluateDim, symbolsOf } from "./dim.ts";
import { formatType, type TensorType } from "./type.ts";

/** An input that is wanted, and where the author declared it, if that is known. */
export interface WantedInput extends TensorType {
  readonly name: string;
  readonly loc?: Loc | undefined;
}
type Given = Readonly<Record<string, { readonly dtype: string; readonly shape: readonly number[] }>>;

/**
 * Checks given tensors against the inputs that are wanted and reads off the size of every symbol. Fails with
 * `bad-input` and `unbound-symbol`, at the input's place.
 */
export function bindSizes(wanted: readonly WantedInput[], given: Given): ReadonlyMap<string, number> {
  const symbols = new Map<string, number>();
  const fail = (message: string, { loc }: WantedInput, code = "bad-input") =>
    compileError(code, message, loc === undefined ? {} : { loc });
  for (const input of wanted) {
    const { name, dtype, shape } = input;
    const tensor = Object.hasOwn(given, name) ? given[name] : undefined; // "constructor" may be a name
    if (tensor === undefined) throw fail(`input ${name} (${formatType(input)}) is missing`, input);
    if (tensor.dtype !== dtype || tensor.shape.length !== shape.length)
      throw fail(
        `input ${name} is ${tensor.dtype}[${tensor.shape.join(",")}], the graph wants ${formatType(input)}`,
        input,
      );
    shape.forEach((dim, axis) => {
      const alone = typeof dim === "string" && symbolsOf(dim).length === 1 && symbolsOf(dim)[0] === dim;
      if (alone && !symbols.has(dim)) symbols.set(dim, tensor.shape[axis] as number);
    });
  }
  for (const input of wanted)
    input.shape.forEach((dim, axis) => {
      const size = given[input.name]?.shape[axis];
      let want: number;
      try {
        want = evaluateDim(dim, symbols);
      } catch (error) {
        if (error instanceof OpError) throw fail(error.message, input, error.code);
        throw error;
      }
      const stated = dim === want ? `${dim}` : `${dim} = ${want}`;
      if (want !== size)
        throw fail(`input ${input.name} has ${size} elements on axis ${axis}, the graph wants ${stated}`, input);
    });
  return symbols;
}
