// Kernels as plain data: an iteration space, reads, a scalar expression graph, and what is written where.
import { productOfDims } from "../../ir/dim.ts";
import type { Dim } from "../../ir/type.ts";
import { type Expr, type Register, walk } from "./expr.ts";

/** Memory of one value: named in loads, placed by the planner. */
export interface Buffer {
  readonly name: string;
  readonly register: Register;
  readonly elements: Dim;
}

/** One value written by a kernel, at the linear index that its kind of kernel defines. */
export interface Result {
  readonly buffer: Buffer;
  readonly value: Expr;
}

/** A fold along a row: accumulators, one step, the merge of two partial folds, and the result. */
export interface Fold {
  /** Named a0, a1, ... in `step` and `finish`; x0.. and y0.. in `merge`. */
  readonly registers: readonly Register[];
  readonly init: readonly Expr[];
  readonly step: readonly Expr[];
  readonly merge: readonly Expr[];
  readonly finish: Expr;
}

interface KernelOf<K extends string> {
  readonly kind: K;
  /** Ops of the graph that became this kernel, in order; for people. */
  readonly ops: readonly string[];
  readonly scope: string;
  readonly label: string;
}

/** results[i] = value(i) for every i below count. */
export interface MapKernel extends KernelOf<"map"> {
  readonly count: Dim;
  readonly results: readonly Result[];
}

/**
 * Folds along rows. Variable i is the row, r the place in it, s0, s1, ... the finished folds so far, in order.
 * `perRow` is written at i, `perElement` at the linear index `at`.
 */
export interface RowsKernel extends KernelOf<"rows"> {
  readonly rows: Dim;
  readonly length: Dim;
  /** The linear index of place r of row i in tensors of the kernel's own shape. */
  readonly place: Expr;
  /** Values per row found before anything else, each under its variable's name and, where it has one, in its buffer. */
  readonly first: readonly (Result & { readonly name: string })[];
  /** Values per element written before the folds, which read back what their own thread wrote. */
  readonly before: readonly Result[];
  readonly folds: readonly Fold[];
  readonly perRow: readonly Result[];
  readonly perElement: readonly (Result & { readonly at: Expr })[];
}

/** acc = sum over k of a(b, m, k) * c(b, k, n); results written at linear index i = (b * M + m) * N + n through `at`. */
export interface GemmKernel extends KernelOf<"gemm"> {
  readonly batch: Dim;
  readonly m: Dim;
  readonly n: Dim;
  readonly k: Dim;
  readonly register: Register;
  readonly a: Expr;
  readonly b: Expr;
  /** The linear index in the result's own order, from b, m and n. */
  readonly at: Expr;
  /** Values in terms of i (the index just computed) and acc. */
  readonly results: readonly Result[];
}

/** Online softmax over keys, a query row a thread. Variables b, h, i (query), j (key), c (channel). */
export interface AttentionKernel extends KernelOf<"attention"> {
  readonly batch: Dim;
  readonly heads: number;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly channels: number;
  readonly valueChannels: number;
  readonly scale: number;
  readonly query: Expr;
  readonly key: Expr;
  readonly value: Expr;
  /** The score after mask, bias and sizes, from `score`. */
  readonly score: Expr;
  /** First key and end of the keys that row i sees. */
  readonly first: Expr;
  readonly end: Expr;
  /** Values in terms of i (linear index in the result) and acc. */
  readonly results: readonly Result[];
  readonly logSumExp: readonly Result[];
}

/** A thread per result element: taps of a window, dot, max or sum. */
export interface WindowKernel extends KernelOf<"window"> {
  readonly count: Dim;
  readonly reduce: "dot" | "max" | "sum";
  readonly channels: Dim;
  readonly kernel: readonly number[];
  /** x and weight values from o (linear result index), c, p and q (kernel row and column); `inside` guards x. */
  readonly inside: Expr;
  readonly x: Expr;
  readonly weight: Expr;
  readonly results: readonly Result[];
}

/** A running fold, a row a thread: acc before and after each element. */
export interface ScanKernel extends KernelOf<"scan"> {
  readonly rows: Dim;
  readonly length: Dim;
  readonly reverse: boolean;
  readonly exclusive: boolean;
  readonly init: Expr;
  /** From acc, i (row) and r. */
  readonly step: Expr;
  readonly register: Register;
  readonly at: Expr;
  readonly results: readonly Result[];
}

