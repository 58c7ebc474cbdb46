import { describe, expect, test } from "vitest";
import { randomGraph } from "../../src/conform/randomGraph.ts";
import { compareTensors, tolerances } from "../../src/conform/tolerance.ts";
import { evaluateExact, evaluateGraph } from "../../src/ir/evaluate/index.ts";
import {
  type Graph,
  type Model,
  type Node,
  parametersOf,
  sourceName,
  type Value,
  type WeightSource,
} from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import { builtinOps } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { type DType, elementsOf, isFloat, type TensorData, tensorData, toNumbers } from "../../src/ir/type.ts";
import { foldConstants } from "../../src/passes/foldConstants.ts";
import { type PassReport, runPasses } from "../../src/passes/pass.ts";
import { rebuildGraph } from "../../src/passes/rebuild.ts";

/** A weight in memory that counts how often it is read. */
function inMemory(data: TensorData, hash = "a"): WeightSource & { reads: number } {
  const source = {
    reads: 0,
    type: data,
    hash,
    async read(start = 0, end = data.values.length) {
      source.reads++;
      return { dtype: data.dtype, shape: [end - start], values: data.values.slice(start, end) };
    },
  };
  return source;
}

/** Small numbers that f32 adds and multiplies exactly. */
const numbers = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => (((i + seed) * 37) % 17) / 4 - 2);

const typeOf = (node: Node) => (node.results[0] as Value).type as { dtype: DType; shape: readonly number[] };

/** Weights for every parameter of a graph. */
function weighed(text: string): Model {
  const graph = parseGraph(text);
  const weights = parametersOf(graph).map((node, i): [string, WeightSource] => {
    const { dtype, shape } = typeOf(node);
    return [sourceName(node), inMemory(tensorData(dtype, shape, numbers(elementsOf(shape), i)), `h${i}`)];
  });
  return { graph, weights: new Map(weights) };
}

/** The same graph with a parameter in place of each input. */
const inputsAsParameters = (graph: Graph): Graph =>
  rebuildGraph(graph, builtinOps, "test", ({ op, attrs, results }, { b }) =>
    op === "input" ? [b.parameter(attrs["name"] as string, (results[0] as Value).type)] : undefined,
  );

const fold = (model: Model | string, options?: { views?: boolean }) => {
  const { model: after, reports } = runPasses(
    typeof model === "string" ? { graph: parseGraph(model), weights: new Map() } : model,
    [foldConstants(options)],
  );
  return { after, report: reports[0] as PassReport, text: printGraph(after.graph) };
};

async function evaluate({ graph, weights }: Model): Promise<number[]> {
  const parameters = new Map<string, TensorData>();
  for (const node of parametersOf(graph)) {
    const { dtype, shape } = typeOf(node);
    const source = weights.get(sourceName(node)) as WeightSource;
    parameters.set(sourceName(node), { dtype, shape, values: (await source.read()).values });
  }
  const inputs = Object.fromEntries(
    graph.inputs.map(({ type, producer }) => {
      const shape = type.shape as readonly number[];
      return [sourceName(producer), tensorData(type.dtype, shape, numbers(elementsOf(shape), 5))];
    }),
  );
  return [...toNumbers(Object.values(evaluateGraph(graph, inputs, { parameters }))[0] as TensorData)];
}

const scaled = `
graph @head(%x: f32[2,3]) {
  %head.weight = parameter() : f32[4,3] in head
  %head.scale = parameter() : f32[4] in head
  %0 = broadcast(%head.scale) {shape=[4,3], axes=[1]} : f32[4,3] in head
  %1 = mul(%head.weight, %0) : f32[4,3] in head
  %2 = transpose(%1) {perm=[1,0]} : f32[3,4] in head
  %3 = matmul(%x, %2) : f32[2,4] in head
  return y: %3
}`;

