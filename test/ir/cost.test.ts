import { describe, expect, test } from "vitest";
import { traceModel } from "../../src/dsl/index.ts";
import { type Cost, type CostOptions, costOf } from "../../src/ir/cost.ts";
import type { Dim } from "../../src/ir/dim.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { deitSmall, deitTiny, vit, vitBase, vitLarge } from "../../src/models/vit.ts";
import { mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { runPasses } from "../../src/passes/pass.ts";

const cost = (text: string, options?: CostOptions): Cost => costOf(parseGraph(text), options);
const one = new Map<string, Dim>([["batch", 1]]);
/** Multiply-accumulates at batch 1 in units of 10^9, two digits, as the papers print them. */
const giga = (macs: Dim): string => ((macs as number) / 1e9).toFixed(2);

describe("cost of ops", () => {
  test("a matrix product counts rows times terms times columns", () => {
    const { macs, elementOps } = cost(
      "graph @g(%x: f32[5,2,3], %w: f32[3,4]) { %0 = matmul(%x, %w) : f32[5,2,4] return y: %0 }",
    );
    expect([macs, elementOps]).toEqual([5 * 2 * 3 * 4, 0]);
  });

  test("a convolution counts one product per result, tap and input channel of its group", () => {
    const { macs } = cost(`
graph @g(%x: f32[1,8,16,16], %w: f32[4,4,3,3]) {
  %0 = conv2d(%x, %w) {padding=[[1,1],[1,1]], groups=2} : f32[1,4,16,16]
  return y: %0
}`);
    expect(macs).toBe(16 * 16 * 4 * 4 * 9);
  });

  test("elementwise ops, reductions and scans count their arithmetic, views and gathers none", () => {
    const count = (body: string, result: string) =>
      cost(`graph @g(%x: f32[2,6], %i: i32[3]) { %0 = ${body} : ${result} return y: %0 }`).elementOps;
    expect(count("exp(%x)", "f32[2,6]")).toBe(12);
    expect(count("sigmoid(%x)", "f32[2,6]")).toBe(4 * 12); // neg, exp, add, div
    expect(count("reduceSum(%x) {axes=[1]}", "f32[2]")).toBe(12);
    expect(count("reduceMean(%x) {axes=[1]}", "f32[2]")).toBe(12 + 2);
    expect(count("cumsum(%x) {axis=1}", "f32[2,6]")).toBe(12);
    expect(count("transpose(%x) {perm=[1,0]}", "f32[6,2]")).toBe(0);
    expect(count("gather(%x, %i) {axis=1}", "f32[2,3]")).toBe(0);
  });

  test("attention counts its two products, whatever the softmax between them", () => {
    const { macs, byOp } = cost(`
graph @g(%q: f32[1,2,10,8], %k: f32[1,2,20,8], %v: f32[1,2,20,4]) {
  %0 = attention(%q, %k, %v) {scale=0.5} : f32[1,2,10,4]
  return y: %0
}`);
    expect(macs).toBe(2 * 10 * 20 * 8 + 2 * 10 * 20 * 4);
    expect([...byOp.keys()]).toEqual(["attention"]);
  });

  test("a scatter through a one-hot matrix adds, and multiplies nothing", () => {
    const { macs, elementOps } = cost(`
graph @g(%x: f32[100,8], %i: i32[5], %u: f32[5,8]) {
  %0 = scatterAdd(%x, %i, %u) {axis=0} : f32[100,8]
  return y: %0
}`);
    expect(macs).toBe(0);
    expect(elementOps).toBe(100 * 8 + 5 * 8 + 2 * 5 * 100); // the sum, the updates, and the one-hot's compare and cast
  });

  test("excluded ops count nothing, inside composites too", () => {
    const text = "graph @g(%x: f32[2,3]) { %0 = softmax(%x) {axis=1} : f32[2,3] return y: %0 }";
    expect(cost(text, { exclude: new Set(["softmax"]) }).elementOps).toBe(0);
    expect(cost(text, { exclude: new Set(["exp"]) }).elementOps).toBe((cost(text).elementOps as number) - 6);
  });
});

describe("cost of graphs", () => {
  const text = `
graph @g(%x: f32[batch,4]) {
  %a.w = parameter() : f16[4,8] in a
  %b.w = parameter() : i4[3]
  %0 = cast(%a.w) {to="f32"} : f32[4,8] in a
  %1 = matmul(%x, %0) : f32[batch,8] in a
  %2 = relu(%1) : f32[batch,8] in b
  return y: %2, w: %b.w
}`;

  test("parameters count their elements, and bytes as stored", () => {
    const { parameterCount, parameterBytes } = cost(text);
    expect([parameterCount, parameterBytes]).toEqual([35, 64 + 2]);
  });

  test("work is a polynomial in the symbols, and a number once they are bound", () => {
    const { macs, activationBytes } = cost(text);
    expect([macs, activationBytes]).toEqual(["32*batch", "64*batch+128"]);
    const bound = cost(text, { symbols: new Map([["batch", 3]]) });
    expect([bound.macs, bound.activationBytes]).toEqual([96, 320]);
  });

  test("a composite that needs the size of a symbol says so, at its place", () => {
    const decode = `
graph @decode(%q: f32[1,2,1,4], %k: f32[1,2,8,4], %v: f32[1,2,8,4]) {
  %0 = attention(%q, %k, %v) {scale=0.5, causal=true, past="past"} : f32[1,2,1,4] loc("llama.ts":7:3)
  return y: %0
}`;
    expect(() => cost(decode)).toThrow("llama.ts:7:3 error[unbound-symbol]: cost of attention: plain operators need");
    expect(cost(decode, { symbols: new Map([["past", 7]]) }).macs).toBe(2 * 2 * 8 * 4);
  });

  test("work is told apart by scope and by op, in order", () => {
    const { byScope, byOp } = cost(text, { symbols: one });
    expect([...byScope]).toEqual([
      ["a", { macs: 32, elementOps: 32 }],
      ["b", { macs: 0, elementOps: 8 }],
    ]);
    expect([...byOp.keys()]).toEqual(["cast", "matmul", "relu"]);
  });
});

// Published multiply-accumulates, docs/papers/03-tocom.md section 5: batch 1, matching left out.
describe("cost of vision transformers", () => {
  const matching = new Set(["tokenMatch"]);
  const huge = vit({ patch: 14, dim: 1280, depth: 32, heads: 16 });
  const at = (size: number, config: object = {}) => vit({ imageSize: size, ...config });
  const large = { dim: 1024, depth: 24, heads: 16 };

  test.each([
    ["DeiT-Ti", deitTiny, "1.25"],
    ["DeiT-S", deitSmall, "4.60"],
    ["ViT-B", vitBase, "17.56"],
    ["ViT-L", vitLarge, "61.55"],
    ["ViT-H/14", huge, "167.30"],
    ["ViT-B at 384", at(384), "55.48"],
    ["ViT-L at 384", at(384, large), "191.07"],
    ["ViT-L at 512", at(512, large), "361.99"],
  ])("$0 takes $2", (_, model, published) => {
    expect(giga(costOf(traceModel(model), { symbols: one }).macs)).toBe(published);
  });

  test("the parameters of DeiT-S are 22.05 million", () => {
    // Touvron et al., ICML 2021, table 1: 22M; timm counts 22,050,664.
    expect(costOf(traceModel(deitSmall)).parameterCount).toBe(22_050_664);
  });

  test.each([
    ["DeiT-Ti", deitTiny, 13, "0.73"],
    ["DeiT-S", deitSmall, 13, "2.70"],
    ["ViT-B", vitBase, 8, "13.10"],
    ["ViT-B", vitBase, 13, "10.37"],
    ["ViT-B", vitBase, 16, "8.77"],
    ["ViT-L", vitLarge, 7, "34.71"],
    ["ViT-L", vitLarge, 8, "30.96"],
    ["ViT-H/14", huge, 7, "92.83"],
    ["ViT-B at 384", at(384), 45, "28.25"],
    ["ViT-L at 384", at(384, large), 23, "96.24"],
  ])("$0 with $2 tokens merged per block takes $3", (_, model, r, published) => {
    const { model: merged } = runPasses({ graph: traceModel(model), weights: new Map() }, [mergeTokens({ r })]);
    expect(giga(costOf(merged.graph, { symbols: one, exclude: matching }).macs)).toBe(published);
  });
});
