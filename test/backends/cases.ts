// Small inputs for every op of the table, as types and attributes; numbers are drawn from a seed.
import type { OpName } from "../../src/ir/ops/index.ts";
import {
  type DType,
  elementsOf,
  isDType,
  isFloat,
  type TensorData,
  type TensorType,
  tensorData,
} from "../../src/ir/type.ts";

export interface Case {
  /** `f32[2,3]`, one per operand. */
  readonly types: readonly string[];
  readonly attrs?: Readonly<Record<string, unknown>>;
  /** Contents of operands by place, where drawn numbers would not do. */
  readonly values?: Readonly<Record<number, readonly number[]>>;
  /** Draws floats from [low, high); default [-2, 2). */
  readonly range?: readonly [number, number];
}

const c = (types: string, attrs: Case["attrs"] = {}, more: Partial<Case> = {}): Case => ({
  types: types === "" ? [] : types.split(" "),
  attrs,
  ...more,
});

const floats = (range?: readonly [number, number]): readonly Case[] =>
  ["f32", "f64", "f16", "bf16"].map((d) => c(`${d}[2,3]`, {}, range === undefined ? {} : { range }));
const singles = (range: readonly [number, number] = [-2, 2]) => [
  c("f32[2,3]", {}, { range }),
  c("f16[3]", {}, { range }),
];
const pairs = (dtypes: string, shape = "[2,3]"): readonly Case[] =>
  dtypes.split(" ").map((d) => c(`${d}${shape} ${d}${shape}`));
const anyNumber = "f32 f64 f16 bf16 i64 i32 i16 i8 u32 u16 u8";
const integers = "i32 i16 i8 u32 u16 u8";
const nonzero = [3, -2, 5, 1, 7, -4];
const divisors = (dtypes: string): readonly Case[] =>
  dtypes.split(" ").map((d) => {
    const values = d.startsWith("u") ? nonzero.map(Math.abs) : nonzero;
    return c(
      `${d}[6] ${d}[6]`,
      {},
      { values: { 0: [7, -7, 9, -5, 20, 6].map((n) => (d.startsWith("u") ? Math.abs(n) : n)), 1: values } },
    );
  });
const shifts = integers
  .split(" ")
  .map((d) =>
    c(
      `${d}[4] ${d}[4]`,
      {},
      { values: { 0: d.startsWith("u") ? [1, 200, 77, 3] : [1, -100, 77, -3], 1: [0, 1, 3, 5] } },
    ),
  );
const reductions = [
  c("f32[2,3,4]", { axes: [1] }),
  c("f32[2,3,4]", { axes: [0, 2], keepDims: true }),
  c("f16[2,3]", { axes: [1] }),
  c("f32[2,3]", { axes: [] }),
];
const intReductions = ["i32", "i8", "u8", "u32", "i64"].map((d) => c(`${d}[2,3]`, { axes: [1] }));
const scatters = [
  c("f32[2,4,3] i32[2,3] f32[2,3,3]", { axis: 1, batch: 1 }, { values: { 1: [0, 2, 2, 3, 3, 3] } }),
  c("f32[4,3] i32[3] f32[3,3]", { axis: 0 }, { values: { 1: [1, 1, 0] } }),
  c("f32[2,4] i32[3] f32[2,3]", { axis: 1 }, { values: { 1: [1, 1, 0] } }),
];
const windowed = [
  c("f32[2,3,5,6]", { kernel: [2, 3] }),
  c("f32[1,2,5,5]", {
    kernel: [3, 3],
    strides: [2, 2],
    padding: [
      [1, 1],
      [1, 0],
    ],
  }),
  c("f32[1,2,5,5]", {
    kernel: [2, 2],
    padding: [
      [2, 0],
      [-1, 3],
    ],
  }),
  c("f32[1,2,7,7]", { kernel: [2, 2], dilations: [2, 3] }),
];

