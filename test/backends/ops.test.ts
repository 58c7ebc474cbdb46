import { describe, expect, test } from "vitest";
import { emitOnnx, type OnnxOptions, profiles } from "../../src/backends/onnx/index.ts";
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
  await using session = await createOrtSession(emitOnnx({ graph, weights: new Map() }, options), { threads: 1 });
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
