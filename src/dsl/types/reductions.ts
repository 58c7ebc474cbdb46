// Shapes of reductions, gathers and what else works along an axis: `infer` of src/ir/ops, in types.
import type { Shape } from "../../ir/type.ts";
import type { Add, Box, IsFalse, IsLess, IsSize, IsWide, Print, Same, Show, Sub } from "./dims.ts";
import type { Dims, Err, Ok } from "./result.ts";
import type { At, AxisError, AxisOf, Equalled, IsOpen, Loose, With, Without } from "./shapes.ts";

/** One axis, or several, folded away or kept with size 1. */
export type Reduce<S extends Dims, Axes, Keep> =
  IsWide<Keep> extends true
    ? Ok<Shape>
    : Axes extends Dims
      ? IsOpen<S> extends true
        ? Ok<Shape>
        : IsOpen<Axes> extends true
          ? Ok<Keep extends true ? Loose<S> : Shape>
          : ReduceAll<S, Axes, Keep>
      : AxisOf<S, Axes> extends infer I
        ? IsFalse<I> extends true
          ? AxisError<S, Axes>
          : Ok<Keep extends true ? With<S, I, 1> : Without<S, I>>
        : never;

/** `Folded` is the union of the axes seen, as positions from the start. */
type ReduceAll<S extends Dims, Axes extends Dims, Keep, Folded = never, All = Axes> = Axes extends readonly [
  infer A,
  ...infer Rest,
]
  ? AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : Same<I, number> extends true
        ? Ok<Keep extends true ? Loose<S> : Shape>
        : I extends Folded
          ? Err<`axis ${A & number} is named twice in ${Show<All>}`>
          : ReduceAll<S, Rest, Keep, Folded | I, All>
    : never
  : Ok<Left<S, Folded, Keep>>;
type Left<S extends Dims, Folded, Keep, Seen extends Dims = [], R extends Dims = []> = S extends readonly [
  infer A,
  ...infer Rest,
]
  ? Left<
      Rest,
      Folded,
      Keep,
      [...Seen, A],
      Seen["length"] extends Folded ? (Keep extends true ? [...R, 1] : R) : [...R, A]
    >
  : R;

/** The k best along an axis. */
export type TopK<S extends Dims, K, A> =
  AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : IsSize<K> extends true
        ? IsLess<At<S, I>, K> extends true
          ? Err<`topK: k is ${Print<K>} but axis ${A & number} of ${Show<S>} has ${Print<At<S, I>>} elements`>
          : Ok<With<S, I, K>>
        : Ok<With<S, I, K>>
    : never;

/** [low, high] added to each axis, negative ones cropped. */
export type Pad<S extends Dims, Amounts extends Dims> =
  IsOpen<S> extends true
    ? Ok<Shape>
    : IsOpen<Amounts> extends true
      ? Ok<Loose<S>>
      : Amounts["length"] extends S["length"]
        ? Padded<S, Amounts, S>
        : Err<`pad: ${Amounts["length"]} amounts for the axes of ${Show<S>}`>;
type Padded<S extends Dims, Amounts extends Dims, Whole, R extends Dims = []> = S extends readonly [
  infer A,
  ...infer Rest,
]
  ? Amounts extends readonly [readonly [infer Low, infer High], ...infer More]
    ? AddSigned<A, Low, High> extends infer D
      ? IsFalse<D> extends true
        ? Err<`pad: axis ${R["length"] & number} of ${Show<Whole>} is cropped below size 0`>
        : Padded<Rest, More, Whole, [...R, D]>
      : never
    : Ok<Loose<R> extends infer Before extends Dims ? [...Before, ...Loose<S>] : never>
  : Ok<R>;
/** A + Low + High; what is added before what is cropped, so that no step in between is below zero. */
type AddSigned<A, Low, High> =
  Cropped<Low> extends infer L
    ? IsFalse<L> extends true
      ? Cropped<High> extends infer H
        ? IsFalse<H> extends true
          ? Add<Add<A, Low>, High>
          : Sub<Add<A, Low>, H>
        : never
      : Cropped<High> extends infer H
        ? IsFalse<H> extends true
          ? Sub<Add<A, High>, L>
          : Sub<A, Add<L & number, H & number>>
        : never
    : never;
/** n of -n, else `false`. */
type Cropped<N> =
  IsWide<N> extends true ? false : `${N & number}` extends `-${infer Size extends number}` ? Size : false;

