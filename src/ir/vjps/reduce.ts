// Gradients of folds along axes.
import type { Builder } from "../builder.ts";
import { isStatic, productOfDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { ReduceAttrs } from "../ops/reduce.ts";
import type { Dim } from "../type.ts";
import { like, type NoGradient, type Vjp, vjp } from "../vjp.ts";

type Attrs = Required<ReduceAttrs>;
type Rule = (b: Builder, ct: Value, x: Value, y: Value, axes: readonly number[]) => Value;

/** `ct` and `y` come repeated along the folded axes, in the shape of x. */
const fold = (rule: Rule): Vjp<Attrs> =>
  vjp((b, ct, [x]: readonly [Value], { attrs: { axes, keepDims }, result }) => {
    const spread = (v: Value): Value => b.broadcast(keepDims ? dropAxes(b, v, axes) : v, { shape: x.type.shape, axes });
    return [rule(b, spread(ct), x, spread(result), axes)];
  });

const dropAxes = (b: Builder, v: Value, axes: readonly number[]): Value =>
  b.reshape(v, { shape: v.type.shape.filter((_, axis) => !axes.includes(axis)) });

/** How many elements are folded into one, repeated in the shape of x; counted at run time where a symbol is among them. */
function countLike(b: Builder, x: Value, axes: readonly number[]): Value {
  const count = productOfDims(axes.map((axis) => x.type.shape[axis] as Dim));
  if (isStatic(count)) return like(b, x, count);
  return b.broadcast(b.reduceSum(like(b, x, 1), { axes }), { shape: x.type.shape, axes });
}

/** Shared evenly among all that are equal to the extremum, as torch.amax does. */
const extremum: Vjp<Attrs> = fold((b, ct, x, y, axes) => {
  const best = b.equal(x, y);
  const ones = b.cast(best, { to: x.type.dtype });
  const ties = b.broadcast(b.reduceSum(ones, { axes }), { shape: x.type.shape, axes });
  return b.select(best, b.div(ct, ties), like(b, ct, 0));
});

const index: NoGradient = { none: "its result is an index" };

export const reduceVjps = {
  reduceSum: fold((_b, ct) => ct),
  reduceMean: fold((b, ct, x, _y, axes) => b.div(ct, countLike(b, x, axes))),
  reduceMax: extremum,
  reduceMin: extremum,
  // The product of the others: by division where no element is 0, else through the single 0 alone.
  reduceProd: fold((b, ct, x, _y, axes) => {
    const zero = b.equal(x, like(b, x, 0));
    const others = b.select(zero, like(b, x, 1), x);
    const along = (v: Value): Value => b.broadcast(v, { shape: x.type.shape, axes });
    const product = along(b.reduceProd(others, { axes }));
    const zeros = along(b.reduceSum(b.cast(zero, { to: x.type.dtype }), { axes }));
    const nothing = like(b, x, 0);
    const atZero = b.select(b.equal(zeros, like(b, x, 1)), product, nothing);
    const elsewhere = b.select(b.equal(zeros, nothing), b.div(product, others), nothing);
    return b.mul(ct, b.select(zero, atZero, elsewhere));
  }),
  logSumExp: fold((b, ct, x, y) => b.mul(ct, b.exp(b.sub(x, y)))),
  argMax: index,
  argMin: index,
  cumsum: vjp<{ axis: number; exclusive: boolean; reverse: boolean }>((b, ct, _operands, { attrs }) => [
    b.cumsum(ct, { ...attrs, reverse: !attrs.reverse }),
  ]),
} as const;
