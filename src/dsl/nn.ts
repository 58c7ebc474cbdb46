import { compileError } from "../ir/diagnostic.ts";
import type { Value } from "../ir/graph.ts";
import type { Dim, DType, FloatType, Shape } from "../ir/type.ts";
import { add, parameter, reshape, type SameRank, slice, Tensor, transpose } from "./tensor.ts";
import { record, scope } from "./trace.ts";

/** Rank-4 tensors: pictures [batch, channels, height, width] or heads [batch, heads, tokens, channels]. */
export type Rank4 = readonly [Dim, Dim, Dim, Dim];
/** Token streams [batch, tokens, channels]. */
export type Rank3 = readonly [Dim, Dim, Dim];

/** A size that weights depend on, which therefore cannot be a symbol. */
function sizeOf(x: Tensor, axis: number, what: string): number {
  const size = x.dim(axis);
  if (typeof size !== "number")
    throw compileError("shape-mismatch", `${what} needs a known size, but it is ${size} in [${x.shape.join(",")}]`, {
      loc: record((b) => b.loc),
    });
  return size;
}

/** x W^T + b over the last axis; weight [out, in], bias [out]. */
export function linear<D extends FloatType, S extends Shape>(
  name: string,
  x: Tensor<D, S>,
  options: { out: number; bias?: boolean },
): Tensor<D, SameRank<S>> {
  return record((b) =>
    scope(name, () => {
      const weight = parameter("weight", [options.out, sizeOf(x, -1, "linear's input")], x.dtype);
      const product = record(() => new Tensor<D, SameRank<S>>(b.matmul(x.value, transpose(weight, [1, 0]).value)));
      if (options.bias === false) return product;
      return add<D, SameRank<S>, readonly [Dim]>(product, parameter("bias", [options.out], x.dtype)) as never;
    }),
  );
}

/** weight [channels], bias [channels] over the last axis. */
export function layerNorm<D extends FloatType, S extends Shape>(
  name: string,
  x: Tensor<D, S>,
  options: { epsilon?: number } = {},
): Tensor<D, S> {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, -1, "layerNorm's last axis");
      const [gain, bias] = [parameter("weight", [channels], x.dtype), parameter("bias", [channels], x.dtype)];
      return record(
        () => new Tensor<D, S>(b.layerNorm(x.value, gain.value, bias.value, { epsilon: options.epsilon ?? 1e-5 })),
      );
    }),
  );
}

/** weight [channels] over the last axis. */
export function rmsNorm<D extends FloatType, S extends Shape>(
  name: string,
  x: Tensor<D, S>,
  options: { epsilon?: number } = {},
): Tensor<D, S> {
  return record((b) =>
    scope(name, () => {
      const gain = parameter("weight", [sizeOf(x, -1, "rmsNorm's last axis")], x.dtype);
      return record(() => new Tensor<D, S>(b.rmsNorm(x.value, gain.value, { epsilon: options.epsilon ?? 1e-6 })));
    }),
  );
}

/** x: [batch, channels, ...]; weight and bias [channels]. */
export function groupNorm<D extends FloatType, S extends Shape>(
  name: string,
  x: Tensor<D, S>,
  options: { groups: number; epsilon?: number },
): Tensor<D, S> {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, 1, "groupNorm's channels");
      const [gain, bias] = [parameter("weight", [channels], x.dtype), parameter("bias", [channels], x.dtype)];
      const { groups, epsilon = 1e-5 } = options;
      return record(() => new Tensor<D, S>(b.groupNorm(x.value, gain.value, bias.value, { groups, epsilon })));
    }),
  );
}

/** Inference form; weight, bias, running_mean and running_var [channels]. */
export function batchNorm<D extends FloatType, S extends Shape>(
  name: string,
  x: Tensor<D, S>,
  options: { epsilon?: number } = {},
): Tensor<D, S> {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, 1, "batchNorm's channels");
      const [gain, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(
        (part) => parameter(part, [channels], x.dtype).value,
      ) as [Value, Value, Value, Value];
      const { epsilon = 1e-5 } = options;
      return record(() => new Tensor<D, S>(b.batchNorm(x.value, gain, bias, mean, variance, { epsilon })));
    }),
  );
}

export interface ConvOptions {
  out: number;
  /** Rows and columns, or one number for both. */
  kernel: number | readonly [number, number];
  stride?: number | readonly [number, number];
  /** Rows and columns on both sides. */
  padding?: number | readonly [number, number];
  dilation?: number | readonly [number, number];
  groups?: number;
  bias?: boolean;
}
const pair = (x: number | readonly [number, number]): readonly [number, number] => (typeof x === "number" ? [x, x] : x);

/** x: [batch, in, height, width]; weight [out, in / groups, rows, columns], bias [out]. */
export function conv2d<D extends FloatType>(name: string, x: Tensor<D, Rank4>, options: ConvOptions): Tensor<D, Rank4> {
  return record((b) =>
    scope(name, () => {
      const groups = options.groups ?? 1;
      const [rows, columns] = pair(options.kernel);
      const weight = parameter(
        "weight",
        [options.out, sizeOf(x, 1, "conv2d's channels") / groups, rows, columns],
        x.dtype,
      );
      const [vertical, horizontal] = pair(options.padding ?? 0);
      const y = record(
        () =>
          new Tensor<D, Rank4>(
            b.conv2d(x.value, weight.value, {
              strides: pair(options.stride ?? 1),
              padding: [
                [vertical, vertical],
                [horizontal, horizontal],
              ],
              dilations: pair(options.dilation ?? 1),
              groups,
            }),
          ),
      );
      if (options.bias === false) return y;
      const bias = reshape(parameter("bias", [options.out], x.dtype), [options.out, 1, 1]);
      return add(y, bias) as Tensor<D, Rank4>;
    }),
  );
}

