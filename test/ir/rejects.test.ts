import { describe, expect, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { parseDim } from "../../src/ir/dim.ts";
import { type OpName, ops } from "../../src/ir/ops/index.ts";
import { type DType, isDType, type TensorType } from "../../src/ir/type.ts";

/** One mistake: op, operand types, attributes, the code it is refused with. */
type Reject = readonly [op: OpName, operands: string, attrs: Readonly<Record<string, unknown>>, code: string];

const axis = (n: number) => ({ axis: n });
const axes = (...list: readonly number[]) => ({ axes: list });

const elementwise: readonly Reject[] = [
  ["exp", "i32[2]", {}, "dtype-mismatch"],
  ["sqrt", "bool[2]", {}, "dtype-mismatch"],
  ["neg", "u8[2]", {}, "dtype-mismatch"],
  ["abs", "bool[2]", {}, "dtype-mismatch"],
  ["relu", "u32[2]", {}, "dtype-mismatch"],
  ["floor", "i32[2]", {}, "dtype-mismatch"],
  ["isNan", "i32[2]", {}, "dtype-mismatch"],
  ["not", "i32[2]", {}, "dtype-mismatch"],
  ["bitNot", "f32[2]", {}, "dtype-mismatch"],
  ["add", "f32[2] f32[3]", {}, "shape-mismatch"],
  ["add", "f32[2] f32[1,2]", {}, "shape-mismatch"],
  ["add", "f32[n] f32[m]", {}, "shape-mismatch"],
  ["add", "f32[2] i32[2]", {}, "dtype-mismatch"],
  ["add", "f32[2] f16[2]", {}, "dtype-mismatch"],
  ["add", "bool[2] bool[2]", {}, "dtype-mismatch"],
  ["add", "f32[2]", {}, "operand-count"],
  ["add", "f32[2] f32[2] f32[2]", {}, "operand-count"],
  ["pow", "i32[2] i32[2]", {}, "dtype-mismatch"],
  ["less", "bool[2] bool[2]", {}, "dtype-mismatch"],
  ["equal", "bool[2] i32[2]", {}, "dtype-mismatch"],
  ["and", "i32[2] i32[2]", {}, "dtype-mismatch"],
  ["bitAnd", "f32[2] f32[2]", {}, "dtype-mismatch"],
  ["shiftLeft", "bool[2] bool[2]", {}, "dtype-mismatch"],
  ["select", "i32[2] f32[2] f32[2]", {}, "dtype-mismatch"],
  ["select", "bool[3] f32[2] f32[2]", {}, "shape-mismatch"],
  ["select", "bool[2] f32[2] i32[2]", {}, "dtype-mismatch"],
  ["cast", "f32[2]", {}, "missing-attribute"],
  ["cast", "f32[2]", { to: "f33" }, "bad-attribute"],
  ["cast", "f32[2]", { to: 32 }, "bad-attribute"],
];

const reduce: readonly Reject[] = [
  ["reduceSum", "bool[2]", axes(0), "dtype-mismatch"],
  ["reduceMean", "i32[2]", axes(0), "dtype-mismatch"],
  ["logSumExp", "i32[2]", axes(0), "dtype-mismatch"],
  ["reduceSum", "f32[2]", axes(1), "bad-axis"],
  ["reduceMax", "f32[2,2]", axes(-1), "bad-axis"],
  ["reduceMin", "f32[2,2]", axes(0, 0), "bad-axis"],
  ["reduceProd", "f32[2,2]", axes(1, 0), "bad-axis"],
  ["reduceSum", "f32[]", axes(0), "bad-axis"],
  ["reduceSum", "f32[2]", { axes: 0 }, "bad-attribute"],
  ["reduceSum", "f32[2]", { axes: [0.5] }, "bad-attribute"],
  ["reduceSum", "f32[2]", { axes: [0], keepDims: 1 }, "bad-attribute"],
  ["argMax", "f32[2]", axis(1), "bad-axis"],
  ["argMin", "f32[2]", axis(-1), "bad-axis"],
  ["argMax", "f32[2,0]", axis(1), "shape-mismatch"],
  ["argMax", "bool[2]", axis(0), "dtype-mismatch"],
  ["argMin", "bool[2]", axis(0), "dtype-mismatch"],
  ["cumsum", "bool[2]", axis(0), "dtype-mismatch"],
  ["cumsum", "f32[2]", axis(1), "bad-axis"],
];

const shape: readonly Reject[] = [
  ["reshape", "f32[2,3]", { shape: [7] }, "shape-mismatch"],
  ["reshape", "f32[n,3]", { shape: ["n", 4] }, "shape-mismatch"],
  ["reshape", "f32[2]", { shape: ["n +"] }, "bad-dimension"],
  ["transpose", "f32[2,3]", { perm: [0] }, "bad-axis"],
  ["transpose", "f32[2,3]", { perm: [0, 0] }, "bad-axis"],
  ["transpose", "f32[2,3]", { perm: [0, 2] }, "bad-axis"],
  ["broadcast", "f32[2]", { shape: [2, 3], axes: [0] }, "shape-mismatch"],
  ["broadcast", "f32[2]", { shape: [2, 3], axes: [2] }, "bad-axis"],
  ["broadcast", "f32[1]", { shape: [4], axes: [] }, "shape-mismatch"],
  ["slice", "f32[4]", { axis: 0, end: 5 }, "slice-out-of-range"],
  ["slice", "f32[4]", { axis: 0, start: -1, end: 3 }, "slice-out-of-range"],
  ["slice", "f32[4]", { axis: 0, start: 3, end: 2 }, "slice-out-of-range"],
  ["slice", "f32[4]", { axis: 0, end: 4, step: 0 }, "slice-out-of-range"],
  ["slice", "f32[n]", { axis: 0, end: "n+1" }, "slice-out-of-range"],
  ["slice", "f32[4]", { axis: 1, end: 1 }, "bad-axis"],
  ["reverse", "f32[2]", axes(1), "bad-axis"],
  ["reverse", "f32[2]", axes(0, 0), "bad-axis"],
  ["pad", "f32[2,2]", { low: [1], high: [1, 1] }, "bad-attribute"],
  ["pad", "f32[2]", { low: [-2], high: [-1] }, "bad-attribute"],
  ["pad", "f32[2]", { low: [2], high: [0], mode: "reflect" }, "bad-attribute"],
  ["pad", "f32[0]", { low: [1], high: [0], mode: "edge" }, "bad-attribute"],
  ["pad", "f32[0]", { low: [1], high: [0], mode: "reflect" }, "bad-attribute"],
  ["pad", "bool[2]", { low: [1], high: [1], value: 2 }, "bad-attribute"],
  ["pad", "u8[2]", { low: [1], high: [1], value: -1 }, "bad-attribute"],
  ["pad", "i32[2]", { low: [1], high: [1], value: 0.5 }, "bad-attribute"],
  ["pad", "f32[2]", { low: [1], high: [1], mode: "wrap" }, "bad-attribute"],
  ["pad", "f32[2]", { low: [1], high: [1], value: "0" }, "bad-attribute"],
  ["concat", "", axis(0), "operand-count"],
  ["concat", "f32[2] f32[2,2]", axis(0), "shape-mismatch"],
  ["concat", "f32[2,3] f32[2,2]", axis(0), "shape-mismatch"],
  ["concat", "f32[2] i32[2]", axis(0), "dtype-mismatch"],
  ["concat", "f32[2]", axis(1), "bad-axis"],
  ["iota", "", { shape: [2], axis: 1 }, "bad-axis"],
  ["iota", "", { shape: [2], axis: 0, dtype: "bool" }, "dtype-mismatch"],
  ["iota", "", { shape: [], axis: 0 }, "bad-axis"],
  ["iota", "", { shape: [-1], axis: 0 }, "bad-dimension"],
];

const contraction: readonly Reject[] = [
  ["matmul", "f32[2,3] f32[2,3]", {}, "shape-mismatch"],
  ["matmul", "f32[3] f32[3,2]", {}, "rank-mismatch"],
  ["matmul", "f32[2,3] f32[3]", {}, "rank-mismatch"],
  ["matmul", "f32[2,2,3] f32[3,3,2]", {}, "shape-mismatch"],
  ["matmul", "f32[2,3] f32[2,3,2]", {}, "shape-mismatch"],
  ["matmul", "f32[2,3] f16[3,2]", {}, "dtype-mismatch"],
  ["matmul", "bool[2,3] bool[3,2]", {}, "dtype-mismatch"],
  ["contract", "f32[2,3] f32[3,2]", { spec: "ij jk->ik" }, "bad-attribute"],
  ["contract", "f32[2,3] f32[3,2]", { spec: "ij,jk->il" }, "bad-attribute"],
  ["contract", "f32[2,3] f32[3,2]", { spec: "ij,jk->ii" }, "bad-attribute"],
  ["contract", "f32[2,2] f32[2]", { spec: "ii,i->i" }, "rank-mismatch"],
  ["contract", "f32[2,3] f32[3,2]", { spec: "ijk,jk->i" }, "rank-mismatch"],
  ["contract", "f32[2,3] f32[2,3]", { spec: "ij,jk->ik" }, "shape-mismatch"],
  ["contract", "f32[2,3] i32[3,2]", { spec: "ij,jk->ik" }, "dtype-mismatch"],
  ["contract", "bool[2] bool[2]", { spec: "i,i->" }, "dtype-mismatch"],
];

const gather: readonly Reject[] = [
  ["gather", "f32[3] i32[2]", axis(1), "bad-axis"],
  ["gather", "f32[3] i64[2]", axis(0), "dtype-mismatch"],
  ["gather", "f32[3] f32[2]", axis(0), "dtype-mismatch"],
  ["gather", "f32[2,3] i32[2,1]", { axis: 0, batch: 1 }, "bad-axis"],
  ["gather", "f32[2,3] i32[3,1]", { axis: 1, batch: 1 }, "shape-mismatch"],
  ["gather", "f32[2,3] i32[2]", { axis: 0, batch: -1 }, "bad-axis"],
  ["embedding", "f32[3] i32[2]", {}, "rank-mismatch"],
  ["embedding", "f32[3,2] u32[2]", {}, "dtype-mismatch"],
  ["scatterAdd", "f32[3] i32[2,1] f32[2]", axis(0), "rank-mismatch"],
  ["scatterAdd", "f32[3] i32[2] f32[3]", axis(0), "shape-mismatch"],
  ["scatterAdd", "f32[3] i32[2] i32[2]", axis(0), "dtype-mismatch"],
  ["scatterMax", "f32[3,2] i32[1] f32[2]", axis(0), "shape-mismatch"],
  ["scatterAdd", "bool[3] i32[2] bool[2]", axis(0), "dtype-mismatch"],
  ["scatterMax", "bool[3] i32[2] bool[2]", axis(0), "dtype-mismatch"],
  ["scatterMax", "f32[3] f32[1] f32[1]", axis(0), "dtype-mismatch"],
  ["oneHot", "f32[2]", { depth: 3 }, "dtype-mismatch"],
  ["oneHot", "i32[2]", { depth: 3, dtype: "bool" }, "dtype-mismatch"],
  ["oneHot", "i32[2]", {}, "missing-attribute"],
  ["sort", "f32[]", axis(0), "bad-axis"],
  ["sort", "bool[2]", axis(0), "dtype-mismatch"],
  ["topK", "bool[2]", { axis: 0, k: 1 }, "dtype-mismatch"],
  ["topK", "f32[3]", { axis: 0, k: 4 }, "bad-attribute"],
  ["topK", "f32[3]", { axis: 0, k: -1 }, "bad-attribute"],
  ["topK", "f32[3]", { axis: 1, k: 1 }, "bad-axis"],
];

const kernel = { kernel: [2, 2] };
const window: readonly Reject[] = [
  ["conv2d", "f32[1,2,4] f32[1,2,2,2]", {}, "rank-mismatch"],
  ["conv2d", "f32[1,2,4,4] f32[1,2,2]", {}, "rank-mismatch"],
  ["conv2d", "i32[1,2,4,4] i32[1,2,2,2]", {}, "dtype-mismatch"],
  ["conv2d", "f32[1,2,4,4] f16[1,2,2,2]", {}, "dtype-mismatch"],
  ["conv2d", "f32[1,3,4,4] f32[1,2,2,2]", {}, "shape-mismatch"],
  ["conv2d", "f32[1,4,4,4] f32[3,2,2,2]", { groups: 2 }, "shape-mismatch"],
  ["conv2d", "f32[3,2,4,4] f32[2,2,2,2]", { batchGroups: 2 }, "shape-mismatch"],
  ["conv2d", "f32[2,2,4,4] f32[2,1,2,2]", { groups: 2, batchGroups: 2 }, "bad-attribute"],
  ["conv2d", "f32[1,2,1,4] f32[1,2,2,2]", {}, "shape-mismatch"],
  ["conv2d", "f32[1,2,4,4] f32[1,2,k,2]", {}, "shape-mismatch"],
  ["conv2d", "f32[1,2,4,4] f32[1,2,2,2]", { strides: [0, 1] }, "bad-attribute"],
  ["conv2d", "f32[1,2,4,4] f32[1,2,2,2]", { strides: [1] }, "bad-attribute"],
  ["conv2d", "f32[1,2,4,4] f32[1,2,2,2]", { padding: [1, 1] }, "bad-attribute"],
  [
    "conv2d",
    "f32[1,2,4,4] f32[1,2,2,2]",
    {
      padding: [
        [1, 1, 1],
        [1, 1],
      ],
    },
    "bad-attribute",
  ],
  ["conv2d", "f32[1,2,4,4] f32[1,2,2,2]", { groups: 0 }, "bad-attribute"],
  ["convTranspose2d", "f32[1,2,4] f32[2,1,2,2]", {}, "rank-mismatch"],
  ["convTranspose2d", "f32[1,3,4,4] f32[2,1,2,2]", {}, "shape-mismatch"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { groups: 3 }, "shape-mismatch"],
  ["convTranspose2d", "i32[1,2,4,4] i32[2,1,2,2]", {}, "dtype-mismatch"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { dilations: [1] }, "bad-attribute"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { outputPadding: [0] }, "bad-attribute"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { outputPadding: [0, 0, 0] }, "bad-attribute"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { outputPadding: [0, -1] }, "bad-attribute"],
  ["convTranspose2d", "f32[1,2,4,4] f32[2,1,2,2]", { padding: [[0, 0]] }, "bad-attribute"],
  ["maxPool2d", "f32[1,4,4]", kernel, "rank-mismatch"],
  ["maxPool2d", "i32[1,1,4,4]", kernel, "dtype-mismatch"],
  ["sumPool2d", "f32[1,1,1,1]", kernel, "shape-mismatch"],
  ["avgPool2d", "f32[1,1,4,4]", { kernel: [2] }, "bad-attribute"],
  ["avgPool2d", "f32[1,1,4,4]", { kernel: [0, 1] }, "bad-attribute"],
  ["resize2d", "f32[1,4,4]", { size: [2, 2] }, "rank-mismatch"],
  ["resize2d", "i32[1,1,4,4]", { size: [2, 2] }, "dtype-mismatch"],
  ["resize2d", "f32[1,1,4,4]", { size: [2] }, "bad-attribute"],
  ["resize2d", "f32[1,1,4,4]", { size: [0, 2] }, "bad-attribute"],
  ["resize2d", "f32[1,1,h,4]", { size: [2, 2] }, "shape-mismatch"],
  ["resize2d", "f32[1,1,4,4]", { size: [2, 2], mode: "cubic" }, "bad-attribute"],
];

const small = { epsilon: 1e-5 };
const nn: readonly Reject[] = [
  ["softmax", "f32[2]", axis(1), "bad-axis"],
  ["softmax", "f32[2]", axis(-1), "bad-axis"],
  ["logSoftmax", "i32[2]", axis(0), "dtype-mismatch"],
  ["l2Normalize", "f32[]", axis(0), "bad-axis"],
  ["layerNorm", "f32[2,3] f32[2] f32[3]", small, "shape-mismatch"],
  ["layerNorm", "f32[2,3] f32[3] f16[3]", small, "dtype-mismatch"],
  ["layerNorm", "f32[2,3] f32[3]", small, "operand-count"],
  ["layerNorm", "f32[2,3] f32[3] f32[3]", { epsilon: "1e-5" }, "bad-attribute"],
  ["rmsNorm", "f32[2,3] f32[1,3]", small, "shape-mismatch"],
  ["rmsNorm", "i32[2,3] i32[3]", small, "dtype-mismatch"],
  ["groupNorm", "f32[2,4] f32[4] f32[4]", { ...small, groups: 2 }, "rank-mismatch"],
  ["groupNorm", "f32[2,4,2] f32[4] f32[4]", { ...small, groups: 3 }, "shape-mismatch"],
  ["groupNorm", "f32[2,4,2] f32[4] f32[4]", { ...small, groups: 0 }, "shape-mismatch"],
  ["groupNorm", "f32[2,4,2] f32[2] f32[4]", { ...small, groups: 2 }, "shape-mismatch"],
  ["batchNorm", "f32[4] f32[4] f32[4] f32[4] f32[4]", small, "rank-mismatch"],
  ["batchNorm", "f32[2,3] f32[3] f32[3] f32[3] f32[2]", small, "shape-mismatch"],
  ["gelu", "i32[2]", {}, "dtype-mismatch"],
  ["gelu", "f32[2]", { approximate: "erf" }, "bad-attribute"],
  ["silu", "bool[2]", {}, "dtype-mismatch"],
  ["quickGelu", "i32[2]", {}, "dtype-mismatch"],
  ["softplus", "i32[2]", {}, "dtype-mismatch"],
  ["rotaryEmbedding", "f32[2,3,4] f32[3,2] f32[3,2]", {}, "rank-mismatch"],
  ["rotaryEmbedding", "f32[1,2,3,4] f32[2,2] f32[2,2]", {}, "shape-mismatch"],
  ["rotaryEmbedding", "f32[1,2,3,4] f32[3,3] f32[3,3]", {}, "shape-mismatch"],
  ["rotaryEmbedding", "f32[1,2,3,4] f32[3,2] f32[3,1]", {}, "shape-mismatch"],
  ["rotaryEmbedding", "f32[1,2,3,4] f16[3,2] f16[3,2]", {}, "dtype-mismatch"],
  ["rotaryEmbedding", "f32[1,2,3,c] f32[3,2] f32[3,2]", {}, "shape-mismatch"],
];

const qkv = "f32[2,4,3,8] f32[2,2,5,8] f32[2,2,5,6]";
const attention: readonly Reject[] = [
  ["attention", qkv, {}, "missing-attribute"],
  ["attention", "f32[2,4,3,8] f32[2,2,5,8]", { scale: 1 }, "operand-count"],
  ["attention", "f32[4,3,8] f32[2,5,8] f32[2,5,6]", { scale: 1 }, "rank-mismatch"],
  ["attention", "i32[2,4,3,8] i32[2,2,5,8] i32[2,2,5,6]", { scale: 1 }, "dtype-mismatch"],
  ["attention", "f32[2,4,3,8] f16[2,2,5,8] f32[2,2,5,6]", { scale: 1 }, "dtype-mismatch"],
  ["attention", "f32[2,4,3,8] f32[2,2,5,7] f32[2,2,5,6]", { scale: 1 }, "shape-mismatch"],
  ["attention", "f32[2,4,3,8] f32[1,2,5,8] f32[1,2,5,6]", { scale: 1 }, "shape-mismatch"],
  ["attention", "f32[2,4,3,8] f32[2,3,5,8] f32[2,3,5,6]", { scale: 1 }, "shape-mismatch"],
  ["attention", "f32[2,4,3,8] f32[2,2,5,8] f32[2,2,4,6]", { scale: 1 }, "shape-mismatch"],
  ["attention", qkv, { scale: 1, extras: ["mask"] }, "operand-count"],
  ["attention", `${qkv} bool[2,4,3,5]`, { scale: 1 }, "operand-count"],
  ["attention", `${qkv} f32[2,4,3,5]`, { scale: 1, extras: ["mask"] }, "dtype-mismatch"],
  ["attention", `${qkv} bool[3,4,3,5]`, { scale: 1, extras: ["mask"] }, "shape-mismatch"],
  ["attention", `${qkv} bool[2,4,1,5]`, { scale: 1, extras: ["mask"] }, "shape-mismatch"],
  ["attention", `${qkv} bool[3,5]`, { scale: 1, extras: ["mask"] }, "rank-mismatch"],
  ["attention", `${qkv} bool[1,1,3,5]`, { scale: 1, extras: ["bias"] }, "dtype-mismatch"],
  ["attention", `${qkv} f32[2,4]`, { scale: 1, extras: ["logSize"] }, "shape-mismatch"],
  ["attention", `${qkv} f32[2,5] f32[1,1,3,5]`, { scale: 1, extras: ["logSize", "bias"] }, "bad-attribute"],
  ["attention", `${qkv} f32[2,5] f32[2,5]`, { scale: 1, extras: ["logSize", "logSize"] }, "bad-attribute"],
  ["attention", `${qkv} f32[2,5]`, { scale: 1, extras: ["sizes"] }, "bad-attribute"],
  ["attention", qkv, { scale: "1" }, "bad-attribute"],
  ["attention", qkv, { scale: 1, left: 0.5 }, "bad-attribute"],
  ["attention", qkv, { scale: 1, left: -2 }, "bad-attribute"],
  ["attention", qkv, { scale: 1, right: -2 }, "bad-attribute"],
  ["attention", qkv, { scale: 1, past: -1 }, "bad-attribute"],
];

const tokens: readonly Reject[] = [
  ["tokenMatch", "f32[2,6]", { r: 1 }, "rank-mismatch"],
  ["tokenMatch", "i32[1,6,2]", { r: 1 }, "dtype-mismatch"],
  ["tokenMatch", "f32[1,6,2]", { r: 4 }, "bad-attribute"],
  ["tokenMatch", "f32[1,6,2]", { r: 0 }, "bad-attribute"],
  ["tokenMatch", "f32[1,6,2]", { r: 3, protect: 1 }, "bad-attribute"],
  ["tokenMatch", "f32[1,6,2]", { r: 1, protect: 3 }, "bad-attribute"],
  ["tokenMerge", "f32[6,2] i32[1,2] i32[1,1] i32[1,1]", {}, "rank-mismatch"],
  ["tokenMerge", "f32[1,6,2] i32[1,2] i32[1,2] i32[1,2]", {}, "shape-mismatch"],
  ["tokenMerge", "f32[1,6,2] i32[1,2] i32[1,1] i32[1,2]", {}, "shape-mismatch"],
  ["tokenMerge", "f32[2,6,2] i32[1,2] i32[1,1] i32[1,1]", {}, "shape-mismatch"],
  ["tokenMerge", "f32[1,6,2] i64[1,2] i32[1,1] i32[1,1]", {}, "dtype-mismatch"],
  ["tokenMerge", "f32[1,6,2] i32[1,2] i32[1,1] i32[1,1]", { reduce: "mean" }, "bad-attribute"],
  ["tokenMerge", "f32[1,6,2] i32[1,2] i32[1,1] i32[1,1]", { protect: 3 }, "bad-attribute"],
  ["tokenMerge", "f32[1,6,2] i32[1,2] i32[1,1] i32[1,1]", { protect: -1 }, "bad-attribute"],
  ["tokenMerge", "f32[1,6,2] i32[1,0] i32[1,3] i32[1,3]", { protect: 2 }, "bad-attribute"],
  ["tokenMerge", "bool[1,6,2] i32[1,2] i32[1,1] i32[1,1]", {}, "dtype-mismatch"],
  ["tokenUnmerge", "bool[1,5,2] i32[1,2] i32[1,1] i32[1,1]", { tokens: 6 }, "dtype-mismatch"],
  ["tokenUnmerge", "f32[1,5,2] i32[1,2] i32[1,1] i32[1,1]", { tokens: 7 }, "shape-mismatch"],
  ["tokenUnmerge", "f32[1,4,2] i32[1,2] i32[1,1] i32[1,1]", { tokens: 6 }, "shape-mismatch"],
  ["tokenUnmerge", "f32[1,5,2] i32[1,2] i32[1,1]", { tokens: 6 }, "operand-count"],
];

const families = { elementwise, reduce, shape, contraction, gather, window, nn, attention, tokens };

function readType(text: string): TensorType {
  const [, dtype, dims] = /^(\w+)\[(.*)\]$/.exec(text) ?? [];
  if (dtype === undefined || !isDType(dtype)) throw new Error(`bad type in the table: ${text}`);
  return { dtype: dtype as DType, shape: dims === "" ? [] : (dims as string).split(",").map(parseDim) };
}

const types = (text: string): readonly string[] => text.match(/\w+\[[^\]]*\]/g) ?? [];

