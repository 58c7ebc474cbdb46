import { describe, expect, test } from "vitest";
import { evaluateGraph } from "../../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import type { TensorData } from "../../../src/ir/type.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import type { DeviceTensor } from "../../../src/runtime/webgpu/tensor.ts";
import { expectClose, programOf, ramp, sharedDevice } from "./device.ts";

const opened = sharedDevice();

/** Who is told of the donation: the compiler, or only the session that runs what was compiled without it. */
const tellings = ["compiler", "session"] as const;
type Told = (typeof tellings)[number];

const open = (text: string, donate: Readonly<Record<string, string>>, told: Told = "session") =>
  told === "compiler"
    ? createProgramSession(opened().device, programOf(text, opened(), { donate }), new Map())
    : createProgramSession(opened().device, programOf(text, opened()), new Map(), { donate });

type Tensors = Record<string, TensorData>;

/** Feeds `state` outputs back to the inputs of the same names, on the device and in the reference; compares the end. */
async function expectLoop(told: Told, text: string, state: Tensors, rest: Tensors, steps: number) {
  const donate = Object.fromEntries(Object.keys(state).map((name) => [name, name]));
  await using session = await open(text, donate, told);
  let onDevice: Record<string, TensorData | DeviceTensor> = state;
  let onHost: Tensors = state;
  const bytes: number[] = [];
  for (let i = 0; i < steps; i++) {
    onDevice = await session.run({ ...onDevice, ...rest }, { keep: true });
    onHost = { ...evaluateGraph(parseGraph(text), { ...onHost, ...rest }) };
    bytes.push(session.allocations.bytes);
  }
  for (const [name, tensor] of Object.entries(onDevice as Record<string, DeviceTensor>)) {
    expectClose(await tensor.read(), onHost[name] as TensorData, name);
    tensor.dispose();
  }
  return { memory: session.memory, bytes };
}

const decay = `
graph @decay(%state: f32[n], %x: f32[n]) {
  %0 = constant() {data=[0.75]} : f32[]
  %1 = broadcast(%0) {shape=["n"], axes=[0]} : f32[n]
  %2 = mul(%state, %1) : f32[n]
  %3 = add(%2, %x) : f32[n]
  return state: %3
}`;
/** The state is read by the first product only, the output written by the second. */
const chained = `
graph @chained(%state: f32[32,32]) {
  %0 = constant() {data=[0.03125]} : f32[]
  %1 = broadcast(%0) {shape=[32,32], axes=[0,1]} : f32[32,32]
  %2 = matmul(%state, %1) : f32[32,32]
  %3 = matmul(%2, %1) : f32[32,32]
  return state: %3
}`;
const trained = (count: number): string => {
  const each = Array.from({ length: count }, (_, k) => k);
  return `
graph @trained(${each.map((k) => `%s${k}: f32[n]`).join(", ")}, %x: f32[n]) {
${each.map((k) => `  %${k} = sub(%s${k}, %x) : f32[n]`).join("\n")}
  return ${each.map((k) => `s${k}: %${k}`).join(", ")}
}`;
};
const shifting = `
graph @shifting(%now: f32[n], %before: f32[n]) {
  %0 = add(%now, %before) : f32[n]
  return now: %0, before: %now
}`;
/** The first result is an operand of the second. */
const momentum = `
graph @momentum(%w: f32[n], %m: f32[n], %g: f32[n]) {
  %0 = add(%m, %g) : f32[n]
  %1 = sub(%w, %0) : f32[n]
  return w: %1, m: %0
}`;
const squaring = `
graph @squaring(%a: f32[n,n]) {
  %0 = matmul(%a, %a) : f32[n,n]
  return a: %0
}`;
const reversing = `
graph @reversing(%a: f32[n], %x: f32[n]) {
  %0 = reverse(%a) {axes=[0]} : f32[n]
  %1 = add(%0, %x) : f32[n]
  return a: %1
}`;
const swapping = `
graph @swapping(%a: f32[n], %b: f32[n]) {
  return a: %b, b: %a
}`;
const standing = `
graph @standing(%a: f32[n], %b: f32[n]) {
  %0 = add(%a, %b) : f32[n]
  return a: %a, sum: %0
}`;

