// The result's shape of every op on shapes, and what it refuses: `infer` of src/ir/ops, in types.
// test/types/rules.test.ts compares the two on random shapes.
import type { Dim, Shape } from "../../ir/type.ts";
import type {
  Add,
  Agreed,
  Box,
  Clash,
  ExactDiv,
  FloorDiv,
  IsFalse,
  IsLess,
  IsSize,
  IsWide,
  Print,
  Same,
  Show,
  Sub,
  Unknown,
} from "./dims.ts";
import type { Dims, Err, Ok } from "./result.ts";
import type { At, AxisError, AxisOf, Equalled, IsOpen, Loose, Product, With, Without } from "./shapes.ts";

/** Last axis of lhs against the last but one of rhs; leading axes equal lhs's, or rhs is one matrix. */
export type MatMul<S extends Dims, T extends Dims> =
  IsOpen<S> extends true
    ? Ok<Shape>
    : IsOpen<T> extends true
      ? Ok<Shape>
      : S extends readonly [...infer Lead, infer M, infer K]
        ? T extends readonly [...infer Lead2, infer K2, infer N]
          ? Clash<K, K2> extends true
            ? Err<`matmul: lhs has ${Print<K>} columns but rhs has ${Print<K2>} rows (${Show<S>} times ${Show<T>})`>
            : Lead2 extends readonly []
              ? Ok<[...Lead, M, N]>
              : Equalled<Lead, Lead2> extends infer L extends Dims
                ? Ok<[...L, M, N]>
                : Err<`matmul: leading axes differ (${Show<S>} times ${Show<T>})`>
          : Err<`matmul: rhs needs at least 2 axes, got ${Show<T>}`>
        : Err<`matmul: lhs needs at least 2 axes, got ${Show<S>}`>;

/** The last axis becomes `out`. */
export type Linear<S extends Dims, Out> =
  IsOpen<S> extends true
    ? Ok<Shape>
    : S extends readonly [...infer Lead, unknown]
      ? Ok<[...Lead, Out]>
      : Err<"linear: the input needs at least 1 axis, got []">;

/** Equal numbers of elements; one size of the target may be -1. Unknown dimensions are not cancelled. */
export type Reshape<S extends Dims, T extends Dims> =
  IsOpen<T> extends true
    ? Ok<Shape>
    : IsOpen<S> extends true
      ? Ok<Filled<T, Dim>>
      : WithoutOpen<T> extends infer Given extends Dims
        ? Given["length"] extends T["length"]
          ? Reshaped<S, T, Product<S>, Product<T>>
          : OpenSize<Product<S>, Product<Given>, S> extends infer D
            ? IsFalse<D> extends true
              ? Err<`reshape: ${Show<S>} does not divide into ${ShowTarget<T>}`>
              : Ok<Filled<T, D>>
            : never
        : Err<`reshape: ${ShowTarget<T>} has more than one -1`>;

/** The target without its -1, or `false` where it has two. */
type WithoutOpen<T extends Dims, Before extends Dims = [], Found = false> = T extends readonly [infer A, ...infer Rest]
  ? Same<A, -1> extends true
    ? Found extends true
      ? false
      : WithoutOpen<Rest, Before, true>
    : WithoutOpen<Rest, [...Before, A], Found>
  : Before;

/** The target with a dimension in place of its -1. */
type Filled<T extends Dims, D> = { -readonly [K in keyof T]: Same<T[K], -1> extends true ? D : T[K] };
type ShowTarget<T extends Dims> = Show<T>;

type Reshaped<S extends Dims, T extends Dims, P, Q> = P extends { size: infer N; symbols: infer A extends Dims }
  ? Q extends { size: infer M; symbols: infer B extends Dims }
    ? Clash<N, M> extends true
      ? ElementsDiffer<S, T>
      : Cancelled<A, B> extends []
        ? Ok<[...T]>
        : ElementsDiffer<S, T>
    : Ok<[...T]>
  : Ok<[...T]>;
