// 08-survey: rotary embedding, exact attention, grouped queries.
import type { Builder } from "../../ir/builder.ts";
import type { Value } from "../../ir/graph.ts";
import { tensorData } from "../../ir/type.ts";
import { type Component, caseGraph, headsOf, joinHeads, project, type VectorCase } from "../component.ts";

function rope(vector: VectorCase): ReturnType<Component> {
  if (vector.tensors.has("param.wq_interleaved")) return ropePermute(vector);
  return caseGraph(vector, (b, read) => ({
    y: b.rotaryEmbedding(read.input("x"), read.input("cos"), read.input("sin"), {
      interleaved: vector.settings.boolean("interleaved"),
    }),
  }));
}

/** Row order that turns weights for interleaved pairs into weights for half-split pairs, head by head. */
export function halfSplitOrder(heads: number, channels: number): readonly number[] {
  return Array.from({ length: heads }, (_, head) =>
    [0, 1].flatMap((parity) => Array.from({ length: channels / 2 }, (_, i) => head * channels + 2 * i + parity)),
  ).flat();
}

function ropePermute(vector: VectorCase): ReturnType<Component> {
  const { settings } = vector;
  const [heads, channels] = [settings.number("H"), settings.number("head_dim")];
  const order = halfSplitOrder(heads, channels);
  const built = caseGraph(vector, (b, read) => {
    const x = read.input("x");
    const rows = b.constant({ dtype: "i32", shape: [order.length], numbers: order });
    const reorder = (name: string) => b.gather(read.parameter(name), rows, { axis: 0 });
    const [wq_half, wk_half] = [reorder("wq_interleaved"), reorder("wk_interleaved")];
    const [cos, sin] = rotaryTables(b, x.type.shape[1] as number, channels, settings.number("base"));
    const turned = (weight: Value) => b.rotaryEmbedding(headsOf(b, project(b, x, weight), heads), cos, sin);
    const logits = b.matmul(turned(wq_half), b.transpose(turned(wk_half), { perm: [0, 1, 3, 2] }));
    return { logits, wq_half, wk_half };
  });
  return { ...built, host: { row_perm: tensorData("i32", [order.length], order) } };
}

function rotaryTables(b: Builder, tokens: number, channels: number, base: number): readonly [Value, Value] {
  const half = channels / 2;
  const angles = Array.from({ length: tokens * half }, (_, i) => Math.floor(i / half) * base ** (-(i % half) / half));
  const table = (f: (angle: number) => number) =>
    b.constant({ dtype: "f32", shape: [tokens, half], numbers: angles.map(f) });
  return [table(Math.cos), table(Math.sin)];
}

function flash(vector: VectorCase): ReturnType<Component> {
  const { settings } = vector;
  return caseGraph(vector, (b, read) => {
    const [o, lse] = b.attention([read.input("q"), read.input("k"), read.input("v")], {
      scale: settings.number("scale"),
      causal: settings.boolean("causal"),
      left: settings.number("left"),
      right: settings.number("right"),
      past: settings.number("offset"),
      logSumExp: true,
    });
    return { o, lse: lse as Value };
  });
}

function gqa(vector: VectorCase): ReturnType<Component> {
  const { settings } = vector;
  return caseGraph(vector, (b, read) => {
    const part = (weight: string, heads: number) =>
      headsOf(b, project(b, read.input("x"), read.parameter(weight)), heads);
    const q = part("wq", settings.number("Hq"));
    const [k, v] = [part("wk", settings.number("Hkv")), part("wv", settings.number("Hkv"))];
    const [out] = b.attention([q, k, v], {
      scale: 1 / Math.sqrt(settings.number("head_dim")),
      causal: settings.boolean("causal"),
    });
    return { y: project(b, joinHeads(b, out), read.parameter("wo")), present_k: k, present_v: v };
  });
}

export const attentionComponents: Readonly<Record<string, Component>> = { rope, flash, gqa };
