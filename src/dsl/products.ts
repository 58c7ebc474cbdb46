import type { Dim, DType } from "../ir/type.ts";
import { axisOf, type Tensor, wrap } from "./tensor.ts";
import { record } from "./trace.ts";
import type { Einsum, Gather, OneHot, TopK } from "./types/reductions.ts";
import type { Arg, Both, Dims, NumberType, Res, SameDType } from "./types/result.ts";
import type { MatMul } from "./types/rules.ts";
import type { WantAxis } from "./types/shapes.ts";

/** Matrix product over the last two axes; leading axes of rhs equal lhs's, or rhs is one matrix. */
export function matmul<A extends NumberType, S extends Dims, B extends DType, T extends Dims>(
  lhs: Tensor<A, S>,
  rhs: Arg<Both<SameDType<A, B>, MatMul<S, T>>, Tensor<B, T>>,
): Tensor<A, Res<MatMul<S, T>>>;
export function matmul(lhs: Tensor, rhs: Tensor): Tensor {
  return record((b) => wrap(b.matmul(lhs.value, rhs.value)));
}

/** Einsum of two operands: `bij,bjk->bik`. */
export function einsum<Spec extends string, A extends NumberType, S extends Dims, B extends DType, T extends Dims>(
  spec: Spec,
  lhs: Tensor<A, S>,
  rhs: Arg<Both<SameDType<A, B>, Einsum<Spec, S, T>>, Tensor<B, T>>,
): Tensor<A, Res<Einsum<Spec, S, T>>>;
export function einsum(spec: string, lhs: Tensor, rhs: Tensor): Tensor {
  return record((b) => wrap(b.contract(lhs.value, rhs.value, { spec })));
}

/** Slices of x along an axis at i32 indices; the first `batch` axes go together. */
export function gather<D extends DType, S extends Dims, T extends Dims, A extends number, Batch extends number = 0>(
  x: Tensor<D, S>,
  indices: Tensor<"i32", T>,
  axis: Arg<Gather<S, T, A, Batch>, A>,
  batch?: Batch,
): Tensor<D, Res<Gather<S, T, A, Batch>>>;
export function gather(x: Tensor, indices: Tensor, axis: number, batch = 0): Tensor {
  return record((b) => wrap(b.gather(x.value, indices.value, { axis: axisOf(x.value, axis), batch })));
}

/** 1 at each index and 0 beside it, along a new last axis of `depth`. */
export function oneHot<S extends Dims, const N extends Dim>(
  indices: Tensor<"i32", S>,
  depth: N,
): Tensor<"f32", Res<OneHot<S, N>>>;
export function oneHot(indices: Tensor, depth: Dim): Tensor {
  return record((b) => wrap(b.oneHot(indices.value, { depth })));
}

/** The k largest, the largest first; indices say where each came from. */
export function topK<D extends NumberType, S extends Dims, K extends number, A extends number = -1>(
  x: Tensor<D, S>,
  k: Arg<TopK<S, K, A>, K>,
  axis?: A,
): {
  values: Tensor<D, Res<TopK<S, K, A>>>;
  indices: Tensor<"i32", Res<TopK<S, K, A>>>;
};
export function topK(x: Tensor, k: number, axis = -1): { values: Tensor; indices: Tensor } {
  return record((b) => {
    const [values, indices] = b.topK(x.value, { axis: axisOf(x.value, axis), k });
    return { values: wrap(values), indices: wrap(indices) };
  });
}

/** Stable sort; indices say where each element came from. */
export function sort<D extends NumberType, S extends Dims, A extends number = -1>(
  x: Tensor<D, S>,
  axis?: Arg<WantAxis<S, A>, A>,
  descending?: boolean,
): { values: Tensor<D, S>; indices: Tensor<"i32", S> };
export function sort(x: Tensor, axis = -1, descending = false): { values: Tensor; indices: Tensor } {
  return record((b) => {
    const [values, indices] = b.sort(x.value, { axis: axisOf(x.value, axis), descending });
    return { values: wrap(values), indices: wrap(indices) };
  });
}

/** Applies an op by name: composites of one's own, or table ops without a function here. */
export function apply(
  op: string,
  operands: readonly Tensor[],
  attrs: Readonly<Record<string, unknown>> = {},
): readonly Tensor[] {
  return record((b) =>
    b
      .make(
        op,
        operands.map((t) => t.value),
        attrs,
      )
      .map((value) => wrap(value)),
  );
}
