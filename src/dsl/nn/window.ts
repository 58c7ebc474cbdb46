import type { FloatType } from "../../ir/type.ts";
import { add } from "../elementwise.ts";
import { reshape } from "../shape.ts";
import { parameter, type Tensor, wrap } from "../tensor.ts";
import { record, scope } from "../trace.ts";
import type { Divides, PerAxis, Rank4, Upsample, Window } from "../types/layers.ts";
import type { Arg, Res } from "../types/result.ts";
import { sizeOf } from "./layers.ts";

/** The window of a convolution and its output channels; sizes are per axis [height, width], or one for both. */
export interface ConvOptions {
  out: number;
  /** Rows and columns, or one number for both. */
  kernel: PerAxis;
  stride?: PerAxis;
  /** Rows and columns on both sides. */
  padding?: PerAxis;
  dilation?: PerAxis;
  groups?: number;
  bias?: boolean;
}
const pair = (x: PerAxis): readonly [number, number] => (typeof x === "number" ? [x, x] : x);

/** x: [batch, in, height, width]; weight [out, in / groups, rows, columns], bias [out]. */
export function conv2d<
  D extends FloatType,
  S extends Rank4,
  N extends number,
  const K extends PerAxis,
  const Stride extends PerAxis = 1,
  const Padding extends PerAxis = 0,
  const Dilation extends PerAxis = 1,
  G extends number = 1,
>(
  name: string,
  x: Tensor<D, S>,
  options: {
    out: Arg<Divides<N, G, "groups">, N>;
    kernel: Arg<Window<S, N, K, Stride, Padding, Dilation>, K>;
    stride?: Stride;
    padding?: Padding;
    dilation?: Dilation;
    groups?: Arg<Divides<S[1], G, "groups">, G>;
    bias?: boolean;
  },
): Tensor<D, Res<Window<S, N, K, Stride, Padding, Dilation>>>;
export function conv2d(name: string, x: Tensor<FloatType, Rank4>, options: ConvOptions): Tensor {
  return record((b) =>
    scope(name, () => {
      const groups = options.groups ?? 1;
      const [rows, columns] = pair(options.kernel);
      const inputs = sizeOf(x, 1, "conv2d's channels");
      const weight = parameter("weight", [options.out, inputs / groups, rows, columns], x.dtype);
      const [vertical, horizontal] = pair(options.padding ?? 0);
      const y = record(() =>
        wrap<FloatType, Rank4>(
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
      return add(y, reshape(parameter("bias", [options.out], x.dtype), [options.out, 1, 1]));
    }),
  );
}

/** The window of a pooling; sizes are per axis [height, width], or one for both. */
export interface PoolOptions {
  kernel: PerAxis;
  /** As the kernel, where it is left out. */
  stride?: PerAxis;
  padding?: PerAxis;
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

/**
 * Greatest element of each window: [batch, channels, height, width] -> the last two by window and stride. Fails with
 * `rank-mismatch` and `bad-attribute`.
 */
export function maxPool2d<
  D extends FloatType,
  S extends Rank4,
  const K extends PerAxis,
  const Stride extends PerAxis = K,
  const Padding extends PerAxis = 0,
>(
  x: Tensor<D, S>,
  options: { kernel: Arg<Window<S, S[1], K, Stride, Padding, 1>, K>; stride?: Stride; padding?: Padding },
): Tensor<D, Res<Window<S, S[1], K, Stride, Padding, 1>>>;
export function maxPool2d(x: Tensor, options: PoolOptions): Tensor {
  return record((b) => wrap(b.maxPool2d(x.value, poolAttrs(options))));
}

/**
 * Mean of each window: [batch, channels, height, width] -> the last two by window and stride; padding counts as zeros
 * only with `countPadding`. Fails with `rank-mismatch` and `bad-attribute`.
 */
export function avgPool2d<
  D extends FloatType,
  S extends Rank4,
  const K extends PerAxis,
  const Stride extends PerAxis = K,
  const Padding extends PerAxis = 0,
>(
  x: Tensor<D, S>,
  options: {
    kernel: Arg<Window<S, S[1], K, Stride, Padding, 1>, K>;
    stride?: Stride;
    padding?: Padding;
    countPadding?: boolean;
  },
): Tensor<D, Res<Window<S, S[1], K, Stride, Padding, 1>>>;
export function avgPool2d(x: Tensor, options: PoolOptions & { countPadding?: boolean }): Tensor {
  const { countPadding = true } = options;
  return record((b) => wrap(b.avgPool2d(x.value, { ...poolAttrs(options), countPadding })));
}

type Mode = "nearest" | "bilinear";
type Coordinates = "halfPixel" | "alignCorners" | "asymmetric";

/** Pictures [batch, channels, height, width] resampled to another height and width. */
export function resize2d<D extends FloatType, S extends Rank4, const Size extends readonly [number, number]>(
  x: Tensor<D, S>,
  size: Size,
  mode: Mode = "bilinear",
  coordinates?: Coordinates,
): Tensor<D, [S[0], S[1], Size[0], Size[1]]> {
  const attrs = { size, mode, coordinates: coordinates ?? (mode === "nearest" ? "asymmetric" : "halfPixel") } as const;
  return record((b) => wrap(b.resize2d(x.value, attrs)));
}

/** Pictures resampled to `factor` times their height and width. */
export function upsample2d<D extends FloatType, S extends Rank4, const Factor extends PerAxis>(
  x: Tensor<D, S>,
  factor: Factor,
  mode?: Mode,
  coordinates?: Coordinates,
): Tensor<D, Res<Upsample<S, Factor>>>;
export function upsample2d(
  x: Tensor<FloatType, Rank4>,
  factor: PerAxis,
  mode: Mode = "nearest",
  coordinates?: Coordinates,
): Tensor {
  return record(() => {
    const [rows, columns] = pair(factor);
    const size = [sizeOf(x, 2, "upsample2d's height") * rows, sizeOf(x, 3, "upsample2d's width") * columns] as const;
    return resize2d(x, size, mode, coordinates);
  });
}
