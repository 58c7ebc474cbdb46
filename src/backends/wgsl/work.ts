// What a kernel has to do, counted from its expressions: scalar operations, and elements of memory that it reads.
import {
  addDims,
  evaluateDim,
  multiplyDims,
  productOfDims,
  substituteDim,
  subtractDims,
  symbolsOf,
} from "../../ir/dim.ts";
import type { Dim } from "../../ir/type.ts";
import { inPasses } from "./emit/rows.ts";
import { accumulatorOf, type Expr, isIndexArithmetic, walk } from "./expr.ts";
import { type AttentionKernel, type Kernel, type RankStage, type Result, type RowsKernel, writesOf } from "./kernel.ts";

/**
 * Scalar operations on values, as few as the kernel can do with: what several terms share counts once, however often a
 * tile repeats it, and index arithmetic counts nothing.
 */
export interface KernelWork {
  /** On operands: of products and attention for each element that they take, of row kernels in passes of their own. */
  readonly before: Dim;
  /** Of the loop that makes the kernel what it is; of a map none. */
  readonly loop: Dim;
  /** On results. */
  readonly after: Dim;
  /** Whether a mask by position hides an unknown part of the loop, so that the figures are upper bounds. */
  readonly atMost: boolean;
  /** Elements read of each buffer that the kernel does not write: all of it, or as many reads as there are if fewer. */
  readonly reads: ReadonlyMap<string, Dim>;
}

type Sizes = ReadonlyMap<string, Dim>;

/** Work of a kernel; `symbols` that have a size are replaced by it. */
export function workOf(kernel: Kernel, symbols: Sizes = new Map()): KernelWork {
  const size = (...dims: readonly Dim[]): Dim => productOfDims(dims.map((dim) => substituteDim(dim, symbols)));
  const counted = countersOf(kernel, symbols, size);
  const reads = new Map<string, Dim>();
  const own = new Set(writesOf(kernel).map(({ name }) => name));
  for (const { loads } of counted.counters)
    for (const [name, { elements, times }] of loads)
      if (!own.has(name)) reads.set(name, smaller(addDims(reads.get(name) ?? 0, times), size(elements)));
  return { ...counted, reads };
}

/** The smaller of a number of reads and the elements there are; the elements where symbols leave it open. */
function smaller(times: Dim, elements: Dim): Dim {
  const more = subtractDims(elements, times);
  return typeof more === "number" ? (more > 0 ? times : elements) : more.includes("-") ? elements : times;
}

type Counted = Omit<KernelWork, "reads"> & { readonly counters: readonly Counter[] };