export const cases: { readonly [K in OpName]: readonly Case[] } = {
  neg: [...floats(), c("i32[3]"), c("i8[3]")],
  abs: [...floats(), c("i32[3]"), c("i16[3]")],
  sign: [...floats(), c("i32[3]")],
  exp: floats(),
  log: floats([0.1, 4]),
  log1p: [...floats([-0.9, 4]), c("f32[4]", {}, { values: { 0: [1e-7, -3e-6, 0, 1e30] } })],
  expm1: [...floats(), c("f32[5]", {}, { values: { 0: [1e-7, -3e-6, 0, 30, -60] } })],
  sqrt: floats([0, 4]),
  rsqrt: floats([0.1, 4]),
  reciprocal: floats([0.5, 4]),
  sin: floats(),
  cos: floats(),
  tanh: floats(),
  erf: singles(),
  sigmoid: floats(),
  relu: [...floats(), c("i32[4]"), c("i16[4]")],
  floor: floats(),
  ceil: floats(),
  trunc: floats(),
  round: [...floats(), c("f32[6]", {}, { values: { 0: [0.5, 1.5, 2.5, -0.5, -1.5, 3.4] } })],
  isNan: [c("f32[3]", {}, { values: { 0: [Number.NaN, 1, Infinity] } }), c("f16[2]"), c("bf16[2]")],
  isInf: [c("f32[3]", {}, { values: { 0: [-Infinity, 1, Number.NaN] } }), c("f16[2]")],
  not: [c("bool[4]")],
  bitNot: integers.split(" ").map((d) => c(`${d}[4]`)),
  add: pairs(anyNumber),
  sub: pairs(anyNumber),
  mul: pairs(anyNumber),
  div: divisors(anyNumber),
  mod: divisors(anyNumber),
  pow: ["f32", "f64", "f16"].map((d) => c(`${d}[2,3] ${d}[2,3]`, {}, { range: [0.5, 2] })),
  min: pairs(anyNumber),
  max: pairs(anyNumber),
  equal: pairs(`${anyNumber} bool`),
  notEqual: pairs(`${anyNumber} bool`),
  less: pairs(anyNumber),
  lessEqual: pairs(anyNumber),
  greater: pairs(anyNumber),
  greaterEqual: pairs(anyNumber),
  and: pairs("bool"),
  or: pairs("bool"),
  xor: pairs("bool"),
  bitAnd: pairs(integers),
  bitOr: pairs(integers),
  bitXor: pairs(integers),
  shiftLeft: shifts,
  shiftRight: shifts,
  select: `${anyNumber} bool`.split(" ").map((d) => c(`bool[2,3] ${d}[2,3] ${d}[2,3]`)),
  cast: [
    ...["f64", "f16", "bf16", "i32", "i8", "u8", "u32", "i64", "bool"].map((to) =>
      c("f32[5]", { to }, { values: { 0: [-1.5, 0, 0.5, 2.7, 100] } }),
    ),
    ...["f32", "i32", "i8", "u16", "bool"].map((to) => c("i32[4]", { to }, { values: { 0: [-1, 0, 300, 70000] } })),
    c("bool[3]", { to: "f32" }),
    c("bf16[3]", { to: "i32" }),
    c("u8[3]", { to: "bf16" }),
  ],
  reduceSum: [...reductions, ...intReductions],
  reduceMean: reductions,
  reduceMax: [...reductions, ...intReductions],
  reduceMin: [...reductions, ...intReductions],
  reduceProd: [...reductions, ...intReductions],
  logSumExp: [...reductions, c("f32[2,2]", { axes: [1] }, { values: { 0: [1000, 999, -Infinity, -Infinity] } })],
  argMax: [
    c("f32[2,5]", { axis: 1 }),
    c("f32[3,4]", { axis: 0, keepDims: true }, { values: { 0: [1, 1, 2, 0, 1, 3, 2, 0, 1, 3, 0, 0] } }),
    c("u32[5]", { axis: 0 }),
  ],
  argMin: [c("f32[2,5]", { axis: 1 }), c("i16[5]", { axis: 0 })],
  cumsum: [
    c("f32[2,5]", { axis: 1 }),
    c("f32[2,5]", { axis: 0, exclusive: true }),
    c("i32[2,5]", { axis: 1, reverse: true }),
    c("u8[5]", { axis: 0, reverse: true, exclusive: true }),
  ],
  reshape: [
    c("f32[2,6]", { shape: [3, 4] }),
    c("bool[4]", { shape: [2, 1, 2] }),
    c("f32[1]", { shape: [] }),
    c("bf16[4]", { shape: [2, 2] }),
    c("f32[2,0]", { shape: [0, 5] }),
  ],
  transpose: [c("f32[2,3,4]", { perm: [2, 0, 1] }), c("i8[2,3]", { perm: [1, 0] }), c("f32[2,3]", { perm: [0, 1] })],
  broadcast: [
    c("f32[3]", { shape: [2, 3], axes: [0] }),
    c("f32[2,4]", { shape: [2, 3, 4, 1], axes: [1, 3] }),
    c("f32[]", { shape: [1, 1], axes: [0, 1] }),
    c("bool[2]", { shape: [2, 3], axes: [1] }),
  ],
  slice: [
    c("f32[2,7]", { axis: 1, start: 1, end: 6, step: 2 }),
    c("i32[5]", { axis: 0, end: 3 }),
    c("u8[5]", { axis: 0, start: 2, end: 5 }),
  ],
  reverse: [c("f32[2,3,2]", { axes: [0, 2] }), c("i32[3]", { axes: [] })],
  pad: [
    c("f32[2,3]", { low: [1, 0], high: [0, 2], value: 1.5 }),
    c("f32[3,5]", { low: [0, -1], high: [2, -2] }),
    c("f32[4]", { low: [2], high: [-1], mode: "reflect" }),
    c("f32[2,3]", { low: [1, 2], high: [0, 1], mode: "edge" }),
    c("i16[3]", { low: [1], high: [1], value: -2 }),
    c("bool[3]", { low: [1], high: [0] }),
  ],
  concat: [c("f32[2,3] f32[2,1] f32[2,2]", { axis: 1 }), c("bool[2]", { axis: 0 })],
  iota: [
    c("", { shape: [2, 4], axis: 1 }),
    c("", { shape: [3], axis: 0, dtype: "f32" }),
    c("", { shape: [2, 3, 2], axis: 1, dtype: "u8" }),
  ],
  matmul: [
    c("f32[2,3] f32[3,4]"),
    c("f32[2,5,3] f32[3,4]"),
    c("f32[2,5,3] f32[2,3,4]"),
    c("i8[2,3] i8[3,2]"),
    c("u8[2,3] u8[3,2]"),
    c("f16[2,3] f16[3,2]"),
    c("bf16[2,3] bf16[3,2]"),
  ],
  contract: [
    c("f32[2,3,4] f32[2,4,5]", { spec: "bij,bjk->bik" }),
    c("f32[2,3,4] f32[3,5]", { spec: "abc,bd->dca" }),
    c("f32[3] f32[4]", { spec: "a,b->ab" }),
    c("f32[3,4] f32[4,3]", { spec: "ab,ba->" }),
    c("f32[2,3,4] f32[5,2]", { spec: "abc,da->bd" }),
    c("i32[2,3] i32[3,2]", { spec: "ij,jk->ki" }),
  ],
  gather: [
    c("f32[5,3] i32[2,2]", { axis: 0 }, { values: { 1: [4, 0, 1, 1] } }),
    c("f32[2,5,3] i32[2]", { axis: 1 }, { values: { 1: [4, 0] } }),
    c("f32[2,5,3] i32[2,2]", { axis: 1, batch: 1 }, { values: { 1: [4, 0, 2, 2] } }),
    c("i32[2,3,4] i32[2,3,2]", { axis: 2, batch: 2 }, { values: { 1: [0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 3, 3] } }),
  ],
  embedding: [c("f32[5,3] i32[2,2]", {}, { values: { 1: [4, 0, 1, 1] } })],
  scatterAdd: scatters,
  scatterMax: [...scatters, c("f16[4,3] i32[3] f16[3,3]", { axis: 0 }, { values: { 1: [1, 1, 0] } })],
  oneHot: [
    c("i32[2,2]", { depth: 3 }, { values: { 0: [0, 2, 1, 1] } }),
    c("i32[3]", { depth: 4, dtype: "i32" }, { values: { 0: [3, 0, 1] } }),
  ],
  sort: [
    c("f32[2,6]", { axis: 1, descending: true }),
    c("f32[5,2]", { axis: 0 }),
    c("f32[6]", { axis: 0, descending: true }, { values: { 0: [1, 2, 2, 1, 3, 2] } }),
    c("u32[4]", { axis: 0 }),
  ],
  topK: [
    c("f32[2,6]", { axis: 1, k: 3 }),
    c("f32[6]", { axis: 0, k: 4, largest: false }, { values: { 0: [1, 2, 2, 1, 3, 2] } }),
  ],
  conv2d: [
    c("f32[2,3,5,6] f32[4,3,3,2]"),
    c("f32[1,4,5,5] f32[6,2,3,3]", {
      groups: 2,
      strides: [2, 1],
      padding: [
        [1, 1],
        [2, 0],
      ],
    }),
    c("f32[1,2,7,7] f32[3,2,2,2]", {
      dilations: [2, 3],
      padding: [
        [-1, 1],
        [0, -2],
      ],
    }),
    c("f32[1,2,4,4] f32[3,2,3,3]", {
      baseDilation: [2, 3],
      padding: [
        [1, 2],
        [0, 1],
      ],
    }),
    c("f32[4,2,5,5] f32[6,2,3,3]", { batchGroups: 2 }),
  ],
  convTranspose2d: [
    c("f32[1,4,4,3] f32[4,2,3,2]", {
      strides: [2, 2],
      padding: [
        [1, 0],
        [0, 1],
      ],
      outputPadding: [1, 0],
      groups: 2,
    }),
    c("f32[1,2,3,3] f32[2,3,2,2]", { dilations: [2, 1], outputPadding: [2, 2] }),
  ],
  maxPool2d: windowed,
  sumPool2d: windowed,
  avgPool2d: [
    ...windowed,
    c("f32[1,1,4,4]", {
      kernel: [3, 3],
      padding: [
        [1, 1],
        [1, 1],
      ],
      countPadding: true,
    }),
  ],
  resize2d: ["halfPixel", "alignCorners", "asymmetric"].flatMap((coordinates) =>
    ["nearest", "bilinear"].flatMap((mode) =>
      [
        [7, 3],
        [2, 5],
        [8, 8],
      ].map((size) => c("f32[1,2,4,4]", { size, mode, coordinates })),
    ),
  ),
  softmax: [c("f32[2,3,4]", { axis: 1 }), c("f16[2,3]", { axis: 1 })],
  logSoftmax: [c("f32[2,3,4]", { axis: 2 })],
  l2Normalize: [c("f32[2,3,4]", { axis: 1 }), c("f32[2,3]", { axis: 1 })],
  layerNorm: [c("f32[2,3,8] f32[8] f32[8]", { epsilon: 1e-6 }), c("bf16[2,8] bf16[8] bf16[8]", { epsilon: 1e-5 })],
  rmsNorm: [c("f32[2,3,8] f32[8]", { epsilon: 1e-6 })],
  groupNorm: [
    c("f32[2,6,3,3] f32[6] f32[6]", { epsilon: 1e-5, groups: 3 }),
    c("f32[1,4,5] f32[4] f32[4]", { epsilon: 1e-5, groups: 2 }),
  ],
  batchNorm: [c("f32[2,3,2,2] f32[3] f32[3] f32[3] f32[3]", { epsilon: 1e-5 }, { values: { 4: [0.5, 1, 2] } })],
  gelu: [c("f32[2,5]"), c("f32[2,5]", { approximate: "tanh" }), c("f32[]", { approximate: "tanh" })],
  silu: singles(),
  quickGelu: singles(),
  softplus: singles(),
  rotaryEmbedding: [
    c("f32[2,3,4,8] f32[4,4] f32[4,4]"),
    c("f32[2,3,4,8] f32[4,2] f32[4,2]"),
    c("f32[1,2,4,8] f32[4,4] f32[4,4]", { interleaved: true }),
  ],
  attention: [
    c("f32[2,4,5,8] f32[2,4,6,8] f32[2,4,6,4]", { scale: 0.3 }),
    c("f32[2,4,5,8] f32[2,2,5,8] f32[2,2,5,8]", { scale: 0.3, causal: true }),
    c("f32[1,2,5,8] f32[1,2,5,8] f32[1,2,5,8] f32[1,2,5,5] f32[1,5]", { scale: 0.35, extras: ["bias", "logSize"] }),
    c(
      "f32[2,2,3,8] f32[2,2,4,8] f32[2,2,4,8] bool[1,1,3,4]",
      { scale: 0.35, extras: ["mask"] },
      { values: { 3: [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1] } },
    ),
    c("f32[1,2,6,4] f32[1,2,6,4] f32[1,2,6,4]", { scale: 0.5, causal: true, left: 2 }),
    c("f32[1,2,3,4] f32[1,2,6,4] f32[1,2,6,4]", { scale: 0.5, causal: true, past: 3 }),
    c("f32[1,2,3,4] f32[1,2,6,4] f32[1,2,6,4]", { scale: 0.5, causal: true }),
    c("f32[1,2,3,4] f32[1,2,6,4] f32[1,2,6,4]", { scale: 0.5, logSumExp: true }),
  ],
  tokenMatch: [
    c("f32[2,9,4]", { r: 3 }),
    c("f32[1,10,4]", { r: 2, protect: 1 }),
    c("f32[2,12,4]", { r: 3, protect: 2 }),
  ],
  tokenMerge: [
    c("f32[2,7,3] i32[2,2] i32[2,2] i32[2,2]", {}, { values: { 1: [0, 2, 1, 3], 2: [1, 3, 0, 2], 3: [2, 2, 0, 1] } }),
    c(
      "f32[1,7,3] i32[1,2] i32[1,2] i32[1,2]",
      { protect: 1, reduce: "max" },
      { values: { 1: [0, 2], 2: [1, 3], 3: [2, 2] } },
    ),
    c("f32[1,7,3] i32[1,2] i32[1,2] i32[1,2]", { protect: 2 }, { values: { 1: [0, 2], 2: [1, 3], 3: [2, 1] } }),
  ],
  tokenUnmerge: [
    c("f32[1,5,3] i32[1,2] i32[1,2] i32[1,2]", { tokens: 7 }, { values: { 1: [0, 2], 2: [1, 3], 3: [2, 2] } }),
  ],
};