export interface PoolOptions {
  kernel: number | readonly [number, number];
  stride?: number | readonly [number, number];
  padding?: number | readonly [number, number];
}
const poolAttrs = ({ kernel, stride, padding = 0 }: PoolOptions) => {
  const [vertical, horizontal] = pair(padding);
  return {
    kernel: pair(kernel),
    strides: pair(stride ?? kernel),
    padding: [
      [vertical, vertical],
      [horizontal, horizontal],
    ] as const,
  };
};
export function maxPool2d<D extends FloatType>(x: Tensor<D, Rank4>, options: PoolOptions): Tensor<D, Rank4> {
  return record((b) => new Tensor(b.maxPool2d(x.value, poolAttrs(options))));
}
export function avgPool2d<D extends FloatType>(
  x: Tensor<D, Rank4>,
  options: PoolOptions & { countPadding?: boolean },
): Tensor<D, Rank4> {
  return record(
    (b) => new Tensor(b.avgPool2d(x.value, { ...poolAttrs(options), countPadding: options.countPadding ?? true })),
  );
}
export function resize2d<D extends FloatType>(
  x: Tensor<D, Rank4>,
  size: readonly [number, number],
  mode: "nearest" | "bilinear" = "bilinear",
  coordinates?: "halfPixel" | "alignCorners" | "asymmetric",
): Tensor<D, Rank4> {
  const attrs = { size, mode, coordinates: coordinates ?? (mode === "nearest" ? "asymmetric" : "halfPixel") } as const;
  return record((b) => new Tensor(b.resize2d(x.value, attrs)));
}

/** Rows of a table [vocabulary, channels] by i32 ids. */
export function embedding(
  name: string,
  ids: Tensor<"i32", readonly [Dim, Dim]>,
  options: { vocabulary: number; channels: number },
): Tensor<"f32", Rank3> {
  return record((b) =>
    scope(name, () => {
      const table = parameter("weight", [options.vocabulary, options.channels]);
      return record(() => new Tensor(b.embedding(table.value, ids.value)));
    }),
  );
}

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
export function attention<D extends FloatType>(
  query: Tensor<D, Rank4>,
  key: Tensor<D, Rank4>,
  value: Tensor<D, Rank4>,
  options: AttendOptions<D> = {},
): Tensor<D, Rank4> {
  return record((b) => {
    const { scale, mask, bias, logSize, ...flags } = options;
    const given = { mask, bias, logSize };
    const extras = (["mask", "bias", "logSize"] as const).filter((extra) => given[extra] !== undefined);
    const operands = [query, key, value, ...extras.map((extra) => given[extra] as Tensor)].map((t) => t.value);
    const standard = 1 / Math.sqrt(sizeOf(query, 3, "attention's channels"));
    const [out] = b.attention(operands, { extras, scale: scale ?? standard, ...flags });
    return new Tensor<D, Rank4>(out);
  });
}

/** [batch, tokens, heads * channels] -> [batch, heads, tokens, channels] */
export function splitHeads<D extends DType>(x: Tensor<D, Rank3>, heads: number): Tensor<D, Rank4> {
  return record((b) => {
    const width = sizeOf(x, 2, "splitHeads' channels");
    if (width % heads !== 0)
      throw compileError("shape-mismatch", `${width} channels do not divide into ${heads} heads`, { loc: b.loc });
    return transpose(reshape(x, [x.dim(0), x.dim(1), heads, width / heads]), [0, 2, 1, 3]);
  });
}

/** [batch, heads, tokens, channels] -> [batch, tokens, heads * channels] */
export function mergeHeads<D extends DType>(x: Tensor<D, Rank4>): Tensor<D, Rank3> {
  return record(() => {
    const swapped = transpose(x, [0, 2, 1, 3]);
    return reshape(swapped, [x.dim(0), x.dim(2), -1]);
  });
}

/**
 * Query, key and value heads from one projection, as timm lays them out: name.weight [3 channels, channels],
 * each [batch, heads, tokens, channels / heads].
 */
export function queryKeyValue<D extends FloatType>(
  name: string,
  x: Tensor<D, Rank3>,
  options: { heads: number; bias?: boolean },
): readonly [query: Tensor<D, Rank4>, key: Tensor<D, Rank4>, value: Tensor<D, Rank4>] {
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
export function rotaryEmbedding<D extends FloatType>(
  x: Tensor<D, Rank4>,
  cos: Tensor<D, readonly [Dim, Dim]>,
  sin: Tensor<D, readonly [Dim, Dim]>,
  interleaved = false,
): Tensor<D, Rank4> {
  return record((b) => new Tensor(b.rotaryEmbedding(x.value, cos.value, sin.value, { interleaved })));
}
