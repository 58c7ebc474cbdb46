// Token merging in plain loops over one sequence, written from papers/03-tocom.md (sections 2.1 to 2.5) and not from
// the pass: the judge of its tests. Everything is f64.

/** [rows][columns] */
export type Matrix = readonly (readonly number[])[];

export interface Linear {
  /** [out][in] */
  readonly weight: Matrix;
  readonly bias?: readonly number[] | undefined;
}
export interface Norm {
  readonly gain: readonly number[];
  readonly bias: readonly number[];
  readonly epsilon: number;
}
/** x + scale1 project(attention(norm1 x)), then that + scale2 contract(activation(expand(norm2 that))). */
export interface PlainBlock {
  readonly heads: number;
  readonly keyHeads: number;
  readonly norm1: Norm;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly project: Linear;
  readonly scale1?: readonly number[] | undefined;
  readonly norm2: Norm;
  readonly expand: Linear;
  readonly contract: Linear;
  readonly scale2?: readonly number[] | undefined;
  readonly activation: (x: number) => number;
}

export interface Pairs {
  /** Tokens of the even half that stay, as indices into that half. */
  readonly kept: readonly number[];
  readonly source: readonly number[];
  /** Into the odd half. */
  readonly destination: readonly number[];
}

/** Section 2.2: cosine of even against odd tokens; the lowest index wins a tie, the order of equals is kept. */
export function matchPairs(metric: Matrix, r: number, protect: number): Pairs {
  const unit = metric.map((row) => row.map((x) => x / Math.sqrt(dot(row, row))));
  const [even, odd] = halves(unit);
  const best = even.map(() => 0);
  const score = even.map(() => Number.NEGATIVE_INFINITY);
  even.forEach((a, i) => {
    odd.forEach((b, j) => {
      const hidden = (protect > 0 && i === 0) || (protect > 1 && j === 0);
      const cosine = hidden ? Number.NEGATIVE_INFINITY : dot(a, b);
      if (cosine > at(score, i)) [score[i], best[i]] = [cosine, j];
    });
  });
  const order = even.map((_, i) => i);
  order.sort((i, j) => (at(score, i) === at(score, j) ? i - j : at(score, j) - at(score, i)));
  const source = order.slice(0, r);
  const kept = order.slice(r);
  if (protect > 0) kept.sort((i, j) => i - j);
  return { kept, source, destination: source.map((i) => at(best, i)) };
}

/** Section 2.3: sources added onto their destinations; kept tokens first, then the odd half, protected ones in front. */
export function mergeSum(x: Matrix, pairs: Pairs, protect: number): Matrix {
  const [even, odd] = halves(x);
  const merged = odd.map((row) => [...row]);
  pairs.source.forEach((from, k) => {
    const onto = merged[at(pairs.destination, k)] ?? [];
    rowOf(even, from).forEach((value, c) => {
      onto[c] = at(onto, c) + value;
    });
  });
  const kept = pairs.kept.map((i) => rowOf(even, i));
  if (protect < 2) return [...kept, ...merged];
  return [...kept.slice(0, 1), ...merged.slice(0, 1), ...kept.slice(1), ...merged.slice(1)];
}

/** Section 2.4: softmax over keys of q k / sqrt(channels) + ln(size), and the keys averaged over heads. */
export function attend(
  x: Matrix,
  block: PlainBlock,
  sizes: readonly number[] | undefined,
): { readonly out: Matrix; readonly metric: Matrix } {
  const { heads, keyHeads } = block;
  const [query, key, value] = [block.query, block.key, block.value].map((part) => linear(x, part)) as [
    Matrix,
    Matrix,
    Matrix,
  ];
  const width = rowOf(query, 0).length / heads;
  const joined = x.map((): number[] => []);
  for (let head = 0; head < heads; head++) {
    const shared = Math.floor((head * keyHeads) / heads);
    const [q, k, v] = [columns(query, head, width), columns(key, shared, width), columns(value, shared, width)];
    q.forEach((row, i) => {
      const weights = k.map((other, j) => Math.exp(dot(row, other) / Math.sqrt(width)) * (sizes?.[j] ?? 1));
      const total = sumOf(weights);
      for (let c = 0; c < width; c++)
        joined[i]?.push(sumOf(weights.map((weight, j) => (weight / total) * at(rowOf(v, j), c))));
    });
  }
  const metric = key.map((row) =>
    Array.from({ length: width }, (_, c) => {
      let sum = 0;
      for (let head = 0; head < keyHeads; head++) sum += at(row, head * width + c);
      return sum / keyHeads;
    }),
  );
  return { out: linear(joined, block.project), metric };
}

