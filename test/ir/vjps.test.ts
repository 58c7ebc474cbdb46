import { describe, expect, test } from "vitest";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import type { Graph } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import { builtinOps, ops } from "../../src/ir/ops/index.ts";
import { isFloat, type TensorData } from "../../src/ir/type.ts";
import { vjpOf } from "../../src/ir/vjps/index.ts";
import { differentiate } from "../../src/passes/differentiate.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { loadSamples, type OpSample, sampleGraph } from "../samples/load.ts";

// Each op's gradient against central differences along a random direction, on the samples of the op table in f64.

/** Floats as f64, moved off the places where an op has a kink or a tie. */
function smooth(sample: OpSample): OpSample {
  const operands = sample.operands.map((operand, k): TensorData => {
    if (!isFloat(operand.dtype)) return operand;
    const values = Float64Array.from(
      operand.values as ArrayLike<number>,
      (x, i) => (Number.isFinite(Number(x)) ? Number(x) : 0.5) + 0.013 * Math.sin(2.1 + 1.7 * i + 5 * k),
    );
    // A power of a negative number is defined for whole exponents alone.
    const base = sample.op === "pow" && k === 0;
    return { dtype: "f64", shape: operand.shape, values: base ? values.map((x) => Math.abs(x) + 0.1) : values };
  });
  // Results of other float kinds would be rounded, which is no smooth function.
  const attrs = Object.fromEntries(
    Object.entries(sample.attrs).map(([name, value]) => [
      name,
      name === "to" && typeof value === "string" ? "f64" : value,
    ]),
  );
  return { ...sample, operands, attrs };
}

const floats = (graph: Graph): readonly string[] =>
  graph.inputs.filter(({ type }) => isFloat(type.dtype)).map(({ producer }) => producer.attrs["name"] as string);

const finite = (tensors: readonly { readonly values: ArrayLike<number | bigint> }[]): boolean =>
  tensors.every(({ values }) => Array.from(values, Number).every(Number.isFinite));

const differentiable = (sample: OpSample): boolean => {
  const rule = vjpOf(sample.op, builtinOps);
  const { operands, results } = sample;
  return (
    (rule === undefined || typeof rule === "function") &&
    operands.some(({ dtype, values }) => isFloat(dtype) && values.length > 0) &&
    results.some(({ dtype, values }) => isFloat(dtype) && values.length > 0) &&
    !twice(sample) &&
    insideDomain(sample)
  );
};

/** Batch groups come out of a gradient and are not differentiated again. */
const twice = ({ attrs }: OpSample): boolean => attrs["batchGroups"] !== undefined && attrs["batchGroups"] !== 1;

function insideDomain(sample: OpSample): boolean {
  const { graph, inputs } = sampleGraph(smooth(sample));
  return finite(Object.values(evaluateExact(graph, inputs)));
}

const samples = loadSamples().filter(differentiable);

/** A direction or cotangent with no pattern that a rule could share. */
const wave = (count: number, seed: number): Float64Array =>
  Float64Array.from({ length: count }, (_, i) => Math.cos(1 + seed + 2.3 * i));

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, x, i) => sum + x * (b[i] as number), 0);

describe("gradients agree with central differences", () => {
  test("every op that has a gradient has a sample that shows it", () => {
    const shown = new Set(samples.map(({ op }) => op));
    const silent = Object.keys(ops).filter((name) => {
      const rule = vjpOf(name, builtinOps);
      return typeof rule === "function" && !shown.has(name as never);
    });
    expect(silent).toEqual([]);
  });

  test("a convolution with batch groups says that it has none", () => {
    const sample = loadSamples().find(twice) as OpSample;
    const { graph } = sampleGraph(sample);
    const pass = differentiate({ of: ["y0"], wrt: ["x0"], cotangents: true });
    expect(() => runPasses({ graph, weights: new Map() }, [pass])).toThrow(/no-gradient/);
  });

  test.each(samples.map((sample) => [sample.name, sample] as const))("%s", (_name, given) => {
    const sample = smooth(given);
    const { graph, inputs } = sampleGraph(sample);
    const of = graph.outputs.filter(({ value }) => isFloat(value.type.dtype)).map(({ name }) => name);
    const wrt = floats(graph);
    const backward = runPasses({ graph, weights: new Map() }, [differentiate({ of, wrt, cotangents: true })]).model
      .graph;
    const plain = evaluateExact(graph, inputs);
    const cotangents = Object.fromEntries(
      of.map((name, k): [string, TensorData] => {
        const { shape, values } = plain[name] as NumberTensor;
        return [`cot.${name}`, { dtype: "f64", shape, values: wave(values.length, k) }];
      }),
    );
    const gradients = evaluateExact(backward, { ...inputs, ...cotangents });
    const directions = new Map(wrt.map((name, k) => [name, wave((inputs[name] as TensorData).values.length, 10 + k)]));
    const loss = (step: number): number => {
      const moved = Object.fromEntries(
        Object.entries(inputs).map(([name, tensor]): [string, TensorData] => {
          const along = directions.get(name);
          if (along === undefined) return [name, tensor];
          const values = Float64Array.from(
            tensor.values as ArrayLike<number>,
            (x, i) => Number(x) + step * (along[i] as number),
          );
          return [name, { ...tensor, values } as TensorData];
        }),
      );
      const results = evaluateExact(graph, moved);
      return of.reduce(
        (sum, name) => sum + dot((results[name] as NumberTensor).values, cotangents[`cot.${name}`]?.values as never),
        0,
      );
    };
    // Central differences of two steps, extrapolated to none (Richardson).
    const slope = (step: number): number => (loss(step) - loss(-step)) / (2 * step);
    const measured = (4 * slope(1e-5) - slope(2e-5)) / 3;
    const computed = wrt.reduce(
      (sum, name) =>
        sum + dot((gradients[`grad.${name}`] as NumberTensor).values, directions.get(name) as Float64Array),
      0,
    );
    const scale = Math.max(1, Math.abs(measured));
    expect(Math.abs(computed - measured) / scale, `${computed} against ${measured}`).toBeLessThan(1e-5);
  });
});
