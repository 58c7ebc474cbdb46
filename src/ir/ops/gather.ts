import type { Builder } from "../builder.ts";
import { OpError } from "../diagnostic.ts";
import { isStatic, sameShape } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { AttrSpecs, Composite, NumberTensor, Routine, Structured } from "../op.ts";
import { type Dim, type DType, elementsOf, formatType, isDType, rangeOf, type TensorType } from "../type.ts";
import { wantAxis, wantDType, wantKind, wantShape } from "./rules.ts";

export interface GatherAttrs {
  axis: number;
  batch?: number;
}

const gatherAttrs: AttrSpecs<GatherAttrs> = {
  axis: { kind: "int", doc: "of x" },
  batch: { kind: "int", default: 0, doc: "leading axes that x and indices share; if any, axis comes right after them" },
};

/** Shape of x with `axis` replaced by the axes of indices beyond the shared ones. */
function gatheredShape(x: TensorType, indices: TensorType, axis: number, batch: number): readonly Dim[] {
  wantAxis(axis, x.shape.length);
  wantDType(indices, "i32", 1);
  if (batch < 0 || batch > indices.shape.length || (batch > 0 && axis !== batch))
    throw new OpError(
      "bad-axis",
      `batch ${batch} wants axis ${batch} and indices of at least that rank, got axis ${axis}`,
    );
  if (!sameShape(x.shape.slice(0, batch), indices.shape.slice(0, batch)))
    throw new OpError(
      "shape-mismatch",
      `the first ${batch} axes of ${formatType(x)} and ${formatType(indices)} differ`,
      {
        operand: 1,
      },
    );
  return [...x.shape.slice(0, axis), ...indices.shape.slice(batch), ...x.shape.slice(axis + 1)];
}

export const gather: Structured<[x: Value, indices: Value], GatherAttrs> = {
  kind: "structured",
  summary: "slices of x along an axis, at i32 indices in [0, size)",
  source: "ONNX Gather-13 (batch 0), GatherND-13 with batch_dims",
  operands: ["x", "indices"],
  attrs: gatherAttrs,
  infer: ([x, indices], { axis, batch }) => [
    { dtype: (x as TensorType).dtype, shape: gatheredShape(x as TensorType, indices as TensorType, axis, batch) },
  ],
  form: { kind: "gather", axis: ({ axis }) => axis, batch: ({ batch }) => batch },
};

/** Rows of the table, one per id. table: [vocabulary, channels], ids: i32[...] -> [..., channels] */
export const embedding: Composite<[table: Value, ids: Value]> = {
  kind: "composite",
  summary: "rows of a table by id",
  source: "ONNX Gather-13; torch.nn.Embedding",
  operands: ["table", "ids"],
  attrs: {},
  infer: ([table, ids]) => {
    if ((table as TensorType).shape.length !== 2)
      throw new OpError("rank-mismatch", `the table wants rank 2, got ${formatType(table as TensorType)}`);
    return [{ dtype: (table as TensorType).dtype, shape: gatheredShape(table as TensorType, ids as TensorType, 0, 0) }];
  },
  decompose: (b, [table, ids]) => b.gather(table, ids, { axis: 0 }),
};

const numbers = ["float", "signed", "unsigned"] as const;

type Scatter = Composite<[x: Value, indices: Value, updates: Value], GatherAttrs>;

function scatter(
  summary: string,
  source: string,
  combine: (b: Builder, x: Value, hot: Value, updates: Value, axis: number) => Value,
): Scatter {
  return {
    kind: "composite",
    summary,
    source,
    operands: ["x", "indices", "updates"],
    attrs: gatherAttrs,
    infer: ([x, indices, updates], { axis, batch }) => {
      const target = x as TensorType;
      wantKind(target, numbers);
      if ((indices as TensorType).shape.length !== batch + 1)
        throw new OpError("rank-mismatch", `indices want rank ${batch + 1}, got ${formatType(indices as TensorType)}`, {
          operand: 1,
        });
      wantShape(
        updates as TensorType,
        gatheredShape(target, indices as TensorType, axis, batch),
        2,
        "updates (one slice of x per index)",
      );
      wantDType(updates as TensorType, target.dtype, 2);
      return [target];
    },
    decompose: (b, [x, indices, updates], { axis }) =>
      combine(b, x, b.oneHot(indices, { depth: x.type.shape[axis] as Dim, dtype: x.type.dtype }), updates, axis),
  };
}

const alphabet = "abcdefghijklmnopqrstuvw";

/**
 * Result = x + one-hot(indices)^T updates: no scatter and a fixed order of summation on every target. The product is 0
 * for every other place, so an infinity or NaN in updates makes its whole column NaN where a backend does not claim the
 * op; a choice instead of the product would cost an intermediate of updates times places.
 */
export const scatterAdd: Scatter = scatter(
  "x with each slice of updates added at its index; repeated indices add up",
  "ONNX ScatterND-16 with reduction add",
  (b, x, hot, updates, axis) => {
    const rank = x.type.shape.length;
    const lead = alphabet.slice(0, axis);
    const tail = alphabet.slice(axis, rank - 1);
    const hotTerm = hot.type.shape.length === 2 ? "xy" : `${lead}xy`; // x: which update, y: where to
    return b.add(x, b.contract(hot, updates, { spec: `${hotTerm},${lead}x${tail}->${lead}y${tail}` }));
  },
);

