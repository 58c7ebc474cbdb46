import { afterEach, describe, expect, test } from "vitest";
import type { WeightSource } from "../../../src/ir/graph.ts";
import { type NodeDevice, openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { createWebGpuSession } from "../../../src/runtime/node/webgpuSession.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { f32, programOf, ramp } from "./device.ts";

const scaled = `
graph @scaled(%x: f32[n]) {
  %w = parameter() : f32[1]
  %0 = reshape(%w) {shape=[]} : f32[]
  %1 = broadcast(%0) {shape=["n"], axes=[0]} : f32[n]
  %2 = mul(%x, %1) : f32[n]
  return y: %2
}`;

const opened: NodeDevice[] = [];
const open = async (): Promise<NodeDevice> => {
  const device = await openWebGpu();
  opened.push(device);
  return device;
};
afterEach(() => {
  for (const device of opened.splice(0)) device.close();
});

/** Weights that count how often they are read. */
function countedWeights() {
  const w = f32([1], [1.5]);
  const source: WeightSource & { reads: number } = {
    type: { dtype: "f32", shape: [1] },
    hash: "w",
    reads: 0,
    read(start = 0, end = 1) {
      this.reads++;
      return Promise.resolve({ ...w, shape: [end - start], values: w.values.subarray(start, end) });
    },
  };
  return { source, weights: new Map([["w", source]]) };
}

describe("a lost device", () => {
  test("is opened again by the next run, with weights read from their source, and the results are the same", async () => {
    const node = await open();
    const { source, weights } = countedWeights();
    await using session = await createWebGpuSession(programOf(scaled, node), weights, node);
    const before = await session.run({ x: ramp(100) });
    const lost = session.device;
    lost.destroy();
    await lost.lost;
    expect(await session.run({ x: ramp(100) })).toEqual(before);
    expect(session.device).not.toBe(lost);
    expect(source.reads).toBe(2);
  });

  test("does not fail a run that was under way", async () => {
    const node = await open();
    await using session = await createWebGpuSession(programOf(scaled, node), countedWeights().weights, node);
    const before = await session.run({ x: ramp(100) });
    const running = [session.run({ x: ramp(100) }), session.run({ x: ramp(100) })];
    node.device.destroy();
    expect(await Promise.all(running)).toEqual([before, before]);
  });

  test("takes its tensors along, which say so", async () => {
    const node = await open();
    await using session = await createWebGpuSession(programOf(scaled, node), countedWeights().weights, node);
    const uploaded = await session.upload(ramp(100));
    const { y } = await session.run({ x: uploaded }, { keep: ["y"] });
    node.device.destroy();
    await expect(session.run({ x: uploaded })).rejects.toThrow(/device-lost.*input x is gone/);
    await expect(y.read()).rejects.toThrow(/device-lost.*f32\[100\] is gone/);
    y.dispose();
    const again = await session.upload(ramp(100));
    expect((await session.run({ x: again }))["y"]?.values[2]).toBe(3);
  });

  test("is opened once for all sessions on it", async () => {
    const node = await open();
    const program = programOf(scaled, node);
    await using first = await createWebGpuSession(program, countedWeights().weights, node);
    await using second = await createWebGpuSession(program, countedWeights().weights, node);
    node.device.destroy();
    const [a, b] = await Promise.all([first.run({ x: ramp(4) }), second.run({ x: ramp(4) })]);
    expect(a).toEqual(b);
    expect(first.device).toBe(second.device);
    using y = (await first.run({ x: ramp(4) }, { keep: true }))["y"];
    expect((await second.run({ x: y as NonNullable<typeof y> }))["y"]?.values[2]).toBe(4.5);
  });

  test("ends a session that cannot open another, and says so", async () => {
    const node = await open();
    const { weights } = countedWeights();
    await using session = await createProgramSession(node.device, programOf(scaled, node), weights);
    node.device.destroy();
    await expect(session.run({ x: ramp(4) })).rejects.toThrow(/device-lost.*session of scaled/);
    await expect(session.run({ x: ramp(4) })).rejects.toThrow(/device-lost/);
  });

  test("that its owner closed is not opened again", async () => {
    const node = await open();
    await using session = await createWebGpuSession(programOf(scaled, node), countedWeights().weights, node);
    node.close();
    await expect(session.run({ x: ramp(4) })).rejects.toThrow(/device-lost.*then closed/);
  });
});
