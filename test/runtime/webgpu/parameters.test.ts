import { describe, expect, test } from "vitest";
import type { WeightSource } from "../../../src/ir/graph.ts";
import { tensorData } from "../../../src/ir/type.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { f32, programOf, sharedDevice } from "./device.ts";

const opened = sharedDevice();

const large = 5 * 2 ** 20; // elements, more than one chunk
const tails = `
graph @tails(%x: f32[2]) {
  %a = parameter() : f32[${large}]
  %b = parameter() : f32[3]
  %0 = slice(%a) {axis=0, start=${large - 2}, end=${large}} : f32[2]
  %1 = slice(%b) {axis=0, start=1, end=3} : f32[2]
  %2 = add(%0, %1) : f32[2]
  %3 = add(%2, %x) : f32[2]
  return y: %3
}`;

/** Elements that are their own index, made when they are read. */
const counting = (name: string, count: number, log: string[]): WeightSource => ({
  type: { dtype: "f32", shape: [count] },
  hash: name,
  async read(start = 0, end = count) {
    log.push(`${name} from ${start}`);
    await Promise.resolve();
    const values = Float32Array.from({ length: end - start }, (_, i) => start + i);
    log.push(`${name} to ${end}`);
    return { dtype: "f32", shape: [end - start], values };
  },
});

describe("parameters", () => {
  test("are read by ranges, one after the other, and uploading tells how far it is", async () => {
    const log: string[] = [];
    const told: (readonly [number, number])[] = [];
    const weights = new Map(Object.entries({ a: counting("a", large, log), b: counting("b", 3, log) }));
    await using session = await createProgramSession(opened().device, programOf(tails, opened()), weights, {
      onProgress: (done, total) => told.push([done, total]),
    });
    const chunk = 4 * 2 ** 20;
    expect(log).toEqual(["a from 0", `a to ${chunk}`, `a from ${chunk}`, `a to ${large}`, "b from 0", "b to 3"]);
    const total = (large + 3) * 4;
    expect(told).toEqual([chunk * 4, large * 4, total].map((done) => [done, total]));
    const { y } = await session.run({ x: f32([2], [0.5, 1]) });
    expect([...(y?.values ?? [])]).toEqual([large - 2 + 1 + 0.5, large - 1 + 2 + 1]);
  });

  test("that are missing are all named", async () => {
    await expect(createProgramSession(opened().device, programOf(tails, opened()), new Map())).rejects.toThrow(
      /missing-weights.*no contents for parameters a, b/,
    );
  });

  test.each([
    ["of another type", { ...counting("b", 3, []), type: { dtype: "f32", shape: [4] } }, /parameter b is f32\[4\]/],
    [
      "whose source gives too little",
      { ...counting("b", 3, []), read: () => Promise.resolve(f32([2], [1, 2])) },
      /parameter b gave 2 elements of f32 where 3 of f32/,
    ],
    [
      "whose source gives another dtype",
      { ...counting("b", 3, []), read: () => Promise.resolve(tensorData("i32", [3], [1, 2, 3])) },
      /3 elements of i32/,
    ],
  ] as const)("%s are refused, and nothing stays on the device", async (_name, b, message) => {
    const { device } = opened();
    const probe = await createProgramSession(
      device,
      programOf("graph @e(%x: f32[1]) {\n  return x: %x\n}", opened()),
      new Map(),
    );
    const before = probe.allocations;
    const weights = new Map<string, WeightSource>(Object.entries({ a: counting("a", large, []), b }));
    const failing = createProgramSession(device, programOf(tails, opened()), weights);
    await expect(failing).rejects.toThrow(message);
    await expect(failing).rejects.toThrow("weights-mismatch");
    expect(probe.allocations).toEqual(before);
  });
});
