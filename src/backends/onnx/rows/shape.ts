import { isStatic, sameShape, subtractDims } from "../../../ir/dim.ts";
import type { Value } from "../../../ir/graph.ts";
import type { PadAttrs, SliceAttrs } from "../../../ir/ops/shape.ts";
import type { Dim, DType } from "../../../ir/type.ts";
import { asAll, asFirst, type Row } from "../row.ts";
import type { Site } from "../site.ts";

const toTheEnd = Number.MAX_SAFE_INTEGER; // beyond any axis; Slice clamps it

export const reshape: Row<{ readonly shape: readonly Dim[] }> = {
  since: 14,
  indices: asFirst,
  emit: (at) => reshaped(at, at.view(0), at.typeOf(0).shape, at.attrs.shape),
};

/**
 * Symbolic axes survive without arithmetic where they can: an axis at its old place is copied (0), one other is what is
 * left (-1). Only further ones are computed from the inputs' sizes.
 */
export function reshaped(at: Site, x: string, from: readonly Dim[], to: readonly Dim[]): string {
  if (sameShape(from, to)) return x;
  return at.make("Reshape", [x, reshapeTarget(at, from, to)], to.includes(0) ? { allowzero: 1 } : {});
}

function reshapeTarget(at: Site, from: readonly Dim[], to: readonly Dim[]): string {
  if (to.includes(0)) return at.body.dims(to);
  const copied = to.map((dim, axis) => (isStatic(dim) || dim !== from[axis] ? dim : 0));
  const left = copied.filter((dim) => !isStatic(dim));
  if (left.length === 0) return at.ints(copied as number[]);
  if (left.length > 1 && at.plan.profile === "ort-webgpu") return at.body.dims(to);
  const inferred = copied.findIndex((dim) => !isStatic(dim));
  return at.body.dims(copied.map((dim, axis) => (axis === inferred ? -1 : dim)));
}

export const transpose: Row<{ readonly perm: readonly number[] }> = {
  since: 13,
  indices: asFirst,
  emit: (at) => transposed(at, at.view(0), at.attrs.perm),
};

export const transposed = (at: Site, x: string, perm: readonly number[]): string =>
  perm.every((from, to) => from === to) ? x : at.make("Transpose", [x], { perm: [...perm] });

/** The short form; whoever needs the whole tensor expands it. */
export const broadcast: Row<{ readonly shape: readonly Dim[]; readonly axes: readonly number[] }> = {
  since: 13,
  indices: asFirst,
  emit: (at) => {
    const { shape, axes } = at.attrs;
    // Where no axis is longer than 1 there is no short form, and the rank must be right.
    const whole = at.plan.repeatedAxes(at.node.results[0] as Value).length === 0;
    if (whole && at.typeOf(0).shape.length === 0) return reshaped(at, at.view(0), [], shape);
    return whole ? (axes.length === 0 ? at.view(0) : at.unsqueeze(at.view(0), axes)) : at.withOnes(at.view(0), axes);
  },
};

export const slice: Row<Required<SliceAttrs>> = {
  since: 13,
  indices: asFirst,
  emit: (at) => {
    const { axis, start, end, step } = at.attrs;
    const size = at.typeOf(0).shape[axis] as Dim;
    return sliced(at, at.view(0), { axis, start, end, step, size });
  },
};

export function sliced(
  at: Site,
  x: string,
  { axis, start, end, step, size }: Required<SliceAttrs> & { readonly size: Dim },
): string {
  if (start === 0 && end === size && step === 1) return x;
  // A symbolic place is told from the end of the axis where that is a known distance.
  const place = (dim: Dim): string => {
    if (isStatic(dim)) return at.ints([dim]);
    const fromEnd = subtractDims(dim, size);
    return isStatic(fromEnd) && fromEnd < 0 ? at.ints([fromEnd]) : at.body.dim(dim);
  };
  const stop = end === size ? at.ints([toTheEnd]) : place(end);
  return at.make("Slice", [x, place(start), stop, at.ints([axis]), at.ints([step])]);
}

export const reverse: Row<{ readonly axes: readonly number[] }> = {
  since: 13,
  indices: asFirst,
  emit: (at) => {
    const { axes } = at.attrs;
    if (axes.length === 0) return at.view(0);
    const each = (value: number) => at.ints(axes.map(() => value));
    return at.make("Slice", [at.view(0), each(-1), each(-toTheEnd), at.ints(axes), each(-1)]);
  },
};

export const pad: Row<Required<PadAttrs>> = {
  since: 13,
  emit: (at) => {
    const { low, high, mode, value } = at.attrs;
    const added = [...low, ...high].map((n) => Math.max(0, n));
    const cropped = [...low, ...high].map((n) => Math.min(0, n));
    const dtype = at.dtype();
    let x = at.x(0);
    // Cropped last: a reflection may reach into what is cropped at the other end.
    for (const [pads, how] of [
      [added, mode],
      [cropped, "constant"],
    ] as const)
      if (pads.some((n) => n !== 0)) x = padded(at, x, pads, { mode: how, value, dtype });
    return x;
  },
};

export function padded(
  at: Site,
  x: string,
  pads: readonly number[],
  {
    mode,
    value,
    dtype,
  }: { readonly mode: "constant" | "reflect" | "edge"; readonly value: number; readonly dtype: DType },
): string {
  const work = at.workType("Pad", dtype);
  const fill = mode === "constant" ? [at.scalar(value, work)] : [];
  const y = at.make("Pad", [at.body.cast(x, dtype, work), at.ints(pads), ...fill], { mode });
  return at.body.cast(y, work, dtype);
}

export const concat: Row<{ readonly axis: number }> = {
  since: 13,
  indices: asAll,
  emit: (at) => {
    const all = at.node.operands.every((value) => at.plan.isIndex(value));
    const parts = at.node.operands.map((_, i) => (all ? at.view(i) : at.x(i)));
    return parts.length === 1 ? (parts[0] as string) : at.make("Concat", parts, { axis: at.attrs.axis });
  },
};

export const iota: Row<{ readonly shape: readonly Dim[]; readonly axis: number; readonly dtype: DType }> = {
  since: 13,
  emit: (at) => {
    const { shape, axis } = at.attrs;
    const dtype = at.attrs.dtype === "bf16" ? "f32" : at.attrs.dtype;
    const others = shape.map((_, a) => a).filter((a) => a !== axis);
    const counted = at.count(shape[axis] as Dim, dtype);
    const whole = at.plan.repeatedAxes(at.node.results[0] as Value).length === 0;
    return others.length === 0 ? counted : whole ? at.unsqueeze(counted, others) : at.withOnes(counted, others);
  },
};
