import { compileError } from "../../ir/diagnostic.ts";
import type { Dim, DType, FloatType } from "../../ir/type.ts";
import { reshape, slice, transpose } from "../shape.ts";
import { type Tensor, wrap } from "../tensor.ts";
import { record } from "../trace.ts";
import type { Mul } from "../types/dims.ts";
import type { Keys, Rank3, Rank4, Rotary, SplitHeads, Values } from "../types/layers.ts";
import type { Arg, Both, Res } from "../types/result.ts";
import { linear, sizeOf } from "./layers.ts";

/** How `nn.attention` weighs keys; all of it has defaults. */
export interface AttendOptions<D extends DType> {
  /** Of the products; default 1 / sqrt(channels). */
  scale?: number;
  /** bool [1 or batch, 1 or heads, queries, keys]: true where a key may be read. */
  mask?: Tensor<"bool", Rank4>;
  /** Added to the scaled scores, shaped as the mask. */
  bias?: Tensor<D, Rank4>;
  /** [batch, keys]: ln of how many patches each key stands for. */
  logSize?: Tensor<D, readonly [Dim, Dim]>;
  causal?: boolean;
  /** Keys before and after the query that are seen. */
  left?: number;
  right?: number;
  past?: Dim;
}

/** Scaled dot-product attention: query [batch, heads, queries, channels], key and value [batch, key heads, keys, channels]. */
export function attention<D extends FloatType, S extends Rank4, T extends Rank4, U extends Rank4>(
  query: Tensor<D, S>,
  key: Arg<Keys<S, T>, Tensor<NoInfer<D>, T>>,
  value: Arg<Values<S, T, U>, Tensor<NoInfer<D>, U>>,
  options?: AttendOptions<NoInfer<D>>,
): Tensor<D, Res<Both<Keys<S, T>, Values<S, T, U>>>>;
export function attention(
  query: Tensor<FloatType, Rank4>,
  key: Tensor<FloatType, Rank4>,
  value: Tensor<FloatType, Rank4>,
  options: AttendOptions<FloatType> = {},
): Tensor {
  return record((b) => {
    const { scale, mask, bias, logSize, ...flags } = options;
    const given = { mask, bias, logSize };
    const extras = (["mask", "bias", "logSize"] as const).filter((extra) => given[extra] !== undefined);
    const operands = [query, key, value, ...extras.map((extra) => given[extra] as Tensor)].map((t) => t.value);
    const standard = 1 / Math.sqrt(sizeOf(query, 3, "attention's channels"));
    const [out] = b.attention(operands, { extras, scale: scale ?? standard, ...flags });
    return wrap(out);
  });
}

/** [batch, tokens, heads * channels] -> [batch, heads, tokens, channels] */
export function splitHeads<D extends DType, S extends Rank3, H extends number>(
  x: Tensor<D, S>,
  heads: Arg<SplitHeads<S, H>, H>,
): Tensor<D, Res<SplitHeads<S, H>>>;
export function splitHeads(x: Tensor<DType, Rank3>, heads: number): Tensor {
  return record((b) => {
    const width = sizeOf(x, 2, "splitHeads' channels");
    if (width % heads !== 0)
      throw compileError("shape-mismatch", `${width} channels do not divide into ${heads} heads`, { loc: b.loc });
    return transpose(reshape(x, [x.dim(0), x.dim(1), heads, width / heads]), [0, 2, 1, 3]);
  });
}

/** [batch, heads, tokens, channels] -> [batch, tokens, heads * channels] */
export function mergeHeads<D extends DType, S extends Rank4>(x: Tensor<D, S>): Tensor<D, [S[0], S[2], Mul<S[1], S[3]>]>;
export function mergeHeads(x: Tensor<DType, Rank4>): Tensor {
  return record(() => {
    const swapped = transpose(x, [0, 2, 1, 3]);
    return reshape(swapped, [x.dim(0), x.dim(2), -1]);
  });
}

/**
 * Query, key and value heads from one projection, as timm lays them out: name.weight [3 channels, channels],
 * each [batch, heads, tokens, channels / heads].
 */
export function queryKeyValue<D extends FloatType, S extends Rank3, H extends number>(
  name: string,
  x: Tensor<D, S>,
  options: { heads: Arg<SplitHeads<S, H>, H>; bias?: boolean },
): readonly [
  query: Tensor<D, Res<SplitHeads<S, H>>>,
  key: Tensor<D, Res<SplitHeads<S, H>>>,
  value: Tensor<D, Res<SplitHeads<S, H>>>,
];
export function queryKeyValue(
  name: string,
  x: Tensor<FloatType, Rank3>,
  options: { heads: number; bias?: boolean },
): readonly [query: Tensor, key: Tensor, value: Tensor] {
  return record((b) => {
    const channels = sizeOf(x, 2, "queryKeyValue's channels");
    const { heads } = options;
    if (channels % heads !== 0)
      throw compileError("shape-mismatch", `${channels} channels do not divide into ${heads} heads`, { loc: b.loc });
    const packed = linear(name, x, { out: 3 * channels, bias: options.bias ?? true });
    const split = reshape(packed, [x.dim(0), x.dim(1), 3, heads, channels / heads]);
    const ordered = transpose(split, [2, 0, 3, 1, 4]);
    const part = (i: number) =>
      reshape(slice(ordered, { axis: 0, start: i, end: i + 1 }), [x.dim(0), heads, x.dim(1), channels / heads]);
    return [part(0), part(1), part(2)];
  });
}

/** Rotates head channels by position; cos and sin [tokens, channels / 2]. */
export function rotaryEmbedding<
  D extends FloatType,
  S extends Rank4,
  T extends readonly [Dim, Dim],
  U extends readonly [Dim, Dim],
>(
  x: Tensor<D, S>,
  cos: Arg<Rotary<S, T>, Tensor<NoInfer<D>, T>>,
  sin: Arg<Rotary<S, U>, Tensor<NoInfer<D>, U>>,
  interleaved?: boolean,
): Tensor<D, S>;
export function rotaryEmbedding(x: Tensor, cos: Tensor, sin: Tensor, interleaved = false): Tensor {
  return record((b) => wrap(b.rotaryEmbedding(x.value, cos.value, sin.value, { interleaved })));
}
