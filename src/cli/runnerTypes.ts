import { type DType, symbolsOf, type TensorType } from "../index.ts";

export type Typed = TensorType & { readonly name: string };

/**
 * Types of a model's inputs and outputs by name: the JavaScript array of the dtype, literal sizes, and a type parameter
 * per symbol, so that a name, dtype, size or rank that the model does not take is an error of the caller's compiler, and
 * the shapes of the outputs follow from those of the inputs. A size made of symbols by arithmetic is `number`.
 */
export function valueTypes(
  inputs: readonly Typed[],
  outputs: readonly Typed[],
  arrayOf: (dtype: DType) => string,
): string {
  const parameters = parameterNames(inputs);
  const settled = new Set<string>();
  const given = (dim: string): string => {
    const name = parameters.get(dim);
    if (name === undefined) return "number";
    const first = !settled.has(dim);
    settled.add(dim);
    return first ? name : `NoInfer<${name}>`; // the first input that has it decides; the others must agree
  };
  const made = (dim: string): string => parameters.get(dim) ?? "number";
  const field = ({ name, dtype, shape }: Typed, optional: "" | "?", sizeOf: (dim: string) => string): string => {
    const sizes = shape.map((dim) => (typeof dim === "number" ? String(dim) : sizeOf(dim))).join(", ");
    return `  /** ${dtype}[${shape.join(",")}] */
  readonly ${JSON.stringify(name)}: { readonly data: ${arrayOf(dtype)}; readonly shape${optional}: readonly [${sizes}] };`;
  };
  const { declared } = typeParameters(inputs);
  return `
/** Row-major. A shape may be left out where at most one of its sizes is open. */
export interface Inputs${declared} {
${inputs.map((value) => field(value, "?", given)).join("\n")}
}
/** Row-major. */
export interface Outputs${declared} {
${outputs.map((value) => field(value, "", made)).join("\n")}
}
`;
}

/** `run`, as a function or as a method of what `load` gives. */
export function runSignature(inputs: readonly Typed[]): string {
  const { inferred, used } = typeParameters(inputs);
  return `run${inferred}(inputs: Inputs${used}): Promise<Outputs${used}>;`;
}

function typeParameters(inputs: readonly Typed[]) {
  const names = [...parameterNames(inputs).values()];
  const list = (write: (name: string) => string): string =>
    names.length === 0 ? "" : `<${names.map(write).join(", ")}>`;
  return {
    declared: list((name) => `${name} extends number = number`),
    inferred: list((name) => `const ${name} extends number = number`),
    used: list((name) => name),
  };
}

/**
 * A type parameter for every symbol that is a size of an input. `batch` is BatchSize: no word of TypeScript and no type
 * of ours, whatever a symbol is called.
 */
function parameterNames(inputs: readonly Typed[]): ReadonlyMap<string, string> {
  const dims = inputs.flatMap(({ shape }) => shape.filter((dim) => typeof dim === "string"));
  const symbols = new Set(dims.filter((dim) => symbolsOf(dim)[0] === dim));
  const taken = new Set<string>();
  return new Map(
    [...symbols].map((symbol) => {
      const plain = `${symbol.slice(0, 1).toUpperCase()}${symbol.slice(1)}Size`;
      let name = plain;
      for (let i = 2; taken.has(name); i++) name = `${plain}${i}`;
      taken.add(name);
      return [symbol, name];
    }),
  );
}