describe("folding constants", () => {
  test("computes in f64 and rounds once to the dtype", () => {
    const { text } = fold(`
graph @g(%x: f16[]) {
  %0 = constant() {data=[1,2]} : f16[2]
  %1 = constant() {data=[3,3]} : f16[2]
  %2 = div(%0, %1) : f16[2]
  %3 = reduceSum(%2) {axes=[0]} : f16[]
  %4 = add(%x, %3) : f16[]
  return y: %4, thirds: %2
}`);
    expect(text).toContain("{data=[0.33325195,0.6665039]} : f16[2]"); // nearest f16 to 1/3 and 2/3
    expect(text).toContain("{data=[1]} : f16[]"); // of the sum before rounding
  });

  test("wraps integers as the target does", () => {
    const { text } = fold(`
graph @g(%x: i8[2]) {
  %0 = constant() {data=[100,-100]} : i8[2]
  %1 = add(%0, %0) : i8[2]
  %2 = add(%x, %1) : i8[2]
  return y: %2
}`);
    expect(text).toContain("{data=[-56,56]} : i8[2]");
  });

  test("keeps one number repeated as a broadcast, whatever the shape, symbols included", () => {
    const { text, report } = fold(`
graph @g(%x: f32[batch,4096]) {
  %0 = constant() {data=[2]} : f32[]
  %1 = broadcast(%0) {shape=["batch",4096], axes=[0,1]} : f32[batch,4096]
  %2 = constant() {data=[8]} : f32[]
  %3 = broadcast(%2) {shape=["batch",4096], axes=[0,1]} : f32[batch,4096]
  %4 = div(%1, %3) : f32[batch,4096]
  %5 = mul(%x, %4) : f32[batch,4096]
  return y: %5
}`);
    expect(report.fired.map((f) => f.rule)).toEqual(["foldUniform"]);
    expect(text).toBe(`graph @g(%x: f32[batch,4096]) {
  %0 = constant() {data=[0.25]} : f32[]
  %1 = broadcast(%0) {shape=["batch",4096], axes=[0,1]} : f32[batch,4096]
  %2 = mul(%x, %1) : f32[batch,4096]
  return y: %2
}
`);
  });

  test("does not grow: a mask made by counting stays a formula", () => {
    const mask = (size: number) => `
graph @mask(%x: bool[${size},${size}]) {
  %0 = iota() {shape=[${size},${size}], axis=0} : i32[${size},${size}]
  %1 = iota() {shape=[${size},${size}], axis=1} : i32[${size},${size}]
  %2 = lessEqual(%1, %0) : bool[${size},${size}]
  %3 = and(%x, %2) : bool[${size},${size}]
  return y: %3
}`;
    const large = fold(mask(64));
    expect(large.report.changed).toBe(false);
    expect(large.report.refused.map((r) => r.refused)).toEqual([
      "the result would take 4096 bytes, what it is made from 0",
    ]);
    expect(fold(mask(2)).text).toContain("constant() {data=[1,0,1,1]} : bool[2,2]");
  });

  test("leaves views of constants to the backend unless told otherwise", () => {
    const text = `
graph @g(%x: f32[3,2]) {
  %0 = constant() {data=[1,2,3,4,5,6]} : f32[2,3]
  %1 = transpose(%0) {perm=[1,0]} : f32[3,2]
  %2 = add(%x, %1) : f32[3,2]
  return y: %2
}`;
    expect(fold(text).report.changed).toBe(false);
    expect(fold(text, { views: true }).text).toContain("constant() {data=[1,4,2,5,3,6]} : f32[3,2]");
  });

  test("folds below what it cannot fold", () => {
    const { text } = fold(`
graph @g(%x: f32[400,4]) {
  %0 = constant() {data=[0,1,2,3]} : f32[4]
  %1 = exp(%0) : f32[4]
  %2 = broadcast(%1) {shape=[400,4], axes=[0]} : f32[400,4]
  %3 = iota() {shape=[400,4], axis=0, dtype="f32"} : f32[400,4]
  %4 = mul(%2, %3) : f32[400,4]
  %5 = add(%x, %4) : f32[400,4]
  return y: %5
}`);
    expect(text).not.toContain("exp(");
    expect(text).toContain("mul(");
  });

  test("refuses what fails to evaluate, with the reason, and leaves it", () => {
    const { report } = fold(`
graph @g(%x: f32[1]) {
  %0 = constant() {data=[1,2]} : f32[2]
  %1 = constant() {data=[7]} : i32[1]
  %2 = gather(%0, %1) {axis=0} : f32[1]
  %3 = add(%x, %2) : f32[1]
  return y: %3
}`);
    expect(report.changed).toBe(false);
    expect(report.refused.map((r) => r.refused)).toEqual(["gather reads index 7 of an axis of 2 elements"]);
  });
});

