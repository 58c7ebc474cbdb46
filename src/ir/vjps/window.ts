// Gradients of windows, which are windows again: the cotangent spread by the strides under the kernel turned round, and
// the operand correlated with the cotangent.
import type { Builder } from "../builder.ts";
import { OpError } from "../diagnostic.ts";
import { isStatic, multiplyDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { Conv2dAttrs, PoolAttrs } from "../ops/window.ts";
import { type Dim, formatType } from "../type.ts";
import { like, vjp } from "../vjp.ts";
import { unpad, unslice } from "./shape.ts";

type Pair = readonly [number, number];

const sizesOf = (x: Value, what: string): Pair => {
  const sizes = x.type.shape.slice(2);
  if (!sizes.every(isStatic))
    throw new OpError(
      "unbound-symbol",
      `the gradient of a window needs a known height and width of ${what}, got ${formatType(x.type)}`,
    );
  return sizes as unknown as Pair;
};

const both = <T>(make: (axis: 0 | 1) => T): readonly [T, T] => [make(0), make(1)];

/** The kernel turned round, with inputs and outputs of each group changed about: [in, out / groups, ...]. */
function turned(b: Builder, weight: Value, groups: number): Value {
  const [out, perGroup, rows, columns] = weight.type.shape as readonly [number, number, number, number];
  const reversed = b.reverse(weight, { axes: [2, 3] });
  const grouped = b.reshape(reversed, { shape: [groups, out / groups, perGroup, rows, columns] });
  const changed = b.transpose(grouped, { perm: [0, 2, 1, 3, 4] });
  return b.reshape(changed, { shape: [groups * perGroup, out / groups, rows, columns] });
}

/** dL/dx of conv2d: windows over the cotangent, one for each element of x. */
function inputGradient(b: Builder, ct: Value, x: Value, weight: Value, a: Required<Conv2dAttrs>): Value {
  const [sizes, positions] = [sizesOf(x, "x"), sizesOf(ct, "the result")];
  const padding = both((axis): Pair => {
    const reach = ((weight.type.shape[2 + axis] as number) - 1) * (a.dilations[axis] as number);
    const low = reach - (a.padding[axis]?.[0] as number);
    const spread = (positions[axis] - 1) * (a.strides[axis] as number) + 1;
    return [low, (sizes[axis] - 1) * (a.baseDilation[axis] as number) + reach + 1 - spread - low];
  });
  return b.conv2d(ct, turned(b, weight, a.groups), {
    strides: a.baseDilation,
    padding,
    dilations: a.dilations,
    baseDilation: a.strides,
    groups: a.groups,
  });
}

const swapLeading = (b: Builder, x: Value): Value => b.transpose(x, { perm: [1, 0, 2, 3] });

/** dL/dweight of conv2d: x correlated with the cotangent, examples in the place of channels. */
function kernelGradient(b: Builder, ct: Value, x: Value, weight: Value, a: Required<Conv2dAttrs>): Value {
  const [sizes, positions] = [sizesOf(x, "x"), sizesOf(ct, "the result")];
  const padding = both((axis): Pair => {
    const low = a.padding[axis]?.[0] as number;
    const reach = ((weight.type.shape[2 + axis] as number) - 1) * (a.dilations[axis] as number);
    const spread = (sizes[axis] - 1) * (a.baseDilation[axis] as number) + 1;
    return [low, reach + (positions[axis] - 1) * (a.strides[axis] as number) + 1 - spread - low];
  });
  const gradient = b.conv2d(swapLeading(b, x), swapLeading(b, ct), {
    strides: a.dilations,
    padding,
    dilations: a.strides,
    baseDilation: a.baseDilation,
    batchGroups: a.groups,
  });
  return swapLeading(b, gradient);
}

/** Every window's cotangent on all of its elements: channels as examples of one filter of ones. */
function spreadSums(b: Builder, ct: Value, x: Value, a: Required<PoolAttrs>): Value {
  const single = (v: Value): Value => {
    const [batch, channels, height, width] = v.type.shape as readonly [Dim, Dim, Dim, Dim];
    return b.reshape(v, { shape: [multiplyDims(batch, channels), 1, height, width] });
  };
  const ones = b.full({ dtype: x.type.dtype, shape: [1, 1, ...a.kernel] }, 1);
  const attrs = { ...a, baseDilation: [1, 1], groups: 1, batchGroups: 1 };
  return b.reshape(inputGradient(b, single(ct), single(x), ones, attrs), { shape: x.type.shape });
}

/** Every window's cotangent on the first element that equals its maximum, tap by tap. */
function routeToMaximum(b: Builder, ct: Value, x: Value, y: Value, a: Required<PoolAttrs>): Value {
  const positions = sizesOf(y, "the result");
  const low = [0, 0, ...both((axis) => a.padding[axis]?.[0] as number)];
  const high = [0, 0, ...both((axis) => a.padding[axis]?.[1] as number)];
  const padded = b.pad(x, { low, high, value: Number.NEGATIVE_INFINITY });
  let taken: Value | undefined;
  let gradient: Value | undefined;
  for (let p = 0; p < (a.kernel[0] as number); p++)
    for (let q = 0; q < (a.kernel[1] as number); q++) {
      const tap = both((axis) => {
        const start = ([p, q][axis] as number) * (a.dilations[axis] as number);
        const step = a.strides[axis] as number;
        return { axis: axis + 2, start, end: start + (positions[axis] - 1) * step + 1, step };
      });
      const rows = b.slice(padded, tap[0]);
      const seen = b.slice(rows, tap[1]);
      const equal = b.equal(seen, y);
      const wins = taken === undefined ? equal : b.and(equal, b.not(taken));
      taken = taken === undefined ? equal : b.or(taken, equal);
      const share = b.select(wins, ct, like(b, ct, 0));
      const placed = unslice(b, share, tap[1], rows.type.shape[3] as Dim);
      const back = unslice(b, placed, tap[0], padded.type.shape[2] as Dim);
      gradient = gradient === undefined ? back : b.add(gradient, back);
    }
  return unpad(b, gradient as Value, { low, high });
}

export const windowVjps = {
  conv2d: vjp<Required<Conv2dAttrs>>((b, ct, [x, weight]: readonly [Value, Value], { attrs }) => {
    if (attrs.batchGroups > 1)
      throw new OpError(
        "no-gradient",
        "a convolution with batch groups, itself a gradient, is not differentiated again",
      );
    return [inputGradient(b, ct, x, weight, attrs), kernelGradient(b, ct, x, weight, attrs)];
  }),
  maxPool2d: vjp<Required<PoolAttrs>>((b, ct, [x]: readonly [Value], { attrs, result }) => [
    routeToMaximum(b, ct, x, result, attrs),
  ]),
  sumPool2d: vjp<Required<PoolAttrs>>((b, ct, [x]: readonly [Value], { attrs }) => [spreadSums(b, ct, x, attrs)]),
} as const;