/** One stable sort along rows of `length` elements. */
export interface RankStage {
  readonly length: Dim;
  /** Places from here on are never read and may stay unwritten. */
  readonly needed: Dim;
  readonly descending: boolean;
  readonly register: Register;
  /** The element at place r of row i. */
  readonly x: Expr;
  /** Linear index of place r of row i. */
  readonly at: Expr;
  readonly values: Buffer | undefined;
  readonly indices: Buffer | undefined;
}

/**
 * Stable sorts along rows by counting what comes before, an element a thread. Later stages read what earlier ones wrote
 * for the same row.
 */
export interface RankKernel extends KernelOf<"rank"> {
  readonly rows: Dim;
  readonly stages: readonly RankStage[];
}

/** A kernel as plain data, before it is WGSL: iteration space, reads, arithmetic, results. */
export type Kernel = MapKernel | RowsKernel | GemmKernel | AttentionKernel | WindowKernel | ScanKernel | RankKernel;

/** Every expression of a kernel, for finding what it reads. */
export function expressionsOf(kernel: Kernel): readonly Expr[] {
  const values = (results: readonly Result[]) => results.map((r) => r.value);
  switch (kernel.kind) {
    case "map":
      return values(kernel.results);
    case "rows":
      return [
        kernel.place,
        ...values(kernel.first),
        ...values(kernel.before),
        ...kernel.folds.flatMap((f) => [...f.init, ...f.step, ...f.merge, f.finish]),
        ...values(kernel.perRow),
        ...kernel.perElement.flatMap((r) => [r.value, r.at]),
      ];
    case "gemm":
      return [kernel.a, kernel.b, kernel.at, ...values(kernel.results)];
    case "attention":
      return [
        kernel.query, kernel.key, kernel.value, kernel.score, kernel.first, kernel.end,
        ...values(kernel.results), ...values(kernel.logSumExp),
      ]; // biome-ignore format: one list
    case "window":
      return [kernel.inside, kernel.x, kernel.weight, ...values(kernel.results)];
    case "scan":
      return [kernel.init, kernel.step, kernel.at, ...values(kernel.results)];
    case "rank":
      return kernel.stages.flatMap((stage) => [stage.x, stage.at]);
    default:
      return kernel satisfies never;
  }
}

/** A kernel's iteration space: the sizes that it runs over, by name. */
export function spaceOf(kernel: Kernel): Readonly<Record<string, Dim>> {
  switch (kernel.kind) {
    case "map":
      return { elements: kernel.count };
    case "window":
      return { elements: kernel.count, channels: kernel.channels, taps: productOfDims(kernel.kernel) };
    case "rows":
    case "scan":
      return { rows: kernel.rows, length: kernel.length };
    case "rank":
      return { rows: kernel.rows, ...Object.fromEntries(kernel.stages.map(({ length }, s) => [`length${s}`, length])) };
    case "gemm":
      return { batch: kernel.batch, m: kernel.m, n: kernel.n, k: kernel.k };
    case "attention": {
      const { batch, heads, queries, keys, channels } = kernel;
      return { batch, heads, queries, keys, channels };
    }
    default:
      return kernel satisfies never;
  }
}

export function writesOf(kernel: Kernel): readonly Buffer[] {
  switch (kernel.kind) {
    case "rows":
      return [...kernel.first, ...kernel.before, ...kernel.perRow, ...kernel.perElement].map((r) => r.buffer);
    case "attention":
      return [...kernel.results, ...kernel.logSumExp].map((r) => r.buffer);
    case "rank":
      return kernel.stages.flatMap((stage) => [stage.values, stage.indices]).filter((b) => b !== undefined);
    default:
      return kernel.results.map((r) => r.buffer);
  }
}

/** Names of all buffers that a kernel binds. */
export function buffersOf(kernel: Kernel): ReadonlySet<string> {
  return new Set([...readsOf(kernel), ...writesOf(kernel).map((b) => b.name)]);
}

/** Names of the buffers that a kernel's expressions load from, among them what it wrote itself before. */
export function readsOf(kernel: Kernel): ReadonlySet<string> {
  const names = new Set<string>();
  walk(expressionsOf(kernel), (e) => {
    if (e.op === "load") names.add(e.name as string);
  });
  return names;
}