describe("folding weights", () => {
  test("makes one parameter of the largest part with arithmetic, and leaves the transpose to the backend", async () => {
    const model = weighed(scaled);
    const { after, text, report } = fold(model);
    expect(report.fired.map((f) => f.rule)).toEqual(["foldWeights"]);
    const [name] = parametersOf(after.graph).map(sourceName) as [string];
    expect(name).toMatch(/^head\.folded\.[0-9a-f]{10}$/);
    expect(text).toBe(`graph @head(%x: f32[2,3]) {
  %${name} = parameter() : f32[4,3] in head
  %0 = transpose(%${name}) {perm=[1,0]} : f32[3,4] in head
  %1 = matmul(%x, %0) : f32[2,4] in head
  return y: %1
}
`);
    expect(await evaluate(after)).toEqual(await evaluate(model));
  });

  test("never without the weights", () => {
    expect(fold(scaled).report.changed).toBe(false);
  });

  test("never where a weight is missing or of another type than its parameter", () => {
    const model = weighed(scaled);
    const partial = new Map([...model.weights].filter(([name]) => name === "head.weight"));
    expect(fold({ ...model, weights: partial }).report.changed).toBe(false);
    const half = new Map(model.weights);
    half.set("head.scale", inMemory(tensorData("f16", [4], [1, 1, 1, 1])));
    const { report } = fold({ ...model, weights: half });
    expect(report.changed).toBe(false);
    expect(report.refused.map((r) => r.refused)).toEqual(["its contents are f16[4]"]);
  });

  test("reads no weight before the folded one is read, and computes it once for reads in parts", async () => {
    const model = weighed(scaled);
    const { after } = fold(model);
    const weight = model.weights.get("head.weight") as WeightSource & { reads: number };
    expect(weight.reads).toBe(0);
    const [name] = parametersOf(after.graph).map(sourceName) as [string];
    const source = after.weights.get(name) as WeightSource;
    const [low, high] = await Promise.all([source.read(0, 5), source.read(5, 12)]);
    expect(weight.reads).toBe(1);
    expect([low.shape, high.shape]).toEqual([[5], [7]]);
    const whole = await source.read();
    expect(whole.shape).toEqual([4, 3]);
    expect([...toNumbers(low), ...toNumbers(high)]).toEqual([...toNumbers(whole)]);
    await expect(source.read(0, 13)).rejects.toThrow("elements 0 to 13 of 12 are asked of a folded weight");
  });

  test("names and hashes are stable, and hashes follow the weights", () => {
    const [a, b] = [fold(weighed(scaled)), fold(weighed(scaled))];
    expect(a.text).toBe(b.text);
    const other = weighed(scaled);
    const weights = new Map(other.weights).set("head.scale", inMemory(tensorData("f32", [4], [1, 1, 1, 1]), "other"));
    const c = fold({ ...other, weights });
    expect(c.text).toBe(a.text);
    const hashOf = ({ after }: typeof a) =>
      after.weights.get(sourceName(parametersOf(after.graph)[0] as never))?.hash as string;
    expect(hashOf(a)).toBe(hashOf(b));
    expect(hashOf(c)).not.toBe(hashOf(a));
  });

  test("a low-rank update folds into its weight, though the update alone would grow", async () => {
    const model = weighed(`
graph @lora(%x: f32[1,64]) {
  %w = parameter() : f32[64,64]
  %down = parameter() : f32[64,2]
  %up = parameter() : f32[2,64]
  %0 = matmul(%down, %up) : f32[64,64]
  %1 = add(%w, %0) : f32[64,64]
  %2 = matmul(%x, %1) : f32[1,64]
  return y: %2
}`);
    const { after } = fold(model);
    expect(after.graph.nodes.map((n) => n.op)).toEqual(["input", "parameter", "matmul"]);
    expect(await evaluate(after)).toEqual(await evaluate(model));
    const { report } = fold(
      weighed(`
graph @lora(%x: f32[1,64]) {
  %down = parameter() : f32[64,2]
  %up = parameter() : f32[2,64]
  %0 = matmul(%down, %up) : f32[64,64]
  %1 = matmul(%x, %0) : f32[1,64]
  return y: %1
}`),
    );
    expect(report.refused.map((r) => r.refused)).toEqual([
      "the result would take 16384 bytes, what it is made from 1024",
    ]);
  });

  test("a folded weight that another one reads is computed from it", async () => {
    const model = weighed(`
graph @chain(%x: f32[3]) {
  %w = parameter() : f32[3]
  %0 = add(%w, %w) : f32[3]
  %1 = mul(%0, %0) : f32[3]
  %2 = add(%x, %0) : f32[3]
  %3 = mul(%2, %1) : f32[3]
  return y: %3
}`);
    const { after, report } = fold(model);
    expect(report.fired.length).toBe(2);
    expect(await evaluate(after)).toEqual(await evaluate(model));
  });

  test("every kind of op is evaluated: composites, reductions, gathers, slices, joins, integers", async () => {
    const model = weighed(`
graph @many(%x: f32[6,2]) {
  %w = parameter() : f32[4,6]
  %g = parameter() : f32[6]
  %b = parameter() : f32[6]
  %0 = layerNorm(%w, %g, %b) {epsilon=0.001} : f32[4,6]
  %1 = reverse(%0) {axes=[1]} : f32[4,6]
  %2 = slice(%1) {axis=1, start=1, end=6, step=2} : f32[4,3]
  %3 = reduceMax(%2) {axes=[0]} : f32[3]
  %4 = constant() {data=[2,0]} : i32[2]
  %5 = gather(%3, %4) {axis=0} : f32[2]
  %6 = pad(%5) {low=[1], high=[0]} : f32[3]
  %7 = concat(%6, %3) {axis=0} : f32[6]
  %8 = cast(%7) {to="i32"} : i32[6]
  %9 = add(%8, %8) : i32[6]
  %10 = cast(%9) {to="f32"} : f32[6]
  %11 = reshape(%10) {shape=[3,2]} : f32[3,2]
  %12 = transpose(%11) {perm=[1,0]} : f32[2,3]
  %13 = contract(%12, %11) {spec="ab,bc->ca"} : f32[2,2]
  %14 = matmul(%x, %13) : f32[6,2]
  return y: %14
}`);
    const { after } = fold(model);
    expect(after.graph.nodes.map((n) => n.op)).toEqual(["input", "parameter", "matmul"]);
    expect(await evaluate(after)).toEqual(await evaluate(model));
  });

  test("random graphs whose inputs are all weights fold to what the reference computes", async () => {
    let folded = 0;
    for (let seed = 0; seed < 80; seed++) {
      const { graph, inputs } = randomGraph(seed);
      const wanted = evaluateExact(graph, inputs);
      const weights = new Map(Object.entries(inputs).map(([name, data]) => [name, inMemory(data, name)]));
      const { after, report } = fold({ graph: inputsAsParameters(graph), weights });
      folded += report.fired.filter((f) => f.rule === "foldWeights").length;
      const parameters = new Map<string, TensorData>();
      for (const name of parametersOf(after.graph).map(sourceName)) {
        const source = after.weights.get(name) as WeightSource;
        parameters.set(name, { ...source.type, values: (await source.read()).values });
      }
      const actual = evaluateExact(after.graph, {}, { parameters });
      for (const { name, value } of graph.outputs) {
        const allowed = isFloat(value.type.dtype) ? tolerances.f32 : tolerances.exact;
        const { ok, message } = compareTensors(actual[name] as NumberTensor, wanted[name] as NumberTensor, allowed);
        if (!ok) expect.fail(`seed ${seed}, output ${name}: ${message}\n${printGraph(graph)}`);
      }
    }
    expect(folded).toBeGreaterThan(80);
  });

  test("a transposed and reshaped matrix is copied in a fraction of the time that index arithmetic takes", async () => {
    const size = 1024;
    const text = `graph @t(%x: f32[1]) {
  %w = parameter() : f32[${size},${size}]
  %0 = transpose(%w) {perm=[1,0]} : f32[${size},${size}]
  %1 = reshape(%0) {shape=[${size * size}]} : f32[${size * size}]
  return y: %1
}`;
    const data: TensorData = {
      dtype: "f32",
      shape: [size, size],
      values: Float32Array.from({ length: size * size }, (_, i) => i),
    };
    const graph = parseGraph(text);
    const { after } = fold({ graph, weights: new Map([["w", inMemory(data)]]) }, { views: true });
    const source = after.weights.get(sourceName(parametersOf(after.graph)[0] as Node)) as WeightSource;
    const timed = async (run: () => unknown): Promise<number> => {
      const start = performance.now();
      await run();
      return performance.now() - start;
    };
    const folded = await timed(() => source.read());
    const x = tensorData("f32", [1], [0]);
    const reference = await timed(() => evaluateGraph(graph, { x }, { parameters: new Map([["w", data]]) }));
    const { values } = await source.read();
    expect([values[1], values[size]]).toEqual([size, 1]);
    expect(folded).toBeLessThan(reference / 2);
  });
});
