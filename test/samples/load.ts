import { readFileSync } from "node:fs";
import { createBuilder } from "../../src/ir/builder.ts";
import type { Graph } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import type { OpName } from "../../src/ir/ops/index.ts";
import { type DType, type TensorData, tensorData, toNumbers } from "../../src/ir/type.ts";

/** One application of an op with results that scripts/samples.py computed with numpy; results are f64 numbers. */
export interface OpSample {
  /** Unique: family, position and note. */
  readonly name: string;
  readonly op: OpName;
  readonly note: string;
  readonly attrs: Readonly<Record<string, unknown>>;
  readonly operands: readonly TensorData[];
  readonly results: readonly NumberTensor[];
}

export const families = [
  "elementwise",
  "reduce",
  "shape",
  "contraction",
  "gather",
  "window",
  "nn",
  "attention",
  "tokens",
] as const;

interface StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly values: readonly (number | "nan" | "inf" | "-inf")[];
}
interface StoredCase {
  readonly op: OpName;
  readonly note?: string;
  readonly attrs: Readonly<Record<string, unknown>>;
  readonly operands: readonly StoredTensor[];
  readonly results: readonly StoredTensor[];
}

export function loadSamples(): readonly OpSample[] {
  return families.flatMap((family) => {
    const text = readFileSync(new URL(`${family}.json`, import.meta.url), "utf8");
    const { cases } = JSON.parse(text) as { readonly cases: readonly StoredCase[] };
    return cases.map(({ op, note = "", attrs, operands, results }, i) => ({
      name: `${op}: ${note === "" ? "" : `${note}, `}${family} ${i}`,
      op,
      note,
      attrs,
      operands: operands.map(({ dtype, shape, values }) => tensorData(dtype, shape, values.map(asNumber))),
      results: results.map(({ dtype, shape, values }) => ({
        dtype,
        shape,
        values: Float64Array.from(values, asNumber),
      })),
    }));
  });
}

const words: Readonly<Record<string, number>> = { nan: Number.NaN, inf: Infinity, "-inf": -Infinity };
const asNumber = (value: number | string): number => (typeof value === "number" ? value : (words[value] as number));

/** The sample in f64 throughout, or undefined where it has no f32 operand: constants inside ops are then unrounded too. */
export function widened(sample: OpSample): OpSample | undefined {
  const { attrs, operands, results } = sample;
  if (!operands.some(({ dtype }) => dtype === "f32")) return undefined;
  const named = "to" in attrs || "dtype" in attrs; // the op states its result's dtype
  return {
    ...sample,
    operands: operands.map((tensor) =>
      tensor.dtype === "f32" ? tensorData("f64", tensor.shape, toNumbers(tensor)) : tensor,
    ),
    results: results.map((tensor) => (tensor.dtype === "f32" && !named ? { ...tensor, dtype: "f64" } : tensor)),
  };
}

/** The sample as a graph with inputs x0, x1, ... and outputs y0, y1, ... */
export function sampleGraph({ op, attrs, operands }: OpSample): {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, TensorData>>;
} {
  const b = createBuilder();
  const values = operands.map(({ dtype, shape }, i) => b.input(`x${i}`, { dtype, shape }));
  const results = b.make(op, values, attrs);
  return {
    graph: b.finish(op, Object.fromEntries(results.map((value, i) => [`y${i}`, value]))),
    inputs: Object.fromEntries(operands.map((tensor, i) => [`x${i}`, tensor])),
  };
}
