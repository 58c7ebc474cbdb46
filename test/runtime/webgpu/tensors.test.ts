import { describe, expect, expectTypeOf, test } from "vitest";
import { evaluateGraph } from "../../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { type TensorData, tensorData } from "../../../src/ir/type.ts";
import { openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { type DeviceTensor, uploadTensor } from "../../../src/runtime/webgpu/tensor.ts";
import { collectGarbage, expectClose, expectReference, f32, programOf, ramp, sharedDevice } from "./device.ts";

const opened = sharedDevice();

const square = `
graph @square(%x: f32[n]) {
  %0 = mul(%x, %x) : f32[n]
  return y: %0
}`;
const difference = `
graph @difference(%a: f32[n], %b: f32[n]) {
  %0 = sub(%a, %b) : f32[n]
  return y: %0
}`;
/** Outputs that no kernel of their own writes: an input, a parameter, a constant, and one value twice. */
const passing = `
graph @passing(%x: f32[n]) {
  %w = parameter() : f32[3]
  %c = constant() {data=[4,5]} : f32[2]
  %0 = exp(%x) : f32[n]
  return same: %x, weight: %w, fixed: %c, one: %0, two: %0
}`;

const open = (text: string) => createProgramSession(opened().device, programOf(text, opened()), weights);
const weights = new Map([["w", f32([3], [1, 2, 3])]]);

describe("tensors on the device", () => {
  test("what one session keeps is what the next one reads, and nothing comes back in between", async () => {
    await using first = await open(square);
    await using second = await open(difference);
    const x = ramp(100, 0.1);
    const b = ramp(100, 0.5);
    using squared = (await first.run({ x }, { keep: true }))["y"] as DeviceTensor;
    expect(first.memory?.staging).toBe(0);
    const { y } = await second.run({ a: squared, b });
    const wanted = evaluateGraph(parseGraph(square), { x })["y"] as TensorData;
    expectClose(y, evaluateGraph(parseGraph(difference), { a: wanted, b })["y"] as TensorData);
    expectClose(await squared.read(), wanted);
  });

  test("an input uploaded once serves any number of runs", async () => {
    await using session = await open(difference);
    using a = await session.upload(ramp(8));
    for (const step of [1, 2, 3]) {
      const b = ramp(8, step);
      expectReference(await session.run({ a, b }), difference, { a: ramp(8), b });
    }
    expect((await a.read()).values).toEqual(ramp(8).values);
  });

  test("one tensor may be two inputs of a run", async () => {
    await using session = await open(difference);
    using a = await session.upload(ramp(8, 3));
    const { y } = await session.run({ a, b: a });
    expect([...(y?.values ?? [])]).toEqual(Array.from({ length: 8 }, () => 0));
  });

  test("inputs, parameters, constants and shared values may be kept, each in memory of its own", async () => {
    await using session = await open(passing);
    const x = ramp(4);
    const kept = await session.run({ x }, { keep: true });
    const contents: Record<string, TensorData> = {};
    for (const [name, tensor] of Object.entries(kept)) contents[name] = await tensor.read();
    expectReference(contents, passing, { x }, weights);
    expect(new Set(Object.values(kept).map((tensor) => tensor.buffer)).size).toBe(5);
    for (const tensor of Object.values(kept)) tensor.dispose();
    expectReference(await session.run({ x }), passing, { x }, weights);
  });

  test("named outputs stay, the others come back, and the types say which", async () => {
    await using session = await open(passing);
    const { one, two } = await session.run({ x: ramp(4) }, { keep: ["one"] });
    expectTypeOf(one).toExtend<DeviceTensor>();
    expectTypeOf(two).toEqualTypeOf<TensorData | DeviceTensor | undefined>();
    expectClose(two as TensorData, await one.read());
    one.dispose();
  });

  test("narrow integers and booleans come back as they went", async () => {
    const { device } = opened();
    for (const contents of [
      tensorData("bool", [3], [1, 0, 1]),
      tensorData("i8", [4], [-128, -1, 0, 127]),
      tensorData("u16", [2], [0, 65535]),
      tensorData("i32", [2, 1], [-5, 2 ** 31 - 1]),
      f32([0, 4], []),
    ]) {
      using tensor = await uploadTensor(device, contents);
      expect(await tensor.read()).toEqual(contents);
    }
  });

  test("memory given back is taken by the next tensor of that size", async () => {
    await using session = await open(square);
    using x = await session.upload(ramp(1000));
    const buffers = new Set<GPUBuffer>();
    let most = 0;
    for (let i = 0; i < 20; i++) {
      const { y } = await session.run({ x }, { keep: ["y"] });
      buffers.add(y.buffer);
      y.dispose();
      most = Math.max(most, session.allocations.bytes);
      if (i === 1) expect(session.allocations.bytes).toBe(most);
    }
    expect(buffers.size).toBe(1);
    expect(session.allocations.bytes).toBe(most);
  });
});

test("a tensor that nobody holds any more gives its memory back", async () => {
  await using session = await open(square);
  const { spareBytes } = session.allocations;
  const forget = async (): Promise<void> => {
    for (let i = 0; i < 4; i++) await session.upload(ramp(12_345));
  };
  await forget();
  const all = 4 * 12_345 * 4;
  for (let i = 0; i < 200 && session.allocations.spareBytes - spareBytes < all; i++) await collectGarbage();
  expect(session.allocations.spareBytes - spareBytes).toBeGreaterThanOrEqual(all);
});

describe("a session refuses", () => {
  test("a tensor that was disposed of, to read and to run with", async () => {
    await using session = await open(square);
    const x = await session.upload(ramp(8));
    x.dispose();
    x.dispose();
    await expect(x.read()).rejects.toThrow(/bad-input.*f32\[8\] was disposed of/);
    await expect(session.run({ x })).rejects.toThrow(/bad-input.*input x was disposed of/);
  });

  test("a tensor on another device", async () => {
    await using session = await open(square);
    const other = await openWebGpu();
    const x = await uploadTensor(other.device, ramp(8));
    await expect(session.run({ x })).rejects.toThrow(/bad-input.*input x lies on another device/);
    other.close();
  });

  test("a tensor of another dtype or shape, at the input's name", async () => {
    await using session = await open(difference);
    using a = await session.upload(ramp(8));
    using integers = await session.upload(tensorData("i32", [8], [1, 2, 3, 4, 5, 6, 7, 8]));
    using longer = await session.upload(ramp(9));
    await expect(session.run({ a, b: integers })).rejects.toThrow(/bad-input.*input b is i32\[8\]/);
    await expect(session.run({ a, b: longer })).rejects.toThrow(/bad-input.*input b has 9 elements/);
    await expect(session.run({ a })).rejects.toThrow(/bad-input.*input b .* is missing/);
  });

  test("contents that do not fill their shape", async () => {
    await using session = await open(square);
    const x = { ...ramp(8), shape: [9] };
    await expect(session.run({ x })).rejects.toThrow(/bad-input.*input x is f32\[9\] with 8 elements/);
    await expect(session.upload(x)).rejects.toThrow(/bad-input/);
  });

  test("to keep an output that there is not", async () => {
    await using session = await open(passing);
    await expect(session.run({ x: ramp(2) }, { keep: ["onw"] })).rejects.toThrow(/bad-input.*onw[^]*mean one/);
  });
});
