import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { emitWgsl } from "../../../src/backends/wgsl/index.ts";
import { type GemmTile, hardwareTuning, softwareTuning, type Tuning } from "../../../src/backends/wgsl/tuning.ts";
import { compareTensors, tolerance } from "../../../src/conform/tolerance.ts";
import { evaluateGraph } from "../../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import type { TensorData } from "../../../src/ir/type.ts";
import { type NodeDevice, openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { deviceProfile } from "../../../src/runtime/node/webgpuSession.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";

// Each way of sharing the work of a product, also those that this adapter would not choose, on shapes with and without
// edges and with operands that lie along every index.
const small: GemmTile = { by: "workgroup", rows: 4, columns: 4, threads: [4, 4], depth: 8 };
const tunings: Readonly<Record<string, Tuning>> = {
  thread: softwareTuning,
  subgroup: { ...softwareTuning, gemm: { ...softwareTuning.gemm, by: "subgroup", rows: 8, threads: [4, 4] } },
  workgroup: { ...hardwareTuning, gemm: small },
  "workgroup of eight columns": { ...hardwareTuning, gemm: { ...small, columns: 8, rows: 8 } },
};

const shapes: readonly (readonly [m: number, n: number, k: number])[] = [
  [20, 24, 16], [17, 19, 12], [33, 20, 7], [1, 40, 32], [3, 4, 40], [16, 1, 8], [5, 5, 5],
]; // biome-ignore format: a table

/** The same product with operands stored as they are, or transposed. */
const layouts: Readonly<Record<string, (m: number, n: number, k: number) => string>> = {
  "rows times columns": (m, n, k) => `
graph @product(%a: f32[${m},${k}], %b: f32[${k},${n}]) {
  %0 = matmul(%a, %b) : f32[${m},${n}]
  return y: %0
}`,
  "the left transposed": (m, n, k) => `
graph @product(%a: f32[${k},${m}], %b: f32[${k},${n}]) {
  %0 = transpose(%a) {perm=[1,0]} : f32[${m},${k}]
  %1 = matmul(%0, %b) : f32[${m},${n}]
  return y: %1
}`,
  "the right transposed": (m, n, k) => `
graph @product(%a: f32[${m},${k}], %b: f32[${n},${k}]) {
  %0 = transpose(%b) {perm=[1,0]} : f32[${k},${n}]
  %1 = matmul(%a, %0) : f32[${m},${n}]
  return y: %1
}`,
  "the result transposed": (m, n, k) => `
graph @product(%a: f32[${m},${k}], %b: f32[${k},${n}]) {
  %0 = contract(%a, %b) {spec="mk,kn->nm"} : f32[${n},${m}]
  return y: %0
}`,
};

let opened: NodeDevice;
beforeAll(async () => {
  opened = await openWebGpu();
});
afterAll(() => opened?.close());

const wave = (shape: readonly number[], speed: number): TensorData => ({
  dtype: "f32",
  shape,
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(speed * i)),
});

describe.each(Object.entries(tunings))("products by %s", (by, tuning) => {
  test.each(Object.entries(layouts))("%s", async (_name, text) => {
    const profile = deviceProfile(opened);
    if (by === "subgroup" && !profile.subgroupsOfFour) return;
    for (const [m, n, k] of shapes) {
      const graph = parseGraph(text(m, n, k));
      const inputs = Object.fromEntries(
        graph.inputs.map(({ type, producer }) => {
          const shape = type.shape as readonly number[];
          return [producer.attrs["name"] as string, wave(shape, shape[0] === k ? 0.7 : 1.3)];
        }),
      );
      const program = emitWgsl({ graph, weights: new Map() }, { device: profile, tuning });
      await using session = await createProgramSession(opened.device, program, new Map());
      const { y } = await session.run(inputs);
      const wanted = evaluateGraph(graph, inputs)["y"] as TensorData;
      const message = compareTensors(y as TensorData, wanted, tolerance("f32", { target: "webgpu" })).message;
      expect(message, `${m} by ${n}, ${k} terms`).toBe("");
    }
  });
});
