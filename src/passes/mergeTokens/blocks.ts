import type { Loc } from "../../ir/diagnostic.ts";
import { type Graph, type Node, type Use, usesOf, type Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { builtinOps } from "../../ir/ops/index.ts";
import type { Dim } from "../../ir/type.ts";
import { followTokens } from "./stream.ts";

/** A pre-norm self-attention block: residual = add(stream, ... attention(... norm(stream) ...)). */
export interface Block {
  readonly attention: Node;
  /** The addition that joins attention's branch and the residual stream. */
  readonly residual: Node;
}

export interface Refusal {
  readonly node: Node;
  readonly reason: string;
  readonly loc: Loc;
}

/** Every attention of the graph, as a block whose tokens can be merged or with the reason why not. Names play no part. */
export function findBlocks(
  graph: Graph,
  registry: Registry = builtinOps,
): { readonly blocks: readonly Block[]; readonly refusals: readonly Refusal[] } {
  const uses = usesOf(graph);
  const varies = dependsOnInput(graph);
  const blocks: Block[] = [];
  const refusals: Refusal[] = [];
  for (const node of graph.nodes) {
    if (node.op !== "attention") continue;
    const found = blockAround(node, uses, varies, registry);
    if (typeof found === "string") refusals.push({ node, reason: found, loc: node.locs[0] as Loc });
    else blocks.push({ attention: node, residual: found });
  }
  return { blocks, refusals };
}

/** The residual addition behind an attention, or why its block cannot merge tokens. */
function blockAround(
  attention: Node,
  uses: ReadonlyMap<Value, readonly Use[]>,
  varies: ReadonlySet<Value>,
  registry: Registry,
): Node | string {
  const { attrs } = attention;
  const [query, key, value] = attention.operands as readonly [Value, Value, Value];
  const extras = attrs["extras"] as readonly string[];
  if (attrs["causal"] === true) return "attention is causal: a merged token would let earlier ones see later ones";
  if ((attrs["left"] as number) >= 0 || (attrs["right"] as number) >= 0)
    return "attention is windowed: positions lose their meaning once tokens merge";
  if (attrs["past"] !== 0) return "attention reads cached keys, whose tokens are not at hand to merge";
  if (extras.includes("mask") || extras.includes("bias"))
    return "attention has a mask or bias whose size is tied to the number of tokens";
  if (extras.includes("logSize")) return "attention already weighs its keys by size: tokens are merged already";
  if (query.type.shape[2] !== key.type.shape[2]) return "queries and keys differ in number: this is cross-attention";
  const join = branchEnd(attention.results[0] as Value, uses, varies);
  if (typeof join === "string") return join;
  const { add, branch } = join;
  const stream = add.operands[0] === branch ? (add.operands[1] as Value) : (add.operands[0] as Value);
  const [batch, , tokens] = query.type.shape as readonly [Dim, Dim, Dim];
  const { shape } = stream.type;
  if (shape.length !== 3 || shape[0] !== batch || shape[1] !== tokens)
    return `the residual stream is [${shape.join(",")}], not [batch, tokens, channels]`;
  const heads = [query, key, value].map((part) => normAbove(part, stream, varies));
  const postNorm = uses.get(add.results[0] as Value)?.some(({ user }) => isNorm(user)) === true;
  if (heads.some((head) => head === "raw"))
    return postNorm
      ? "the residual sum is normalised after the addition: this is a post-norm block, and merging needs a pre-norm one"
      : "queries and keys are taken from the residual stream without a normalization before them (not a pre-norm block)";
  if (heads.includes("elsewhere"))
    return "queries, keys and values do not all come from the residual stream that the block adds to";
  if (new Set(heads).size !== 1) return "queries, keys and values come from different normalizations";
  for (const part of [query, key, value]) {
    const place = followTokens(registry, stream, pathBetween(stream, part, varies));
    if (typeof place === "string") return `between the normalization and attention, ${place}`;
    if (place.axis !== 2 || place.outer !== 1 || place.inner !== 1)
      return "attention does not run over the tokens of the residual stream";
  }
  return add;
}

const isNorm = (node: Node): boolean => node.op === "layerNorm" || node.op === "rmsNorm";

/** Follows a branch forward while nothing else that varies enters it, up to the addition that joins the residual. */
function branchEnd(
  start: Value,
  uses: ReadonlyMap<Value, readonly Use[]>,
  varies: ReadonlySet<Value>,
): { add: Node; branch: Value } | string {
  let branch = start;
  for (;;) {
    const users = [...new Set((uses.get(branch) ?? []).map((use) => use.user))];
    if (users.length !== 1)
      return `attention's branch is read in ${users.length} places before it joins the residual stream`;
    const user = users[0] as Node;
    const varying = user.operands.filter((operand) => varies.has(operand));
    if (varying.length === 1 && user.results.length === 1) branch = user.results[0] as Value;
    else if (user.op === "add" && varying.length === 2) return { add: user, branch };
    else return `attention's branch ends in ${user.op} instead of a residual addition`;
  }
}

/** The normalization between `stream` and a projection of it; "raw" without one; "elsewhere" if the path misses it. */
function normAbove(part: Value, stream: Value, varies: ReadonlySet<Value>): Node | "raw" | "elsewhere" {
  let at = part;
  for (;;) {
    if (at === stream) return "raw";
    const { producer } = at;
    const varying = producer.operands.filter((operand) => varies.has(operand));
    if (varying.length !== 1) return "elsewhere";
    if (varying[0] === stream && isNorm(producer)) return producer;
    at = varying[0] as Value;
  }
}

/** The ops from a stream to a projection of it, in order; each reads nothing else that varies. */
function pathBetween(stream: Value, part: Value, varies: ReadonlySet<Value>): readonly Node[] {
  const path: Node[] = [];
  for (let at = part; at !== stream; ) {
    path.unshift(at.producer);
    at = at.producer.operands.find((operand) => varies.has(operand)) as Value;
  }
  return path;
}

/** Values that depend on an input of the graph; all others are known once the weights are. */
export function dependsOnInput(graph: Graph): ReadonlySet<Value> {
  const varies = new Set<Value>();
  for (const node of graph.nodes)
    if (node.op === "input" || node.operands.some((operand) => varies.has(operand)))
      for (const result of node.results) varies.add(result);
  return varies;
}

/**
 * How many tokens at the front of a stream come from parameters alone (class, distillation): 0, 1 or 2. They may have
 * been joined one after the other.
 */
export function leadingTokens(stream: Value, varies: ReadonlySet<Value>): number {
  let count = 0;
  let at = stream;
  for (;;) {
    const { producer } = at;
    const joins = producer.op === "concat" && producer.attrs["axis"] === 1;
    if (joins)
      for (const part of producer.operands) {
        const tokens = part.type.shape[1];
        if (varies.has(part) || typeof tokens !== "number") break;
        count += tokens;
      }
    // Down the side that varies, as long as it holds the same tokens; at an addition the first such side is the stream.
    const next = producer.operands.find((operand) => varies.has(operand) && operand.type.shape.length === 3);
    if (next === undefined || (!joins && next.type.shape[1] !== at.type.shape[1])) return Math.min(count, 2);
    at = next;
  }
}