export const scatterMax: Scatter = scatter(
  "the larger of x and each slice of updates at its index",
  "ONNX ScatterND-18 with reduction max",
  (b, x, hot, updates, axis) => {
    const { dtype, shape } = x.type;
    // [..lead, update, place, ..tail]: an update counts at its place only.
    const wide = [...updates.type.shape.slice(0, axis + 1), shape[axis] as Dim, ...shape.slice(axis + 1)];
    const all = wide.map((_, i) => i);
    const hotAxes = hot.type.shape.length === 2 ? [axis, axis + 1] : all.slice(0, axis + 2);
    const chosen = b.equal(hot, b.full({ dtype, shape: hot.type.shape }, 1));
    const here = b.broadcast(chosen, { shape: wide, axes: all.filter((i) => !hotAxes.includes(i)) });
    const spread = b.broadcast(updates, { shape: wide, axes: [axis + 1] });
    const absent = b.full({ dtype, shape: wide }, rangeOf(dtype)[0]);
    return b.max(x, b.reduceMax(b.select(here, spread, absent), { axes: [axis] }));
  },
);

export const oneHot: Composite<[indices: Value], { depth: Dim; dtype?: DType }> = {
  kind: "composite",
  summary: "1 at each index along a new last axis, 0 elsewhere",
  source: "ONNX OneHot-11",
  operands: ["indices"],
  attrs: { depth: { kind: "dim" }, dtype: { kind: "dtype", default: "f32" } },
  infer: ([indices], { depth, dtype }) => {
    wantDType(indices as TensorType, "i32", 0);
    if (!isDType(dtype) || dtype === "bool") throw new OpError("dtype-mismatch", `oneHot cannot make ${dtype}`);
    return [{ dtype, shape: [...(indices as TensorType).shape, depth] }];
  },
  decompose: (b, [indices], { depth, dtype }) => {
    const shape = [...indices.type.shape, depth];
    const last = shape.length - 1;
    const places = b.iota({ shape, axis: last });
    return b.cast(b.equal(b.broadcast(indices, { shape, axes: [last] }), places), { to: dtype });
  },
};

export interface SortAttrs {
  axis: number;
  descending?: boolean;
}

export const sort: Routine<[x: Value], SortAttrs, readonly [values: Value, indices: Value]> = {
  kind: "routine",
  summary: "stable sort along an axis: sorted values and their i32 indices in x",
  source: "ONNX TopK-11 with k the whole axis; NaN sorts last",
  operands: ["x"],
  attrs: { axis: { kind: "int" }, descending: { kind: "boolean", default: false } },
  infer: ([x], { axis }) => {
    wantKind(x as TensorType, numbers);
    wantAxis(axis, (x as TensorType).shape.length);
    return [x as TensorType, { dtype: "i32", shape: (x as TensorType).shape }];
  },
  evaluate: ([x], { axis, descending }) => {
    const { dtype, shape, values } = x as NumberTensor;
    const size = shape[axis] as number;
    const inner = elementsOf(shape.slice(axis + 1));
    const sorted = new Float64Array(values.length);
    const indices = new Float64Array(values.length);
    const order = new Uint32Array(size);
    for (let start = 0; start < values.length; start += size * inner)
      for (let offset = 0; offset < inner; offset++) {
        const at = (i: number) => values[start + i * inner + offset] as number;
        for (let i = 0; i < size; i++) order[i] = i;
        order.sort((i, j) => compare(at(i), at(j), descending) || i - j);
        order.forEach((from, to) => {
          sorted[start + to * inner + offset] = at(from);
          indices[start + to * inner + offset] = from;
        });
      }
    return [
      { dtype, shape, values: sorted },
      { dtype: "i32", shape, values: indices },
    ];
  },
};

function compare(a: number, b: number, descending: boolean): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return a < b === descending ? 1 : -1;
}

export interface TopKAttrs {
  axis: number;
  k: number;
  largest?: boolean;
}

export const topK: Composite<[x: Value], TopKAttrs, readonly [values: Value, indices: Value]> = {
  kind: "composite",
  summary: "the k largest (or smallest) along an axis, best first; the lowest index first on ties",
  source: "ONNX TopK-11",
  operands: ["x"],
  attrs: { axis: { kind: "int" }, k: { kind: "int" }, largest: { kind: "boolean", default: true } },
  infer: ([x], { axis, k }) => {
    const { dtype, shape } = x as TensorType;
    wantKind(x as TensorType, numbers);
    wantAxis(axis, shape.length);
    const size = shape[axis] as Dim;
    if (k < 0 || (isStatic(size) && k > size))
      throw new OpError("bad-attribute", `k is ${k} but the axis has ${size} elements`);
    const kept = shape.map((dim, a) => (a === axis ? k : dim));
    return [
      { dtype, shape: kept },
      { dtype: "i32", shape: kept },
    ];
  },
  decompose: (b, [x], { axis, k, largest }) => {
    const [values, indices] = b.sort(x, { axis, descending: largest });
    return [b.slice(values, { axis, end: k }), b.slice(indices, { axis, end: k })];
  },
};
