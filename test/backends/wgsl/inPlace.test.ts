import { describe, expect, test } from "vitest";
import { emitWgsl } from "../../../src/backends/wgsl/index.ts";
import { parseGraph } from "../../../src/ir/parse.ts";

/** Buffers of inputs and outputs by name, and what the kernels bind. */
function compiled(text: string, donate: Readonly<Record<string, string>>) {
  const program = emitWgsl({ graph: parseGraph(text), weights: new Map() }, { donate });
  const names = (values: readonly { readonly name: string; readonly buffer: string }[]) =>
    Object.fromEntries(values.map(({ name, buffer }) => [name, buffer]));
  return { program, inputs: names(program.inputs), outputs: names(program.outputs) };
}

describe("an output that takes a donated input's memory", () => {
  test("is that input's buffer, which its kernel binds once", () => {
    const { program, inputs, outputs } = compiled(
      "graph @g(%s: f32[n,3], %x: f32[n,3]) {\n  %0 = sub(%s, %x) : f32[n,3]\n  return s: %0\n}",
      { s: "s" },
    );
    expect(outputs["s"]).toBe(inputs["s"]);
    expect(program.dispatches.map(({ buffers }) => buffers)).toEqual([[inputs["s"], inputs["x"]]]);
    expect(program.dispatches.map(({ writes }) => writes)).toEqual([[inputs["s"]]]);
    expect(program.buffers.map(({ name }) => name)).toEqual([inputs["s"], inputs["x"]]);
    expect(program.shaders[0]).toMatch(/m0\[i[^\]]*\] = \(m0\[i[^\]]*\] - m1\[i/);
    expect(program.donate).toEqual({ s: "s" });
  });

  test("is rewritten behind a product too, where each thread reads what it writes", () => {
    const { inputs, outputs } = compiled(
      "graph @g(%w: f32[4,4], %x: f32[4,n], %g: f32[n,4]) {\n  %0 = matmul(%x, %g) : f32[4,4]\n  %1 = sub(%w, %0) : f32[4,4]\n  return w: %1\n}",
      { w: "w" },
    );
    expect(outputs["w"]).toBe(inputs["w"]);
  });

  test.each([
    ["reads it elsewhere", "%0 = reverse(%s) {axes=[0]} : f32[n]\n  %1 = add(%0, %x) : f32[n]\n  return s: %1"],
    [
      "also writes what it read elsewhere",
      "%0 = add(%s, %x) : f32[n]\n  %1 = reverse(%s) {axes=[0]} : f32[n]\n  return s: %0, t: %1",
    ],
    [
      "comes before another that reads it",
      "%0 = add(%s, %x) : f32[n]\n  %1 = reduceSum(%s) {axes=[0]} : f32[]\n  return s: %0, t: %1",
    ],
    ["is one output of the two that would share it", "%0 = add(%s, %x) : f32[n]\n  return s: %0, old: %s"],
  ])("keeps a buffer of its own where the kernel that writes it %s", (_name, body) => {
    const { inputs, outputs } = compiled(`graph @g(%s: f32[n], %x: f32[n]) {\n  ${body}\n}`, { s: "s" });
    expect(outputs["s"]).not.toBe(inputs["s"]);
  });
});
