import { describe, expect, test, vi } from "vitest";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { collectGarbage, expectReference, programOf, ramp, sharedDevice } from "./device.ts";

const opened = sharedDevice();

/** Three kernels: two products that nothing joins, and a fold. */
const small = `
graph @small(%x: f32[batch,8]) {
  %w = parameter() : f32[8,8]
  %0 = matmul(%x, %w) : f32[batch,8] in first
  %1 = matmul(%0, %w) : f32[batch,8] in second
  %2 = reduceSum(%1) {axes=[1], keepDims=true} : f32[batch,1]
  return y: %1, sum: %2
}`;
const weights = new Map([["w", { ...ramp(64, 1 / 64), shape: [8, 8] }]]);
const open = () => createProgramSession(opened().device, programOf(small, opened()), weights);
const batchOf = (batch: number, step = 0.125) => ({ ...ramp(batch * 8, step), shape: [batch, 8] });

describe("runs", () => {
  test("that overlap take turns, and each gives its own results", async () => {
    await using session = await open();
    const inputs = [1, 3, 2, 1, 5].map((batch, k) => ({ x: batchOf(batch, k + 1) }));
    const results = await Promise.all(inputs.map((given) => session.run(given)));
    results.forEach((result, k) => expectReference(result, small, inputs[k] as (typeof inputs)[number], weights));
  });

  test("that fail leave the next ones alone", async () => {
    await using session = await open();
    const [bad, good] = await Promise.allSettled([session.run({}), session.run({ x: batchOf(2) })]);
    expect(bad.status).toBe("rejected");
    expect(good.status).toBe("fulfilled");
  });

  test("asked for before the end are run, those after it are refused", async () => {
    const session = await open();
    const last = session.run({ x: batchOf(2) });
    const disposed = session.dispose();
    await expect(session.run({ x: batchOf(2) })).rejects.toThrow(/session-closed.*small/);
    expectReference(await last, small, { x: batchOf(2) }, weights);
    await disposed;
    await session.dispose();
  });

  test("of any size share one arena, as large as the largest", async () => {
    await using session = await open();
    for (const batch of [64, 1, 33, 64, 2]) await session.run({ x: batchOf(batch) });
    const { arena = 0, planned = 0 } = session.memory ?? {};
    await session.run({ x: batchOf(64) });
    expect(session.memory?.planned).toBe(arena);
    expect(planned).toBeLessThan(arena);
  });

  test("hold the same memory after 1,200 as after 200", async () => {
    await using session = await open();
    using kept = await session.upload(batchOf(4));
    const twice = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) {
        await session.run({ x: batchOf(4) });
        const { y } = await session.run({ x: kept }, { keep: ["y"] });
        y.dispose();
      }
    };
    const held = async (): Promise<{ readonly heap: number; readonly rss: number }> => {
      for (let i = 0; i < 5; i++) await collectGarbage();
      const { heapUsed, external, rss } = process.memoryUsage(); // `external` includes array buffers
      return { heap: heapUsed + external, rss };
    };
    await twice(100);
    const { buffers, bytes } = session.allocations;
    const before = await held();
    await twice(500);
    const after = await held();
    expect(session.allocations).toMatchObject({ buffers, bytes });
    expect(after.heap - before.heap).toBeLessThan(2 * 2 ** 20); // 2 KB a run
    expect(after.rss - before.rss).toBeLessThan(96 * 2 ** 20); // heaps grow by leaps of up to 40 MB until they have room
  });
});

describe("sessions of one device", () => {
  test("share pipelines", async () => {
    const { device } = opened();
    const build = vi.spyOn(device, "createComputePipelineAsync");
    const text = small.replace("reduceSum", "reduceMax").replace("@small", "@shared");
    const program = programOf(text, opened());
    const sessions = await Promise.all([1, 2, 3].map(() => createProgramSession(device, program, weights)));
    const built = build.mock.calls.length;
    build.mockRestore();
    expect(built).toBeGreaterThan(0);
    expect(built).toBeLessThanOrEqual(program.shaders.length);
    for (const session of sessions) {
      expectReference(await session.run({ x: batchOf(2) }), text, { x: batchOf(2) }, weights);
      await session.dispose();
    }
  });

  test("give all memory back, and only their own", async () => {
    await using other = await open();
    await other.run({ x: batchOf(2) });
    const before = other.allocations;
    const session = await open();
    await session.run({ x: batchOf(16) });
    expect(other.allocations.bytes).toBeGreaterThan(before.bytes);
    await session.dispose();
    expect(other.allocations).toEqual(before);
  });
});

describe("what a session reports", () => {
  test("is split by what the memory is for", async () => {
    await using session = await open();
    expect(session.memory).toBeUndefined();
    await session.run({ x: batchOf(4) });
    const { memory } = session;
    expect(memory).toMatchObject({ parameters: 256, constants: 0, arena: memory?.planned });
    expect(memory?.staging).toBe(4 * 8 * 4 + 16); // y, and sum in 16 bytes
    expect(memory?.planned).toBeGreaterThanOrEqual(memory?.lowerBound ?? Number.POSITIVE_INFINITY);
    expect(memory?.planned).toBeLessThanOrEqual(memory?.naive ?? 0);
  });

  test("includes a time for each kernel, with its place in the model", async () => {
    await using session = await open();
    const { outputs, kernels } = await session.profile({ x: batchOf(4) });
    expectReference(outputs, small, { x: batchOf(4) }, weights);
    expect(kernels).toHaveLength(session.dispatches);
    expect(kernels.map(({ scope }) => scope)).toEqual(expect.arrayContaining(["first", "second"]));
    for (const { timeNs, ops } of kernels) {
      expect(timeNs).toBeGreaterThan(0);
      expect(ops.length).toBeGreaterThan(0);
    }
  });
});