type ElementsDiffer<
  S extends Dims,
  T extends Dims,
> = Err<`reshape: ${Show<S>} and ${Show<T>} have different numbers of elements`>;

/** Elements over those of the given dimensions, symbol by symbol; `false` where that is not whole. */
type OpenSize<P, Q, S extends Dims> = P extends { size: infer N; symbols: infer A extends Dims }
  ? Q extends { size: infer M; symbols: infer B extends Dims }
    ? Cancelled<A, B> extends infer Left extends Dims
      ? ExactDiv<N, M> extends infer D
        ? Left extends readonly []
          ? D
          : IsFalse<D> extends true
            ? false
            : Left extends readonly [infer Symbol]
              ? Same<D, 1> extends true
                ? Symbol
                : Dim
              : Dim
        : never
      : false
    : Dim
  : S extends readonly number[]
    ? Q extends { symbols: readonly [unknown, ...unknown[]] }
      ? Dim
      : number
    : Dim;

/** The symbols of A that are not in B; `false` where B has one that A has not. */
type Cancelled<A extends Dims, B extends Dims> = B extends readonly [infer Symbol, ...infer Rest]
  ? Removed<A, Symbol> extends infer Left extends Dims
    ? Cancelled<Left, Rest>
    : false
  : A;
type Removed<A extends Dims, Symbol, Before extends Dims = []> = A extends readonly [infer First, ...infer Rest]
  ? Same<First, Symbol> extends true
    ? [...Before, ...Rest]
    : Removed<Rest, Symbol, [...Before, First]>
  : false;

/** Result axis i is the operand's axis perm[i]. */
export type Transpose<S extends Dims, Perm extends Dims> =
  IsOpen<S> extends true
    ? Ok<IsOpen<Perm> extends true ? Shape : Loose<Perm>>
    : IsOpen<Perm> extends true
      ? Ok<Loose<S>>
      : Perm["length"] extends S["length"]
        ? Permuted<S, Perm> extends infer R extends Dims
          ? Ok<R>
          : BadPerm<S, Perm>
        : BadPerm<S, Perm>;
type BadPerm<S, Perm> = Err<`transpose: ${Show<Perm>} does not order the axes of ${Show<S>}`>;
type Permuted<S extends Dims, Perm extends Dims, Seen = never, R extends Dims = []> = Perm extends readonly [
  infer A,
  ...infer Rest,
]
  ? AxisOf<S, A> extends infer I
    ? I extends number
      ? number extends I
        ? Permuted<S, Rest, Seen, [...R, Dim]>
        : I extends Seen
          ? false
          : Permuted<S, Rest, Seen | I, [...R, At<S, I>]>
      : false
    : never
  : R;

/** Repetition of S to exactly T. */
export type Expand<S extends Dims, T extends Dims> =
  IsOpen<S> extends true ? Ok<[...T]> : IsOpen<T> extends true ? Ok<Shape> : Fits<S, T, S, T>;
type Fits<A extends Dims, B extends Dims, S extends Dims, T extends Dims> = A extends readonly [...infer A0, infer a]
  ? B extends readonly [...infer B0, infer b]
    ? Box<a> extends Box<1>
      ? Fits<A0, B0, S, T>
      : Clash<a, b> extends true
        ? Err<`expand: ${Show<S>} does not stretch to ${Show<T>}: ${Print<a>} against ${Print<b>}`>
        : Fits<A0, B0, S, T>
    : Err<`expand: ${Show<S>} has more axes than ${Show<T>}`>
  : Ok<[...T]>;

/** Parts laid end to end on an axis; all other axes agree. */
export type Concat<Parts extends Dims, A> = Parts extends readonly [infer S extends Dims, ...infer Rest]
  ? AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : IsOpen<Parts> extends true
        ? Ok<With<S, I, Unknown<At<S, I>>>>
        : Joined<S, Rest, I>
    : never
  : Ok<Shape>;
