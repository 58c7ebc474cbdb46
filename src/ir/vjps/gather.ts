// Gradients of reads at indices: sums back to where they were read from.
import type { Builder } from "../builder.ts";
import { productOfDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { GatherAttrs, SortAttrs } from "../ops/gather.ts";
import { like, type VjpSite, vjp } from "../vjp.ts";

/** Indices of any rank as one list per batch, and updates to match. */
function listed(
  b: Builder,
  ct: Value,
  indices: Value,
  { axis, batch }: Required<GatherAttrs>,
): readonly [Value, Value] {
  const lead = indices.type.shape.slice(0, batch);
  const count = productOfDims(indices.type.shape.slice(batch));
  const extra = indices.type.shape.length - batch;
  const { shape } = ct.type;
  const updates = [...shape.slice(0, axis), count, ...shape.slice(axis + extra)];
  return [b.reshape(indices, { shape: [...lead, count] }), b.reshape(ct, { shape: updates })];
}

export const gatherVjps = {
  gather: vjp<Required<GatherAttrs>>((b, ct, [x, indices]: readonly [Value, Value], { attrs }) => {
    const [list, updates] = listed(b, ct, indices, attrs);
    return [b.scatterAdd(like(b, x, 0), list, updates, attrs), undefined];
  }),
  /** Values go back to the places that the indices name. */
  sort: ({ b, operands, results, cotangents, attrs: { axis } }: SortSite) => {
    const [ct] = cotangents;
    const [x, indices] = [operands[0] as Value, results[1] as Value];
    if (ct === undefined) return [undefined];
    const last = x.type.shape.length - 1;
    const perm = x.type.shape.map((_, a) => a).filter((a) => a !== axis);
    const inward = (v: Value): Value => (axis === last ? v : b.transpose(v, { perm: [...perm, axis] }));
    const outward = (v: Value): Value => {
      const order = [...perm, axis];
      return axis === last ? v : b.transpose(v, { perm: order.map((_, a) => order.indexOf(a)) });
    };
    const zeros = inward(like(b, x, 0));
    return [outward(b.scatterAdd(zeros, inward(indices), inward(ct), { axis: last, batch: last }))];
  },
  scatterAdd: vjp<Required<GatherAttrs>>((b, ct, [, indices]: readonly Value[], { attrs }) => [
    ct,
    undefined,
    b.gather(ct, indices as Value, attrs),
  ]),
} as const;

type SortSite = VjpSite<Required<SortAttrs>>;
