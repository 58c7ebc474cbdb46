import type { Builder } from "../ir/builder.ts";
import { compileError } from "../ir/diagnostic.ts";
import type { Value } from "../ir/graph.ts";
import type { Shape } from "../ir/type.ts";

/** The common shape of two under numpy's rule: aligned at the end, size 1 stretches. */
export function commonShape(a: Shape, b: Shape, loc: Builder["loc"]): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw compileError("shape-mismatch", `[${a.join(",")}] and [${b.join(",")}] do not broadcast: ${x} against ${y}`, {
      loc,
    });
  });
}

/** Stretches a value to a shape under numpy's rule. */
export function stretch(b: Builder, x: Value, shape: Shape): Value {
  const offset = shape.length - x.type.shape.length;
  const axes = shape
    .map((_, axis) => axis)
    .filter((axis) => axis < offset || x.type.shape[axis - offset] !== shape[axis]);
  if (axes.length === 0) return x;
  const kept = shape.filter((_, axis) => !axes.includes(axis));
  return b.broadcast(kept.length === x.type.shape.length ? x : b.reshape(x, { shape: kept }), { shape, axes });
}
