import { describe, expect, test } from "vitest";
import { emitWgsl, scheduleKernels } from "../../../src/backends/wgsl/index.ts";
import { writesOf } from "../../../src/backends/wgsl/kernel.ts";
import { traceModel } from "../../../src/dsl/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { deitTiny, fashionVit, llama } from "../../../src/models/index.ts";
import { mergeTokens } from "../../../src/passes/mergeTokens/mergeTokens.ts";
import { runPasses } from "../../../src/passes/pass.ts";
import { planMemory } from "../../../src/runtime/webgpu/memory.ts";

const kernelsOf = (text: string) => scheduleKernels(parseGraph(text)).kernels;

describe("what becomes a kernel", () => {
  test("arithmetic of one shape joins the product that it follows, also where it parts and meets again", () => {
    const kernels = kernelsOf(`
graph @mlp(%x: f32[9,8], %w: f32[8,16], %bias: f32[16]) {
  %0 = matmul(%x, %w) : f32[9,16]
  %1 = broadcast(%bias) {shape=[9,16], axes=[0]} : f32[9,16]
  %2 = add(%0, %1) : f32[9,16]
  %3 = silu(%2) : f32[9,16]
  return y: %3
}`);
    expect(kernels.map((k) => k.ops)).toEqual([["matmul", "add", "sigmoid", "mul"]]);
  });

  test("a value read in two places is stored where it is made", () => {
    const kernels = kernelsOf(`
graph @shared(%x: f32[9,8], %w: f32[8,8]) {
  %0 = matmul(%x, %w) : f32[9,8]
  %1 = add(%0, %x) : f32[9,8]
  %2 = softmax(%1) {axis=1} : f32[9,8]
  %3 = matmul(%1, %w) : f32[9,8]
  %4 = add(%2, %3) : f32[9,8]
  return y: %4
}`);
    expect(kernels.map((k) => k.ops)).toEqual([["matmul", "add"], ["matmul"], ["softmax", "add"]]);
  });

  test("a composite that works row by row is one kernel, whoever wrote it", () => {
    const norm = kernelsOf(`
graph @norm(%x: f32[9,8], %g: f32[8], %b: f32[8]) {
  %0 = layerNorm(%x, %g, %b) {epsilon=0.00001} : f32[9,8]
  return y: %0
}`);
    expect(norm.map((k) => k.kind)).toEqual(["rows"]);
  });

  test("a residual sum moves into the norm behind it and is stored for those who read it later", () => {
    const [norm, product] = kernelsOf(`
graph @block(%x: f32[9,8], %y: f32[9,8], %g: f32[8], %b: f32[8], %w: f32[8,8]) {
  %0 = exp(%x) : f32[9,8]
  %1 = exp(%y) : f32[9,8]
  %2 = add(%0, %1) : f32[9,8]
  %3 = layerNorm(%2, %g, %b) {epsilon=0.00001} : f32[9,8]
  %4 = matmul(%3, %w) : f32[9,8]
  %5 = add(%2, %4) : f32[9,8]
  return y: %5
}`);
    expect([norm?.ops, product?.ops]).toEqual([
      ["add", "layerNorm"],
      ["matmul", "add"],
    ]);
    expect(norm && writesOf(norm)).toHaveLength(2);
  });

  test("a sum that is read before the norm behind it keeps a kernel of its own", () => {
    const kernels = kernelsOf(`
graph @early(%x: f32[9,8], %y: f32[9,8], %g: f32[8], %b: f32[8], %w: f32[8,8]) {
  %0 = exp(%x) : f32[9,8]
  %1 = exp(%y) : f32[9,8]
  %2 = add(%0, %1) : f32[9,8]
  %3 = matmul(%2, %w) : f32[9,8]
  %4 = add(%3, %2) : f32[9,8]
  %5 = layerNorm(%2, %g, %b) {epsilon=0.00001} : f32[9,8]
  return y: %4, z: %5
}`);
    expect(kernels.map((k) => k.ops)).toEqual([["add"], ["matmul", "add"], ["layerNorm"]]);
  });

  test("folds of the same rows share a pass, and maps over the same space a kernel", () => {
    const kernels = kernelsOf(`
graph @rows(%x: f32[9,40]) {
  %0 = reduceMax(%x) {axes=[1]} : f32[9]
  %1 = argMax(%x) {axis=1} : i32[9]
  %2 = exp(%x) : f32[9,40]
  %3 = neg(%x) : f32[9,40]
  return a: %0, b: %1, c: %2, d: %3
}`);
    expect(kernels.map((k) => k.ops)).toEqual([
      ["reduceMax", "argMax"],
      ["exp", "neg"],
    ]);
  });

  test("a short fold, and a sum over a selection, are computed where they are read", () => {
    const kernels = kernelsOf(`
graph @short(%x: f32[2,3,8,16], %y: f32[2,8,16], %to: i32[2,4], %from: f32[2,4,16]) {
  %0 = reduceMean(%x) {axes=[1]} : f32[2,8,16]
  %1 = l2Normalize(%0) {axis=2} : f32[2,8,16]
  %2 = scatterAdd(%y, %to, %from) {axis=1, batch=1} : f32[2,8,16]
  return a: %1, b: %2
}`);
    expect(kernels.map((k) => k.ops)).toEqual([["l2Normalize"], ["add"]]);
  });

  test("a sort of which the first places are read stops there", () => {
    const [sort] = kernelsOf(`
graph @top(%x: f32[2,100]) {
  %0, %1 = topK(%x) {axis=1, k=5} : f32[2,5], i32[2,5]
  return values: %0, places: %1
}`);
    expect(sort?.kind === "rank" && sort.stages.map(({ needed }) => needed)).toEqual([5]);
  });

  test("a pre-norm block takes at most seven dispatches", () => {
    const program = emitWgsl({ graph: traceModel(fashionVit), weights: new Map() });
    const inBlock = program.dispatches.filter((d) => d.scope.startsWith("blocks.2"));
    expect(inBlock.length).toBeLessThanOrEqual(7);
  });

  test("merging tokens takes three dispatches a block more, and stores no similarities", () => {
    const merged = runPasses({ graph: traceModel(fashionVit), weights: new Map() }, [mergeTokens({ r: 4 })], {}).model;
    const device = { storageBuffers: 12, software: false };
    const inBlock = emitWgsl(merged, { device }).dispatches.filter((d) => d.scope.startsWith("blocks.2"));
    expect(inBlock.length).toBeLessThanOrEqual(10);
    const { kernels } = scheduleKernels(merged.graph, { device });
    const written = kernels.flatMap((kernel) => writesOf(kernel).map((buffer) => String(buffer.elements)));
    expect(written).toContain("25*batch"); // the best partner of each of the 25 even tokens ...
    expect(written).not.toContain("625*batch"); // ... but not all 25 * 25 similarities
  });

  test("blocks that differ in their number of tokens alone share their shaders", () => {
    const merged = runPasses({ graph: traceModel(fashionVit), weights: new Map() }, [mergeTokens({ r: 4 })], {}).model;
    const { shaders, dispatches } = emitWgsl(merged, { device: { storageBuffers: 10, software: false } });
    expect(shaders.length).toBeLessThan(dispatches.length / 3);
  });

  test("equal blocks share their shaders", () => {
    const program = emitWgsl({ graph: traceModel(deitTiny), weights: new Map() });
    expect(program.shaders.length).toBeLessThan(program.dispatches.length / 4);
  });

  test("attention stores no scores: no value has queries times keys elements", () => {
    const { kernels } = scheduleKernels(traceModel(fashionVit));
    const sizes = kernels.flatMap((kernel) =>
      "results" in kernel ? kernel.results.map((r) => String(r.buffer.elements)) : [],
    );
    expect(sizes.filter((size) => size.includes("10000*batch"))).toEqual([]); // 4 heads * 50 * 50
    expect(kernels.filter((kernel) => kernel.kind === "attention")).toHaveLength(6);
  });

  test("a kernel binds no more buffers than the device allows", () => {
    const parts = Array.from({ length: 12 }, (_, i) => `%x${i}`);
    const kernels = scheduleKernels(
      parseGraph(`
graph @many(${parts.map((p) => `${p}: f32[2,3]`).join(", ")}) {
  %0 = concat(${parts.join(", ")}) {axis=0} : f32[24,3]
  return y: %0
}`),
      { device: { storageBuffers: 8, software: false } },
    ).kernels;
    expect(kernels.length).toBeGreaterThan(1);
  });

  test("64-bit numbers are refused at the author's line", () => {
    const text = "graph @wide(%x: f64[4]) {\n  %0 = exp(%x) : f64[4]\n  return y: %0\n}";
    expect(() => scheduleKernels(parseGraph(text, { locateByText: true }))).toThrow(/unsupported-dtype/);
  });
});

describe("memory", () => {
  test.each([
    ["the Fashion-MNIST ViT", fashionVit, new Map([["batch", 8]])],
    ["DeiT-Ti", deitTiny, new Map([["batch", 2]])],
    ["a small LLaMA", llama({ depth: 2, sequence: 32 }), new Map([["batch", 1]])],
  ])("%s is placed within a tenth of the lower bound", (_name, model, symbols) => {
    const program = emitWgsl({ graph: traceModel(model), weights: new Map() });
    const { planned, naive, lowerBound } = planMemory(program, symbols);
    expect(planned).toBeLessThanOrEqual(1.1 * lowerBound);
    expect(planned).toBeLessThan(naive);
  });
});
