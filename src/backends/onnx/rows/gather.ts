import { multiplyDims, productOfDims } from "../../../ir/dim.ts";
import type { Node } from "../../../ir/graph.ts";
import type { GatherAttrs, SortAttrs, TopKAttrs } from "../../../ir/ops/gather.ts";
import type { Dim } from "../../../ir/type.ts";
import { asFirst, type Claim, everywhere, type Row } from "../row.ts";
import type { Site } from "../site.ts";
import { reshaped } from "./shape.ts";

/** Rows within batches: GatherND, whose indices are i64; on WebGPU, which has no i64, Gather of flattened rows. */
export const gather: Row<Required<GatherAttrs>> = {
  since: 13,
  indices: asFirst,
  emit: (at) => {
    const { axis, batch } = at.attrs;
    if (batch === 0) {
      const places = at.plan.isIndex(at.operand(1)) ? at.view(1) : at.x(1);
      return at.make("Gather", [at.view(0), places], { axis });
    }
    if (at.plan.profile === "ort-webgpu") return gatherFlat(at);
    const last = at.typeOf(1).shape.length;
    return at.make("GatherND", [at.view(0), at.unsqueeze(at.index(1), [last])], { batch_dims: batch });
  },
};

function gatherFlat(at: Site<Required<GatherAttrs>>): string {
  const { axis } = at.attrs;
  const [x, places] = [at.typeOf(0).shape, at.typeOf(1).shape];
  const rows = reshaped(at, at.view(0), x, [productOfDims(x.slice(0, axis + 1)), ...x.slice(axis + 1)]);
  return at.make("Gather", [rows, flatPlaces(at, places, x, axis, "i32")], { axis: 0 });
}

/** Indices along `axis` as indices into the rows of all batches laid end to end. */
function flatPlaces(at: Site, places: readonly Dim[], x: readonly Dim[], axis: number, dtype: "i32" | "i64"): string {
  const batches = productOfDims(x.slice(0, axis));
  const indices = dtype === "i64" ? at.index(1) : at.x(1);
  if (batches === 1) return indices;
  const size = x[axis] as Dim;
  const starts = at.body.once(`starts|${x.slice(0, axis + 1)}|${places.length}|${dtype}`, () => {
    const first = at.make("Mul", [at.count(batches, dtype), at.body.cast(at.body.dim(size), "i64", dtype)]);
    const shape = [...x.slice(0, axis), ...places.slice(axis).map(() => 1)];
    return reshaped(at, first, [batches], shape);
  });
  return at.make("Add", [indices, starts]);
}

export const embedding: Claim = {
  profiles: everywhere,
  since: 13,
  emit: (at) => at.make("Gather", [at.x(0), at.plan.isIndex(at.operand(1)) ? at.view(1) : at.x(1)], { axis: 0 }),
};

/** ScatterND adds whole rows; batches are laid end to end first. */
const scatter = (reduction: "add" | "max", since: number): Claim<Required<GatherAttrs>> => ({
  profiles: everywhere,
  since,
  claims: ({ attrs }: Node) => attrs["axis"] === attrs["batch"],
  emit: (at) => {
    const { axis } = at.attrs;
    const [x, places] = [at.typeOf(0).shape, at.typeOf(1).shape];
    const rowsOf = (i: number, shape: readonly Dim[]) =>
      reshaped(at, at.x(i), shape, [productOfDims(shape.slice(0, axis + 1)), ...shape.slice(axis + 1)]);
    const flat = reshaped(at, flatPlaces(at, places, x, axis, "i64"), places, [productOfDims(places), 1]);
    const rows = [rowsOf(0, x), rowsOf(2, at.typeOf(2).shape)] as const;
    const flatShape = [multiplyDims(productOfDims(x.slice(0, axis)), x[axis] as Dim), ...x.slice(axis + 1)];
    const dtype = at.dtype();
    const work = at.workType("ScatterND", dtype);
    const [target, updates] = rows.map((row) => at.body.cast(row, dtype, work)) as [string, string];
    const y = at.make("ScatterND", [target, flat, updates], { reduction });
    return reshaped(at, at.body.cast(y, work, dtype), flatShape, x);
  },
});
export const scatterAdd: Claim<Required<GatherAttrs>> = scatter("add", 16);
export const scatterMax: Claim<Required<GatherAttrs>> = scatter("max", 18);

/** TopK keeps the lower index on ties, as a stable sort does. */
export const sort: Row<Required<SortAttrs>> = {
  since: 13,
  indices: (node, isIndex) => [...asFirst(node, isIndex), 1],
  emit: (at) => best(at, at.typeOf(0).shape[at.attrs.axis] as Dim, at.attrs.axis, at.attrs.descending),
};

export const topK: Claim<Required<TopKAttrs>> = {
  profiles: everywhere,
  since: 13,
  indices: (node, isIndex) => [...asFirst(node, isIndex), 1],
  emit: (at) => best(at, at.attrs.k, at.attrs.axis, at.attrs.largest),
};

function best(at: Site, k: Dim, axis: number, largest: boolean): readonly string[] {
  const dtype = at.formOf(0);
  const work = at.workType("TopK", dtype);
  const attrs = { axis, largest: largest ? 1 : 0, sorted: 1 };
  const [values, indices] = at.body.node("TopK", [at.body.cast(at.view(0), dtype, work), at.body.dim(k)], attrs, 2) as [
    string,
    string,
  ];
  return [at.body.cast(values, work, dtype), indices];
}
