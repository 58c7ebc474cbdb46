import { describe, expect, test, vi } from "vitest";
import type { WeightSource } from "../../../src/ir/graph.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { expectReference, f32, programOf, ramp, sharedDevice } from "./device.ts";

const opened = sharedDevice();

/** An output that grows with the square of the input, and a parameter beside it. */
const outer = `
graph @outer(%x: f32[n]) {
  %w = parameter() : f32[1]
  %0 = broadcast(%x) {shape=["n","n"], axes=[1]} : f32[n,n] in table
  %1 = broadcast(%x) {shape=["n","n"], axes=[0]} : f32[n,n]
  %2 = mul(%0, %1) : f32[n,n] in table
  return y: %2, w: %w
}`;
const weights = new Map([["w", f32([1], [7])]]);

/** The device, as if it had room for buffers of these sizes only. */
function withRoomFor(device: GPUDevice, fits: (bytes: number) => boolean): GPUDevice {
  const scopes: { readonly filter: GPUErrorFilter; full: boolean }[] = [];
  const full = { message: "no room" } as GPUError;
  const own: Partial<GPUDevice> = {
    pushErrorScope(filter) {
      scopes.push({ filter, full: false });
      return device.pushErrorScope(filter);
    },
    popErrorScope() {
      const error = device.popErrorScope();
      return scopes.pop()?.full === true ? error.then(() => full) : error;
    },
    createBuffer(descriptor) {
      if (fits(descriptor.size)) return device.createBuffer(descriptor);
      const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
      if (scope !== undefined) scope.full = true;
      return device.createBuffer({ ...descriptor, size: 16 });
    },
  };
  return new Proxy(device, {
    get(target, key) {
      if (Object.hasOwn(own, key)) return own[key as keyof GPUDevice];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

describe("memory that a device has not", () => {
  test("is a diagnostic that says how much was for what, and smaller runs still go", async () => {
    const device = withRoomFor(opened().device, (bytes) => bytes <= 4096);
    await using session = await createProgramSession(device, programOf(outer, opened()), weights);
    await expect(session.run({ x: ramp(100) })).rejects.toThrow(
      /out-of-memory.*no room for the \d+ bytes of the values of a run \(at least \d+ are alive at once\); \d+ buffers with \d+ bytes are in use\n {2}help: run a smaller batch/,
    );
    await expect(session.run({ x: ramp(100) }, { keep: ["y"] })).rejects.toThrow(
      /out-of-memory.*40000 bytes of output y \(f32\[100,100\]\)/,
    );
    const { bytes } = session.allocations;
    expectReference(await session.run({ x: ramp(8) }), outer, { x: ramp(8) }, weights);
    expect(session.allocations.bytes - bytes).toBeLessThan(4096);
  });

  test("names the parameter that did not fit, and leaves nothing behind", async () => {
    const device = withRoomFor(opened().device, (bytes) => bytes <= 4096);
    const text = "graph @g(%x: f32[2]) {\n  %big.weight = parameter() : f32[2000]\n  return y: %x, w: %big.weight\n}";
    const program = programOf(text, opened());
    const empty = await createProgramSession(
      device,
      programOf("graph @e(%x: f32[n]) {\n  return x: %x\n}", opened()),
      weights,
    );
    const before = empty.allocations;
    await expect(createProgramSession(device, program, new Map([["big.weight", ramp(2000)]]))).rejects.toThrow(
      /out-of-memory.*8000 bytes of parameter big\.weight \(f32\[2000\]\)/,
    );
    expect(empty.allocations).toEqual(before);
  });
});

test("memory of tensors that are over is freed before a run is refused for want of it", async () => {
  let refusals = 0;
  const device = withRoomFor(opened().device, (bytes) => bytes !== 40_000 || ++refusals > 1);
  await using session = await createProgramSession(device, programOf(outer, opened()), weights);
  (await session.upload(ramp(500))).dispose();
  expect(session.allocations.spareBytes).toBe(2000);
  const { y } = await session.run({ x: ramp(100) }, { keep: ["y"] });
  expect(refusals).toBe(2);
  expect(session.allocations.spareBytes).toBe(0);
  y.dispose();
});

describe("limits of the device", () => {
  test("on what is held at once are compared before anything is made", async () => {
    await using session = await createProgramSession(opened().device, programOf(outer, opened()), weights);
    const { bytes } = session.allocations;
    const n = Math.ceil(Math.sqrt(opened().device.limits.maxBufferSize / 4)) + 1;
    await expect(session.run({ x: ramp(n) })).rejects.toThrow(
      /device-limit.* bytes, the device allows \d+ in one .*\n {2}help: run a smaller batch/,
    );
    expect(session.allocations.bytes).toBe(bytes);
  });

  test("on a parameter name it, before it is read", async () => {
    const elements = Math.floor(opened().device.limits.maxStorageBufferBindingSize / 4) + 4;
    const text = `graph @g(%x: f32[2]) {\n  %head = parameter() : f32[${elements}]\n  return y: %x, w: %head\n}`;
    const read = vi.fn<WeightSource["read"]>();
    const source = { type: { dtype: "f32", shape: [elements] }, hash: "", read } as const;
    await expect(
      createProgramSession(opened().device, programOf(text, opened()), new Map([["head", source]])),
    ).rejects.toThrow(
      /device-limit.*parameter head \(f32\[\d+\]\) needs \d+ bytes, the device allows \d+ in one binding/,
    );
    expect(read).not.toHaveBeenCalled();
  });

  test("on buffers of one kernel name the kernel", async () => {
    const program = programOf(outer, opened());
    const [kernel] = program.dispatches;
    if (kernel === undefined) throw new Error("no kernel");
    const wide = { ...kernel, buffers: Array.from({ length: 40 }, () => kernel.buffers[0] as string) };
    await expect(createProgramSession(opened().device, { ...program, dispatches: [wide] }, weights)).rejects.toThrow(
      /device-limit.*kernel \w+ in table binds 40 buffers, the device allows \d+/,
    );
  });
});

test("what the device refuses in a run is a rejection, and the session goes on", async () => {
  const program = programOf(outer, opened());
  const broken = {
    ...program,
    dispatches: program.dispatches.map((d) => ({ ...d, buffers: d.buffers.map(() => d.buffers[0] as string) })),
  };
  await using session = await createProgramSession(opened().device, broken, weights);
  for (let i = 0; i < 2; i++)
    await expect(session.run({ x: ramp(8) })).rejects.toThrow(/WebGPU refused a run: [^]*alias/i);
});

test("a shader that the device refuses is told with its line", async () => {
  const program = { ...programOf(outer, opened()), shaders: ["fn main() { let a = b; }"] };
  await expect(createProgramSession(opened().device, program, weights)).rejects.toThrow(
    /WGSL was refused: [^]*unresolved value 'b'[^]*let a = b/,
  );
});
