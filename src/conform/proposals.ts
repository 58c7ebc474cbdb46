import type { AttrsOf, OpName, Ops } from "../ir/ops/index.ts";
import { type DType, isFloat } from "../ir/type.ts";
import { type Draw, type Fill, fills, kinds, type Operand, type Want } from "./draw.ts";

export interface Proposal<A = object> {
  readonly operands: readonly Operand[];
  readonly attrs?: Partial<A>;
}

export interface Row<A = object> {
  /** The op rounds nothing: all judges agree to the bit where its operands do. */
  readonly exact?: true;
  /** One application that may or may not be well typed; `infer` decides. */
  readonly propose: (draw: Draw) => Proposal<A>;
}

const float = kinds(["float"]);
const signed = kinds(["float", "signed"]);
const numbers = kinds(["float", "signed", "unsigned"]);
const integers = kinds(["signed", "unsigned"]);
const every = kinds(["float", "signed", "unsigned", "bool"]);
const bool: readonly DType[] = ["bool"];
const i32: readonly DType[] = ["i32"];

const unary = (dtypes: readonly DType[], want: Want = {}) => ({
  propose: (d: Draw) => ({ operands: [d.tensor(dtypes, want)] }),
});
const binary = (dtypes: readonly DType[], lhs: Want = {}, rhs: Want = {}) => ({
  propose: (d: Draw) => {
    const first = d.tensor(dtypes, lhs);
    return { operands: [first, like(d, first, rhs)] };
  },
});
const exactly = <T extends Row>(row: T): T & { exact: true } => ({ ...row, exact: true });

const like = (d: Draw, { exact }: Operand, want: Want = {}): Operand =>
  d.tensor([exact.dtype], { shape: exact.shape, ...want });
const rankOf = ({ exact }: Operand): number => exact.shape.length;
const sizeOf = ({ exact }: Operand, axis: number): number => exact.shape[axis] as number;
const anyAxis = (d: Draw, x: Operand): number => d.int(0, rankOf(x) - 1);
const someAxes = (d: Draw, rank: number): readonly number[] =>
  Array.from({ length: rank }, (_, axis) => axis).filter(() => d.chance(0.5));
const indices = (d: Draw, shape: readonly number[], size: number): Operand =>
  d.tensor(i32, {
    shape,
    fill: (draw) => draw.int(0, size - 1),
    where: ({ values }) => values.every((i) => i >= 0 && i < size),
  });

const positive: Want = { fill: fills.positive };
const nonZero: Want = {
  fill: (d) => d.pick([1, 2, 3, 5]),
  where: ({ values }) => values.every((x) => x !== 0),
};
const shift: Want = { fill: (d) => d.int(0, 7), where: ({ values }) => values.every((x) => x >= 0 && x < 8) };

const reduction = (dtypes: readonly DType[]): Row<{ axes: readonly number[]; keepDims?: boolean }> => ({
  propose: (d) => {
    const x = d.tensor(dtypes);
    return { operands: [x], attrs: { axes: someAxes(d, rankOf(x)), keepDims: d.chance(0.3) } };
  },
});
/** ONNX Runtime's ReduceProd saturates where the IR wraps (1.30, i32): products of integers stay in range. */
const product: Row<{ axes: readonly number[]; keepDims?: boolean }> = {
  propose: (d) => {
    const x = d.tensor(numbers);
    const most = x.exact.values.reduce((all, value) => all * Math.max(1, Math.abs(value)), 1);
    const axes = someAxes(d, rankOf(x));
    const fits = isFloat(x.exact.dtype) || most <= 2 ** 20;
    return { operands: [x], attrs: { axes: fits ? axes : axes.filter((axis) => sizeOf(x, axis) === 1) } };
  },
};
const argReduction: Row<{ axis: number; keepDims?: boolean }> = {
  exact: true,
  propose: (d) => {
    const x = d.tensor(numbers, { minRank: 1 });
    return { operands: [x], attrs: { axis: anyAxis(d, x), keepDims: d.chance(0.3) } };
  },
};
const overAxis: Row<{ axis: number }> = {
  propose: (d) => {
    const x = d.tensor(float, { minRank: 1 });
    return { operands: [x], attrs: { axis: anyAxis(d, x) } };
  },
};

