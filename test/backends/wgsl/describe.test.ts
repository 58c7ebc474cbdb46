import { describe, expect, test } from "vitest";
import { kernelReports, totalsOf } from "../../../src/backends/wgsl/describe.ts";
import { describeKernels } from "../../../src/backends/wgsl/describeText.ts";
import { traceModel } from "../../../src/dsl/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { fashionVit } from "../../../src/models/index.ts";

const small = `
graph @small(%x: f32[6,8], %w: f32[8,4], %bias: f32[4]) {
  %0 = matmul(%x, %w) : f32[6,4]
  %1 = broadcast(%bias) {shape=[6,4], axes=[0]} : f32[6,4]
  %2 = add(%0, %1) : f32[6,4]
  %3 = softmax(%2) {axis=1} : f32[6,4]
  %4 = add(%2, %3) : f32[6,4]
  return y: %4
}`;

describe("kernels for people", () => {
  test("each tells what it runs over, computes, reads and writes, and why its value has memory", () => {
    expect(describeKernels(parseGraph(small))).toBe(`2 kernels; the device binds at most 8 buffers

k0 gemm over batch 1, m 6, n 4, k 8
  loop   matmul: 384 operations
  after  add: 24 operations
  reads  x (input) 192 B
         w (input) 128 B
         bias (input) 16 B
  writes v3 96 B
           read by 2 ops: softmax (k1), add (k1)
  in all 408 operations, 336 B read, 96 B written, 0.944 operations a byte

k1 rows over rows 6, length 4
  loop   softmax: 96 operations
  after  add: 96 operations
  reads  v3 (of k0) 96 B
  writes y 96 B
           an output
  in all 192 operations, 96 B read, 96 B written, 1 operations a byte

total 2 kernels
  kinds  1 gemm (408 operations), 1 rows (192 operations)
  scopes (no scope): 2
  in all 600 operations, 432 B read, 192 B written, 0.962 operations a byte`);
  });

  test("operations are what the loops do, counted by hand", () => {
    const [product, softmax] = kernelReports(parseGraph(small));
    // A multiplication and an addition for each of 6 * 4 * 8 terms, then the bias.
    expect(product?.operations).toMatchObject({ loop: 2 * 6 * 4 * 8, after: 6 * 4, total: 408 });
    // 24 elements: max; subtract, exp, add; then subtract, exp, divide and the sum behind it.
    expect(softmax?.operations).toMatchObject({ loop: 24 * (1 + 3), after: 24 * 4 });
  });

  test("what keeps two kernels apart is named: readers, shapes, and the buffers that a device binds", () => {
    const text = describeKernels(traceModel(fashionVit));
    expect(text).toContain("takes operands from memory");
    expect(text).toMatch(/read by 2 ops: layerNorm \(k\d+, [^)]*\), add \(k\d+, /);
    const wide = Array.from({ length: 6 }, (_, i) => `%x${i}: f32[4]`).join(", ");
    const sums = [1, 2, 3, 4, 5].map((i) => `%${i - 1} = mul(${i === 1 ? "%x0" : `%${i - 2}`}, %x${i}) : f32[4]`);
    const graph = parseGraph(`graph @wide(${wide}) {\n  ${sums.join("\n  ")}\n  return y: %4\n}`);
    const device = { storageBuffers: 4, software: false };
    expect(describeKernels(graph, { device })).toContain("would bind more than 4 buffers");
  });

  test("symbols stay until their sizes are given", () => {
    const graph = traceModel(fashionVit);
    expect(totalsOf(kernelReports(graph)).bytes.written).toMatch(/batch/);
    const known = totalsOf(kernelReports(graph, { symbols: new Map([["batch", 2]]) }));
    expect(known.bytes.written).toBeTypeOf("number");
    expect(known.kernels).toBe(45);
    expect(known.byScope["blocks.2"]).toBe(7);
  });
});
