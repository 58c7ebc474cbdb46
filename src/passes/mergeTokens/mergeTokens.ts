import { compileError, type Loc, unknownLoc } from "../../ir/diagnostic.ts";
import { isStatic } from "../../ir/dim.ts";
import type { Graph, Output, Value } from "../../ir/graph.ts";
import { largestMerge } from "../../ir/ops/tokens.ts";
import { type Dim, dtypes, formatType } from "../../ir/type.ts";
import { allTraits, type Pass, type PassContext, patternNotFound } from "../pass.ts";
import { copyNode, madeBy, type Rebuild, rebuildGraph } from "../rebuild.ts";
import { type Block, dependsOnInput, findBlocks, leadingTokens } from "./blocks.ts";
import { mergeExample } from "./example.ts";
import { type Reduction, reductionSchedule } from "./schedule.ts";
import { castTo, type Place, TokenStreams, type Tokens } from "./stream.ts";

/** How many tokens merge, and how. */
export interface MergeTokensOptions {
  /** Tokens merged in each block; clamped to half of those that are not protected. */
  readonly r: Reduction;
  /** Leading tokens that never merge: 1 for a class token, 2 with a distillation token. Found in the graph if not given. */
  readonly protect?: number;
  /** Weigh each key by the patches it stands for (proportional attention). Default true. */
  readonly proportional?: boolean;
  /** Adds outputs `tokenSizes` f32[batch, tokens, 1] and `tokenSource` f32[batch, tokens, tokens before]. */
  readonly track?: boolean;
}

/**
 * Token merging (ToMe): in every pre-norm block, between attention and MLP, the r most similar pairs of tokens become
 * one, averaged by size; later attention weighs keys by size. Source: Bolya et al., ICLR 2023, section 3;
 * docs/papers/03-tocom.md.
 */
export function mergeTokens(options: MergeTokensOptions): Pass {
  const track = options.track ?? false;
  return {
    name: "mergeTokens",
    summary: "the r most similar token pairs of every pre-norm block become one (ToMe)",
    source: "Token Merging: Your ViT But Faster (ICLR 2023), section 3",
    contract: track ? "constructs" : "approximate",
    requires: allTraits,
    preserves: allTraits.filter((trait) => trait !== "separateTokens"),
    example: mergeExample,
    run(graph, context) {
      const found = findBlocks(graph, context.registry);
      for (const { node, reason } of found.refusals) context.refused("mergeTokens", node, reason);
      const [first] = found.blocks;
      if (first === undefined)
        throw patternNotFound(
          "mergeTokens",
          "pre-norm self-attention blocks, x + f(attention(norm(x)))",
          found.refusals,
          graph.nodes.at(-1)?.locs[0] ?? unknownLoc,
          found.refusals.length === 0 ? "the graph has no attention op" : undefined,
        );
      const schedule = reductionSchedule(found.blocks.length, options.r);
      if (schedule.every((r) => r === 0) && !track) return graph;
      refuseMerged(graph);
      const protect = options.protect ?? leadingTokens(residualStream(first), dependsOnInput(graph));
      if (![0, 1, 2].includes(protect))
        throw compileError("bad-option", `mergeTokens: protect is 0, 1 or 2, got ${protect}`);
      const settings = { schedule, protect, proportional: options.proportional ?? true, track };
      const reads = rebuild(graph, found.blocks, { ...settings, source: track }, context, false);
      // An output that holds tokens is restored to their old number, which needs to know where each went.
      if (reads.restores && !track)
        return rebuild(graph, found.blocks, { ...settings, source: true }, context, true).graph;
      return rebuild(graph, found.blocks, { ...settings, source: track }, context, true).graph;
    },
  };
}

/** Merging again would count tokens that stand for several patches as one. */
function refuseMerged(graph: Graph): void {
  const merged = graph.nodes.find((node) => node.op === "tokenMatch");
  if (merged === undefined) return;
  throw compileError("cannot-merge", "mergeTokens: the tokens of this graph are merged already", {
    loc: merged.locs[0] as Loc,
    help: "merge once, with r as a list for other numbers per block",
  });
}

/** The residual stream that a block adds to. */
const residualStream = ({ attention, residual }: Block): Value => {
  const [a, b] = residual.operands as readonly [Value, Value];
  return a.producer.id < attention.id ? a : b;
};

interface Settings {
  readonly schedule: readonly number[];
  readonly protect: number;
  readonly proportional: boolean;
  readonly track: boolean;
  readonly source: boolean;
}

