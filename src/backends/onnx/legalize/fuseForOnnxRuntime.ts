import type { Builder } from "../../../ir/builder.ts";
import { type Graph, type Node, sourceName, usesOf, type Value } from "../../../ir/graph.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rebuildGraph } from "../../../passes/rebuild.ts";
import { any, pat, rewritePass, rule } from "../../../passes/rewrite.ts";

const lastOnly = ({ axes, shape }: { readonly axes: readonly number[]; readonly shape: readonly unknown[] }) =>
  axes.length === shape.length - 1 && axes.every((axis, i) => axis === i);
const hasKernel = (x: Value): true | string =>
  x.type.dtype === "f32" || x.type.dtype === "f16" || `ONNX Runtime's operator has no kernel for ${x.type.dtype}`;

export const fuseBiasGelu = rewritePass({
  name: "fuseBiasGelu",
  summary: "the bias before a gelu goes with it",
  contract: "exact",
  example: {
    before: `
graph @hidden(%x: f32[2,5,8], %b: f32[8]) {
  %0 = broadcast(%b) {shape=[2,5,8], axes=[0,1]} : f32[2,5,8]
  %1 = add(%x, %0) : f32[2,5,8]
  %2 = gelu(%1) : f32[2,5,8]
  return y: %2
}`,
    after: `
graph @hidden(%x: f32[2,5,8], %b: f32[8]) {
  %0 = onnxBiasGelu(%x, %b) : f32[2,5,8]
  return y: %0
}`,
  },
  rules: [
    rule({
      match: pat
        .gelu([pat.add([any("x"), pat.broadcast([any("bias")]).where(lastOnly)]).as("sum")])
        .where(({ approximate }) => approximate === "none"),
      where: ({ x, sum }, { usedOnce }) => (usedOnce(sum.value) ? hasKernel(x) : "the sum is read elsewhere too"),
      build: (b, { x, bias }) => b.make("onnxBiasGelu", [x, bias]),
    }),
  ],
});

/** Whether a perm exchanges the last two axes and no others. */
const swapsLast = ({ perm }: { readonly perm: readonly number[] }) => {
  const rank = perm.length;
  return rank > 2 && perm.every((from, to) => from === (to < rank - 2 ? to : to === rank - 1 ? rank - 2 : rank - 1));
};

export const fuseTransposedMatmul = rewritePass({
  name: "fuseTransposedMatmul",
  summary: "the transpose of a product's right side goes into it",
  contract: "exact",
  example: {
    before: `
graph @scores(%q: f32[2,5,8], %k: f32[2,7,8]) {
  %0 = transpose(%k) {perm=[0,2,1]} : f32[2,8,7]
  %1 = matmul(%q, %0) : f32[2,5,7]
  return y: %1
}`,
    after: `
graph @scores(%q: f32[2,5,8], %k: f32[2,7,8]) {
  %0 = onnxFusedMatmul(%q, %k) : f32[2,5,7]
  return y: %0
}`,
  },
  rules: [
    rule({
      match: pat.matmul([any("lhs"), pat.transpose([any("rhs")]).where(swapsLast)]),
      where: ({ lhs }) => hasKernel(lhs),
      build: (b, { lhs, rhs }) => b.make("onnxFusedMatmul", [lhs, rhs]),
    }),
  ],
});

/** The operator gives the sum as well, for the residual stream to go on with. */
export const fuseSkipNorm: Pass = {
  name: "fuseSkipNorm",
  summary: "a residual sum and the layer norm that reads it as one operator",
  contract: "exact",
  example: {
    before: `
graph @residual(%x: f32[2,5,8], %y: f32[2,5,8], %g: f32[8], %b: f32[8]) {
  %0 = add(%x, %y) : f32[2,5,8]
  %1 = layerNorm(%0, %g, %b) {epsilon=0.00001} : f32[2,5,8]
  return normed: %1, sum: %0
}`,
    after: `
graph @residual(%x: f32[2,5,8], %y: f32[2,5,8], %g: f32[8], %b: f32[8]) {
  %0, %1 = onnxSkipLayerNorm(%x, %y, %g, %b) {epsilon=0.00001} : f32[2,5,8], f32[2,5,8]
  return normed: %0, sum: %1
}`,
  },
  run(graph, context) {
    const norms = normsOfSums(graph);
    if (norms.size === 0) return graph;
    const made = new Map<Node, Value>();
    return rebuildGraph(graph, context.registry, "fuseSkipNorm", (node, { b, of }) => {
      const normed = made.get(node);
      if (normed !== undefined) return [normed];
      const norm = norms.get(node);
      if (norm === undefined) return undefined;
      context.fired("fuseSkipNorm", norm);
      const [gain, bias] = norm.operands.slice(1).map((v) => early(v, b, of)) as [Value, Value];
      const results = b.make("onnxSkipLayerNorm", [...node.operands.map(of), gain, bias], norm.attrs);
      made.set(norm, results[0] as Value);
      return [results[1] as Value];
    });
  },
};

/** Gain and bias come later in the graph than the sum: parameters and inputs can be named ahead. */
const early = (value: Value, b: Builder, of: (value: Value) => Value): Value =>
  value.producer.op === "parameter" ? b.parameter(sourceName(value.producer), value.type) : of(value);

/** Sums of two tensors of tokens, with the one layer norm that reads each. */
function normsOfSums(graph: Graph): ReadonlyMap<Node, Node> {
  const uses = usesOf(graph);
  const found = new Map<Node, Node>();
  for (const node of graph.nodes) {
    const [sum] = node.results;
    if (node.op !== "add" || sum === undefined || sum.type.shape.length !== 3 || hasKernel(sum) !== true) continue;
    if (node.operands.some((v) => v.producer.op === "broadcast")) continue;
    const norms = (uses.get(sum) ?? []).filter((use) => use.user.op === "layerNorm" && use.operandIndex === 0);
    const [norm] = norms;
    if (norm === undefined || norms.length !== 1) continue;
    const known = norm.user.operands.slice(1).every(({ producer: p }) => p.op === "parameter" || p.id < node.id);
    if (known) found.set(node, norm.user);
  }
  return found;
}
