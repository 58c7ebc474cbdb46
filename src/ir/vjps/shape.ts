// Gradients of views: each reads elements, so its gradient puts them back.
import type { Builder } from "../builder.ts";
import { OpError } from "../diagnostic.ts";
import { isStatic, multiplyDims, subtractDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { PadAttrs, SliceAttrs } from "../ops/shape.ts";
import type { Dim } from "../type.ts";
import { type NoGradient, vjp } from "../vjp.ts";

type One = readonly [Value];

const withAxis = (shape: readonly Dim[], axis: number, dim: Dim): readonly Dim[] =>
  shape.map((d, a) => (a === axis ? dim : d));

const zeros = (b: Builder, x: Value, shape: readonly Dim[]): Value => b.full({ dtype: x.type.dtype, shape }, 0);

/** Elements back where a slice took them from, among zeros; `size` is that of the axis before. */
export function unslice(b: Builder, ct: Value, { axis, start, end, step }: Required<SliceAttrs>, size: Dim): Value {
  const { shape } = ct.type;
  let spread = ct;
  let covered: Dim = subtractDims(end, start);
  if (step > 1) {
    // Each element is followed by step - 1 zeros.
    const column = [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)];
    const gaps = zeros(b, ct, withAxis(column, axis + 1, step - 1));
    const woven = b.concat([b.reshape(ct, { shape: column }), gaps], { axis: axis + 1 });
    covered = multiplyDims(shape[axis] as Dim, step);
    spread = b.reshape(woven, { shape: withAxis(shape, axis, covered) });
  }
  const before = start === 0 ? [] : [zeros(b, ct, withAxis(shape, axis, start))];
  const left = subtractDims(subtractDims(size, start), covered);
  if (isStatic(left) && left < 0) {
    const kept = subtractDims(size, start);
    return b.concat([...before, b.slice(spread, { axis, end: kept })], { axis });
  }
  const after = left === 0 ? [] : [zeros(b, ct, withAxis(shape, axis, left))];
  return before.length + after.length === 0 ? spread : b.concat([...before, spread, ...after], { axis });
}

/** What constant padding added is cut off again, and what it cropped is 0. */
export function unpad(b: Builder, ct: Value, { low, high }: Pick<Required<PadAttrs>, "low" | "high">): Value {
  return b.pad(ct, { low: low.map((n) => -n), high: high.map((n) => -n) });
}

/** Along one axis of reflected or repeated edges every element gets the sum of its images. */
function fromImages(b: Builder, ct: Value, axis: number, size: number, low: number, mode: "reflect" | "edge"): Value {
  const out = ct.type.shape[axis] as Dim;
  if (!isStatic(out)) throw new OpError("unbound-symbol", `the gradient of ${mode} padding needs a known axis ${axis}`);
  const numbers = new Float64Array(size * out);
  for (let i = 0; i < out; i++) {
    const at = i - low;
    const from = mode === "edge" ? Math.max(0, Math.min(at, size - 1)) : size - 1 - Math.abs(size - 1 - Math.abs(at));
    numbers[from * out + i] = 1;
  }
  const images = b.constant({ dtype: ct.type.dtype, shape: [size, out], numbers });
  const letters = "abcdefgh".slice(0, ct.type.shape.length);
  const moved = letters[axis] as string;
  return b.contract(images, ct, { spec: `z${moved},${letters}->${letters.replace(moved, "z")}` });
}

const index: NoGradient = { none: "it has no operand" };

export const shapeVjps = {
  reshape: vjp((b, ct, [x]: One) => [b.reshape(ct, { shape: x.type.shape })]),
  transpose: vjp<{ perm: readonly number[] }>((b, ct, _x, { attrs: { perm } }) => [
    b.transpose(ct, { perm: perm.map((_, axis) => perm.indexOf(axis)) }),
  ]),
  broadcast: vjp<{ axes: readonly number[] }>((b, ct, _x, { attrs: { axes } }) => [
    axes.length === 0 ? ct : b.reduceSum(ct, { axes }),
  ]),
  slice: vjp<Required<SliceAttrs>>((b, ct, [x]: One, { attrs }) => [
    unslice(b, ct, attrs, x.type.shape[attrs.axis] as Dim),
  ]),
  reverse: vjp<{ axes: readonly number[] }>((b, ct, _x, { attrs: { axes } }) => [b.reverse(ct, { axes })]),
  pad: vjp<Required<PadAttrs>>((b, ct, [x]: One, { attrs }) => {
    const { mode, low, high } = attrs;
    if (mode === "constant") return [unpad(b, ct, attrs)];
    let gradient = ct;
    x.type.shape.forEach((size, axis) => {
      if (low[axis] === 0 && high[axis] === 0) return;
      if (!isStatic(size))
        throw new OpError("unbound-symbol", `the gradient of ${mode} padding needs a known axis ${axis}`);
      gradient = fromImages(b, gradient, axis, size, low[axis] as number, mode);
    });
    return [gradient];
  }),
  concat: vjp<{ axis: number }>((b, ct, parts: readonly Value[], { attrs: { axis } }) => {
    let start: Dim = 0;
    return parts.map((part) => {
      const end: Dim = addTo(start, part.type.shape[axis] as Dim);
      const own = b.slice(ct, { axis, start, end });
      start = end;
      return own;
    });
  }),
  iota: index,
} as const;

const addTo = (a: Dim, d: Dim): Dim => subtractDims(a, multiplyDims(d, -1));
