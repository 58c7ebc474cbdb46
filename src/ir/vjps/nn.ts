// Gradients of layers in closed form, from what the forward pass has: fewer passes than their decompositions' would take.
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { like, vjp } from "../vjp.ts";

/** The mean over `axes`, repeated in the shape of x. */
const meanLike = (b: Builder, x: Value, axes: readonly number[]): Value =>
  b.broadcast(b.reduceMean(x, { axes }), { shape: x.type.shape, axes });
const sumLike = (b: Builder, x: Value, axes: readonly number[]): Value =>
  b.broadcast(b.reduceSum(x, { axes }), { shape: x.type.shape, axes });

const lastAxis = (x: Value): number => x.type.shape.length - 1;
const leading = (x: Value): readonly number[] => x.type.shape.map((_, axis) => axis).slice(0, -1);
const alongLast = (b: Builder, v: Value, x: Value): Value => b.broadcast(v, { shape: x.type.shape, axes: leading(x) });

/** x centred and scaled to unit variance over the last axis, and 1 / deviation, both in the shape of x. */
function normed(b: Builder, x: Value, epsilon: number): { unit: Value; scale: Value } {
  const axes = [lastAxis(x)];
  const centred = b.sub(x, meanLike(b, x, axes));
  const variance = meanLike(b, b.mul(centred, centred), axes);
  const scale = b.rsqrt(b.add(variance, like(b, x, epsilon)));
  return { unit: b.mul(centred, scale), scale };
}

export const nnVjps = {
  softmax: vjp<{ axis: number }>((b, ct, _x, { attrs: { axis }, result: y }) => {
    const weighted = b.mul(ct, y);
    return [b.sub(weighted, b.mul(y, sumLike(b, weighted, [axis])))];
  }),
  logSoftmax: vjp<{ axis: number }>((b, ct, _x, { attrs: { axis }, result: y }) => [
    b.sub(ct, b.mul(b.exp(y), sumLike(b, ct, [axis]))),
  ]),
  l2Normalize: vjp<{ axis: number }>((b, ct, [x]: readonly [Value], { attrs: { axis }, result: y }) => {
    const length = b.sqrt(sumLike(b, b.mul(x, x), [axis]));
    return [b.div(b.sub(ct, b.mul(y, sumLike(b, b.mul(ct, y), [axis]))), length)];
  }),
  layerNorm: vjp<{ epsilon: number }>((b, ct, [x, gain]: readonly [Value, Value, Value], { attrs: { epsilon } }) => {
    const axes = [lastAxis(x)];
    const { unit, scale } = normed(b, x, epsilon);
    const inner = b.mul(ct, alongLast(b, gain, x));
    const flow = b.sub(b.sub(inner, meanLike(b, inner, axes)), b.mul(unit, meanLike(b, b.mul(inner, unit), axes)));
    const rows = leading(x);
    return [b.mul(flow, scale), b.reduceSum(b.mul(ct, unit), { axes: rows }), b.reduceSum(ct, { axes: rows })];
  }),
  rmsNorm: vjp<{ epsilon: number }>((b, ct, [x, gain]: readonly [Value, Value], { attrs: { epsilon } }) => {
    const axes = [lastAxis(x)];
    const scale = b.rsqrt(b.add(meanLike(b, b.mul(x, x), axes), like(b, x, epsilon)));
    const unit = b.mul(x, scale);
    const inner = b.mul(ct, alongLast(b, gain, x));
    const flow = b.sub(inner, b.mul(unit, meanLike(b, b.mul(inner, unit), axes)));
    return [b.mul(flow, scale), b.reduceSum(b.mul(ct, unit), { axes: leading(x) })];
  }),
} as const;
