import { compileError } from "../ir/diagnostic.ts";
import { divideDims, productOfDims, subtractDims } from "../ir/dim.ts";
import { type Dim, type DType, formatType, type Shape } from "../ir/type.ts";
import { commonShape, stretch } from "./broadcast.ts";
import { axisOf, type Tensor, wrap } from "./tensor.ts";
import { record } from "./trace.ts";
import type { Pad } from "./types/reductions.ts";
import type { Arg, Both, Dims, Mutable, Res, SameDTypes } from "./types/result.ts";
import type { Concat, Expand, Reshape, Slice, Split, Take, Transpose } from "./types/rules.ts";
import type { WantAxis } from "./types/shapes.ts";

/** Another shape for the same elements; one size may be -1 and is worked out. */
export function reshape<D extends DType, S extends Dims, const T extends Shape>(
  x: Tensor<D, S>,
  shape: Arg<Reshape<S, Mutable<T>>, T>,
): Tensor<D, Res<Reshape<S, Mutable<T>>>>;
export function reshape(x: Tensor, shape: Shape): Tensor {
  return record((b) => {
    const open = shape.indexOf(-1);
    const wanted = [...shape];
    if (open >= 0) {
      const rest = divideDims(productOfDims(x.shape), productOfDims(shape.filter((_, i) => i !== open)));
      if (rest === undefined || shape.filter((d) => d === -1).length > 1)
        throw compileError("shape-mismatch", `${formatType(x.value.type)} does not divide into [${shape.join(",")}]`, {
          loc: b.loc,
        });
      wanted[open] = rest;
    }
    return wrap(b.reshape(x.value, { shape: wanted }));
  });
}

/** Axes in another order: result axis i is x's axis perm[i]. */
export function transpose<D extends DType, S extends Dims, const P extends readonly number[]>(
  x: Tensor<D, S>,
  perm: Arg<Transpose<S, P>, P>,
): Tensor<D, Res<Transpose<S, P>>>;
export function transpose(x: Tensor, perm: readonly number[]): Tensor {
  return record((b) => wrap(b.transpose(x.value, { perm: perm.map((axis) => axisOf(x.value, axis)) })));
}

/** Repetition to a shape under numpy's rule. */
export function expand<D extends DType, S extends Dims, const T extends Shape>(
  x: Tensor<D, S>,
  shape: Arg<Expand<S, T>, T>,
): Tensor<D, Res<Expand<S, T>>>;
export function expand(x: Tensor, shape: Shape): Tensor {
  return record((b) => {
    commonShape(x.shape, shape, b.loc);
    return wrap(stretch(b, x.value, [...shape]));
  });
}

/** Elements start, start + step, ... below end of one axis; negative ends count from the back. */
export function slice<
  D extends DType,
  S extends Dims,
  A extends number,
  Start extends number = 0,
  End extends Dim | undefined = undefined,
  Step extends number = 1,
>(
  x: Tensor<D, S>,
  range: {
    axis: Arg<WantAxis<S, A>, A>;
    start?: Arg<Slice<S, A, Start, undefined, 1>, Start>;
    end?: Arg<Slice<S, A, Start, End, 1>, End>;
    step?: Step;
  },
): Tensor<D, Res<Slice<S, A, Start, End, Step>>>;
export function slice(x: Tensor, range: { axis: number; start?: number; end?: Dim; step?: number }): Tensor {
  return record((b) => {
    const axis = axisOf(x.value, range.axis);
    const size = x.shape[axis] as Dim;
    const fromBack = (at: Dim): Dim => (typeof at === "number" && at < 0 ? subtractDims(size, -at) : at);
    const start = fromBack(range.start ?? 0);
    return wrap(b.slice(x.value, { axis, start, end: fromBack(range.end ?? size), step: range.step ?? 1 }));
  });
}

/** One position of an axis, which disappears. */
export function take<D extends DType, S extends Dims, I extends number, A extends number>(
  x: Tensor<D, S>,
  index: Arg<Take<S, I, A>, I>,
  axis: Arg<WantAxis<S, A>, A>,
): Tensor<D, Res<Take<S, I, A>>>;
export function take(x: Tensor, index: number, axis: number): Tensor {
  return record((b) => {
    const at = axisOf(x.value, axis);
    const one = slice(x, index === -1 ? { axis: at, start: -1 } : { axis: at, start: index, end: index + 1 });
    return wrap(b.reshape(one.value, { shape: one.shape.filter((_, a) => a !== at) }));
  });
}

/** Equal parts along an axis. */
export function split<D extends DType, S extends Dims, P extends number, A extends number>(
  x: Tensor<D, S>,
  parts: Arg<Split<S, P, A>, P>,
  axis: Arg<WantAxis<S, A>, A>,
): Tensor<D, Res<Split<S, P, A>>>[];
export function split(x: Tensor, parts: number, axis: number): Tensor[] {
  return record((b) => {
    const size = x.dim(axis);
    if (typeof size !== "number" || size % parts !== 0)
      throw compileError("shape-mismatch", `${size} elements do not split into ${parts} equal parts`, { loc: b.loc });
    const each = size / parts;
    return Array.from({ length: parts }, (_, i) => slice(x, { axis, start: i * each, end: (i + 1) * each }));
  });
}

/** Laid end to end on an axis; the other axes agree. */
export function concat<const Parts extends readonly [Tensor, ...Tensor[]], A extends number>(
  parts: Arg<Both<SameDTypes<DTypesOf<Parts>>, Concat<ShapesOf<Parts>, A>>, Parts>,
  axis: A,
): Tensor<DTypeOf<Parts[0]>, Res<Concat<ShapesOf<Parts>, A>>>;
export function concat(parts: readonly [Tensor, ...Tensor[]], axis: number): Tensor {
  return record((b) =>
    wrap(
      b.concat(
        parts.map((p) => p.value),
        { axis: axisOf(parts[0].value, axis) },
      ),
    ),
  );
}
type ShapesOf<Parts extends Dims> = {
  -readonly [K in keyof Parts]: Parts[K] extends { readonly shape: infer S } ? S : never;
};
type DTypesOf<Parts extends Dims> = { [K in keyof Parts]: DTypeOf<Parts[K]> };
type DTypeOf<X> = X extends { readonly dtype: infer D extends DType } ? D : never;

/** Zeros (or `value`) added before and after; [low, high] per axis. */
export function pad<D extends DType, S extends Dims, const N extends readonly (readonly [number, number])[]>(
  x: Tensor<D, S>,
  amounts: Arg<Pad<S, N>, N>,
  mode?: "constant" | "reflect" | "edge",
  value?: number,
): Tensor<D, Res<Pad<S, N>>>;
export function pad(
  x: Tensor,
  amounts: readonly (readonly [number, number])[],
  mode: "constant" | "reflect" | "edge" = "constant",
  value = 0,
): Tensor {
  return record((b) =>
    wrap(b.pad(x.value, { low: amounts.map((a) => a[0]), high: amounts.map((a) => a[1]), mode, value })),
  );
}
