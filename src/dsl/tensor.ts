import { compileError } from "../ir/diagnostic.ts";
import type { Value } from "../ir/graph.ts";
import { type Dim, type DType, formatType, type Shape } from "../ir/type.ts";
import { record, scopedName } from "./trace.ts";
import type { Dims, Mutable } from "./types/result.ts";

/**
 * A value of the model being traced. Typed by dtype and shape, `Tensor<"f32", ["batch", 197, 384]>`: literal sizes and
 * symbols where they are known, `number` or `Dim` where they are not, `Shape` where even the rank is not.
 */
export class Tensor<out D extends DType = DType, out S extends Dims = Shape> {
  readonly value: Value;
  constructor(value: Value) {
    this.value = value;
  }
  get dtype(): D {
    return this.value.type.dtype as D;
  }
  get shape(): S {
    return this.value.type.shape as unknown as S;
  }
  get rank(): number {
    return this.value.type.shape.length;
  }
  /** Size of an axis; negative counts from the end. */
  dim(axis: number): Dim {
    return this.value.type.shape[axisOf(this.value, axis)] as Dim;
  }
}

/** A tensor of a type that the signature promises. */
export const wrap = <D extends DType, S extends Dims>(value: Value): Tensor<D, S> => new Tensor<D, S>(value);

/** A non-negative axis; `bad-axis` where it is none of the tensor's. */
export function axisOf(value: Value, axis: number): number {
  const rank = value.type.shape.length;
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank)
    throw compileError(
      "bad-axis",
      `axis ${axis} is outside ${formatType(value.type)}`,
      record((b) => ({ loc: b.loc })),
    );
  return at;
}

/** An input of the model. Named symbols ("batch") are dimensions too. */
export function input<D extends DType, const S extends Shape>(
  name: string,
  dtype: D,
  shape: S,
): Tensor<NoInfer<D>, Mutable<S>> {
  return record((b) => wrap(b.input(name, { dtype, shape: [...shape] })));
}

/** A weight, named below the scope in force. */
export function parameter<const S extends Shape, D extends DType = "f32">(
  name: string,
  shape: S,
  dtype?: D,
): Tensor<NoInfer<D>, Mutable<S>> {
  return record((b) => wrap(b.parameter(scopedName(name), { dtype: dtype ?? "f32", shape: [...shape] })));
}

/** Fixed numbers, row-major. */
export function constant<D extends DType, const S extends readonly number[]>(
  dtype: D,
  shape: S,
  numbers: ArrayLike<number>,
): Tensor<NoInfer<D>, Mutable<S>> {
  return record((b) => wrap(b.constant({ dtype, shape: [...shape], numbers })));
}

/** One number everywhere. */
export function full<D extends DType, const S extends Shape>(
  dtype: D,
  shape: S,
  value: number,
): Tensor<NoInfer<D>, Mutable<S>> {
  return record((b) => wrap(b.full({ dtype, shape: [...shape] }, value)));
}

/** 0, 1, 2, ... */
export function arange<const N extends Dim>(count: N): Tensor<"i32", [N]> {
  return record((b) => wrap(b.iota({ shape: [count], axis: 0 })));
}
