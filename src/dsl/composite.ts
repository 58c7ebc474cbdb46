import type { Builder } from "../ir/builder.ts";
import { compileError, type Loc } from "../ir/diagnostic.ts";
import type { Value } from "../ir/graph.ts";
import type { AttrSpec, NamedComposite } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import { duplicateOp } from "../ir/registry.ts";
import type { Dim, DType, TensorType } from "../ir/type.ts";
import type { Vjp } from "../ir/vjp.ts";
import { callerLoc } from "./place.ts";
import { Tensor } from "./tensor.ts";
import { recordOwn } from "./trace.ts";

interface ValueOfKind {
  int: number;
  ints: readonly number[];
  pairs: readonly (readonly [number, number])[];
  number: number;
  boolean: boolean;
  string: string;
  strings: readonly string[];
  dim: Dim;
  dims: readonly Dim[];
  dtype: DType;
}
type Specs = Readonly<Record<string, AttrSpec>>;
type AttrOf<S extends AttrSpec> = S["kind"] extends infer K
  ? K extends keyof ValueOfKind
    ? ValueOfKind[K]
    : K extends readonly (infer Word)[]
      ? Word
      : never
  : never;
/** As the composite's own code sees them: defaults are filled in. */
type Complete<S extends Specs> = { readonly [K in keyof S]: AttrOf<S[K]> };
type Optional<S extends Specs> = {
  [K in keyof S]: S[K] extends { readonly default: unknown } ? K : never;
}[keyof S];
/** As callers give them. */
type Given<S extends Specs> = { readonly [K in Exclude<keyof S, Optional<S>>]: AttrOf<S[K]> } & {
  readonly [K in Optional<S>]?: AttrOf<S[K]>;
};
type Trailing<S extends Specs> = object extends Given<S> ? [attrs?: Given<S>] : [attrs: Given<S>];

type Each<Names extends readonly string[], T, First = T> = number extends Names["length"]
  ? readonly T[]
  : Names extends readonly [...string[], `${string}...`]
    ? readonly T[]
    : { readonly [K in keyof Names]: K extends "0" ? First : T };
/** Operands one by one, as one list where their number is open. */
type Args<Names extends readonly string[], D extends DType> =
  Each<Names, Tensor, Tensor<D>> extends infer Operands extends readonly Tensor[]
    ? number extends Operands["length"]
      ? [operands: readonly Tensor<D>[]]
      : [...Operands]
    : never;
/** A tensor per result, each of the first operand's dtype unless the composite says another. */
type Made<R, T extends readonly DType[], D extends DType> = R extends Value
  ? Tensor<DTypeAt<T, "0", D>>
  : { readonly [K in keyof R]: Tensor<DTypeAt<T, K, D>> };
type DTypeAt<T extends readonly DType[], K, D extends DType> = K extends keyof T
  ? T[K] extends infer Stated extends DType
    ? Stated
    : D
  : D;

/** A composite of the user's own: called on tensors, it is one node of the model being traced. */
export interface OwnComposite<
  Names extends readonly string[],
  S extends Specs,
  R,
  T extends readonly DType[] = readonly [],
> extends NamedComposite {
  readonly kind: "composite";
  <D extends DType>(...args: [...Args<Names, D>, ...Trailing<S>]): Made<R, T, D>;
}

/** What `composite` takes: an op of the user's own. */
export interface CompositeDeclaration<
  Names extends readonly string[],
  S extends Specs,
  R,
  T extends readonly DType[] = readonly [],
> {
  /** Its word in IR text; none of the op table's, see docs/ops.md. */
  readonly name: string;
  /** One line: what it computes. */
  readonly summary: string;
  /** A paper and its equation, an operator of another framework. */
  readonly source?: string;
  /** Names of the operands in order; one that ends in "..." takes all that are left. */
  readonly operands: Names;
  /** By name; one with a default may be left out by callers. */
  readonly attrs?: S;
  /** Of the results, for the type checker, where they are not the first operand's dtype. */
  readonly dtypes?: T;
  /** Types of the results, or an OpError that says which operand (by number) is wrong. */
  infer(types: Each<Names, TensorType>, attrs: Complete<S>): readonly TensorType[];
  /** The same results made of other ops: its meaning on every target that has nothing better. */
  decompose(b: Builder, operands: Each<Names, Value>, attrs: Complete<S>): R;
  /** Its gradient in closed form; without one the ops that it is made of are differentiated. */
  readonly vjp?: Vjp<Complete<S>>;
}

/**
 * Declares an op that other ops define. It stays one node until a target expands it, so that passes and people see it
 * whole; it prints, parses, verifies and runs everywhere as the ops of the table do. Fails with `duplicate-op` where
 * the table has the name, `bad-composite` where it is no word.
 */
export function composite<
  const Names extends readonly string[],
  const R extends Value | readonly [Value, Value, ...Value[]],
  const S extends Specs = Record<never, never>,
  const T extends readonly DType[] = readonly [],
>(declared: CompositeDeclaration<Names, S, R, T>): OwnComposite<Names, S, R, T> {
  const { name, summary, source = "", operands, attrs = {} as S, infer, decompose, vjp } = declared;
  const loc = callerLoc(undefined);
  if (!/^[A-Za-z_]\w*$/.test(name))
    throw compileError("bad-composite", `${JSON.stringify(name)} is no word of IR text`, {
      loc,
      help: "name it with letters, digits and _, such as scaledSilu",
    });
  if (builtinOps.has(name)) throw duplicateOp(name, "the op table", loc);
  const meaning = { infer, decompose, ...(vjp && { vjp }) };
  const op = { kind: "composite", summary, source, operands, attrs, ...meaning } as unknown as NamedComposite["op"];
  const open = operands.at(-1)?.endsWith("...") === true;
  const count = open ? 1 : operands.length;
  const checked = (loc: Loc, results: readonly Value[]): readonly Value[] => {
    results.forEach(({ type }, i) => {
      const stated = declared.dtypes?.[i];
      if (stated !== undefined && stated !== type.dtype)
        throw compileError(
          "bad-composite",
          `result ${i} of ${name} is ${stated} by dtypes, but ${type.dtype} by infer`,
          {
            loc,
          },
        );
    });
    return results;
  };
  const apply = (...args: readonly unknown[]): Tensor | readonly Tensor[] => {
    const tensors = (open ? args[0] : args.slice(0, count)) as readonly Tensor[];
    const given = (args[count] ?? {}) as Readonly<Record<string, unknown>>;
    const values = tensors.map(({ value }) => value);
    const made = recordOwn(own, (b) => checked(b.loc, b.make(name, values, given))).map((value) => new Tensor(value));
    return made.length === 1 ? (made[0] as Tensor) : made;
  };
  Object.defineProperty(apply, "name", { value: name });
  const own = Object.freeze(Object.assign(apply, { kind: "composite", op, loc })) as unknown as OwnComposite<
    Names,
    S,
    R,
    T
  >;
  return own;
}

/** Whether a value, such as an export of a file of the user's, was made by `composite`. */
export const isComposite = (x: unknown): x is NamedComposite =>
  typeof x === "function" && (x as { kind?: unknown }).kind === "composite" && "op" in x;