/** Slices of S along an axis at indices T; the first `Batch` axes go together. */
export type Gather<S extends Dims, T extends Dims, A, Batch> =
  AxisOf<S, A> extends infer I
    ? IsFalse<I> extends true
      ? AxisError<S, A>
      : IsOpen<S> extends true
        ? Ok<Shape>
        : IsOpen<T> extends true
          ? Ok<Shape>
          : Same<I, number> extends true
            ? Ok<Shape>
            : IsWide<Batch> extends true
              ? Ok<Shape>
              : Same<Batch, 0> extends true
                ? Ok<[...First<S, I>, ...T, ...After<S, I>]>
                : Same<Batch, I> extends true
                  ? GatherRows<S, T, I>
                  : Err<`gather: batch ${Batch & number} wants axis ${Batch & number}, got ${A & number}`>
    : never;
type GatherRows<S extends Dims, T extends Dims, I> =
  First<T, I> extends infer Rows extends Dims
    ? Equalled<First<S, I>, Rows> extends infer Shared extends Dims
      ? Ok<[...Shared, ...Tail<T, I>, ...After<S, I>]>
      : Err<`gather: the first ${I & number} axes of ${Show<S>} and ${Show<T>} differ`>
    : never;

/** The axes before position I, from it on, and behind it. */
type First<S extends Dims, I, R extends Dims = []> = R["length"] extends I
  ? R
  : S extends readonly [infer A, ...infer Rest]
    ? First<Rest, I, [...R, A]>
    : R;
type Tail<S extends Dims, I, Seen extends Dims = []> = Seen["length"] extends I
  ? S
  : S extends readonly [infer A, ...infer Rest]
    ? Tail<Rest, I, [...Seen, A]>
    : [];
type After<S extends Dims, I> = Tail<S, I> extends readonly [unknown, ...infer Rest] ? Rest : [];

/** `bij,bjk->bik`: a letter is a dimension. */
export type Einsum<Spec, S extends Dims, T extends Dims> = string extends Spec
  ? Ok<Shape>
  : Spec extends `${infer L},${infer R}->${infer Out}`
    ? IsOpen<S> extends true
      ? Ok<Shape>
      : IsOpen<T> extends true
        ? Ok<Shape>
        : Letters<L, S, [], "left"> extends infer Sizes
          ? Sizes extends Dims
            ? Letters<R, T, Sizes, "right"> extends infer All
              ? All extends Dims
                ? Chosen<Out, All>
                : All
              : never
            : Sizes
          : never
    : Err<`einsum: "${Spec & string}" is not an einsum of two operands`>;
/** [letter, dimension] pairs, or the problem. */
type Letters<
  Term,
  S extends Dims,
  Sizes extends Dims,
  Side extends string,
  Rest = Term,
  Axes extends Dims = S,
> = Rest extends `${infer Letter}${infer More}`
  ? Axes extends readonly [infer D, ...infer Others]
    ? SizeOf<Sizes, Letter> extends infer Seen
      ? Box<Seen> extends Box<never>
        ? Letters<Term, S, [...Sizes, [Letter, D]], Side, More, Others>
        : Agree<Seen, D> extends true
          ? Letters<Term, S, [...Sizes, [Letter, D]], Side, More, Others>
          : Err<`einsum: ${Letter} is ${Print<Seen>} and ${Print<D>}`>
      : never
    : Err<`einsum: term ${Term & string} does not fit ${Side} ${Show<S>}`>
  : Axes extends readonly []
    ? Sizes
    : Err<`einsum: term ${Term & string} does not fit ${Side} ${Show<S>}`>;
type Agree<A, B> = Same<A, B> extends true ? true : IsWide<A> extends true ? true : IsWide<B>;
/** The dimension of a letter, the one that says most; never where it has none. */
type SizeOf<Sizes extends Dims, Letter, Found = never> = Sizes extends readonly [[infer L, infer D], ...infer Rest]
  ? Same<L, Letter> extends true
    ? SizeOf<Rest, Letter, Box<Found> extends Box<never> ? D : IsWide<Found> extends true ? D : Found>
    : SizeOf<Rest, Letter, Found>
  : Found;
type Chosen<Out, Sizes extends Dims, R extends Dims = []> = Out extends `${infer Letter}${infer More}`
  ? SizeOf<Sizes, Letter> extends infer D
    ? Box<D> extends Box<never>
      ? Err<`einsum: ${Letter} of the result is in neither operand`>
      : Chosen<More, Sizes, [...R, D]>
    : never
  : Ok<R>;

/** [start, start + 1, ...] has as many elements as there are indices, each a row of `depth`. */
export type OneHot<S extends Dims, Depth> = IsOpen<S> extends true ? Ok<Shape> : Ok<[...S, Depth]>;
