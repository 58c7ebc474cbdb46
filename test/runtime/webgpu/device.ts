import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect } from "vitest";
import { emitWgsl, type WgslOptions, type WgslProgram } from "../../../src/backends/wgsl/index.ts";
import { compareTensors, tolerance } from "../../../src/conform/tolerance.ts";
import { evaluateGraph } from "../../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";
import { type TensorData, tensorData } from "../../../src/ir/type.ts";
import { type NodeDevice, openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { deviceProfile } from "../../../src/runtime/node/webgpuSession.ts";

/** One device for all tests of a file. */
export function sharedDevice(): () => NodeDevice {
  let opened: NodeDevice | undefined;
  beforeAll(async () => {
    opened = await openWebGpu();
  });
  afterAll(() => opened?.close());
  return () => opened as NodeDevice;
}

export const programOf = (text: string, opened: NodeDevice, options: WgslOptions = {}): WgslProgram =>
  emitWgsl({ graph: parseGraph(text), weights: new Map() }, { device: deviceProfile(opened), ...options });

export const f32 = (shape: readonly number[], numbers: readonly number[]): TensorData =>
  tensorData("f32", shape, numbers);

/** 0, step, 2 step, ... */
export const ramp = (count: number, step = 1): TensorData =>
  f32(
    [count],
    Array.from({ length: count }, (_, i) => i * step),
  );

/** That results are what the reference interpreter gives. */
export function expectReference(
  results: Readonly<Record<string, TensorData>>,
  text: string,
  inputs: Readonly<Record<string, TensorData>>,
  parameters: ReadonlyMap<string, TensorData> = new Map(),
): void {
  for (const [name, wanted] of Object.entries(evaluateGraph(parseGraph(text), inputs, { parameters })))
    expectClose(results[name], wanted, name);
}

export function expectClose(got: TensorData | undefined, wanted: TensorData, name = ""): void {
  expect(got, name).toBeDefined();
  if (got !== undefined)
    expect(compareTensors(got, wanted, tolerance(wanted.dtype, { target: "webgpu" })).message, name).toBe("");
}

/** Collects garbage, and gives what is told of it a turn. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  await setTimeout(10);
}
