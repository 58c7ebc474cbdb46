import { describe, expect, test } from "vitest";
import { checkOnnx, emitOnnx, type OnnxOptions, profiles } from "../../src/backends/onnx/index.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { createBuilder } from "../../src/ir/builder.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { type TensorData, tensorData } from "../../src/ir/type.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { type Case, cases, drawn, randomNumbers, typeOf } from "./cases.ts";

/** A graph of one op; bf16, which sessions cannot pass, is cast at the border. */
function graphOf(op: string, { types, attrs = {} }: Case): Graph {
  const b = createBuilder();
  const operands = types.map((text, i) => {
    const type = typeOf(text);
    const outside = b.input(`x${i}`, type.dtype === "bf16" ? { ...type, dtype: "f32" } : type);
    return type.dtype === "bf16" ? b.cast(outside, { to: "bf16" }) : outside;
  });
  const results = b.make(op, operands, attrs);
  return b.finish(
    op,
    results.map((value, i) => ({
      name: `y${i}`,
      value: value.type.dtype === "bf16" ? b.cast(value, { to: "f32" }) : value,
    })),
  );
}

function inputsOf({ types, values = {}, range }: Case): Record<string, TensorData> {
  const random = randomNumbers(7);
  return Object.fromEntries(
    types.map((text, i) => {
      const { dtype, shape } = typeOf(text);
      const outside = { dtype: dtype === "bf16" ? "f32" : dtype, shape } as const;
      const given = values[i];
      return [`x${i}`, given ? tensorData(outside.dtype, shape, given) : drawn(outside, random, range)];
    }),
  );
}

async function expectAgreement(op: string, example: Case, options: OnnxOptions): Promise<void> {
  const graph = graphOf(op, example);
  const inputs = inputsOf(example);
  const wanted = evaluateGraph(graph, inputs);
  const bytes = await emitOnnx({ graph, weights: new Map() }, options).encode();
  expect(checkOnnx(bytes)).toEqual([]);
  await using session = await createOrtSession(bytes, { threads: 1 });
  const results = await session.run(inputs);
  const narrow = example.types.some((t) => t.startsWith("bf16")) || example.attrs?.["to"] === "bf16";
  for (const [name, value] of Object.entries(wanted)) {
    const allowed = tolerance(narrow && value.dtype === "f32" ? "bf16" : value.dtype, { target: "onnx" });
    expect(
      compareTensors(results[name] as TensorData, value, allowed).message,
      `${name} of ${JSON.stringify(example)}`,
    ).toBe("");
  }
}

describe.each(profiles)("profile %s agrees with the reference on", (profile) => {
  test.each(Object.entries(cases))("%s", async (op, examples) => {
    for (const example of examples) await expectAgreement(op, example, { profile });
  });
});

describe("token indices as matrices agree with the reference on", () => {
  const readers = [
    "tokenMatch",
    "tokenMerge",
    "tokenUnmerge",
    "gather",
    "scatterAdd",
    "scatterMax",
    "sort",
    "topK",
    "argMax",
  ] as const;
  test.each(readers)("%s", async (op) => {
    for (const example of cases[op]) await expectAgreement(op, example, { tokenForm: "dense" });
  });

  test.each(["index", "dense"] as const)("what is read in %s form, and beyond it", async (tokenForm) => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "f32", shape: [2, 6, 3] });
    const half = b.input("half", { dtype: "f16", shape: [2, 6] });
    const long = b.input("long", { dtype: "f32", shape: [2, 8, 2, 2] });
    const score = b.reduceSum(x, { axes: [2] });
    const [, order] = b.topK(score, { axis: 1, k: 4 });
    const [kept] = b.sort(b.slice(order, { axis: 1, end: 3 }), { axis: 1 });
    const place = { axis: 1, batch: 1 };
    const graph = b.finish("readers", {
      kept,
      shifted: b.add(order, b.full(order.type, 1)),
      hot: b.oneHot(order, { depth: 6, dtype: "i32" }),
      rows: b.gather(x, kept, place),
      halves: b.gather(half, order, place),
      longer: b.gather(long, order, place),
      spread: b.scatterMax(x, kept, b.gather(x, b.slice(order, { axis: 1, start: 1, end: 4 }), place), place),
    });
    const random = randomNumbers(3);
    const inputs = Object.fromEntries(
      graph.inputs.map(({ type, producer }) => [producer.attrs["name"] as string, drawn(type as never, random)]),
    );
    const wanted = evaluateGraph(graph, inputs);
    for (const profile of profiles) {
      await using session = await createOrtSession(emitOnnx({ graph, weights: new Map() }, { tokenForm, profile }), {
        threads: 1,
      });
      const results = await session.run(inputs);
      for (const [name, value] of Object.entries(wanted))
        expect(
          compareTensors(results[name] as TensorData, value, tolerance(value.dtype, { target: "onnx" })).message,
          name,
        ).toBe("");
    }
  });
});
