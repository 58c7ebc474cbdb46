// Every op sample under every profile, judged by numpy, on ONNX Runtime's CPU provider, which has a kernel for each operator
// written. What ort-webgpu writes also runs where it is meant to (ortWebgpu.test.ts).
import { expect, test } from "vitest";
import { emitOnnx, type Profile, profiles } from "../../src/backends/onnx/index.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { CompileError } from "../../src/ir/diagnostic.ts";
import type { TensorData } from "../../src/ir/type.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { loadSamples, type OpSample, sampleGraph } from "../samples/load.ts";

/** Dividing the least i32 by -1 ends the process: ONNX Runtime's Div traps. */
const trapping = (sample: OpSample): boolean => sample.note.includes("the least number over -1");
const samples = loadSamples().filter((sample) => !trapping(sample));

/** Samples whose results ONNX Runtime does not give, by the start of their names. */
const everywhere: readonly (readonly [start: string, reason: string])[] = [
  ["shiftLeft: i64", "BitShift takes 32 bits at most"],
  ["shiftRight: i64", "BitShift takes 32 bits at most"],
  ["mod: special values", "x - y floor(x / y) is NaN for an infinite y"],
  ["reduceMean: nothing to fold", "ReduceMean of nothing is 0"],
  ["sort: NaN last", "TopK orders NaN as it comes"],
  ["maxPool2d: special values", "MaxPool passes over NaN"],
];
const saturated = ["reduceProd: i32 products beyond 2^53", "the i64 it is computed in saturates in turn"] as const;
const exceptions: Readonly<Record<Profile, typeof everywhere>> = {
  portable: [...everywhere, saturated],
  "ort-cuda": [...everywhere, saturated],
  standard: [...everywhere, saturated],
  "ort-webgpu": [
    ...everywhere,
    ["logSumExp: infinity, ", "the maximum taken out of it leaves infinity minus infinity"],
    ["logSumExp: infinity in the middle", "the maximum taken out of it leaves infinity minus infinity"],
    ["reduceSum: i32 wraps", "the CPU's kernel saturates; WebGPU has no i64 to compute it in"],
    ["reduceProd: i32 wraps", "the CPU's kernel saturates; WebGPU has no i64 to compute it in"],
  ],
};

async function messageOf(sample: OpSample, profile: Profile): Promise<string> {
  const { graph, inputs } = sampleGraph(sample);
  try {
    const bytes = await emitOnnx({ graph, weights: new Map() }, { profile }).encode();
    await using session = await createOrtSession(bytes, { threads: 1 });
    const results = await session.run(inputs);
    const messages = sample.results.map((wanted, i) => {
      const allowed = tolerance(wanted.dtype, { target: "onnx" });
      return compareTensors(results[`y${i}`] as TensorData, wanted, allowed).message;
    });
    return messages.join("");
  } catch (error) {
    if (error instanceof CompileError) return error.message;
    throw error;
  }
}

test.each(profiles)("files of profile %s give what numpy gave, with known exceptions", async (profile) => {
  const known = exceptions[profile].map(([start]) => start);
  const met = new Set<string>();
  const wrong: string[] = [];
  for (const sample of samples) {
    const message = await messageOf(sample, profile);
    if (message === "") continue;
    const start = known.find((name) => sample.name.startsWith(name));
    if (start === undefined) wrong.push(`${sample.name}: ${message}`);
    else met.add(start);
  }
  expect(wrong).toEqual([]);
  expect(known.filter((start) => !met.has(start))).toEqual([]);
});