function rebuild(
  graph: Graph,
  blocks: readonly Block[],
  settings: Settings,
  context: PassContext,
  report: boolean,
): { graph: Graph; restores: boolean } {
  const { protect, proportional } = settings;
  const streams = new TokenStreams({ protect, proportional, registry: context.registry });
  const merges = new Map(blocks.map((block, i) => [block.residual, { block, r: settings.schedule[i] ?? 0 }]));
  let last: Tokens | undefined;
  let restores = false;
  const values = new Map<string, Value>();
  const outputsOf = new Map<Value, Output[]>();
  for (const output of graph.outputs) outputsOf.set(output.value, [...(outputsOf.get(output.value) ?? []), output]);
  const built = rebuildGraph(
    graph,
    context.registry,
    "mergeTokens",
    (node, rebuild) => {
      let results = streams.rewrite(node, rebuild) ?? copyNode(node, rebuild);
      const merge = merges.get(node);
      if (merge !== undefined && (merge.r > 0 || settings.track)) {
        const loc = madeBy("mergeTokens", [merge.block.attention, node]);
        const merged = rebuild.b.at({ loc, scope: node.scope }, () =>
          mergeBlock(merge.block, merge.r, results[0] as Value, rebuild, streams, settings, (most) => {
            if (report)
              context.note(
                `r=${merge.r} is more than half of the tokens: clamped to ${most}${node.scope === "" ? "" : ` in ${node.scope}`}`,
                merge.block.attention.locs[0] as Loc,
              );
          }),
        );
        if (report && merged.fired) context.fired("mergeTokens", merge.block.attention);
        results = [merged.value];
        last = merged.tokens ?? last;
      }
      node.results.forEach((value, i) => {
        for (const output of outputsOf.get(value) ?? []) {
          const place = streams.placeOf(value);
          const result = results[i] as Value;
          if (place === undefined || place.tokens.count === place.tokens.before) values.set(output.name, result);
          else {
            restores = true;
            values.set(
              output.name,
              place.tokens.source === undefined ? result : restore(result, place, place.tokens.source, output, rebuild),
            );
          }
        }
      });
      return results;
    },
    () => {
      const outputs = graph.outputs.map(({ name }) => ({ name, value: values.get(name) as Value }));
      if (settings.track && last?.sizes !== undefined && last.source !== undefined)
        outputs.push({ name: "tokenSizes", value: last.sizes }, { name: "tokenSource", value: last.source });
      return outputs;
    },
  );
  return { graph: built, restores };
}

/** Copies each merged token back to every place it came from: source^T x. */
function restore(value: Value, place: Place, source: Value, output: Output, { b }: Rebuild): Value {
  const { dtype, shape } = value.type;
  const [batch, tokens] = source.type.shape as readonly [Dim, Dim, Dim];
  if (place.axis !== 1 || shape.length !== 3 || shape[0] !== batch || shape[1] !== tokens || dtype !== "f32")
    throw compileError(
      "cannot-merge",
      `output ${output.name} holds merged tokens in ${formatType(value.type)} and cannot be restored`,
      {
        loc: output.value.producer.locs[0] as Loc,
        help: "only f32 outputs [batch, tokens, channels] can",
      },
    );
  return b.matmul(b.transpose(source, { perm: [0, 2, 1] }), value);
}

/** Matches on the keys averaged over heads and merges the residual sum. */
function mergeBlock(
  { attention, residual }: Block,
  wanted: number,
  x: Value,
  rebuild: Rebuild,
  streams: TokenStreams,
  { protect, source: trackSource }: Settings,
  clamped: (most: number) => void,
): { value: Value; tokens: Tokens | undefined; fired: boolean } {
  const { b } = rebuild;
  const old = residual.results[0] as Value;
  const before = streams.placeOf(old)?.tokens;
  const [batch, count, channels] = x.type.shape as readonly [Dim, Dim, Dim];
  const original = before?.before ?? count;
  const ones = (): Value => b.full({ dtype: "f32", shape: [batch, count, 1] }, 1);
  const identity = (): Value => {
    const shape = [count, count];
    const same = b.equal(b.iota({ shape, axis: 0 }), b.iota({ shape, axis: 1 }));
    return b.broadcast(b.cast(same, { to: "f32" }), { shape: [batch, count, count], axes: [0] });
  };
  const most = largestMerge(count, protect);
  const r = isStatic(most) ? Math.min(wanted, most) : wanted;
  if (r < wanted && isStatic(most)) clamped(most);
  if (r <= 0) {
    // Nothing to merge here; tracking still wants sizes and sources from the first block on.
    if (!trackSource || before !== undefined) return { value: x, tokens: before, fired: false };
    const tokens: Tokens = { before: original, count, sizes: ones(), source: identity() };
    streams.set(old, { tokens, axis: 1, outer: 1, inner: 1 });
    return { value: x, tokens, fired: false };
  }
  const keys = rebuild.of(attention.operands[1] as Value);
  // In f16 scores 3 matchings of 100 fall out differently, in bf16 23 (docs/papers/03-tocom.md, section 2.2).
  const wide = dtypes[keys.type.dtype].bits < 32 ? b.cast(keys, { to: "f32" }) : keys;
  const metric = b.reduceMean(wide, { axes: [1] });
  const [kept, from, to] = b.tokenMatch(metric, { r, protect });
  const merge = (value: Value, reduce: "sum" | "max") => b.tokenMerge(value, kept, from, to, { protect, reduce });
  const known = before?.sizes;
  const spread = (sizes: Value, channels: Dim) => {
    const shape = [batch, sizes.type.shape[1] as Dim, channels];
    return b.broadcast(b.reshape(castTo(b, sizes, x), { shape: shape.slice(0, 2) }), { shape, axes: [2] });
  };
  const total = merge(known === undefined ? x : b.mul(x, spread(known, channels)), "sum");
  const sizes = merge(known ?? ones(), "sum");
  const value = b.div(total, spread(sizes, channels));
  const source = trackSource ? merge(before?.source ?? identity(), "max") : undefined;
  const tokens: Tokens = { before: original, count: value.type.shape[1] as Dim, sizes, source };
  streams.set(old, { tokens, axis: 1, outer: 1, inner: 1 });
  return { value, tokens, fired: true };
}