for (const [family, rejects] of Object.entries(families))
  describe(family, () => {
    test.each(rejects)("%s of %s with %j is refused as %s", (op, operands, attrs, code) => {
      const b = createBuilder();
      const values = types(operands).map((text, i) => b.input(`x${i}`, readType(text)));
      const place = { kind: "file", file: "model.ts", line: 3, column: 7 } as const;
      const attempt = () => b.at({ loc: place }, () => b.make(op, values, attrs));
      expect(attempt).toThrow(CompileError);
      try {
        attempt();
      } catch (error) {
        const { diagnostics } = error as CompileError;
        expect(diagnostics.map((d) => d.code)).toEqual([code]);
        expect(diagnostics[0]?.loc).toEqual(place);
      }
    });
  });

test("every op is refused something", () => {
  const refused = new Set(Object.values(families).flatMap((rejects) => rejects.map(([op]) => op)));
  // One rule serves each of these families: a row for one of them is a row for all.
  const alike: readonly (readonly OpName[])[] = [
    ["exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "erf", "sigmoid"],
    ["floor", "ceil", "trunc", "round"],
    ["neg", "abs", "sign", "relu"],
    ["isNan", "isInf"],
    ["add", "sub", "mul", "div", "mod", "min", "max"],
    ["equal", "notEqual"],
    ["less", "lessEqual", "greater", "greaterEqual"],
    ["and", "or", "xor"],
    ["bitAnd", "bitOr", "bitXor"],
    ["shiftLeft", "shiftRight"],
  ];
  const covered = (op: OpName) =>
    refused.has(op) || alike.some((group) => group.includes(op) && group.some((o) => refused.has(o)));
  expect((Object.keys(ops) as OpName[]).filter((op) => !covered(op))).toEqual([]);
});

test("a refusal names the operand that is to blame and where it comes from", () => {
  const b = createBuilder();
  const lhs = b.input("lhs", readType("f32[2,3]"));
  const rhs = b.at({ loc: { kind: "file", file: "model.ts", line: 1, column: 2 } }, () =>
    b.input("rhs", readType("f32[4,5]")),
  );
  expect(() => b.matmul(lhs, rhs)).toThrowErrorMatchingInlineSnapshot(`
    [CompileError: error[shape-mismatch]: matmul: lhs has 3 columns but rhs has 4 rows
      note: model.ts:1:2 operand 1 (f32[4,5]) comes from here]
  `);
});

test("a note without a place says what the operand is", () => {
  const b = createBuilder();
  const [lhs, rhs] = [b.input("lhs", readType("f32[2,3]")), b.input("rhs", readType("f32[4,5]"))];
  expect(() => b.matmul(lhs, rhs)).toThrowErrorMatchingInlineSnapshot(`
    [CompileError: error[shape-mismatch]: matmul: lhs has 3 columns but rhs has 4 rows
      note: operand 1 is f32[4,5]]
  `);
});

test("a misspelt attribute is refused with the name it may have meant", () => {
  const b = createBuilder();
  const x = b.input("x", readType("f32[2]"));
  expect(() => b.make("reduceSum", [x], { axis: [0] })).toThrowErrorMatchingInlineSnapshot(`
    [CompileError: error[unknown-attribute]: reduceSum has no attribute axis
      help: did you mean axes?]
  `);
});

test("an unknown op is refused", () => {
  expect(() => createBuilder().make("relo", [])).toThrow("error[unknown-op]: there is no op named relo");
});