function countersOf(kernel: Kernel, symbols: Sizes, size: (...dims: readonly Dim[]) => Dim): Counted {
  const counterOver = (ranges: Readonly<Record<string, Dim>>) =>
    new Counter(new Map(Object.entries(ranges).map(([name, dim]) => [name, size(dim)])), symbols);
  const values = (results: readonly Result[]) => results.map(({ value }) => value);
  switch (kernel.kind) {
    case "map": {
      const counter = counterOver({ i: kernel.count });
      const after = counter.count(values(kernel.results), size(kernel.count));
      return { before: 0, loop: 0, after, atMost: false, counters: [counter] };
    }
    case "rows":
      return countRows(kernel, counterOver({ i: kernel.rows, r: kernel.length }), size);
    case "gemm": {
      const { batch, m, n, k } = kernel;
      const elements = size(batch, m, n);
      const counter = counterOver({ b: batch, m, n, k, i: elements });
      const before = addDims(counter.countOver(kernel.a), counter.countOver(kernel.b));
      const after = counter.count(values(kernel.results), elements);
      return { before, loop: multiplyDims(size(2, k), elements), after, atMost: false, counters: [counter] };
    }
    case "attention": {
      const { batch, heads, queries, keys, channels, valueChannels } = kernel;
      const elements = size(batch, heads, queries, valueChannels);
      const c = Math.max(channels, valueChannels);
      const counter = counterOver({ b: batch, h: heads, i: queries, j: keys, c, o: elements });
      const before = [kernel.query, kernel.key, kernel.value].map((e) => counter.countOver(e)).reduce(addDims);
      const scores = scoresOf(kernel, symbols, size);
      const adjust = counter.count([kernel.score], scores.pairs);
      const products = multiplyDims(scores.pairs, 2 * (channels + valueChannels) + onlineSoftmax);
      const scaled = size(batch, heads, queries, channels);
      const loop = [products, adjust, scaled, elements].reduce(addDims);
      const logSumExp = kernel.logSumExp.length > 0 ? size(2, batch, heads, queries) : 0;
      const after = addDims(counter.count(values(kernel.results), elements), logSumExp);
      return { before, loop, after, atMost: scores.atMost, counters: [counter] };
    }
    case "window": {
      const { count, channels } = kernel;
      const [p, q] = kernel.kernel as readonly [number, number];
      const counter = counterOver({ o: count, i: count, c: channels, p, q });
      const before = addDims(counter.countOver(kernel.x), counter.countOver(kernel.weight));
      const loop = size(count, channels, p, q, kernel.reduce === "dot" ? 2 : 1);
      const after = counter.count(values(kernel.results), size(count));
      return { before, loop, after, atMost: false, counters: [counter] };
    }
    case "scan": {
      const elements = size(kernel.rows, kernel.length);
      const counter = counterOver({ i: kernel.rows, r: kernel.length, o: elements });
      const loop = counter.count([kernel.step], elements);
      return {
        before: 0,
        loop,
        after: counter.count(values(kernel.results), elements),
        atMost: false,
        counters: [counter],
      };
    }
    case "rank": {
      const stage = ({ length, x }: RankStage) => {
        const counter = counterOver({ i: kernel.rows, r: length });
        return { counter, before: counter.countOver(x), loop: size(kernel.rows, length, length, comparison) };
      };
      const stages = kernel.stages.map(stage);
      const before = stages.map((s) => s.before).reduce(addDims);
      const loop = stages.map((s) => s.loop).reduce(addDims);
      return { before, loop, after: 0, atMost: false, counters: stages.map((s) => s.counter) };
    }
    default:
      return kernel satisfies never;
  }
}

const onlineSoftmax = 4; // of a score: maximum, difference, exponential, sum
const comparison = 2; // of two elements of a row: which comes first, and counting it

function countRows(kernel: RowsKernel, counter: Counter, size: (...dims: readonly Dim[]) => Dim): Counted {
  const [rows, elements] = [size(kernel.rows), size(kernel.rows, kernel.length)];
  const values = (results: readonly Result[]) => results.map(({ value }) => value);
  const before = addDims(counter.count(values(kernel.first), rows), counter.count(values(kernel.before), elements));
  const passes = inPasses(kernel.folds).map((pass) => {
    const folds = pass.map(({ fold }) => fold);
    const steps = counter.count(
      folds.flatMap(({ step }) => step),
      elements,
    );
    return addDims(
      steps,
      counter.count(
        folds.map(({ finish }) => finish),
        rows,
      ),
    );
  });
  const perElement = counter.count(values(kernel.perElement), elements);
  const after = addDims(counter.count(values(kernel.perRow), rows), perElement);
  return { before, loop: passes.reduce(addDims, 0), after, atMost: false, counters: [counter] };
}

const mostQueries = 1 << 20; // rows whose keys are counted one by one

/** Pairs of query and key that see each other; all of them at most, where their number hangs on open symbols. */
function scoresOf(
  { batch, heads, queries, keys, first, end }: AttentionKernel,
  symbols: Sizes,
  size: (...dims: readonly Dim[]) => Dim,
): { readonly pairs: Dim; readonly atMost: boolean } {
  const all = { pairs: size(batch, heads, queries, keys), atMost: false };
  if (first.value === 0 && (end.op === "dim" || end.op === "literal")) return all;
  const rows = size(queries);
  const open = [first, end].some((e) => dimsIn(e).some((dim) => symbolsOf(size(dim)).length > 0));
  if (open || typeof rows !== "number" || rows > mostQueries) return { ...all, atMost: true };
  let seen = 0;
  for (let i = 0; i < rows; i++) seen += Math.max(0, placeOf(end, i, size) - Math.max(0, placeOf(first, i, size)));
  return { pairs: size(batch, heads, seen), atMost: false };
}

function dimsIn(root: Expr): readonly Dim[] {
  const dims: Dim[] = [];
  walk([root], (e) => {
    if (e.op === "dim") dims.push(e.name as string);
  });
  return dims;
}

const placeOps: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  min: Math.min,
  max: Math.max,
};