describe.each(tellings)("state donated through the %s", (told) => {
  test("goes 100 steps on the device at constant memory, and ends where the reference ends", async () => {
    const { bytes } = await expectLoop(told, decay, { state: ramp(1000, 0.01) }, { x: ramp(1000, 0.02) }, 100);
    expect(new Set(bytes).size).toBe(1);
  });

  test("is overwritten where it lies once nothing reads it any more", async () => {
    const state = { ...ramp(1024, 0.001), shape: [32, 32] };
    const { memory } = await expectLoop(told, chained, { state }, {}, 3);
    expect(memory?.planned).toBe(4096); // of three matrices, the one in the middle
  });

  test("is held once, not twice, however many tensors it has", async () => {
    const state = Object.fromEntries(Array.from({ length: 8 }, (_, k) => [`s${k}`, ramp(1024, k)]));
    const { memory } = await expectLoop(told, trained(8), state, { x: ramp(1024) }, 4);
    // x; and, where the kernels were written for two copies, those of the eight that one kernel writes at once
    if (told === "compiler") expect(memory?.planned).toBe(4096);
    else expect(memory?.planned).toBeLessThanOrEqual((1 + 5) * 4096);
  });

  test.each([
    ["moves from one input to the next", shifting],
    ["changes places", swapping],
    ["stays what it is", standing],
    ["is read again behind the kernel that writes it", momentum],
    ["is the product's own operand", squaring],
    ["is read at another place than it is written", reversing],
  ])("%s", async (_name, text) => {
    const names = [...text.matchAll(/%(\w+): f32\[n(?:,n)?\]/g)].map((m) => m[1] as string);
    const donated = names.filter((name) => new RegExp(`return .*\\b${name}:`).test(text));
    const tensorOf = (k: number) => (text.includes("[n,n]") ? { ...ramp(64, k / 64), shape: [8, 8] } : ramp(64, k));
    const tensors = Object.fromEntries(names.map((name, k) => [name, tensorOf(k + 1)]));
    const state = Object.fromEntries(donated.map((name) => [name, tensors[name] as TensorData]));
    const others = names.filter((name) => !donated.includes(name));
    const rest = Object.fromEntries(others.map((name) => [name, tensors[name] as TensorData]));
    for (const steps of [1, 2, 3]) await expectLoop(told, text, state, rest, steps);
  });

  test("runs from host memory, and from tensors of which it leaves the lent ones as they were", async () => {
    await using session = await open(momentum, { w: "w", m: "m" }, told);
    const [w, m, g] = [ramp(64), ramp(64, 2), ramp(64, 3)];
    const wanted = evaluateGraph(parseGraph(momentum), { w, m, g });
    const lent = await session.upload(g);
    for (let i = 0; i < 2; i++) {
      const results = await session.run({ w, m, g: lent });
      for (const name of ["w", "m"]) expectClose(results[name], wanted[name] as TensorData, name);
    }
    expect(await lent.read()).toEqual(g);
    lent.dispose();
  });
});

test("a program compiled for donations leaves tensors alone in a session that donates none", async () => {
  const program = programOf(decay, opened(), { donate: { state: "state" } });
  await using session = await createProgramSession(opened().device, program, new Map(), { donate: {} });
  const [state, x] = [ramp(64), ramp(64, 2)];
  const wanted = evaluateGraph(parseGraph(decay), { state, x })["state"] as TensorData;
  using given = await session.upload(state);
  for (let i = 0; i < 2; i++) {
    const { state: next } = await session.run({ state: given, x }, { keep: ["state"] });
    expectClose(await next.read(), wanted);
    next.dispose();
    expectClose((await session.run({ state: given, x }))["state"], wanted);
  }
  expect(await given.read()).toEqual(state);
});

describe("a donated tensor", () => {
  test("may come back to the host instead, and its memory is free then", async () => {
    await using session = await open(decay, { state: "state" });
    const [state, x] = [ramp(777), ramp(777, 2)];
    const given = await session.upload(state);
    const { buffer } = given;
    const results = await session.run({ state: given, x });
    expectClose(results["state"], evaluateGraph(parseGraph(decay), { state, x })["state"] as TensorData);
    using next = await session.upload(state);
    expect(next.buffer).toBe(buffer);
  });

  test("is over for the caller once a run has it, and not before", async () => {
    await using session = await open(decay, { state: "state" });
    const state = await session.upload(ramp(8));
    await expect(session.run({ state, x: ramp(9) })).rejects.toThrow(/bad-input/);
    expect((await state.read()).values).toEqual(ramp(8).values);
    const kept = await session.run({ state, x: ramp(8) }, { keep: true });
    await expect(state.read()).rejects.toThrow(/bad-input.*donated to an earlier run/);
    await expect(session.run({ state, x: ramp(8) })).rejects.toThrow(/bad-input.*input state was donated/);
    state.dispose();
    expect((await kept["state"]?.read())?.shape).toEqual([8]);
  });

  test("cannot be another input of the same run", async () => {
    await using session = await open(decay, { state: "state" });
    using state = await session.upload(ramp(8));
    await expect(session.run({ state, x: state })).rejects.toThrow(/bad-input.*cannot be input x as well/);
  });
});

test.each([
  ["an input that there is not", decay, { state: "stat" }, /no input stat[^]*mean state/],
  ["an output that there is not", decay, { y: "state" }, /no output y/],
  [
    "another type",
    "graph @g(%x: f32[n,2], %w: f32[n]) {\n  return y: %x, z: %w\n}",
    { y: "w" },
    /output y is f32\[n,2\], input w is f32\[n\]/,
  ],
  ["one input twice", swapping, { a: "a", b: "a" }, /input a is donated to a and to b/],
] as const)("a donation of %s is refused when the session is made", async (_name, text, donate, message) => {
  await expect(open(text, donate)).rejects.toThrow(message);
  await expect(open(text, donate)).rejects.toThrow("bad-donation");
});