const scatter = (dtypes: readonly DType[]): Row<{ axis: number; batch?: number }> => ({
  exact: true,
  propose: (d) => {
    const x = d.tensor(dtypes, { minRank: 2, maxRank: 3 });
    const batch = d.int(0, 1);
    const axis = batch === 1 ? 1 : anyAxis(d, x);
    const count = d.int(1, 4);
    const places = indices(d, batch === 1 ? [sizeOf(x, 0), count] : [count], sizeOf(x, axis));
    const updates = x.exact.shape.map((size, a) => (a === axis ? count : size));
    return { operands: [x, places, d.tensor([x.exact.dtype], { shape: updates })], attrs: { axis, batch } };
  },
});

const pair = (d: Draw, low: number, high: number): readonly [number, number] => [d.int(low, high), d.int(low, high)];
const picture = (d: Draw, batch = d.int(1, 2), channels = d.int(1, 4)): Operand =>
  d.tensor(float, {
    rank: 4,
    ...(d.chance(0.7) ? { shape: [batch, channels, d.int(3, 6), d.int(3, 6)] } : {}),
  });

const convolution: Row<AttrsOf<Ops["conv2d"]>> = {
  propose: (d) => {
    const groups = d.pick([1, 1, 2]);
    const batchGroups = groups === 1 ? d.pick([1, 1, 2]) : 1;
    const perGroup = d.int(1, 2);
    const x = picture(d, batchGroups * d.int(1, 2), groups * perGroup);
    const weight = d.tensor([x.exact.dtype], {
      shape: [groups * batchGroups * d.int(1, 2), perGroup, ...pair(d, 1, 3)],
    });
    return {
      operands: [x, weight],
      attrs: {
        strides: pair(d, 1, 2),
        padding: [pair(d, -1, 2), pair(d, -1, 2)],
        dilations: pair(d, 1, 2),
        baseDilation: d.chance(0.3) ? pair(d, 1, 2) : [1, 1],
        groups,
        batchGroups,
      },
    };
  },
};

const transposedConvolution: Row<AttrsOf<Ops["convTranspose2d"]>> = {
  propose: (d) => {
    const groups = d.pick([1, 1, 2]);
    const x = picture(d, d.int(1, 2), groups * d.int(1, 2));
    const weight = d.tensor([x.exact.dtype], { shape: [sizeOf(x, 1), d.int(1, 2), ...pair(d, 1, 3)] });
    const strides = pair(d, 1, 2);
    return {
      operands: [x, weight],
      attrs: {
        strides,
        padding: [pair(d, 0, 1), pair(d, 0, 1)],
        outputPadding: strides.map((stride) => d.int(0, stride - 1)),
        dilations: pair(d, 1, 2),
        groups,
      },
    };
  },
};

const pooling: Row<AttrsOf<Ops["maxPool2d"]>> = {
  propose: (d) => {
    const kernel = pair(d, 1, 3);
    const border = (axis: 0 | 1): readonly [number, number] => pair(d, 0, Math.floor(kernel[axis] / 2));
    return {
      operands: [picture(d)],
      attrs: { kernel, strides: pair(d, 1, 2), padding: [border(0), border(1)], dilations: pair(d, 1, 2) },
    };
  },
};

/** Each channel's vector, in the type of x. */
const vector = (d: Draw, x: Operand, size: number, fill?: Fill): Operand =>
  d.tensor([x.exact.dtype], { shape: [size], ...(fill === undefined ? {} : { fill, fresh: true }) });
const lastSize = (x: Operand): number => x.exact.shape.at(-1) as number;
const epsilon = (d: Draw): number => d.pick([1e-5, 1e-3, 0.5]);

const attend: Row<AttrsOf<Ops["attention"]>> = {
  propose: (d) => {
    const [batch, keyHeads, queries, keys] = [d.int(1, 2), d.int(1, 2), d.int(1, 4), d.int(1, 5)];
    const [heads, channels] = [keyHeads * d.int(1, 2), d.int(1, 4)];
    const query = d.tensor(float, { shape: [batch, heads, queries, channels] });
    const { dtype } = query.exact;
    const key = d.tensor([dtype], { shape: [batch, keyHeads, keys, channels] });
    const value = d.tensor([dtype], { shape: [batch, keyHeads, keys, d.int(1, 4)] });
    const extras = (["mask", "bias", "logSize"] as const).filter(() => d.chance(0.35));
    const scores = () => [d.pick([1, batch]), d.pick([1, heads]), queries, keys];
    const more = extras.map((extra) => {
      if (extra === "logSize") return d.tensor([dtype], { shape: [batch, keys] });
      if (extra === "bias") return d.tensor([dtype], { shape: scores() });
      // The first key is always visible: a row without any is no number.
      return d.tensor(bool, {
        shape: scores(),
        fresh: true,
        fill: (draw, at) => (at % keys === 0 ? 1 : draw.int(0, 1)),
      });
    });
    const windowed = !extras.includes("mask");
    return {
      operands: [query, key, value, ...more],
      attrs: {
        extras,
        scale: d.pick([1, 0.5, channels ** -0.5]),
        causal: d.chance(0.3),
        left: windowed && d.chance(0.3) ? d.int(0, 3) : -1,
        right: d.chance(0.3) ? d.int(0, 3) : -1,
        past: d.chance(0.3) ? d.int(0, 2) : 0,
        logSumExp: d.chance(0.3),
      },
    };
  },
};

