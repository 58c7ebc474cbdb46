import type { Builder } from "../builder.ts";
import { OpError } from "../diagnostic.ts";
import { addDims, floorDivide, isStatic, subtractDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { Composite } from "../op.ts";
import { type Dim, formatType, type TensorType } from "../type.ts";
import { wantDType, wantFloat, wantKind, wantRank, wantShape } from "./rules.ts";

/** A matching of the even-numbered tokens (A) against the odd-numbered ones (B), as indices into A and B. */
export type Matching = readonly [kept: Value, source: Value, destination: Value];

export interface MatchAttrs {
  r: number;
  protect?: number;
}

/** How many tokens may be merged at most: half of those that are not protected. */
export const largestMerge = (tokens: Dim, protect: number): Dim => floorDivide(subtractDims(tokens, protect), 2);

/**
 * Bipartite soft matching. metric: [batch, tokens, channels]; tokens 0, 2, 4 ... are set A, tokens 1, 3, 5 ... set B.
 * Each token of A finds its most similar partner in B by cosine; the r best pairs merge.
 * -> kept: i32[batch, |A| - r] and source: i32[batch, r] (indices into A), destination: i32[batch, r] (into B).
 * protect 1 keeps token 0 (class) out, 2 also token 1 (distillation); `kept` is then in order, else by falling similarity.
 */
export const tokenMatch: Composite<[metric: Value], MatchAttrs, Matching> = {
  kind: "composite",
  summary: "the r most similar pairs between even and odd tokens",
  source: "ToMe (Bolya et al., ICLR 2023) section 3.1, bipartite_soft_matching",
  operands: ["metric"],
  attrs: {
    r: { kind: "int", doc: "pairs to merge, 1 to (tokens - protect) / 2" },
    protect: { kind: "int", default: 0, doc: "leading tokens that never merge: 0, 1 or 2" },
  },
  infer: ([metric], { r, protect }) => {
    const type = metric as TensorType;
    wantFloat(type);
    wantRank(type, 3);
    const [batch, tokens] = type.shape as readonly [Dim, Dim];
    wantProtect(protect);
    const most = largestMerge(tokens, protect);
    if (r < 1 || (isStatic(most) && r > most))
      throw new OpError(
        "bad-attribute",
        `cannot merge ${r} of ${tokens} tokens with ${protect} protected (at most ${most})`,
      );
    const kept = subtractDims(floorDivide(addDims(tokens, 1), 2), r);
    return [kept, r, r].map((count) => ({ dtype: "i32", shape: [batch, count] }));
  },
  decompose: (b, [metric], { r, protect }) => {
    const { best, order, candidates } = rankPairs(b, metric, protect);
    const source = b.slice(order, { axis: 1, end: r });
    const rest = b.slice(order, { axis: 1, start: r, end: candidates });
    const kept = protect > 0 ? b.sort(rest, { axis: 1 })[0] : rest;
    return [kept, source, b.gather(best, source, { axis: 1, batch: 1 })];
  },
};

function wantProtect(protect: number): void {
  if (protect < 0 || protect > 2) throw new OpError("bad-attribute", `protect is 0, 1 or 2, got ${protect}`);
}

/** Per token of A: its best partner in B, and A's tokens by falling similarity. */
function rankPairs(b: Builder, metric: Value, protect: number): { best: Value; order: Value; candidates: Dim } {
  const tokens = metric.type.shape[1] as Dim;
  const unit = b.l2Normalize(metric, { axis: 2 });
  const even = b.slice(unit, { axis: 1, end: tokens, step: 2 });
  const odd = b.slice(unit, { axis: 1, start: 1, end: tokens, step: 2 });
  let scores = b.matmul(even, b.transpose(odd, { perm: [0, 2, 1] }));
  const { shape } = scores.type;
  const never = b.full(scores.type, Number.NEGATIVE_INFINITY);
  for (let axis = 1; axis <= protect; axis++) {
    const first = b.equal(b.iota({ shape, axis }), b.full({ dtype: "i32", shape }, 0));
    scores = b.select(first, never, scores);
  }
  const best = b.argMax(scores, { axis: 2 });
  const [, order] = b.sort(b.reduceMax(scores, { axes: [2] }), { axis: 1, descending: true });
  return { best, order, candidates: shape[1] as Dim };
}

export interface MergeAttrs {
  protect?: number;
  reduce?: "sum" | "max";
}

function wantMatching(x: TensorType, indices: readonly TensorType[]): Dim {
  wantKind(x, ["float", "signed", "unsigned"]);
  wantRank(x, 3);
  const [kept, source, destination] = indices as readonly [TensorType, TensorType, TensorType];
  indices.forEach((type, i) => {
    wantDType(type, "i32", i + 1);
    wantRank(type, 2, i + 1);
    if (type.shape[0] !== x.shape[0])
      throw new OpError("shape-mismatch", `batch of ${formatType(type)} differs from x ${formatType(x)}`, {
        operand: i + 1,
      });
  });
  wantShape(destination, source.shape, 3, "destination");
  return addDims(kept.shape[1] as Dim, source.shape[1] as Dim);
}

/**
 * x: [batch, tokens, channels] -> [batch, tokens - r, channels]: kept tokens of A first, then B with the sources of A
 * added (or, reduce max, maximised) onto their destinations. protect 2 brings the distillation token to place 1.
 */
export const tokenMerge: Composite<[x: Value, kept: Value, source: Value, destination: Value], MergeAttrs> = {
  kind: "composite",
  summary: "matched tokens folded into their partners",
  source: "ToMe section 3.1, merge",
  operands: ["x", "kept", "source", "destination"],
  attrs: {
    protect: { kind: "int", default: 0, doc: "as in tokenMatch" },
    reduce: { kind: ["sum", "max"], default: "sum" },
  },
  infer: ([x, ...indices], { protect }) => {
    const type = x as TensorType;
    wantProtect(protect);
    const even = wantMatching(type, indices);
    const [batch, tokens, channels] = type.shape as readonly [Dim, Dim, Dim];
    if (even !== floorDivide(addDims(tokens, 1), 2))
      throw new OpError("shape-mismatch", `kept and source name ${even} even tokens but x has ${tokens} tokens`, {
        operand: 1,
      });
    if (protect === 2 && ((indices[0] as TensorType).shape[1] === 0 || floorDivide(tokens, 2) === 0))
      throw new OpError("bad-attribute", `protect 2 keeps the first two tokens, but kept names none of ${tokens}`, {
        operand: 1,
      });
    const r = (indices[1] as TensorType).shape[1] as Dim;
    return [{ dtype: type.dtype, shape: [batch, subtractDims(tokens, r), channels] }];
  },
  decompose: (b, [x, kept, source, destination], { protect, reduce }) => {
    const tokens = x.type.shape[1] as Dim;
    const even = b.slice(x, { axis: 1, end: tokens, step: 2 });
    const odd = b.slice(x, { axis: 1, start: 1, end: tokens, step: 2 });
    const place = { axis: 1, batch: 1 };
    const moved = b.gather(even, source, place);
    const left = b.gather(even, kept, place);
    const merged =
      reduce === "sum" ? b.scatterAdd(odd, destination, moved, place) : b.scatterMax(odd, destination, moved, place);
    if (protect < 2) return b.concat([left, merged], { axis: 1 });
    const head = (v: Value) => b.slice(v, { axis: 1, end: 1 });
    const tail = (v: Value) => b.slice(v, { axis: 1, start: 1, end: v.type.shape[1] as Dim });
    return b.concat([head(left), head(merged), tail(left), tail(merged)], { axis: 1 });
  },
};

/**
 * Copies merged tokens back to every place they came from: x: [batch, tokens - r, channels] -> [batch, tokens, channels].
 * Like the authors' code it takes x in kept-then-B order, so it does not undo the reordering of protect 2.
 */
export const tokenUnmerge: Composite<[x: Value, kept: Value, source: Value, destination: Value], { tokens: Dim }> = {
  kind: "composite",
  summary: "each merged token copied back to the places it came from",
  source: "ToMe, unmerge of bipartite_soft_matching",
  operands: ["x", "kept", "source", "destination"],
  attrs: { tokens: { kind: "dim", doc: "before the merge" } },
  infer: ([x, ...indices], { tokens }) => {
    const type = x as TensorType;
    const even = wantMatching(type, indices);
    const r = (indices[1] as TensorType).shape[1] as Dim;
    if (even !== floorDivide(addDims(tokens, 1), 2) || subtractDims(tokens, r) !== type.shape[1])
      throw new OpError("shape-mismatch", `${formatType(type)} is not ${tokens} tokens with ${r} merged`);
    return [{ dtype: type.dtype, shape: [type.shape[0] as Dim, tokens, type.shape[2] as Dim] }];
  },
  decompose: (b, [x, kept, source, destination], { tokens }) => {
    const [batch, merged, channels] = x.type.shape as readonly [Dim, Dim, Dim];
    const left = b.slice(x, { axis: 1, end: kept.type.shape[1] as Dim });
    const odd = b.slice(x, { axis: 1, start: kept.type.shape[1] as Dim, end: merged });
    const evens = floorDivide(addDims(tokens, 1), 2);
    const place = { axis: 1, batch: 1 };
    const empty = b.full({ dtype: x.type.dtype, shape: [batch, evens, channels] }, 0);
    const back = b.scatterAdd(empty, kept, left, place);
    const even = b.scatterAdd(back, source, b.gather(odd, destination, place), place);
    const odds = odd.type.shape[1] as Dim;
    const paired = odds === evens ? odd : b.pad(odd, { low: [0, 0, 0], high: [0, 1, 0] });
    const column = (v: Value) => b.reshape(v, { shape: [batch, evens, 1, channels] });
    const woven = b.concat([column(even), column(paired)], { axis: 2 });
    const all = b.reshape(woven, { shape: [batch, addDims(evens, evens), channels] });
    return odds === evens ? all : b.slice(all, { axis: 1, end: tokens });
  },
};