type Joined<S extends Dims, Rest extends Dims, I> = Rest extends readonly [infer T extends Dims, ...infer More]
  ? IsOpen<S> extends true
    ? Ok<Shape>
    : IsOpen<T> extends true
      ? Ok<Shape>
      : Same<I, number> extends true
        ? Ok<Loose<S>>
        : T["length"] extends S["length"]
          ? Differing<S, T, I> extends infer K
            ? Box<K> extends Box<never>
              ? Joined<
                  { [J in keyof S]: J extends `${I & number}` ? Add<S[J], At<T, I>> : Agreed<S[J], T[J & keyof T]> },
                  More,
                  I
                >
              : Err<`concat on axis ${I & number}: ${Show<S>} and ${Show<T>} differ on axis ${K & string} (${Print<S[K & keyof S]>} against ${Print<T[K & keyof T]>})`>
            : never
          : Err<`concat on axis ${I & number}: ${Show<S>} and ${Show<T>} differ in rank`>
  : Ok<{ -readonly [J in keyof S]: S[J] }>;
/** The first axis other than I on which the two are known to differ; never where there is none. */
type Differing<
  S extends Dims,
  T extends Dims,
  I,
  A extends Dims = S,
  B extends Dims = T,
  Seen extends Dims = [],
> = A extends readonly [infer a, ...infer A1]
  ? B extends readonly [infer b, ...infer B1]
    ? Seen["length"] extends I
      ? Differing<S, T, I, A1, B1, [...Seen, a]>
      : Clash<a, b> extends true
        ? `${Seen["length"]}`
        : Differing<S, T, I, A1, B1, [...Seen, a]>
    : never
  : never;

/** Elements start, start + step, ... below end; negative ends count from the back. */
export type Slice<S extends Dims, A, Start, End, Step> =
  AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : IsOpen<S> extends true
        ? Ok<Shape>
        : Same<I, number> extends true
          ? Ok<Loose<S>>
          : Sliced<S, I, A, At<S, I>, Start, End, Step>
    : never;
type Sliced<S extends Dims, I, A, Size, Start, End, Step> =
  FromBack<Size, Start> extends infer From
    ? FromBack<Size, Box<End> extends Box<undefined> ? Size : End> extends infer To
      ? IsOutside<Size, From, To> extends true
        ? Err<`slice: ${Print<From>}:${Print<To>} is outside axis ${A & number} of ${Show<S>}`>
        : Ok<With<S, I, Steps<To, From, Step>>>
      : never
    : never;
type FromBack<Size, Place> =
  IsWide<Place> extends true
    ? Unknown<Size, Place>
    : Place extends number
      ? `${Place}` extends `-${infer N extends number}`
        ? Sub<Size, N>
        : Place
      : Place;
type IsOutside<Size, From, To> =
  IsFalse<From> extends true
    ? true
    : IsFalse<To> extends true
      ? true
      : IsSize<From> extends true
        ? IsSize<To> extends true
          ? IsLess<To, From> extends true
            ? true
            : IsSize<Size> extends true
              ? IsLess<Size, To>
              : false
          : false
        : false;
/** ceil((to - from) / step) */
type Steps<To, From, Step> =
  Same<Step, 1> extends true ? Sub<To, From> : FloorDiv<Add<Sub<To, From>, Sub<Step, 1>>, Step>;

/** One position of an axis, which disappears. */
export type Take<S extends Dims, Index, A> =
  AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : IsOutside<At<S, I>, FromBack<At<S, I>, Index>, Add<FromBack<At<S, I>, Index>, 1>> extends true
        ? Err<`take: position ${Index & number} is outside axis ${A & number} of ${Show<S>}`>
        : Ok<Without<S, I>>
    : never;

/** Equal parts of an axis. */
export type Split<S extends Dims, Parts, A> =
  AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : ExactDiv<At<S, I>, Parts> extends infer D
        ? IsFalse<D> extends true
          ? Err<`split: ${Print<At<S, I>>} elements do not split into ${Parts & number} equal parts`>
          : Ok<With<S, I, D>>
        : never
    : never;
