// The one place with ONNX spellings: a row per structured op and routine, complete by type, and rows for the composites
// that a profile has an operator for (absent: always decomposed).
import type { AttrsOf, CompositeName, OpName, Ops } from "../../ir/ops/index.ts";
import type { Claim, Row } from "./row.ts";
import * as contraction from "./rows/contraction.ts";
import {
  cast,
  expm1,
  log1p,
  mod,
  notEqual,
  rsqrt,
  same,
  select,
  shiftLeft,
  shiftRight,
  test,
  trunc,
} from "./rows/elementwise.ts";
import { embedding, gather, scatterAdd, scatterMax, sort, topK } from "./rows/gather.ts";
import { nativeRows } from "./rows/native.ts";
import * as nn from "./rows/nn.ts";
import * as reductions from "./rows/reduce.ts";
import { broadcast, concat, iota, pad, reshape, reverse, slice, transpose } from "./rows/shape.ts";
import * as windows from "./rows/window.ts";

type Opset = { readonly [K in Exclude<OpName, CompositeName>]: Row<AttrsOf<Ops[K]>> } & {
  readonly [K in CompositeName]?: Claim<AttrsOf<Ops[K]>>;
};

const { reduced: _reduced, ...reduceRows } = reductions;
const { convolution: _convolution, ...windowRows } = windows;

export const opset = {
  neg: same("Neg"),
  abs: same("Abs"),
  sign: same("Sign"),
  exp: same("Exp"),
  log: same("Log"),
  log1p,
  expm1,
  sqrt: same("Sqrt"),
  rsqrt,
  reciprocal: same("Reciprocal"),
  sin: same("Sin"),
  cos: same("Cos"),
  tanh: same("Tanh"),
  erf: same("Erf"),
  sigmoid: same("Sigmoid"),
  relu: same("Relu", 14),
  floor: same("Floor"),
  ceil: same("Ceil"),
  trunc,
  round: same("Round"),
  isNan: test("IsNaN"),
  isInf: test("IsInf"),
  not: same("Not"),
  bitNot: same("BitwiseNot", 18),
  add: same("Add", 14),
  sub: same("Sub", 14),
  mul: same("Mul", 14),
  div: same("Div", 14),
  mod,
  pow: same("Pow", 15),
  min: same("Min"),
  max: same("Max"),
  equal: test("Equal"),
  notEqual,
  less: test("Less"),
  lessEqual: test("LessOrEqual", 16),
  greater: test("Greater"),
  greaterEqual: test("GreaterOrEqual", 16),
  and: same("And"),
  or: same("Or"),
  xor: same("Xor"),
  bitAnd: same("BitwiseAnd", 18),
  bitOr: same("BitwiseOr", 18),
  bitXor: same("BitwiseXor", 18),
  shiftLeft,
  shiftRight,
  select,
  cast,
  reshape,
  transpose,
  broadcast,
  slice,
  reverse,
  pad,
  concat,
  iota,
  gather,
  sort,
  topK,
  embedding,
  scatterAdd,
  scatterMax,
  ...reduceRows,
  ...contraction,
  ...windowRows,
  ...nn,
} satisfies Opset;

export type AnyRow = Row<never> & Partial<Pick<Claim<never>, "profiles" | "claims">>;

const rows: ReadonlyMap<string, AnyRow> = new Map(
  Object.entries({ ...opset, ...nativeRows } as unknown as Record<string, AnyRow>),
);

export const rowOf = (op: string): AnyRow | undefined => rows.get(op);
