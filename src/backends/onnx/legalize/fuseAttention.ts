import type { Builder } from "../../../ir/builder.ts";
import { multiplyDims } from "../../../ir/dim.ts";
import type { Node, Value } from "../../../ir/graph.ts";
import type { AttentionAttrs } from "../../../ir/ops/nn.ts";
import type { Dim, DType } from "../../../ir/type.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rebuildGraph } from "../../../passes/rebuild.ts";
import { attentionRefusal } from "../attentionLimits.ts";

/** Heads lie side by side where com.microsoft's operator reads and writes them, which saves the transposes. */
export const fuseAttention: Pass = {
  name: "fuseAttention",
  summary: "attention as ONNX Runtime's own operator on tokens",
  contract: "reassociates",
  example: {
    before: `
graph @attend(%q: f32[1,2,5,4], %k: f32[1,2,5,4], %v: f32[1,2,5,4]) {
  %0 = attention(%q, %k, %v) {scale=0.5} : f32[1,2,5,4]
  return y: %0
}`,
    after: `
graph @attend(%q: f32[1,2,5,4], %k: f32[1,2,5,4], %v: f32[1,2,5,4]) {
  %0 = transpose(%q) {perm=[0,2,1,3]} : f32[1,5,2,4]
  %1 = reshape(%0) {shape=[1,5,8]} : f32[1,5,8]
  %2 = transpose(%k) {perm=[0,2,1,3]} : f32[1,5,2,4]
  %3 = reshape(%2) {shape=[1,5,8]} : f32[1,5,8]
  %4 = transpose(%v) {perm=[0,2,1,3]} : f32[1,5,2,4]
  %5 = reshape(%4) {shape=[1,5,8]} : f32[1,5,8]
  %6 = onnxMultiHeadAttention(%1, %3, %5) {heads=2, scale=0.5} : f32[1,5,8]
  %7 = reshape(%6) {shape=[1,5,2,4]} : f32[1,5,2,4]
  %8 = transpose(%7) {perm=[0,2,1,3]} : f32[1,2,5,4]
  return y: %8
}`,
  },
  run(graph, context) {
    if (!graph.nodes.some((node) => node.op === "attention")) return graph;
    return rebuildGraph(graph, context.registry, "fuseAttention", (node, { b, of }) => {
      if (node.op !== "attention") return undefined;
      const refusal = attentionRefusal(node, "ort-cuda");
      if (refusal === undefined) context.fired("fuseAttention", node);
      else context.refused("fuseAttention", node, refusal);
      return refusal === undefined ? [fused(b, node.operands.map(of), node)] : undefined;
    });
  },
};

function fused(b: Builder, operands: readonly Value[], node: Node): Value {
  const [query, key, value, ...more] = operands as [Value, Value, Value, ...Value[]];
  const { scale, causal, extras } = node.attrs as unknown as Required<AttentionAttrs>;
  const [batch, heads, queries] = query.type.shape as readonly [Dim, number, Dim];
  const side = (x: Value): Value => {
    const [, own, tokens, channels] = x.type.shape as readonly [Dim, number, Dim, Dim];
    let rows = b.transpose(x, { perm: [0, 2, 1, 3] });
    if (own !== heads) rows = b.broadcast(rows, { shape: [batch, tokens, own, heads / own, channels], axes: [3] });
    return b.reshape(rows, { shape: [batch, tokens, multiplyDims(channels, heads)] });
  };
  const keys = key.type.shape[2] as Dim;
  const bias = scoreBias(b, more, extras, [batch, heads, queries, keys], query.type.dtype);
  const parts = [query, key, value].map(side);
  const [out] = b.make("onnxMultiHeadAttention", bias === undefined ? parts : [...parts, bias], {
    heads,
    scale,
    causal,
  }) as [Value];
  const apart = b.reshape(out, { shape: [batch, queries, heads, value.type.shape[3] as Dim] });
  return b.transpose(apart, { perm: [0, 2, 1, 3] });
}

type Scores = readonly [batch: Dim, heads: Dim, queries: Dim, keys: Dim];

/** Mask, bias and log-size as one tensor to add to the scores, [1 or batch, 1 or heads, queries, keys]. */
function scoreBias(
  b: Builder,
  operands: readonly Value[],
  extras: Required<AttentionAttrs>["extras"],
  [batch, heads, queries, keys]: Scores,
  dtype: DType,
): Value | undefined {
  const shapes = operands.map(({ type }) => (type.shape.length === 2 ? [batch, 1, queries, keys] : type.shape));
  const wide = (axis: 0 | 1, full: Dim): Dim => (shapes.some((shape) => shape[axis] !== 1) ? full : 1);
  const shape = [wide(0, batch), wide(1, heads), queries, keys];
  const widen = (x: Value): Value => {
    if (x.type.shape.length === 2) return b.broadcast(x, { shape, axes: [1, 2] });
    const axes = [0, 1].filter((axis) => x.type.shape[axis] !== shape[axis]);
    const kept = x.type.shape.filter((_, axis) => !axes.includes(axis));
    return axes.length === 0 ? x : b.broadcast(b.reshape(x, { shape: kept }), { shape, axes });
  };
  let total: Value | undefined;
  extras.forEach((extra, i) => {
    const x = widen(operands[i] as Value);
    if (extra !== "mask") total = total === undefined ? x : b.add(total, x);
    else {
      const type = { dtype, shape };
      total = b.select(x, b.full(type, 0), b.full(type, dtype === "f16" ? lowest.f16 : lowest.f32));
    }
  });
  return total;
}

/** Finite, because kernels that work in tiles take the difference of two infinities where a whole tile is hidden. */
const lowest = { f16: -65504, f32: -3.4028234663852886e38 } as const;
