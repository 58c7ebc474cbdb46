import { describe, expect, test } from "vitest";
import { InternalError } from "../../src/ir/diagnostic.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import type { Value } from "../../src/ir/graph.ts";
import type { Composite } from "../../src/ir/op.ts";
import { builtinOps } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { registryWith } from "../../src/ir/registry.ts";
import { tensorData } from "../../src/ir/type.ts";
import { decompose } from "../../src/passes/decompose.ts";
import { runPasses } from "../../src/passes/pass.ts";

const run = (text: string, keep: readonly string[] = []) =>
  runPasses({ graph: parseGraph(text), weights: new Map() }, [decompose(new Set(keep))]);
const composites = (text: string, keep: readonly string[] = []) =>
  run(text, keep).model.graph.nodes.filter((node) => builtinOps.get(node.op)?.kind === "composite");

const attention = `
graph @attend(%q: f32[1,2,3,4], %k: f32[1,1,5,4], %v: f32[1,1,5,4]) {
  %0 = attention(%q, %k, %v) {scale=0.5, causal=true, past=2} : f32[1,2,3,4] in blocks.0.attn loc("vit.ts":7:3)
  return y: %0
}`;

describe("decompose", () => {
  test("writes out composites of composites until none is left", () => {
    expect(composites(attention)).toEqual([]);
  });

  test("leaves whole what a backend keeps, also inside others", () => {
    expect(composites(attention, ["attention"]).map((n) => n.op)).toEqual(["attention"]);
    expect(composites(attention, ["softmax"]).map((n) => n.op)).toEqual(["softmax"]);
    expect(run(attention, ["attention"]).reports[0]?.changed).toBe(false);
  });

  test("keeps the meaning", () => {
    const inputs = Object.fromEntries(
      [
        ["q", [1, 2, 3, 4]],
        ["k", [1, 1, 5, 4]],
        ["v", [1, 1, 5, 4]],
      ].map(([name, shape], seed) => {
        const sizes = shape as number[];
        const count = sizes.reduce((a, b) => a * b, 1);
        return [
          name,
          tensorData(
            "f32",
            sizes,
            Array.from({ length: count }, (_, i) => Math.sin(i + 7 * seed)),
          ),
        ];
      }),
    );
    const after = evaluateExact(run(attention).model.graph, inputs)["y"]?.values;
    expect(after).toEqual(evaluateExact(parseGraph(attention), inputs)["y"]?.values);
  });

  test("gives the parts the composite's scope, and where it stood", () => {
    const { graph } = run(attention).model;
    const parts = graph.nodes.filter((node) => node.op !== "input");
    expect(new Set(parts.map((node) => node.scope))).toEqual(new Set(["blocks.0.attn"]));
    const place = { kind: "file", file: "vit.ts", line: 7, column: 3 };
    const softmaxPart = parts.find((node) => node.op === "exp");
    expect(softmaxPart?.locs[0]).toMatchObject({ kind: "made", by: "decompose" });
    expect(JSON.stringify(softmaxPart?.locs)).toContain(JSON.stringify(place).slice(1, -1));
  });

  test("makes only the results that are read", () => {
    const topOne = `
graph @top(%x: f32[4]) {
  %0, %1 = topK(%x) {axis=0, k=1} : f32[1], i32[1]
  return index: %1
}`;
    expect(printGraph(run(topOne).model.graph)).toBe(`graph @top(%x: f32[4]) {
  %0, %1 = sort(%x) {axis=0, descending=true} : f32[4], i32[4]
  %2 = slice(%1) {axis=0, end=1} : i32[1]
  return index: %2
}
`);
  });

  test("reports each composite that it wrote out", () => {
    expect(run(attention).reports[0]?.fired.map((f) => f.rule)).toEqual(["attention", "softmax"]);
  });

  test("a composite that expands into itself is a defect", () => {
    const endless: Composite<[x: Value]> = {
      kind: "composite",
      summary: "never ends",
      source: "a test",
      operands: ["x"],
      attrs: {},
      infer: ([x]) => [x as never],
      decompose: (b, [x]) => b.make("endless", [b.neg(x)])[0] as Value,
    };
    const registry = registryWith([["endless", endless]]);
    const graph = parseGraph("graph @g(%x: f32[2]) { %0 = endless(%x) : f32[2] return y: %0 }", { registry });
    expect(() => runPasses({ graph, weights: new Map() }, [decompose()], { registry })).toThrow(InternalError);
  });
});
