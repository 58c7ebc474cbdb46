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
export const sum = reduction<NumberType>("reduceSum");
export const mean = reduction<FloatType>("reduceMean");
export const amax = reduction<NumberType>("reduceMax");
export const amin = reduction<NumberType>("reduceMin");
export const prod = reduction<NumberType>("reduceProd");
export const logSumExp = reduction<FloatType>("logSumExp");

export function argMax<S extends Dims, A extends number>(
  x: Tensor<NumberType, S>,
  axis: Arg<Reduce<S, A, false>, A>,
): Tensor<"i32", Res<Reduce<S, A, false>>>;
export function argMax(x: Tensor, axis: number): Tensor {
  return record((b) => wrap(b.argMax(x.value, { axis: axisOf(x.value, axis) })));
}

export function cumsum<D extends NumberType, S extends Dims, A extends number>(
  x: Tensor<D, S>,
  axis: Arg<WantAxis<S, A>, A>,
  options?: { exclusive?: boolean; reverse?: boolean },
): Tensor<D, S>;
export function cumsum(x: Tensor, axis: number, options: { exclusive?: boolean; reverse?: boolean } = {}): Tensor {
  return record((b) => wrap(b.cumsum(x.value, { axis: axisOf(x.value, axis), ...options })));
}

export function softmax<D extends FloatType, S extends Dims, A extends number = -1>(
  x: Tensor<D, S>,
  axis?: Arg<WantAxis<S, A>, A>,
): Tensor<D, S>;
export function softmax(x: Tensor, axis = -1): Tensor {
  return record((b) => wrap(b.softmax(x.value, { axis: axisOf(x.value, axis) })));
}
export function logSoftmax<D extends FloatType, S extends Dims, A extends number = -1>(
  x: Tensor<D, S>,
  axis?: Arg<WantAxis<S, A>, A>,
): Tensor<D, S>;
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return record((b) => wrap(b.logSoftmax(x.value, { axis: axisOf(x.value, axis) })));
}
