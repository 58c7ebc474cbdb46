// 03-tocom: token merging.

import { lower } from "../../compile.ts";
import type { Builder } from "../../ir/builder.ts";
import type { Value } from "../../ir/graph.ts";
import { largestMerge, type Matching } from "../../ir/ops/tokens.ts";
import type { TensorData } from "../../ir/type.ts";
import { vit } from "../../models/vit.ts";
import { type Folding, matchAtRandom, matchEveryKth } from "../../passes/mergeTokens/matchings.ts";
import { mergeTokens } from "../../passes/mergeTokens/mergeTokens.ts";
import { parseReduction } from "../../passes/mergeTokens/schedule.ts";
import { type Component, caseGraph, headsOf, joinHeads, project, type VectorCase } from "../component.ts";

type Batched = readonly [batch: number, tokens: number, channels: number];

const onesLike = (b: Builder, x: Value): Value => {
  const [batch, tokens] = x.type.shape as Batched;
  return b.full({ dtype: x.type.dtype, shape: [batch, tokens, 1] }, 1);
};

/** sizes [batch, tokens, 1] repeated over the channels of x. */
const spread = (b: Builder, sizes: Value, x: Value): Value => {
  const shape = [...sizes.type.shape.slice(0, 2), ...x.type.shape.slice(2)];
  return b.broadcast(b.reshape(sizes, { shape: shape.slice(0, 2) }), { shape, axes: [2] });
};

const identity = (b: Builder, x: Value): Value => {
  const [batch, tokens] = x.type.shape as Batched;
  const shape = [tokens, tokens];
  const same = b.equal(b.iota({ shape, axis: 0 }), b.iota({ shape, axis: 1 }));
  return b.broadcast(b.cast(same, { to: "f32" }), { shape: [batch, tokens, tokens], axes: [0] });
};

/** Merges by size: sum of size * token over the sum of sizes. */
function weightedMerge(
  b: Builder,
  x: Value,
  sizes: Value,
  merge: (x: Value) => Value,
): { merged: Value; sizes: Value } {
  const total = merge(b.mul(x, spread(b, sizes, x)));
  const merged = merge(sizes);
  return { merged: b.div(total, spread(b, merged, total)), sizes: merged };
}

function matchMerge(vector: VectorCase, size: boolean): ReturnType<Component> {
  const { settings } = vector;
  const protect =
    Number(settings.boolean("class_token")) +
    Number(settings.has("distill_token") && settings.boolean("distill_token"));
  return caseGraph(vector, (b, read) => {
    const [metric, x] = [read.input("metric"), read.input("x")];
    const r = Math.min(settings.number("r"), largestMerge((x.type.shape as Batched)[1], protect) as number);
    const pairs: Matching = b.tokenMatch(metric, { r, protect });
    const merge = (y: Value) => b.tokenMerge(y, ...pairs, { protect });
    const plain = weightedMerge(b, x, onesLike(b, x), merge);
    const [unm_idx, src_idx, dst_idx] = pairs;
    if (!size) {
      const stable = { unm_idx, src_idx, dst_idx, x_merged: plain.merged };
      // The file states that torch's CPU results agree with the stable policy; they are compared too.
      const torch = Object.fromEntries(Object.entries(stable).map(([name, value]) => [`torch_cpu_${name}`, value]));
      return { ...stable, size_merged: plain.sizes, ...torch };
    }
    const weighted = weightedMerge(b, x, read.input("size"), merge);
    return {
      unm_idx,
      src_idx,
      dst_idx,
      x_merged: weighted.merged,
      size_merged: weighted.sizes,
      x_merged_size_none: plain.merged,
      size_merged_size_none: plain.sizes,
      x_unmerged: b.tokenUnmerge(weighted.merged, ...pairs, { tokens: (x.type.shape as Batched)[1] }),
      x_sum_merged: merge(x),
      x_amax_merged: b.tokenMerge(x, ...pairs, { protect, reduce: "max" }),
      source: b.tokenMerge(identity(b, x), ...pairs, { protect, reduce: "max" }),
    };
  });
}

function folding(vector: VectorCase, match: (b: Builder, metric: Value, read: (name: string) => Value) => Folding) {
  return caseGraph(vector, (b, read) => {
    const x = read.input("x");
    const folds = match(b, read.input("metric"), (name) => read.input(name));
    const { merged, sizes } = weightedMerge(b, x, onesLike(b, x), folds.merge);
    return { dst_idx: folds.destination, x_merged: merged, size_merged: sizes, x_unmerged: folds.unmerge(merged) };
  });
}

