import { describe, expect, test } from "vitest";
import { type RandomGraph, type RandomGraphOptions, randomGraph, shrinkGraph } from "../../src/conform/randomGraph.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { type Adjust, applyOp, evaluateExact } from "../../src/ir/evaluate/index.ts";
import type { Graph, Value } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import { builtinOps, type OpName, ops } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { isFloat, type TensorData } from "../../src/ir/type.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { decompose } from "../../src/passes/decompose.ts";
import { runPasses } from "../../src/passes/pass.ts";

const seeds = Array.from({ length: 100 }, (_, seed) => seed);
const everyDType: RandomGraphOptions = {
  dtypes: ["f32", "f64", "f16", "i32", "i64", "i8", "u32", "u8", "bool"],
};
const printed = (graph: Graph): string => printGraph(graph, { inlineElements: Infinity });
const decomposed = (graph: Graph): Graph => runPasses({ graph, weights: new Map() }, [decompose()]).model.graph;

/** The outputs on which two graphs differ, with the difference; empty where they agree. */
function differences(a: Graph, b: Graph, inputs: Readonly<Record<string, TensorData>>): readonly string[] {
  const [got, wanted] = [evaluateExact(a, inputs), evaluateExact(b, inputs)];
  return Object.entries(wanted).flatMap(([name, tensor]) => {
    const allowed = tolerance(tensor.dtype, { target: "reference", golden: "F64" });
    const { ok, message } = compareTensors(got[name] as NumberTensor, tensor, allowed);
    return ok ? [] : [`${name}: ${message}`];
  });
}

describe.each([
  ["of the usual dtypes", {}],
  ["of every dtype", everyDType],
])("random graphs %s", (_, options: RandomGraphOptions) => {
  test.each(seeds)("seed %i verifies, reads back, and is what its decomposition computes", async (seed) => {
    const { graph, inputs } = randomGraph(seed, options);
    verifyGraph(graph);
    const text = printed(graph);
    expect(printed(parseGraph(text))).toBe(text);
    expect(differences(parseGraph(text), graph, inputs)).toEqual([]);
    if (differences(decomposed(graph), graph, inputs).length === 0) return;
    const smallest = await shrinkGraph(
      graph,
      async (candidate, values) => differences(decomposed(candidate), candidate, values).length > 0,
      inputs,
    );
    throw new Error(`decomposing changes the result of\n${smallest.text}`);
  });
});

test("300 seeds meet every op of the table", () => {
  const met = new Set<string>();
  for (let seed = 0; seed < 300; seed++) for (const node of randomGraph(seed).graph.nodes) met.add(node.op);
  expect((Object.keys(ops) as OpName[]).filter((op) => !met.has(op))).toEqual([]);
});

describe("a random graph", () => {
  test("is the same for the same seed, and another for another", () => {
    const [once, again, other] = [randomGraph(7), randomGraph(7), randomGraph(8)];
    expect(printed(once.graph)).toBe(printed(again.graph));
    expect(once.inputs).toEqual(again.inputs);
    expect(printed(other.graph)).not.toBe(printed(once.graph));
    expect(evaluateExact(once.graph, once.inputs)).toEqual(evaluateExact(again.graph, again.inputs));
  });

  test("has as many ops as were asked for, from those allowed", () => {
    const { graph } = randomGraph(3, { nodes: 40, ops: ["add", "exp", "softmax"] });
    const computing = graph.nodes.filter((node) => builtinOps.has(node.op));
    expect(computing.length).toBeGreaterThan(20); // equal nodes are one
    expect(new Set(computing.map((node) => node.op))).toEqual(new Set(["add", "exp", "softmax"]));
  });

  test("has inputs for exactly its inputs, and finite results", () => {
    for (const seed of seeds.slice(0, 20)) {
      const { graph, inputs } = randomGraph(seed);
      expect(Object.keys(inputs)).toEqual(graph.inputs.map((value) => value.producer.attrs["name"]));
      for (const { values } of Object.values(evaluateExact(graph, inputs)))
        expect(values.every(Number.isFinite)).toBe(true);
    }
  });

  // What the judges rely on: one that rounds to f32 after every op, inside composites too, stays within f32's tolerance.
  test.each(seeds)("of seed %i does not hang on roundings", (seed) => {
    expectSteady(randomGraph(seed));
  });

  test("does not hang on what underflows or cancels", () => {
    const ops = ["logSoftmax", "softmax", "sigmoid", "gelu", "mul", "sign", "less", "mod", "floor", "cast"] as const;
    for (let seed = 0; seed < 300; seed++) expectSteady(randomGraph(seed, { ops }));
  });

  test("has no product of integers that overflows", () => {
    for (let seed = 0; seed < 200; seed++) {
      const { graph, inputs } = randomGraph(seed, { ops: ["reduceProd", "add", "mul"], dtypes: ["i32"] });
      const partial: Float64Array[] = [];
      evaluateExact(graph, inputs, { onNode: (node, [x]) => void (partial[node.id] = (x as NumberTensor).values) });
      for (const { op, operands, attrs } of graph.nodes) {
        const [value] = operands as readonly [Value];
        if (op !== "reduceProd") continue;
        const shape = value.type.shape as readonly number[];
        const sizes = (partial[value.producer.id] as Float64Array).map((x) => Math.max(1, Math.abs(x)));
        const [most] = applyOp("reduceProd", builtinOps, [{ dtype: "f64", shape, values: sizes }], attrs);
        expect(Math.max(...(most as NumberTensor).values)).toBeLessThan(2 ** 31);
      }
    }
  });
});

