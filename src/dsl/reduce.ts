import type { DType, FloatType } from "../ir/type.ts";
import { axisOf, type Tensor, wrap } from "./tensor.ts";
import { record } from "./trace.ts";
import type { Reduce } from "./types/reductions.ts";
import type { Arg, Dims, NumberType, Res } from "./types/result.ts";
import type { WantAxis } from "./types/shapes.ts";

type ReductionName = "reduceSum" | "reduceMean" | "reduceMax" | "reduceMin" | "reduceProd" | "logSumExp";
function reduction<Allowed extends DType>(name: ReductionName) {
  function reduce<
    D extends Allowed,
    S extends Dims,
    const Axes extends number | readonly number[],
    Keep extends boolean = false,
  >(x: Tensor<D, S>, axis: Arg<Reduce<S, Axes, Keep>, Axes>, keepDims?: Keep): Tensor<D, Res<Reduce<S, Axes, Keep>>>;
  function reduce(x: Tensor, axis: number | readonly number[], keepDims = false): Tensor {
    return record((b) => {
      const axes = (typeof axis === "number" ? [axis] : [...axis]).map((a) => axisOf(x.value, a)).sort((m, n) => m - n);
      return wrap(b[name](x.value, { axes, keepDims }));
    });
  }
  return reduce;
}
/**
 * Sum over an axis or several, negative ones from the end; they go, or stay as 1 with `keepDims`. Fails with `bad-
 * axis`.
 */
export const sum = reduction<NumberType>("reduceSum");
/**
 * Mean, of floats over an axis or several, negative ones from the end; they go, or stay as 1 with `keepDims`. Fails
 * with `bad-axis`.
 */
export const mean = reduction<FloatType>("reduceMean");
/**
 * Greatest element over an axis or several, negative ones from the end; they go, or stay as 1 with `keepDims`. Fails
 * with `bad-axis`.
 */
export const amax = reduction<NumberType>("reduceMax");
/**
 * Least element over an axis or several, negative ones from the end; they go, or stay as 1 with `keepDims`. Fails with
 * `bad-axis`.
 */
export const amin = reduction<NumberType>("reduceMin");
/**
 * Product over an axis or several, negative ones from the end; they go, or stay as 1 with `keepDims`. Fails with `bad-
 * axis`.
 */
export const prod = reduction<NumberType>("reduceProd");
/**
 * log of the sum of e^x, of floats, without overflow over an axis or several, negative ones from the end; they go, or
 * stay as 1 with `keepDims`. Fails with `bad-axis`.
 */
export const logSumExp = reduction<FloatType>("logSumExp");

/** Where the greatest element along an axis is, the first of equals: i32, the axis gone. Fails with `bad-axis`. */
export function argMax<S extends Dims, A extends number>(
  x: Tensor<NumberType, S>,
  axis: Arg<Reduce<S, A, false>, A>,
): Tensor<"i32", Res<Reduce<S, A, false>>>;
export function argMax(x: Tensor, axis: number): Tensor {
  return record((b) => wrap(b.argMax(x.value, { axis: axisOf(x.value, axis) })));
}

/**
 * Running sum along an axis; `exclusive` leaves the element itself out, `reverse` starts at the end. Fails with `bad-
 * axis`.
 */
export function cumsum<D extends NumberType, S extends Dims, A extends number>(
  x: Tensor<D, S>,
  axis: Arg<WantAxis<S, A>, A>,
  options?: { exclusive?: boolean; reverse?: boolean },
): Tensor<D, S>;
export function cumsum(x: Tensor, axis: number, options: { exclusive?: boolean; reverse?: boolean } = {}): Tensor {
  return record((b) => wrap(b.cumsum(x.value, { axis: axisOf(x.value, axis), ...options })));
}

/** e^x divided by its sum along an axis, the last by default. Fails with `bad-axis`. */
export function softmax<D extends FloatType, S extends Dims, A extends number = -1>(
  x: Tensor<D, S>,
  axis?: Arg<WantAxis<S, A>, A>,
): Tensor<D, S>;
export function softmax(x: Tensor, axis = -1): Tensor {
  return record((b) => wrap(b.softmax(x.value, { axis: axisOf(x.value, axis) })));
}
/** log of the softmax along an axis, the last by default. Fails with `bad-axis`. */
export function logSoftmax<D extends FloatType, S extends Dims, A extends number = -1>(
  x: Tensor<D, S>,
  axis?: Arg<WantAxis<S, A>, A>,
): Tensor<D, S>;
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return record((b) => wrap(b.logSoftmax(x.value, { axis: axisOf(x.value, axis) })));
}
