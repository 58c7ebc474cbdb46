import { describe, expect, test } from "vitest";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { tensorData } from "../../src/ir/type.ts";
import { bindSymbols } from "../../src/passes/bindSymbols.ts";
import { runPasses } from "../../src/passes/pass.ts";

const bind = (text: string, sizes: Record<string, number>) =>
  runPasses({ graph: parseGraph(text), weights: new Map() }, [bindSymbols(sizes)]);
const bound = (text: string, sizes: Record<string, number>) => printGraph(bind(text, sizes).model.graph);

const windowed = `
graph @windows(%x: f32[batch,n,4]) {
  %0 = slice(%x) {axis=1, start=1, end="n"} : f32[batch,n-1,4]
  %1 = reshape(%0) {shape=["batch","4*n-4"]} : f32[batch,4*n-4]
  return y: %1
}`;
const cached = `
graph @decode(%q: f32[1,2,1,4], %k: f32[1,2,8,4], %v: f32[1,2,8,4]) {
  %0 = attention(%q, %k, %v) {scale=0.5, causal=true, past="past"} : f32[1,2,1,4]
  return y: %0
}`;

describe("bindSymbols", () => {
  test("replaces a symbol in input types, result types and attributes", () => {
    const text = bound(windowed, { n: 6, batch: 2 });
    expect(text).toContain("%x: f32[2,6,4]");
    expect(text).toContain("slice(%x) {axis=1, start=1, end=6} : f32[2,5,4]");
    expect(text).toContain("reshape(%0) {shape=[2,20]} : f32[2,20]");
  });

  test("leaves the symbols that are not named", () => {
    expect(bound(windowed, { n: 7 })).toContain("f32[batch,6,4]");
  });

  test("binds a symbol that stands in an attribute only", () => {
    expect(bound(cached, { past: 7 })).toContain("past=7");
  });

  test("computes what the symbolic graph computes at that size", () => {
    const before = parseGraph(bindSymbols({}).example.before);
    const after = bind(bindSymbols({}).example.before, { batch: 2 }).model.graph;
    const inputs = {
      features: tensorData("f32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
      weight: tensorData("f32", [4, 3], [1, 0, 2, 0, 1, 0, 3, 1, 0, 1, 1, 1]),
      bias: tensorData("f32", [3], [0.5, -1, 2]),
    };
    expect(evaluateGraph(after, inputs)).toEqual(evaluateGraph(before, inputs));
  });

  test("says which inputs it bound", () => {
    const { reports } = bind(bindSymbols({}).example.before, { batch: 3 });
    expect(reports[0]?.fired.map((f) => f.rule)).toEqual(["batch=3"]);
  });

  test("refuses a symbol that the graph does not have, with the nearest name", () => {
    expect(() => bind(windowed, { bacth: 1 })).toThrow(CompileError);
    expect(() => bind(windowed, { bacth: 1 })).toThrow(
      'error[unknown-symbol]: bindSymbols: windows has no symbol "bacth"\n  help: did you mean batch?',
    );
  });

  test.each([0, -1, 1.5, Number.NaN])("refuses the size %s", (size) => {
    expect(() => bind(bindSymbols({}).example.before, { batch: size })).toThrow(
      /error\[bad-option\]: bindSymbols: batch wants a positive integer/,
    );
  });

  test("refuses a size that leaves a tensor with a negative size", () => {
    const text = "graph @g(%x: f32[n-8]) { %0 = neg(%x) : f32[n-8] return y: %0 }";
    expect(() => bind(text, { n: 3 })).toThrow("error[bad-option]: bindSymbols: f32[n-8] would become f32[-5]");
  });
});
