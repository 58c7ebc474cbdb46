import { compileError } from "../../ir/diagnostic.ts";
import type { Value } from "../../ir/graph.ts";
import type { FloatType, Shape } from "../../ir/type.ts";
import { add } from "../elementwise.ts";
import { transpose } from "../shape.ts";
import { parameter, type Tensor, wrap } from "../tensor.ts";
import { record, scope } from "../trace.ts";
import type { Divides } from "../types/layers.ts";
import type { OneHot } from "../types/reductions.ts";
import type { Arg, Dims, Res } from "../types/result.ts";
import type { Linear } from "../types/rules.ts";
import type { At } from "../types/shapes.ts";

/** A size that weights depend on, which therefore cannot be a symbol. */
export function sizeOf(x: Tensor, axis: number, what: string): number {
  const size = x.dim(axis);
  if (typeof size !== "number")
    throw compileError("shape-mismatch", `${what} needs a known size, but it is ${size} in [${x.shape.join(",")}]`, {
      loc: record((b) => b.loc),
    });
  return size;
}

/** x W^T + b over the last axis; weight [out, in], bias [out]. */
export function linear<D extends FloatType, S extends Dims, const N extends number>(
  name: string,
  x: Arg<Linear<S, N>, Tensor<D, S>>,
  options: { out: N; bias?: boolean },
): Tensor<D, Res<Linear<S, N>>>;
export function linear(name: string, x: Tensor<FloatType>, options: { out: number; bias?: boolean }): Tensor {
  return record((b) =>
    scope(name, () => {
      const weight = parameter("weight", [options.out, sizeOf(x, -1, "linear's input")], x.dtype);
      const product = record(() => wrap<FloatType, Shape>(b.matmul(x.value, transpose(weight, [1, 0]).value)));
      if (options.bias === false) return product;
      return add(product, parameter("bias", [options.out], x.dtype));
    }),
  );
}

/** weight [channels], bias [channels] over the last axis. */
export function layerNorm<D extends FloatType, S extends Dims>(
  name: string,
  x: Tensor<D, S>,
  options?: { epsilon?: number },
): Tensor<D, S>;
export function layerNorm(name: string, x: Tensor<FloatType>, options: { epsilon?: number } = {}): Tensor {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, -1, "layerNorm's last axis");
      const [gain, bias] = [parameter("weight", [channels], x.dtype), parameter("bias", [channels], x.dtype)];
      return record(() => wrap(b.layerNorm(x.value, gain.value, bias.value, { epsilon: options.epsilon ?? 1e-5 })));
    }),
  );
}

/** weight [channels] over the last axis. */
export function rmsNorm<D extends FloatType, S extends Dims>(
  name: string,
  x: Tensor<D, S>,
  options?: { epsilon?: number },
): Tensor<D, S>;
export function rmsNorm(name: string, x: Tensor<FloatType>, options: { epsilon?: number } = {}): Tensor {
  return record((b) =>
    scope(name, () => {
      const gain = parameter("weight", [sizeOf(x, -1, "rmsNorm's last axis")], x.dtype);
      return record(() => wrap(b.rmsNorm(x.value, gain.value, { epsilon: options.epsilon ?? 1e-6 })));
    }),
  );
}

/** x: [batch, channels, ...]; weight and bias [channels]. */
export function groupNorm<D extends FloatType, S extends Dims, G extends number>(
  name: string,
  x: Tensor<D, S>,
  options: { groups: Arg<Divides<At<S, 1>, G, "groups">, G>; epsilon?: number },
): Tensor<D, S>;
export function groupNorm(name: string, x: Tensor<FloatType>, options: { groups: number; epsilon?: number }): Tensor {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, 1, "groupNorm's channels");
      const [gain, bias] = [parameter("weight", [channels], x.dtype), parameter("bias", [channels], x.dtype)];
      const { groups, epsilon = 1e-5 } = options;
      return record(() => wrap(b.groupNorm(x.value, gain.value, bias.value, { groups, epsilon })));
    }),
  );
}

/** Inference form; weight, bias, running_mean and running_var [channels]. */
export function batchNorm<D extends FloatType, S extends Dims>(
  name: string,
  x: Tensor<D, S>,
  options?: { epsilon?: number },
): Tensor<D, S>;
export function batchNorm(name: string, x: Tensor<FloatType>, options: { epsilon?: number } = {}): Tensor {
  return record((b) =>
    scope(name, () => {
      const channels = sizeOf(x, 1, "batchNorm's channels");
      const [gain, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(
        (part) => parameter(part, [channels], x.dtype).value,
      ) as [Value, Value, Value, Value];
      const { epsilon = 1e-5 } = options;
      return record(() => wrap(b.batchNorm(x.value, gain, bias, mean, variance, { epsilon })));
    }),
  );
}

/** Rows of a table [vocabulary, channels] by i32 ids: [...] -> [..., channels]. */
export function embedding<S extends Dims, const N extends number>(
  name: string,
  ids: Tensor<"i32", S>,
  options: { vocabulary: number; channels: N },
): Tensor<"f32", Res<OneHot<S, N>>>;
export function embedding(name: string, ids: Tensor<"i32">, options: { vocabulary: number; channels: number }): Tensor {
  return record((b) =>
    scope(name, () => {
      const table = parameter("weight", [options.vocabulary, options.channels]);
      return record(() => wrap(b.embedding(table.value, ids.value)));
    }),
  );
}
