import { compileError } from "../ir/diagnostic.ts";
import { type DType, formatType, type Shape } from "../ir/type.ts";
import { type Tensor, wrap } from "./tensor.ts";
import { record } from "./trace.ts";
import type { IsFalse, Show } from "./types/dims.ts";
import type { Arg, Dims, Err, Mutable, Ok, Res } from "./types/result.ts";
import type { Equalled } from "./types/shapes.ts";

/** A shape that a tensor is claimed to have: every dimension that is known on both sides is the same. */
export type Assume<S extends Dims, T extends Dims> =
  Equalled<S, T> extends infer R
    ? IsFalse<R> extends true
      ? Err<`assume: ${Show<S>} is never ${Show<T>}`>
      : Ok<T>
    : never;

/**
 * The same tensor with a shape that the author knows and the type checker does not; nothing is computed. Fails with
 * `shape-mismatch` when the model is traced and x has another shape.
 */
export function assume<D extends DType, S extends Dims, const T extends Shape>(
  x: Tensor<D, S>,
  shape: Arg<Assume<S, Mutable<T>>, T>,
): Tensor<D, Res<Assume<S, Mutable<T>>>>;
export function assume(x: Tensor, shape: Shape): Tensor {
  return record((b) => {
    if (x.rank !== shape.length || x.shape.some((dim, axis) => dim !== shape[axis]))
      throw compileError(
        "shape-mismatch",
        `assumed to be [${shape.join(",")}], but the tensor is ${formatType(x.value.type)}`,
        { loc: b.loc },
      );
    return wrap(x.value);
  });
}

/**
 * Promises that a block gives a tensor of the dtype and shape that it is given, so that literal dimensions survive it:
 * its body is checked with whatever sizes its parameter declares. Fails with `shape-mismatch` when the model is traced
 * and the promise does not hold.
 */
export function keepsShape<D extends DType, S extends Dims, Rest extends readonly unknown[]>(
  block: (x: Tensor<D, S>, ...rest: Rest) => Tensor<D>,
): <E extends D, T extends S>(x: Tensor<E, T>, ...rest: Rest) => Tensor<E, T>;
export function keepsShape(
  block: (x: Tensor, ...rest: readonly unknown[]) => Tensor,
): (x: Tensor, ...rest: readonly unknown[]) => Tensor {
  return (x, ...rest) => {
    const y = block(x, ...rest);
    const [before, after] = [formatType(x.value.type), formatType(y.value.type)];
    if (before !== after)
      throw compileError("shape-mismatch", `a block that keeps the shape got ${before} but gives ${after}`, {
        loc: record((b) => b.loc),
      });
    return y;
  };
}
