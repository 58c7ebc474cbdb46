// Shapes of layers: windows over pictures, and attention over heads.
import type { Dim } from "../../ir/type.ts";
import type { Add, Clash, ExactDiv, FloorDiv, IsFalse, IsLess, IsSize, IsWide, Mul, Print, Show, Sub } from "./dims.ts";
import type { Err, Ok } from "./result.ts";

/** Rank-4 tensors: pictures [batch, channels, height, width] or heads [batch, heads, tokens, channels]. */
export type Rank4 = readonly [Dim, Dim, Dim, Dim];
/** Token streams [batch, tokens, channels]. */
export type Rank3 = readonly [Dim, Dim, Dim];
/** Rows and columns, or one number for both. */
export type PerAxis = number | readonly [number, number];

type Rows<P> = P extends readonly [infer R, unknown] ? R : P;
type Columns<P> = P extends readonly [unknown, infer C] ? C : P;

/** Positions of a window: floor((size + 2 padding - reach) / stride) + 1; `false` where it does not fit. */
type Positions<Size, Kernel, Stride, Padding, Dilation> =
  Sub<Add<Size, Mul<2, Padding>>, Reach<Kernel, Dilation>> extends infer Span
    ? IsFalse<Span> extends true
      ? false
      : Add<FloorDiv<Span, Stride>, 1>
    : never;
type Reach<Kernel, Dilation> = Add<Mul<Sub<Kernel, 1>, Dilation>, 1>;

/** x [batch, channels, height, width] under a window; `Out` channels. */
export type Window<S extends Rank4, Out, Kernel, Stride, Padding, Dilation> =
  Positions<S[2], Rows<Kernel>, Rows<Stride>, Rows<Padding>, Rows<Dilation>> extends infer H
    ? Positions<S[3], Columns<Kernel>, Columns<Stride>, Columns<Padding>, Columns<Dilation>> extends infer W
      ? IsFalse<H> extends true
        ? TooLarge<Reach<Rows<Kernel>, Rows<Dilation>>, S>
        : IsFalse<W> extends true
          ? TooLarge<Reach<Columns<Kernel>, Columns<Dilation>>, S>
          : Ok<[S[0], Out, H, W]>
      : never
    : never;
type TooLarge<Size, S> = Err<`a window reaching over ${Print<Size>} does not fit ${Show<S>}`>;

/** Channels that are shared out evenly; an unknown number of parts is not checked, whatever the channels are. */
export type Divides<Channels, Parts, What extends string> =
  IsWide<Parts> extends true
    ? Ok<[]>
    : ExactDiv<Channels, Parts> extends infer Each
      ? IsFalse<Each> extends true
        ? Err<`${Print<Channels>} channels do not divide into ${Print<Parts>} ${What}`>
        : Ok<[]>
      : never;

export type Upsample<S extends Rank4, Factor> = Ok<[S[0], S[1], Mul<S[2], Rows<Factor>>, Mul<S[3], Columns<Factor>>]>;

/** [batch, tokens, heads * channels] -> [batch, heads, tokens, channels] */
export type SplitHeads<S extends Rank3, Heads> =
  IsWide<Heads> extends true
    ? Ok<[S[0], Heads, S[1], number]>
    : ExactDiv<S[2], Heads> extends infer Each
      ? IsFalse<Each> extends true
        ? Err<`${Print<S[2]>} channels do not divide into ${Print<Heads>} heads`>
        : Ok<[S[0], Heads, S[1], Each]>
      : never;

/** A key of [batch, key heads, keys, channels]; `heads` is a multiple of its heads. */
export type Keys<Query extends Rank4, Key extends Rank4> =
  Clash<Query[0], Key[0]> extends true
    ? Err<`attention: query is of batch ${Print<Query[0]>} but key of ${Print<Key[0]>}`>
    : Clash<Query[3], Key[3]> extends true
      ? Err<`attention: query has ${Print<Query[3]>} channels but key has ${Print<Key[3]>} (${Show<Query>} and ${Show<Key>})`>
      : ExactDiv<Query[1], Key[1]> extends infer Each
        ? IsFalse<Each> extends true
          ? Err<`attention: ${Print<Query[1]>} query heads do not divide among ${Print<Key[1]>} key heads`>
          : Ok<[]>
        : never;

/** A value of [batch, key heads, keys, any channels]. */
export type Values<Query extends Rank4, Key extends Rank4, Value extends Rank4> = true extends
  | Clash<Query[0], Value[0]>
  | Clash<Key[1], Value[1]>
  | Clash<Key[2], Value[2]>
  ? Err<`attention: value is ${Show<Value>} but key is ${Show<Key>}`>
  : Ok<[Query[0], Query[1], Query[2], Value[3]]>;

/** Tables [tokens, pairs]: a row a token, at most half as many pairs as a head has channels. */
export type Rotary<S extends Rank4, Table extends readonly [Dim, Dim]> =
  Clash<Table[0], S[2]> extends true
    ? Err<`rotaryEmbedding: the tables have ${Print<Table[0]>} tokens but x has ${Print<S[2]>}`>
    : IsSize<Table[1]> extends true
      ? IsLess<S[3], Mul<2, Table[1]>> extends true
        ? Err<`rotaryEmbedding: tables of ${Print<Table[1]>} pairs do not fit ${Print<S[3]>} head channels`>
        : Ok<[]>
      : Ok<[]>;
