import { expect } from "vitest";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { type ModelDefinition, traceModel } from "../../src/dsl/index.ts";
import { type Graph, parametersOf, sourceName, type WeightSource } from "../../src/ir/graph.ts";
import { type TensorData, tensorData } from "../../src/ir/type.ts";

/** Numbers in [-1, 1) that f32 holds exactly, the same for a seed on every machine (Numerical Recipes' LCG). */
export function drawn(seed: number, count: number): Float64Array {
  let state = seed >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 9) / 2 ** 22 - 1;
  });
}

/** Contents for every parameter: small around 0, gains around 1. */
export function drawnParameters(graph: Graph): Map<string, TensorData> {
  return new Map(
    parametersOf(graph).map((node, at) => {
      const shape = node.results[0]?.type.shape.map(Number) ?? [];
      const count = shape.reduce((product, size) => product * size, 1);
      const name = sourceName(node);
      const centre = /norm\w*\.weight$/.test(name) ? 1 : 0;
      return [
        name,
        tensorData(
          "f32",
          shape,
          drawn(at + 1, count).map((x) => centre + x / 4),
        ),
      ];
    }),
  );
}

export const traced = (model: ModelDefinition): Graph => traceModel(model);

/** A weight that says what was read of it. */
export function sourceOf(data: TensorData, reads: [start: number, end: number][] = []): WeightSource {
  const { dtype, shape, values } = data;
  return {
    type: { dtype, shape },
    hash: `${dtype}[${shape.join(",")}] ${values.join(" ")}`,
    read: async (start = 0, end = values.length) => {
      reads.push([start, end]);
      return { dtype, shape: end - start === values.length ? shape : [end - start], values: values.slice(start, end) };
    },
  };
}

export type Rows = readonly (readonly number[])[];

/** A matrix, or the last two axes of a tensor whose others are 1, row by row. */
export function rowsOf({ shape, values }: TensorData): number[][] {
  const columns = shape.at(-1) ?? 1;
  const numbers = Array.from(values, Number);
  return Array.from({ length: numbers.length / columns }, (_, i) => numbers.slice(i * columns, (i + 1) * columns));
}

/** Straightforward f64 arithmetic on named parameters, written from the papers and not from the graph. */
export class Plain {
  readonly parameters: ReadonlyMap<string, TensorData>;
  constructor(parameters: ReadonlyMap<string, TensorData>) {
    this.parameters = parameters;
  }
  has(name: string): boolean {
    return this.parameters.has(name);
  }
  rows(name: string): number[][] {
    const found = this.parameters.get(name);
    if (found === undefined) throw new Error(`no parameter ${name}`);
    return rowsOf(found);
  }
  vector(name: string): number[] {
    return this.rows(name).flat();
  }
  /** x W^T + b */
  linear(name: string, x: Rows): number[][] {
    const weight = this.rows(`${name}.weight`);
    const bias = this.has(`${name}.bias`) ? this.vector(`${name}.bias`) : [];
    return x.map((row) => weight.map((w, out) => dot(row, w) + (bias[out] ?? 0)));
  }
  layerNorm(name: string, x: Rows, epsilon: number): number[][] {
    const [gain, bias] = [this.vector(`${name}.weight`), this.vector(`${name}.bias`)];
    return x.map((row) => {
      const mean = sumOf(row) / row.length;
      const variance = sumOf(row.map((v) => (v - mean) ** 2)) / row.length;
      return row.map((v, c) => ((v - mean) / Math.sqrt(variance + epsilon)) * at(gain, c) + at(bias, c));
    });
  }
  rmsNorm(name: string, x: Rows, epsilon: number): number[][] {
    const gain = this.vector(`${name}.weight`);
    return x.map((row) => {
      const square = sumOf(row.map((v) => v * v)) / row.length;
      return row.map((v, c) => (v / Math.sqrt(square + epsilon)) * at(gain, c));
    });
  }
}

/** One head: softmax(q k^T / sqrt(channels)) v, over keys up to the query's own where causal. */
export function attend(query: Rows, key: Rows, value: Rows, causal: boolean): number[][] {
  return query.map((q, i) => {
    const seen = causal ? i + 1 : key.length;
    const scores = key.slice(0, seen).map((k) => Math.exp(dot(q, k) / Math.sqrt(q.length)));
    const total = sumOf(scores);
    return q.map((_, c) => sumOf(scores.map((s, j) => (s / total) * at(value[j] ?? [], c))));
  });
}

export const columns = (x: Rows, start: number, count: number): number[][] =>
  x.map((row) => row.slice(start, start + count));
export const beside = (parts: readonly Rows[]): number[][] =>
  (parts[0] ?? []).map((_, i) => parts.flatMap((part) => part[i] ?? []));
export const plus = (a: Rows, b: Rows): number[][] => a.map((row, i) => row.map((v, c) => v + at(b[i] ?? [], c)));
export const sumOf = (xs: readonly number[]): number => xs.reduce((total, x) => total + x, 0);
export const at = (xs: readonly number[], i: number): number => xs[i] ?? Number.NaN;
const dot = (a: readonly number[], b: readonly number[]): number => sumOf(a.map((x, i) => x * at(b, i)));

/** Exact arithmetic on both sides, the wanted values stored as f32. */
export function expectClose(actual: TensorData, wanted: TensorData): void {
  expect(compareTensors(actual, wanted, tolerance("f32", { target: "reference" })).message).toBe("");
}

/** The one output of a graph. */
export function only(outputs: Readonly<Record<string, TensorData>>): TensorData {
  const [first, ...others] = Object.values(outputs);
  if (first === undefined || others.length > 0) throw new Error(`${Object.keys(outputs).length} outputs`);
  return first;
}

export function expectOps(graph: Graph, counts: Readonly<Record<string, number>>): void {
  const found: Record<string, number> = {};
  for (const { op } of graph.nodes) if (op in counts) found[op] = (found[op] ?? 0) + 1;
  expect(found).toEqual(counts);
}