function mergeLayers(vector: VectorCase): ReturnType<Component> {
  const { settings } = vector;
  const protect = Number(settings.boolean("class_token"));
  return caseGraph(vector, (b, read) => {
    let x = read.input("x");
    const projections = read.input("metric_proj");
    const width = (x.type.shape as Batched)[2];
    let sizes = onesLike(b, x);
    let source = identity(b, x);
    const outputs: Record<string, Value> = {};
    for (let layer = 0; layer < settings.number("layers"); layer++) {
      const one = b.slice(projections, { axis: 0, start: layer, end: layer + 1 });
      const metric = b.matmul(x, b.reshape(one, { shape: [width, width] }));
      const r = Math.min(settings.number("r"), largestMerge((x.type.shape as Batched)[1], protect) as number);
      if (r > 0) {
        const pairs: Matching = b.tokenMatch(metric, { r, protect });
        const merge = (y: Value) => b.tokenMerge(y, ...pairs, { protect });
        source = b.tokenMerge(source, ...pairs, { protect, reduce: "max" });
        ({ merged: x, sizes } = weightedMerge(b, x, sizes, merge));
      }
      outputs[`x_layer${layer}`] = x;
      outputs[`size_layer${layer}`] = sizes;
    }
    return { ...outputs, source };
  });
}

function tomeAttention(vector: VectorCase): ReturnType<Component> {
  const { settings } = vector;
  return caseGraph(vector, (b, read) => {
    const packed = project(b, read.input("x"), read.parameter("qkv.weight"), read.parameter("qkv.bias"));
    const width = (packed.type.shape as Batched)[2] / 3;
    const [q, k, v] = [0, 1, 2].map((i) =>
      headsOf(b, b.slice(packed, { axis: 2, start: i * width, end: (i + 1) * width }), settings.number("heads")),
    ) as [Value, Value, Value];
    const size = read.input("size");
    const logSize = b.log(b.reshape(size, { shape: size.type.shape.slice(0, 2) }));
    const weighs = settings.boolean("prop_attn");
    const [out] = b.attention(weighs ? [q, k, v, logSize] : [q, k, v], {
      scale: settings.number("scale"),
      extras: weighs ? ["logSize"] : [],
    });
    return {
      y: project(b, joinHeads(b, out), read.parameter("proj.weight"), read.parameter("proj.bias")),
      metric: b.reduceMean(k, { axes: [1] }),
    };
  });
}

function tomeVit(vector: VectorCase, pooled: boolean): ReturnType<Component> {
  const { settings, tensors } = vector;
  const image = tensors.get("in.image") as TensorData;
  const model = vit({
    imageSize: settings.number("img_size"),
    patch: settings.number("patch_size"),
    channels: image.shape[1] as number,
    dim: settings.number("embed_dim"),
    depth: settings.number("depth"),
    heads: settings.number("num_heads"),
    mlpRatio: settings.number("mlp_ratio"),
    qkvBias: settings.boolean("qkv_bias"),
    classes: settings.number("num_classes"),
    epsilon: settings.number("ln_eps"),
    globalPool: pooled ? "avg" : "token",
  });
  const r = parseReduction(settings.text("r"));
  const proportional = settings.boolean("prop_attn");
  const track = tensors.has("out.size_final");
  const pass = mergeTokens({ r, proportional, track });
  const { graph } = lower(model, { passes: [pass] }).model;
  const names: Readonly<Record<string, string>> = { tokenSizes: "size_final", tokenSource: "source_final" };
  const outputs = graph.outputs.map(({ name, value }) => ({ name: names[name] ?? name, value }));
  const parameters = new Map<string, TensorData>();
  for (const node of graph.nodes) {
    if (node.op !== "parameter") continue;
    const name = node.attrs["name"] as string;
    // The MAE cases read fc_norm from the file's final norm.
    parameters.set(name, tensors.get(`param.${name.replace("fc_norm.", "norm.")}`) as TensorData);
  }
  return { graph: Object.freeze({ ...graph, outputs: Object.freeze(outputs) }), inputs: { image }, parameters };
}

export const tomeComponents: Readonly<Record<string, Component>> = {
  "match-merge": (vector) => matchMerge(vector, true),
  "match-ties": (vector) => matchMerge(vector, false),
  "match-kth": (vector) => folding(vector, (b, metric) => matchEveryKth(b, metric, vector.settings.number("k"))),
  "match-random": (vector) =>
    folding(vector, (b, metric, read) => matchAtRandom(b, metric, read("uniform"), vector.settings.number("r"))),
  "merge-layers": mergeLayers,
  "tome-attention": tomeAttention,
  "tome-vit": (vector) => tomeVit(vector, false),
  "tome-vit-mae": (vector) => tomeVit(vector, true),
};
