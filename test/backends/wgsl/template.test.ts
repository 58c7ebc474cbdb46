import { describe, expect, test } from "vitest";
import { Slots, settle, type Template } from "../../../src/backends/wgsl/emit/template.ts";
import type { Dim } from "../../../src/ir/type.ts";

/** `array<f32, COUNT>; if (i < COUNT) { j = i % WIDTH }` with its sizes left open. */
function template(count: Dim, width: Dim): Template {
  const slots = new Slots();
  const text = `array<f32${slots.text("length", count)}>; if (i < ${slots.text("number", count)}) { j = i % ${slots.text("number", width)} }`;
  return slots.template(text);
}

describe("sizes left open in shaders", () => {
  test("what is equal in all kernels is written out", () => {
    const { shaders, uses } = settle([template(12, 4), template(12, 4)]);
    expect(shaders).toEqual(["array<f32, 12>; if (i < 12) { j = i % 4 }"]);
    expect(uses).toEqual([
      { shader: 0, params: [] },
      { shader: 0, params: [] },
    ]);
  });

  test("what differs becomes a parameter, and an array of that length is open", () => {
    const { shaders, uses } = settle([template(12, 4), template(20, 4)]);
    expect(shaders).toEqual([
      "struct Params { p0: i32 }\n@group(0) @binding(0) var<uniform> params: Params;\n" +
        "array<f32>; if (i < params.p0) { j = i % 4 }",
    ]);
    expect(uses.map(({ params }) => params)).toEqual([[12], [20]]);
  });

  test("symbols are parameters even where all kernels agree", () => {
    const { uses } = settle([template("4*batch", 4)]);
    expect(uses).toEqual([{ shader: 0, params: ["4*batch"] }]);
  });

  test("sizes that always change together share a parameter; others do not", () => {
    const together = settle([template(12, 12), template(20, 20)]);
    expect(together.uses.map(({ params }) => params)).toEqual([[12], [20]]);
    const apart = settle([template(12, 12), template(20, 16)]);
    expect(apart.uses.map(({ params }) => params)).toEqual([
      [12, 12],
      [20, 16],
    ]);
  });

  test("extensions stay the first lines", () => {
    const slots = new Slots();
    const text = `enable subgroups;\nlet n = ${slots.text("number", "n")};`;
    expect(settle([slots.template(text)]).shaders[0]?.startsWith("enable subgroups;\nstruct Params")).toBe(true);
  });
});