/** kept, source and destination of a made-up matching of `tokens` tokens with r merged. */
function matching(d: Draw, batch: number, tokens: number, r: number): readonly Operand[] {
  const [evens, odds] = [Math.ceil(tokens / 2), Math.floor(tokens / 2)];
  const orders = Array.from({ length: batch }, () => d.shuffled(Array.from({ length: evens }, (_, i) => i)));
  const rows = (count: number, pick: (row: number, i: number) => number) =>
    d.source("i32", [batch, count], (_, at) => pick(Math.floor(at / count), at % count));
  return [
    rows(evens - r, (row, i) => orders[row]?.[r + i] as number),
    rows(r, (row, i) => orders[row]?.[i] as number),
    rows(r, () => d.int(0, odds - 1)),
  ];
}

/** What to try for every op; a missing row does not compile. */
export const proposals = {
  neg: exactly(unary(signed)),
  abs: exactly(unary(signed)),
  sign: exactly(unary(signed)),
  exp: unary(float),
  log: unary(float, positive),
  log1p: unary(float, positive),
  expm1: unary(float),
  sqrt: unary(float, positive),
  rsqrt: unary(float, positive),
  reciprocal: unary(float, positive),
  sin: unary(float),
  cos: unary(float),
  tanh: unary(float),
  erf: unary(float),
  sigmoid: unary(float),
  relu: exactly(unary(signed)),
  floor: exactly(unary(float)),
  ceil: exactly(unary(float)),
  trunc: exactly(unary(float)),
  round: exactly(unary(float)),
  isNan: exactly(unary(float, { fill: fills.special })),
  isInf: exactly(unary(float, { fill: fills.special })),
  not: exactly(unary(bool)),
  bitNot: exactly(unary(integers)),

  add: binary(numbers),
  sub: binary(numbers),
  mul: binary(numbers),
  div: binary(numbers, {}, nonZero),
  mod: binary(numbers, {}, nonZero),
  pow: binary(float, positive),
  min: exactly(binary(numbers)),
  max: exactly(binary(numbers)),
  equal: exactly(binary(every)),
  notEqual: exactly(binary(every)),
  less: exactly(binary(numbers)),
  lessEqual: exactly(binary(numbers)),
  greater: exactly(binary(numbers)),
  greaterEqual: exactly(binary(numbers)),
  and: exactly(binary(bool)),
  or: exactly(binary(bool)),
  xor: exactly(binary(bool)),
  bitAnd: exactly(binary(integers)),
  bitOr: exactly(binary(integers)),
  bitXor: exactly(binary(integers)),
  shiftLeft: exactly(binary(integers, {}, shift)),
  shiftRight: exactly(binary(integers, {}, shift)),
  select: {
    exact: true,
    propose: (d) => {
      const yes = d.tensor(every);
      return { operands: [d.tensor(bool, { shape: yes.exact.shape }), yes, like(d, yes)] };
    },
  },
  cast: {
    exact: true,
    propose: (d) => {
      const to = d.dtype(every);
      const unsigned = kinds(["unsigned"]).includes(to);
      return {
        operands: [d.tensor(every, unsigned ? { where: ({ values }) => values.every((x) => x >= 0) } : {})],
        attrs: { to },
      };
    },
  },

  reduceSum: reduction(numbers),
  reduceMean: reduction(float),
  reduceMax: exactly(reduction(numbers)),
  reduceMin: exactly(reduction(numbers)),
  reduceProd: product,
  logSumExp: reduction(float),
  argMax: argReduction,
  argMin: argReduction,
  cumsum: {
    propose: (d) => {
      const x = d.tensor(numbers, { minRank: 1 });
      return { operands: [x], attrs: { axis: anyAxis(d, x), exclusive: d.chance(0.5), reverse: d.chance(0.5) } };
    },
  },

  reshape: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every);
      const total = x.exact.values.length;
      const divisors = Array.from({ length: total }, (_, i) => i + 1).filter((n) => total % n === 0);
      const first = divisors.length === 0 ? 0 : d.pick(divisors);
      const shape = first === 0 ? x.exact.shape : [first, total / first];
      return { operands: [x], attrs: { shape: d.chance(0.3) ? [total] : d.chance(0.3) ? [1, ...shape, 1] : shape } };
    },
  },
  transpose: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every, { minRank: 1 });
      return { operands: [x], attrs: { perm: d.shuffled(x.exact.shape.map((_, axis) => axis)) } };
    },
  },
  broadcast: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every, { maxRank: 3 });
      const rank = rankOf(x) + d.int(1, 2);
      const axes = d
        .shuffled(Array.from({ length: rank }, (_, axis) => axis))
        .slice(0, rank - rankOf(x))
        .sort();
      let kept = 0;
      const shape = Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? d.int(1, 4) : sizeOf(x, kept++)));
      return { operands: [x], attrs: { shape, axes } };
    },
  },
  slice: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every, { minRank: 1 });
      const axis = anyAxis(d, x);
      const start = d.int(0, sizeOf(x, axis) - 1);
      return { operands: [x], attrs: { axis, start, end: d.int(start + 1, sizeOf(x, axis)), step: d.int(1, 3) } };
    },
  },
  reverse: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every, { minRank: 1 });
      return { operands: [x], attrs: { axes: someAxes(d, rankOf(x)) } };
    },
  },
  pad: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(numbers, { minRank: 1 });
      const widths = () => x.exact.shape.map(() => d.int(-1, 2));
      const mode = d.pick(["constant", "constant", "reflect", "edge"] as const);
      return { operands: [x], attrs: { low: widths(), high: widths(), mode, value: d.int(0, 2) } };
    },
  },
  concat: {
    exact: true,
    propose: (d) => {
      const first = d.tensor(every, { minRank: 1 });
      const axis = anyAxis(d, first);
      const more = Array.from({ length: d.int(0, 2) }, () =>
        d.tensor([first.exact.dtype], { shape: first.exact.shape.map((size, a) => (a === axis ? d.int(1, 3) : size)) }),
      );
      return { operands: [first, ...more], attrs: { axis } };
    },
  },
  iota: {
    exact: true,
    propose: (d) => {
      const shape = d.shape(d.int(1, 3));
      return { operands: [], attrs: { shape, axis: d.int(0, shape.length - 1), dtype: d.dtype(numbers) } };
    },
  },

  matmul: {
    propose: (d) => {
      const lhs = d.tensor(numbers, { minRank: 2 });
      const lead = d.chance(0.5) ? [] : lhs.exact.shape.slice(0, -2);
      return { operands: [lhs, d.tensor([lhs.exact.dtype], { shape: [...lead, lastSize(lhs), d.int(1, 4)] })] };
    },
  },
  contract: {
    propose: (d) => {
      const spec = d.pick(["ij,jk->ik", "bij,bjk->bik", "ij,ij->j", "i,j->ji", "ijk,kl->lij", "ij,k->ki", "bi,bi->"]);
      const [left, right] = spec.split(/,|->/) as [string, string];
      const lhs = d.tensor(numbers, { rank: left.length });
      const shape = [...right].map((letter) =>
        left.includes(letter) ? sizeOf(lhs, left.indexOf(letter)) : d.int(1, 3),
      );
      return { operands: [lhs, d.tensor([lhs.exact.dtype], { shape })], attrs: { spec } };
    },
  },

  gather: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(every, { minRank: 2 });
      const batch = d.int(0, 1);
      const axis = batch === 1 ? 1 : anyAxis(d, x);
      const shape = batch === 1 ? [sizeOf(x, 0), d.int(1, 3)] : d.shape(d.int(0, 2));
      return { operands: [x, indices(d, shape, sizeOf(x, axis))], attrs: { axis, batch } };
    },
  },
  embedding: {
    exact: true,
    propose: (d) => {
      const table = d.tensor(float, { rank: 2 });
      return { operands: [table, indices(d, d.shape(d.int(1, 2)), sizeOf(table, 0))] };
    },
  },
  scatterAdd: { propose: scatter(numbers).propose },
  scatterMax: scatter(numbers),
  oneHot: {
    exact: true,
    propose: (d) => ({
      operands: [d.tensor(i32, { maxRank: 3 })],
      attrs: { depth: d.int(1, 5), dtype: d.dtype(numbers) },
    }),
  },
  sort: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(numbers, { minRank: 1 });
      return { operands: [x], attrs: { axis: anyAxis(d, x), descending: d.chance(0.5) } };
    },
  },
  topK: {
    exact: true,
    propose: (d) => {
      const x = d.tensor(numbers, { minRank: 1 });
      const axis = anyAxis(d, x);
      return { operands: [x], attrs: { axis, k: d.int(1, sizeOf(x, axis)), largest: d.chance(0.5) } };
    },
  },

  conv2d: convolution,
  convTranspose2d: transposedConvolution,
  maxPool2d: exactly(pooling),
  sumPool2d: pooling,
  avgPool2d: {
    propose: (d) => {
      const { operands, attrs } = pooling.propose(d);
      return { operands, attrs: { ...attrs, countPadding: d.chance(0.5) } };
    },
  },
  resize2d: {
    propose: (d) => ({
      operands: [picture(d)],
      attrs: {
        size: pair(d, 1, 6),
        mode: d.pick(["nearest", "bilinear"] as const),
        coordinates: d.pick(["halfPixel", "alignCorners", "asymmetric"] as const),
      },
    }),
  },

  softmax: overAxis,
  logSoftmax: overAxis,
  l2Normalize: overAxis,
  layerNorm: {
    propose: (d) => {
      const x = d.tensor(float, { minRank: 1 });
      return { operands: [x, vector(d, x, lastSize(x)), vector(d, x, lastSize(x))], attrs: { epsilon: epsilon(d) } };
    },
  },
  rmsNorm: {
    propose: (d) => {
      const x = d.tensor(float, { minRank: 1 });
      return { operands: [x, vector(d, x, lastSize(x))], attrs: { epsilon: epsilon(d) } };
    },
  },
  groupNorm: {
    propose: (d) => {
      const x = d.tensor(float, { minRank: 3 });
      const channels = sizeOf(x, 1);
      const groups = d.pick(Array.from({ length: channels }, (_, i) => i + 1).filter((n) => channels % n === 0));
      return {
        operands: [x, vector(d, x, channels), vector(d, x, channels)],
        attrs: { epsilon: epsilon(d), groups },
      };
    },
  },
  batchNorm: {
    propose: (d) => {
      const x = d.tensor(float, { minRank: 2 });
      const [gain, bias, mean] = [0, 1, 2].map(() => vector(d, x, sizeOf(x, 1))) as [Operand, Operand, Operand];
      const variance = vector(d, x, sizeOf(x, 1), fills.positive);
      return { operands: [x, gain, bias, mean, variance], attrs: { epsilon: epsilon(d) } };
    },
  },
  gelu: {
    propose: (d) => ({
      operands: [d.tensor(float)],
      attrs: { approximate: d.pick(["none", "tanh"] as const) },
    }),
  },
  silu: unary(float),
  quickGelu: unary(float),
  softplus: unary(float),
  rotaryEmbedding: {
    propose: (d) => {
      const half = d.int(1, 2);
      const x = d.tensor(float, { shape: [d.int(1, 2), d.int(1, 2), d.int(1, 4), 2 * half + d.int(0, 2)] });
      const table = (): Operand => d.tensor([x.exact.dtype], { shape: [sizeOf(x, 2), half] });
      return { operands: [x, table(), table()], attrs: { interleaved: d.chance(0.5) } };
    },
  },
  attention: attend,

  tokenMatch: {
    propose: (d) => {
      const [tokens, protect] = [d.int(4, 9), d.int(0, 2)];
      // A token of zeros has no direction: its similarities are NaN, whose order is each target's own.
      const metric = d.tensor(float, {
        shape: [d.int(1, 2), tokens, d.int(2, 4)],
        fill: fills.nonzero,
        where: ({ values }) => values.every((x) => x !== 0),
      });
      return { operands: [metric], attrs: { r: d.int(1, Math.floor((tokens - protect) / 2)), protect } };
    },
  },
  tokenMerge: {
    propose: (d) => {
      const x = d.tensor(float, { shape: [d.int(1, 2), d.int(4, 9), d.int(1, 3)] });
      const [batch, tokens] = x.exact.shape as readonly [number, number];
      const protect = d.int(0, 2);
      const operands = [x, ...matching(d, batch, tokens, d.int(1, Math.floor((tokens - protect) / 2)))];
      return { operands, attrs: { protect, reduce: d.pick(["sum", "max"] as const) } };
    },
  },
  tokenUnmerge: {
    propose: (d) => {
      const tokens = d.int(4, 9);
      const r = d.int(1, Math.floor(tokens / 2));
      const x = d.tensor(float, { shape: [d.int(1, 2), tokens - r, d.int(1, 3)] });
      return { operands: [x, ...matching(d, sizeOf(x, 0), tokens, r)], attrs: { tokens } };
    },
  },
} satisfies { readonly [K in OpName]: Row<AttrsOf<Ops[K]>> };
