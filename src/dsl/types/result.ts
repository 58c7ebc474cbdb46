// What a rule yields, and how a signature shows it. A rule is applied twice in a signature: once to the argument that it
// may refuse and once to the result.
import type { DType, Shape } from "../../ir/type.ts";
import type { IsWide, Same } from "./dims.ts";

/** Shapes inside the rules: elements are unconstrained, so that a rule on type parameters still resolves. */
export type Dims = readonly unknown[];

/** The type of an argument that does not fit: nothing has it, and the compiler's message names the problem. */
export interface ShapeError<out Problem extends string> {
  readonly problem: Problem;
}

export interface Ok<out S> {
  readonly ok: S;
}
export interface Err<out Problem extends string> {
  readonly err: Problem;
}

/** An argument's type, or the rule's problem in its place. */
export type Arg<R, T> = R extends Err<infer Problem extends string> ? ShapeError<Problem> : T;
/** The result's shape; after a problem it is unknown, so that one mistake is reported once. */
export type Res<R> = R extends Ok<infer S extends Dims> ? S : Shape;

/** The first problem of two rules, else the second's result. */
export type Both<R, Q> = R extends Err<string> ? R : Q;

/** Whether two dtypes agree; unknown ones do. */
export type SameDType<A, B> =
  Same<A, B> extends true
    ? Ok<[]>
    : IsWide<A> extends true
      ? Ok<[]>
      : IsWide<B> extends true
        ? Ok<[]>
        : DTypeClash<A, B>;
type DTypeClash<A, B> = A extends string
  ? B extends string
    ? Err<`left is ${A} but right is ${B}; use cast`>
    : never
  : never;

/** Whether the dtypes of a list agree with its first. */
export type SameDTypes<Types extends Dims> = Types extends readonly [infer A, infer B, ...infer Rest]
  ? SameDType<A, B> extends Err<infer Problem>
    ? Err<Problem>
    : SameDTypes<[A, ...Rest]>
  : Ok<[]>;

/** A tuple of literals as it was given, without the readonly of a const type parameter. */
export type Mutable<S> = S extends readonly [...infer T] ? T : S;

/** What arithmetic, matrix products and reductions are defined for. */
export type NumberType = Exclude<DType, "bool">;
