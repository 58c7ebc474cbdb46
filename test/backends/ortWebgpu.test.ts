// ONNX Runtime's WebGPU provider, the CPU kept out: what the ort-webgpu profile writes runs there and gives what numpy,
// the reference and the authors' code give; what has no kernel there is told by node and line. Runs on the software
// adapter where there is no other.
import { describe, expect, test } from "vitest";
import { fashionVit } from "../../examples/01-fashion-vit.ts";
import { readPictures } from "../../examples/demo/shrink.ts";
import { emitOnnx, type OnnxOptions } from "../../src/backends/onnx/index.ts";
import { lower } from "../../src/compile.ts";
import { compareTensors, type Tolerance, tolerance } from "../../src/conform/tolerance.ts";
import { traceModel } from "../../src/dsl/index.ts";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError, fileLoc, unknownLoc } from "../../src/ir/diagnostic.ts";
import { type Model, parametersOf, sourceName, type Value } from "../../src/ir/graph.ts";
import { ops } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { dtypes, type TensorData } from "../../src/ir/type.ts";
import { vit } from "../../src/models/index.ts";
import { mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { createReferenceSession } from "../../src/runtime/node/reference.ts";
import { openSafetensors } from "../../src/runtime/node/safetensors.ts";
import { bindWeights, loadWeights } from "../../src/runtime/node/weights.ts";
import type { Session } from "../../src/runtime/session.ts";
import { families, loadSamples, type OpSample } from "../samples/load.ts";
import { inputsOf, smallLlama, smallVit, weighted } from "./models.ts";

async function runThere(
  model: Model,
  inputs: Readonly<Record<string, TensorData>>,
  options: OnnxOptions = {},
): Promise<Record<string, TensorData>> {
  const bytes = await emitOnnx(model, { profile: "ort-webgpu", ...options }).encode();
  await using session = await createOrtSession(bytes, { provider: "webgpu" });
  return await session.run(inputs);
}

/** 32-bit kinds without NaN and infinities, which WGSL lets a device assume away, and without empty tensors. */
const plain = ({ operands, results }: OpSample): boolean =>
  [...operands, ...results].every(
    ({ dtype, shape, values }) =>
      (dtypes[dtype].bits === 32 || dtype === "bool") &&
      !shape.includes(0) &&
      Array.from(values, Number).every(Number.isFinite),
  );
const samples = loadSamples().filter(plain);
const ofFloats = ({ operands }: OpSample): boolean => operands.some(({ dtype }) => dtype === "f32");
/** Of each op the first sample on f32, where it has one. */
const firstOfEach = [...new Map([...samples.filter(ofFloats), ...samples].toReversed().map((s) => [s.op, s])).values()];

/** Ops that have operators without a kernel there: on these numbers, or on indices, which ONNX has in i64. */
const refused: ReadonlySet<string> = new Set(
  `sign trunc round isNan isInf or xor bitAnd bitOr bitXor bitNot shiftLeft shiftRight argMax argMin sort topK tokenMatch
  tokenMerge tokenUnmerge scatterAdd scatterMax`.split(/\s+/),
);

/** WGSL promises no more of sin and cos than an absolute error of 2^-11. Source: WGSL, section 15.7.4.1. */
const ofWgsl: Tolerance = { error: 2 ** -11, reason: "WGSL's sin and cos" };

/** Samples side by side in one graph, each at a line of its own. */
function together(list: readonly OpSample[]): { model: Model; inputs: Record<string, TensorData> } {
  const b = createBuilder();
  const inputs: Record<string, TensorData> = {};
  const outputs = list.flatMap(({ op, operands, attrs }, at) =>
    b.at({ loc: { kind: "file", file: "model.ts", line: at + 1, column: 1 } }, () => {
      const values = operands.map((tensor, i) => {
        inputs[`x${at}_${i}`] = tensor;
        return b.input(`x${at}_${i}`, tensor);
      });
      return b.make(op, values, attrs).map((value, i) => ({ name: `y${at}_${i}`, value }));
    }),
  );
  return { model: { graph: b.finish("samples", outputs), weights: new Map() }, inputs };
}

describe("an op on ONNX Runtime's WebGPU provider gives what numpy gave, or is refused by name:", () => {
  test("every op has a sample", () => {
    expect(Object.keys(ops).filter((op) => !firstOfEach.some((sample) => sample.op === op))).toEqual([]);
  });

  const takenOf = (family: string) =>
    firstOfEach.filter(({ op, name }) => name.includes(`${family} `) && !refused.has(op));
  const taking = families.filter((family) => takenOf(family).length > 0);
  test.each(taking)("those of %s", async (family) => {
    const taken = takenOf(family);
    const { model, inputs } = together(taken);
    const results = await runThere(model, inputs);
    const wrong = taken.flatMap(({ op, results: wanted }, at) =>
      wanted.flatMap((tensor, i) => {
        const allowed = op === "sin" || op === "cos" ? ofWgsl : tolerance(tensor.dtype, { target: "onnx" });
        const { ok, message } = compareTensors(results[`y${at}_${i}`] as TensorData, tensor, allowed);
        return ok ? [] : [`${op}: ${message}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  test("the others, each at its line", async () => {
    const others = firstOfEach.filter(({ op }) => refused.has(op));
    const { model, inputs } = together(others);
    const error = await runThere(model, inputs).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(CompileError);
    const [found] = (error as CompileError).diagnostics;
    expect(found?.code).toBe("unsupported-op");
    expect(found?.message).toMatch(/^ONNX Runtime's webgpu provider does not take \w+ \(\w+\/\w+\)/);
    const lines = [found, ...(found?.notes ?? [])].map((place) => fileLoc(place?.loc ?? unknownLoc)?.line);
    expect(others.filter((_, line) => !lines.includes(line + 1)).map(({ op }) => op)).toEqual([]);
  });
});

/** Every output of a model there, against the reference interpreter. */
async function expectAgreement(model: Model, size: number, options: OnnxOptions = {}): Promise<void> {
  const inputs = inputsOf(model.graph, size);
  await using reference = await createReferenceSession(model);
  const [wanted, results] = [await reference.run(inputs), await runThere(model, inputs, options)];
  for (const [name, value] of Object.entries(wanted)) {
    const allowed = tolerance(value.dtype, { target: "onnx", terms: 768 });
    expect(compareTensors(results[name] as TensorData, value, allowed).message, name).toBe("");
  }
}

describe("a network on ONNX Runtime's WebGPU provider gives what the reference gives:", () => {
  test("a decoder, its batch a symbol", () => expectAgreement(weighted(smallLlama({ depth: 1 })), 3));

  test("a block of DeiT-Ti on 37 tokens", () => {
    const deit = vit({ dim: 192, heads: 3, depth: 1, imageSize: 96, classes: 8 });
    return expectAgreement(weighted(traceModel(deit)), 1);
  });

  // 32 queries and more take another kernel there, which is wrong where subgroups have 4 threads.
  test.each([31, 32])("attention of %i queries over 40 keys, with a mask", async (queries) => {
    const graph = parseGraph(`
graph @attend(%q: f32[2,2,${queries},8], %k: f32[2,2,40,8], %v: f32[2,2,40,8], %size: f32[2,40]) {
  %0 = attention(%q, %k, %v, %size) {scale=0.3, extras=["logSize"]} : f32[2,2,${queries},8]
  return y: %0
}`);
    await expectAgreement({ graph, weights: new Map() }, 1);
  });
});

describe("the Fashion-MNIST ViT on ONNX Runtime's WebGPU provider gives the logits of the authors' code", () => {
  test.each([0, 4])("merging %i tokens a block", async (r) => {
    await using checkpoint = await loadWeights("examples/data/fashion-vit.safetensors");
    const expected = await openSafetensors("examples/data/fashion-vit-expected.safetensors");
    const all = (await expected.tensors.get(`out.logits_r${r}`)?.read()) as TensorData;
    await expected.close();
    const count = 4;
    const wanted = { ...all, shape: [count, 10], values: all.values.subarray(0, count * 10) };
    const pixels = (await readPictures()).pixels.subarray(0, count * 784);
    const source = traceModel(fashionVit);
    const types = new Map(parametersOf(source).map((node) => [sourceName(node), (node.results[0] as Value).type]));
    const weights = bindWeights(types, checkpoint);
    const { model } = lower(source, { passes: r === 0 ? [] : [mergeTokens({ r })], weights });
    const values = Float32Array.from(pixels, (pixel) => (pixel / 255 - 0.286) / 0.353);
    const { logits } = await runThere(model, { image: { dtype: "f32", shape: [count, 1, 28, 28], values } });
    expect(compareTensors(logits as TensorData, wanted, tolerance("f32", { target: "onnx" })).message).toBe("");
  });
});

test("a file for the CPU, whose symbolic sizes are computed in i64, is refused at the line that asks for them", async () => {
  const model = weighted(smallVit());
  const inputs = inputsOf(model.graph, 2);
  const error = await runThere(model, inputs, { profile: "portable" }).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(CompileError);
  expect((error as CompileError).message).toMatch(/^error\[unsupported-op\]: .* does not take Concat \(/);
  expect((error as CompileError).message).toMatch(/help: compile with --profile ort-webgpu/);
});

test("the CUDA provider without its libraries is told as such, with how to get them", async () => {
  const bytes = await emitOnnx(weighted(smallVit()), { profile: "ort-cuda" }).encode();
  const made = await createOrtSession(bytes, { provider: "cuda" }).catch((caught: unknown) => caught);
  if (!(made instanceof CompileError)) return void (await (made as Session).dispose()); // a machine with CUDA
  expect(made.code).toBe("provider-unavailable");
  expect(made.message).toMatch(/no cuda provider here: .*Cuda.*\n.*help: .*CUDA libraries/);
});