/** Types as written in `Case.types`. */
export function typeOf(text: string): TensorType & { readonly shape: readonly number[] } {
  const match = /^(\w+)\[([\d,]*)\]$/.exec(text);
  const dtype = match?.[1] ?? "";
  if (match === null || !isDType(dtype)) throw new Error(`${text} is not a type`);
  return { dtype, shape: match[2] === "" ? [] : (match[2] as string).split(",").map(Number) };
}

/** A seeded source of numbers in [0, 1): mulberry32. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const integerLimit: Partial<Record<DType, readonly [number, number]>> = {
  bool: [0, 2],
  u8: [0, 12],
  u16: [0, 300],
  u32: [0, 70000],
};

/** A tensor of drawn numbers; floats are such that every float dtype holds them exactly. */
export function drawn(
  type: { readonly dtype: DType; readonly shape: readonly number[] },
  random: () => number,
  [low, high]: readonly [number, number] = [-2, 2],
): TensorData {
  const count = elementsOf(type.shape);
  const [least, beyond] = integerLimit[type.dtype] ?? [-12, 12];
  const numbers = Array.from({ length: count }, () =>
    isFloat(type.dtype)
      ? Math.round((low + (high - low) * random()) * 32) / 32
      : Math.floor(least + (beyond - least) * random()),
  );
  return tensorData(type.dtype, type.shape, numbers);
}
