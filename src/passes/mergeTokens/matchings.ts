// The authors' other matchings, as graph fragments: for comparison with bipartite soft matching (tokenMatch).
import type { Builder } from "../../ir/builder.ts";
import type { Value } from "../../ir/graph.ts";
import type { Dim } from "../../ir/type.ts";

/** How a matching folds token streams and spreads them out again. */
export interface Folding {
  /** i32[batch, sources]: which destination each source joins. */
  readonly destination: Value;
  /** Sums f32[batch, tokens, channels] onto the destinations. */
  merge(x: Value): Value;
  /** Copies every destination back to the places it came from. */
  unmerge(x: Value): Value;
}

const place = { axis: 1, batch: 1 } as const;

/** For each row of `sources` its most similar row of `destinations`; both [batch, tokens, channels], cosine. */
function mostSimilar(b: Builder, metric: Value, split: (x: Value) => { sources: Value; destinations: Value }): Value {
  const { sources, destinations } = split(b.l2Normalize(metric, { axis: 2 }));
  return b.argMax(b.matmul(sources, b.transpose(destinations, { perm: [0, 2, 1] })), { axis: 2 });
}

/**
 * Every k-th token (offset k - 1) is a destination, all others merge into the most similar one; the last tokens mod k
 * are dropped. metric: f32[batch, tokens, channels]. Source: ToMe merge.py, kth_bipartite_soft_matching.
 */
export function matchEveryKth(b: Builder, metric: Value, k: number): Folding {
  const tokens = metric.type.shape[1] as number;
  const groups = Math.floor(tokens / k);
  const grouped = (x: Value): { sources: Value; destinations: Value } => {
    const [batch, , channels] = x.type.shape as readonly [Dim, Dim, Dim];
    const whole = b.reshape(b.slice(x, { axis: 1, end: groups * k }), { shape: [batch, groups, k, channels] });
    const part = (start: number, end: number) =>
      b.reshape(b.slice(whole, { axis: 2, start, end }), { shape: [batch, groups * (end - start), channels] });
    return { sources: part(0, k - 1), destinations: part(k - 1, k) };
  };
  const destination = mostSimilar(b, metric, grouped);
  return {
    destination,
    merge(x) {
      const { sources, destinations } = grouped(x);
      return b.scatterAdd(destinations, destination, sources, place);
    },
    unmerge(x) {
      const [batch, , channels] = x.type.shape as readonly [Dim, Dim, Dim];
      const spread = b.reshape(b.gather(x, destination, place), { shape: [batch, groups, k - 1, channels] });
      const own = b.reshape(x, { shape: [batch, groups, 1, channels] });
      return b.reshape(b.concat([spread, own], { axis: 2 }), { shape: [batch, groups * k, channels] });
    },
  };
}

/**
 * Sources are the r tokens with the lowest noise, destinations the rest in order of noise.
 * noise: f32[batch, tokens], uniform. Source: ToMe merge.py, random_bipartite_soft_matching.
 */
export function matchAtRandom(b: Builder, metric: Value, noise: Value, r: number): Folding {
  const [, order] = b.sort(noise, { axis: 1 });
  const tokens = metric.type.shape[1] as Dim;
  const from = b.slice(order, { axis: 1, end: r });
  const to = b.slice(order, { axis: 1, start: r, end: tokens });
  const split = (x: Value) => ({ sources: b.gather(x, from, place), destinations: b.gather(x, to, place) });
  const destination = mostSimilar(b, metric, split);
  return {
    destination,
    merge(x) {
      const { sources, destinations } = split(x);
      return b.scatterAdd(destinations, destination, sources, place);
    },
    unmerge(x) {
      const [batch, , channels] = x.type.shape as readonly [Dim, Dim, Dim];
      const empty = b.full({ dtype: x.type.dtype, shape: [batch, tokens, channels] }, 0);
      const own = b.scatterAdd(empty, to, x, place);
      return b.scatterAdd(own, from, b.gather(x, destination, place), place);
    },
  };
}