function expectSteady({ graph, inputs }: RandomGraph): void {
  const exact = evaluateExact(graph, inputs);
  const adjust: Adjust = (_, results) =>
    results.map((tensor) => (isFloat(tensor.dtype) ? { ...tensor, values: tensor.values.map(Math.fround) } : tensor));
  for (const [name, tensor] of Object.entries(evaluateExact(graph, inputs, { adjust }))) {
    const allowed = tolerance(tensor.dtype, { target: "onnx" });
    expect(compareTensors(tensor, exact[name] as NumberTensor, allowed).message).toBe("");
  }
}

describe("a failing graph shrinks", () => {
  const withSoftmax = () => {
    const seed = seeds.find((s) => randomGraph(s, { nodes: 20 }).graph.nodes.some((node) => node.op === "softmax"));
    return randomGraph(seed as number, { nodes: 20 });
  };
  const hasSoftmax = async (graph: Graph) => graph.nodes.some((node) => node.op === "softmax");

  test("to the node at fault and what it reads", async () => {
    const { graph, inputs } = withSoftmax();
    const smallest = await shrinkGraph(graph, hasSoftmax, inputs);
    expect(smallest.graph.nodes.filter((node) => builtinOps.has(node.op)).length).toBe(1);
    verifyGraph(smallest.graph);
    expect(printed(parseGraph(smallest.text))).toBe(smallest.text);
    expect(Object.keys(smallest.inputs)).toEqual(smallest.graph.inputs.map((value) => value.producer.attrs["name"]));
    evaluateExact(smallest.graph, smallest.inputs);
  });

  test("with the reference's values where a part is cut off", async () => {
    const graph = parseGraph(`graph @g(%x: f32[2]) {
      %0 = exp(%x) : f32[2]
      %1 = reshape(%0) {shape=[1,2]} : f32[1,2]
      %2 = softmax(%1) {axis=1} : f32[1,2]
      %3 = reshape(%2) {shape=[2]} : f32[2]
      return y: %3, x: %x
    }`);
    const x: TensorData = { dtype: "f32", shape: [2], values: Float32Array.of(0, 1) };
    const smallest = await shrinkGraph(graph, hasSoftmax, { x });
    expect(smallest.text).toMatchInlineSnapshot(`
      "graph @g(%cut2_0: f32[1,2]) {
        %0 = softmax(%cut2_0) {axis=1} : f32[1,2]
        return y: %0
      }
      "
    `);
    expect(Object.values(smallest.inputs)[0]?.values).toEqual(Float32Array.of(1, Math.E));
  });

  test("without inputs by leaving out nodes alone", async () => {
    const graph = parseGraph(`graph @g(%x: f32[2]) {
      %0 = exp(%x) : f32[2]
      %1 = softmax(%0) {axis=0} : f32[2]
      %2 = neg(%1) : f32[2]
      return y: %2, z: %0
    }`);
    expect((await shrinkGraph(graph, hasSoftmax)).text).toMatchInlineSnapshot(`
      "graph @g(%x: f32[2]) {
        %0 = softmax(%x) {axis=0} : f32[2]
        return y: %0
      }
      "
    `);
  });

  test("not at all where nothing smaller fails", async () => {
    const graph = parseGraph("graph @g(%x: f32[2]) {\n  %0 = exp(%x) : f32[2]\n  return y: %0\n}\n");
    expect((await shrinkGraph(graph, async () => false)).graph).toBe(graph);
  });
});
