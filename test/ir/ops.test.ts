import { describe, expect, test } from "vitest";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { createBuilder } from "../../src/ir/builder.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import type { AnyOp, AttrSpec, NumberTensor } from "../../src/ir/op.ts";
import { builtinOps, type OpName, type Ops, ops } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { loadSamples, type OpSample, sampleGraph, widened } from "../samples/load.ts";

const samples = loadSamples();
const names = Object.keys(ops) as OpName[];
const samplesOf = (op: OpName) => samples.filter((sample) => sample.op === op);

describe("samples", () => {
  test.each(names)("%s has samples", (op) => {
    expect(samplesOf(op).length).toBeGreaterThan(0);
  });

  test("name only ops of the table", () => {
    expect(samples.filter((sample) => !builtinOps.has(sample.op)).map((sample) => sample.name)).toEqual([]);
  });

  for (const sample of samples)
    test(`${sample.name} is what the reference computes`, () => {
      expectSample(sample, "F32");
      // In f64 the constants inside an op (an epsilon, a scale) are not rounded to f32 either.
      const wide = widened(sample);
      if (wide !== undefined) expectSample(wide, "F64");
    });
});

function expectSample(sample: OpSample, golden: "F32" | "F64"): void {
  const { graph, inputs } = sampleGraph(sample);
  const results = evaluateExact(graph, inputs);
  expect(graph.outputs.length).toBe(sample.results.length);
  sample.results.forEach((wanted, i) => {
    const allowed = tolerance(wanted.dtype, { target: "reference", golden });
    expect(compareTensors(results[`y${i}`] as NumberTensor, wanted, allowed).message).toBe("");
  });
}

describe("IR text", () => {
  test.each(names)("a graph of %s verifies and reads back as it was printed", (op) => {
    for (const sample of samplesOf(op)) {
      const { graph } = sampleGraph(sample);
      verifyGraph(graph);
      const text = printGraph(graph);
      const again = parseGraph(text);
      verifyGraph(again);
      expect(printGraph(again)).toBe(text);
    }
  });
});

type Attrs<K extends OpName> = Ops[K] extends { readonly signature?: (operands: never, attrs: infer A) => unknown }
  ? A
  : never;
type OptionalKeys<A> = { [K in keyof A]-?: object extends Pick<A, K> ? K : never }[keyof A];
type OpsWithOptional = { [K in OpName]: OptionalKeys<Attrs<K>> extends never ? never : K }[OpName];

const window = {
  strides: [1, 1],
  padding: [
    [0, 0],
    [0, 0],
  ],
  dilations: [1, 1],
};

/** What an attribute is when a caller leaves it out; complete by the ops' own types. */
const defaults = {
  reduceSum: { keepDims: false },
  reduceMean: { keepDims: false },
  reduceMax: { keepDims: false },
  reduceMin: { keepDims: false },
  reduceProd: { keepDims: false },
  logSumExp: { keepDims: false },
  argMax: { keepDims: false },
  argMin: { keepDims: false },
  cumsum: { exclusive: false, reverse: false },
  slice: { start: 0, step: 1 },
  pad: { mode: "constant", value: 0 },
  iota: { dtype: "i32" },
  gather: { batch: 0 },
  scatterAdd: { batch: 0 },
  scatterMax: { batch: 0 },
  oneHot: { dtype: "f32" },
  sort: { descending: false },
  topK: { largest: true },
  conv2d: { ...window, baseDilation: [1, 1], groups: 1, batchGroups: 1 },
  convTranspose2d: { ...window, outputPadding: [0, 0], groups: 1 },
  maxPool2d: window,
  sumPool2d: window,
  avgPool2d: { ...window, countPadding: false },
  resize2d: { mode: "nearest", coordinates: "halfPixel" },
  gelu: { approximate: "none" },
  rotaryEmbedding: { interleaved: false },
  attention: { extras: [], causal: false, left: -1, right: -1, past: 0, logSumExp: false },
  tokenMatch: { protect: 0 },
  tokenMerge: { protect: 0, reduce: "sum" },
} as const satisfies { readonly [K in OpsWithOptional]: { readonly [A in OptionalKeys<Attrs<K>>]: unknown } };

describe("attributes", () => {
  const specsOf = (op: OpName) => (builtinOps.get(op) as AnyOp).attrs as Readonly<Record<string, AttrSpec>>;
  const required = (op: OpName, attrs: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(Object.entries(attrs).filter(([key]) => specsOf(op)[key]?.default === undefined));
  const build = ({ operands }: OpSample, op: OpName, attrs: Readonly<Record<string, unknown>>) => {
    const b = createBuilder();
    const values = operands.map(({ dtype, shape }, i) => b.input(`x${i}`, { dtype, shape }));
    return b.make(op, values, attrs)[0]?.producer.attrs;
  };
  const usual: Readonly<Record<string, Readonly<Record<string, unknown>>>> = defaults;

  test.each(names)("the optional ones of %s have the documented defaults, and only they", (op) => {
    const declared = Object.entries(specsOf(op)).filter(([, spec]) => spec.default !== undefined);
    expect(Object.fromEntries(declared.map(([key, spec]) => [key, spec.default]))).toEqual(usual[op] ?? {});
  });

  test.each(names)("%s takes a call without its optional ones as one that states their defaults", (op) => {
    const plain = samplesOf(op).find(({ attrs }) => Object.keys(attrs).every((key) => key in required(op, attrs)));
    if (plain === undefined) throw new Error("no sample without optional attributes");
    expect(build(plain, op, plain.attrs)).toEqual(build(plain, op, { ...plain.attrs, ...usual[op] }));
  });

  test.each(names)("%s asks for each one that has no default", (op) => {
    const sample = samplesOf(op)[0] as OpSample;
    for (const key of Object.keys(required(op, sample.attrs)))
      expect(() => build(sample, op, { ...sample.attrs, [key]: undefined })).toThrow(`${op} needs attribute ${key}`);
  });

  test.each(names)("%s refuses one that it does not have", (op) => {
    const sample = samplesOf(op)[0] as OpSample;
    expect(() => build(sample, op, { ...sample.attrs, colour: 1 })).toThrow("unknown-attribute");
  });
});
