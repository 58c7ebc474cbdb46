// Whole shapes: axes, replacing and removing them, broadcasting, products.
import type { Dim, Shape } from "../../ir/type.ts";
import type { Add, Agreed, Clash, IsFalse, IsWide, Mul, Print, Same, Show, Stretched } from "./dims.ts";
import type { Dims, Err, Ok } from "./result.ts";

/** Whether the number of axes is unknown. */
export type IsOpen<S extends Dims> = number extends S["length"] ? true : false;

/** As many elements as a negative axis counts from the end. */
type Tail = {
  "-1": [unknown];
  "-2": [unknown, unknown];
  "-3": [unknown, unknown, unknown];
  "-4": [unknown, unknown, unknown, unknown];
  "-5": [unknown, unknown, unknown, unknown, unknown];
  "-6": [unknown, unknown, unknown, unknown, unknown, unknown];
  "-7": [unknown, unknown, unknown, unknown, unknown, unknown, unknown];
  "-8": [unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown];
};

/** The axis counted from the start; `number` where that is unknown, `false` where the shape has no such axis. */
export type AxisOf<S extends Dims, A> =
  IsOpen<S> extends true
    ? number
    : IsWide<A> extends true
      ? number
      : `${A & number}` extends keyof Tail
        ? S extends readonly [...infer Head, ...Tail[`${A & number}` & keyof Tail]]
          ? Head["length"]
          : false
        : `${A & number}` extends keyof S
          ? A
          : false;

/** The problem of an axis that is outside. */
export type AxisError<S, A> = Err<`axis ${A & number} is outside ${Show<S>}`>;
export type WantAxis<S extends Dims, A> = AxisOf<S, A> extends false ? AxisError<S, A> : Ok<S>;

/** The same number of axes, all unknown. */
export type Loose<S extends Dims> = { -readonly [K in keyof S]: Dim };

/** The dimension of a known axis, unknown of an unknown one. */
export type At<S extends Dims, I> =
  Same<I, number> extends true ? Dim : `${I & number}` extends keyof S ? S[`${I & number}` & keyof S] : Dim;

/** With another dimension on an axis (counted from the start); all unknown where the axis is. */
export type With<S extends Dims, I, D> =
  IsOpen<S> extends true
    ? Shape
    : Same<I, number> extends true
      ? Loose<S>
      : { -readonly [K in keyof S]: K extends `${I & number}` ? D : S[K] };

/** Without an axis (counted from the start). */
export type Without<S extends Dims, I> =
  IsOpen<S> extends true
    ? Shape
    : Same<I, number> extends true
      ? S extends readonly [unknown, ...infer Rest]
        ? Loose<Rest>
        : Shape
      : Dropped<S, I>;
type Dropped<S extends Dims, I, Before extends Dims = []> = S extends readonly [infer A, ...infer Rest]
  ? Before["length"] extends I
    ? [...Before, ...Rest]
    : Dropped<Rest, I, [...Before, A]>
  : [...Before];

/** Numpy's rule: aligned at the end, size 1 stretches. */
export type Broadcast<S extends Dims, T extends Dims> =
  Same<S, T> extends true
    ? Ok<S>
    : IsOpen<S> extends true
      ? Ok<Shape>
      : IsOpen<T> extends true
        ? Ok<Shape>
        : Aligned<S, T, [], S, T>;
type Aligned<A extends Dims, B extends Dims, R extends Dims, S, T> = A extends readonly [...infer A0, infer a]
  ? B extends readonly [...infer B0, infer b]
    ? Stretched<a, b> extends infer D
      ? IsFalse<D> extends true
        ? Err<`${Show<S>} and ${Show<T>} do not broadcast: ${Print<a>} against ${Print<b>}`>
        : Aligned<A0, B0, [D, ...R], S, T>
      : never
    : Ok<[...A, ...R]>
  : Ok<[...B, ...R]>;

/** Two shapes that must be equal: the one that says more, or `false`. */
export type Equalled<S extends Dims, T extends Dims> =
  Same<S, T> extends true
    ? S
    : IsOpen<S> extends true
      ? T
      : IsOpen<T> extends true
        ? S
        : S["length"] extends T["length"]
          ? Paired<S, T>
          : false;
type Paired<S extends Dims, T extends Dims, R extends Dims = []> = S extends readonly [infer A, ...infer S1]
  ? T extends readonly [infer B, ...infer T1]
    ? Clash<A, B> extends true
      ? false
      : Paired<S1, T1, [...R, Agreed<A, B>]>
    : false
  : R;

/** The product of the literal sizes, and the symbols that are left; undefined where a dimension is unknown. */
export type Product<S extends Dims, N = 1, Symbols extends Dims = []> = S extends readonly [infer A, ...infer Rest]
  ? IsWide<A> extends true
    ? undefined
    : A extends string
      ? Product<Rest, N, [...Symbols, A]>
      : Product<Rest, Mul<N, A>, Symbols>
  : { readonly size: N; readonly symbols: Symbols };

/** The sum of one axis over several shapes. */
export type SumOf<D extends Dims, N = 0> = D extends readonly [infer A, ...infer Rest] ? SumOf<Rest, Add<N, A>> : N;