/** A token stream after a block. */
export interface Stage {
  readonly x: Matrix;
  /** Undefined until a block has merged. */
  readonly sizes: readonly number[] | undefined;
  /** [tokens][tokens before]: 1 where an original token ended up. */
  readonly source: Matrix;
}
/** The last stage, and those after each block. */
export interface Merged extends Stage {
  readonly stages: readonly Stage[];
}

export interface Merging {
  /** Tokens to merge in each block; fewer where fewer are left. */
  readonly r: readonly number[];
  /** 1 with a class token, 2 with a distillation token as well. */
  readonly protect: number;
  readonly proportional?: boolean;
}

/** Section 2.5: the blocks, with tokens merged between attention and MLP. */
export function runBlocks(tokens: Matrix, blocks: readonly PlainBlock[], merging: Merging): Merged {
  const { protect, proportional = true } = merging;
  let x = tokens;
  let sizes: readonly number[] | undefined;
  let source: Matrix = x.map((_, i) => x.map((_, j) => (i === j ? 1 : 0)));
  const stages: Stage[] = [];
  blocks.forEach((block, layer) => {
    const { out, metric } = attend(normalise(x, block.norm1), block, proportional ? sizes : undefined);
    x = plus(x, scaled(out, block.scale1));
    const r = Math.min(merging.r[layer] ?? 0, Math.floor((x.length - protect) / 2));
    if (r > 0) {
      const pairs = matchPairs(metric, r, protect);
      const before = sizes ?? x.map(() => 1);
      const total = mergeSum(
        x.map((row, i) => row.map((value) => value * at(before, i))),
        pairs,
        protect,
      );
      const after = mergeSum(
        before.map((size) => [size]),
        pairs,
        protect,
      ).map((row) => at(row, 0));
      x = total.map((row, i) => row.map((value) => value / at(after, i)));
      source = mergeSum(source, pairs, protect);
      sizes = after;
    }
    const hidden = linear(normalise(x, block.norm2), block.expand).map((row) => row.map(block.activation));
    x = plus(x, scaled(linear(hidden, block.contract), block.scale2));
    stages.push({ x, sizes, source });
  });
  return { x, sizes, source, stages };
}

/** source^T x: every original token's place filled with the token that it became part of. */
export const restored = ({ x, source }: Stage): Matrix =>
  rowOf(source, 0).map((_, original) =>
    rowOf(
      x,
      source.findIndex((row) => row[original] === 1),
    ),
  );

export function normalise(x: Matrix, { gain, bias, epsilon }: Norm): Matrix {
  return x.map((row) => {
    const mean = sumOf(row) / row.length;
    const variance = sumOf(row.map((v) => (v - mean) ** 2)) / row.length;
    return row.map((v, c) => ((v - mean) / Math.sqrt(variance + epsilon)) * at(gain, c) + at(bias, c));
  });
}

/** x W^T + b */
export const linear = (x: Matrix, { weight, bias }: Linear): Matrix =>
  x.map((row) => weight.map((w, out) => dot(row, w) + (bias?.[out] ?? 0)));

/** x Phi(x) */
export const gelu = (x: number): number => (x * (1 + erf(x * Math.SQRT1_2))) / 2;
export const quickGelu = (x: number): number => x / (1 + Math.exp(-1.702 * x));

/** Abramowitz and Stegun 7.1.6, whose terms are all positive: no cancellation. */
function erf(x: number): number {
  let [term, total] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
}

/** Mean over rows from `first` on, each counted `size` times, over the number of original rows (MAE's read-out). */
export function pooled({ x, sizes, source }: Merged, first: number): readonly number[] {
  const patches = rowOf(source, 0).length - first;
  return rowOf(x, 0).map(
    (_, c) => sumOf(x.slice(first).map((row, i) => at(row, c) * (sizes?.[first + i] ?? 1))) / patches,
  );
}

const halves = (x: Matrix): [even: Matrix, odd: Matrix] => [
  x.filter((_, i) => i % 2 === 0),
  x.filter((_, i) => i % 2 === 1),
];
const columns = (x: Matrix, head: number, width: number): Matrix =>
  x.map((row) => row.slice(head * width, (head + 1) * width));
const scaled = (x: Matrix, scale: readonly number[] | undefined): Matrix =>
  scale === undefined ? x : x.map((row) => row.map((value, c) => value * at(scale, c)));
export const plus = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((v, c) => v + at(rowOf(b, i), c)));
export const sumOf = (xs: readonly number[]): number => xs.reduce((total, x) => total + x, 0);
export const at = (xs: readonly number[], i: number): number => xs[i] ?? Number.NaN;
export const rowOf = (x: Matrix, i: number): readonly number[] => x[i] ?? [];
const dot = (a: readonly number[], b: readonly number[]): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += at(a, i) * at(b, i);
  return sum;
};