/** An index expression of query row i as a number. */
function placeOf(root: Expr, i: number, size: (dim: Dim) => Dim): number {
  const found = new Map<Expr, number>();
  walk([root], (e) => {
    const [a, b] = e.args.map((arg) => found.get(arg) as number) as [number, number];
    const leaf = e.op === "variable" ? i : e.op === "dim" ? evaluateDim(size(e.name as string), new Map()) : e.value;
    found.set(e, placeOps[e.op]?.(a, b) ?? (leaf as number));
  });
  return found.get(root) as number;
}

/** What an expression depends on. */
interface Needs {
  /** Whether it depends on anything but places. */
  readonly value: boolean;
  /** Index variables and loops around it, whose sizes say how many different ones there are. */
  readonly places: ReadonlySet<string>;
  /** The loops among them. */
  readonly folds: ReadonlySet<string>;
}

class Counter {
  /** Ranges of the kernel's index variables. */
  readonly #ranges: Sizes;
  readonly #symbols: Sizes;
  /** Terms of the loops inside expressions. */
  readonly #terms = new Map<string, Dim>();
  readonly #needs = new Map<Expr, Needs>();
  readonly #loaded = new Set<Expr>();
  /** Of each buffer its elements, and how many of them the loads met so far ask for. */
  readonly loads = new Map<string, { readonly elements: Dim; readonly times: Dim }>();

  constructor(ranges: Sizes, symbols: Sizes) {
    this.#ranges = ranges;
    this.#symbols = symbols;
  }

  /** Operations of an expression computed once for each value of the variables it depends on. */
  countOver(root: Expr): Dim {
    this.#study([root]);
    return this.count([root], this.#sizeOf([...this.#needsOf(root).places]));
  }

  /** Operations of expressions that are computed together `times` times. */
  count(roots: readonly Expr[], times: Dim): Dim {
    this.#study(roots);
    let total: Dim = 0;
    walk(roots, (e) => {
      const { places, folds } = this.#needsOf(e);
      if (this.#isOperation(e)) total = addDims(total, multiplyDims(times, this.#sizeOf([...folds])));
      if (e.op !== "load" || this.#loaded.has(e)) return;
      this.#loaded.add(e);
      const [index] = e.args as readonly [Expr];
      const wild = this.#needsOf(index).value && places.size === 0;
      const asked = wild ? times : this.#sizeOf([...places]);
      const known = this.loads.get(e.name as string)?.times ?? 0;
      this.loads.set(e.name as string, { elements: e.elements as Dim, times: addDims(known, asked) });
    });
    return total;
  }

  #sizeOf(names: readonly string[]): Dim {
    return productOfDims(names.map((name) => this.#ranges.get(name) ?? (this.#terms.get(name) as Dim)));
  }

  #needsOf(e: Expr): Needs {
    return this.#needs.get(e) as Needs;
  }

  #study(roots: readonly Expr[]): void {
    walk(roots, (e) => {
      if (e.op === "fold") this.#terms.set(e.name as string, substituteDim(e.elements as Dim, this.#symbols));
    });
    walk(roots, (e) => {
      if (!this.#needs.has(e)) this.#needs.set(e, this.#findNeeds(e));
    });
  }

  #findNeeds(e: Expr): Needs {
    const name = e.name as string;
    if (e.op === "variable") {
      const loop = this.#terms.has(name) ? name : [...this.#terms.keys()].find((f) => accumulatorOf(f) === name);
      const places = new Set(this.#ranges.has(name) ? [name] : loop === undefined ? [] : [loop]);
      return {
        value: !this.#ranges.has(name) && loop !== name,
        places,
        folds: new Set(loop === undefined ? [] : [loop]),
      };
    }
    const args = e.args.map((arg) => this.#needsOf(arg));
    const [places, folds] = [new Set(args.flatMap((a) => [...a.places])), new Set(args.flatMap((a) => [...a.folds]))];
    if (e.op === "fold") for (const of of [places, folds]) of.delete(name);
    return { value: e.op === "load" || args.some((a) => a.value), places, folds };
  }

  /** Whether an expression is arithmetic on values: choosing by place is not, nor is finding an address. */
  #isOperation(e: Expr): boolean {
    if (e.args.length === 0 || e.op === "load" || e.op === "fold" || isIndexArithmetic(e)) return false;
    const [first] = e.args as readonly [Expr];
    return e.op === "select" ? this.#needsOf(first).value : e.args.some((arg) => this.#needsOf(arg).value);
  }
}
