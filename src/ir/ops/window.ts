import { OpError } from "../diagnostic.ts";
import { addDims, floorDivide, isStatic, multiplyDims, subtractDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { AttrSpecs, Composite, Structured, WindowGeometry } from "../op.ts";
import { type Dim, formatType, type TensorType } from "../type.ts";
import { wantDType, wantFloat, wantRank } from "./rules.ts";

type Pair = readonly [number, number];
type Pairs = readonly Pair[];

export interface Conv2dAttrs {
  strides?: readonly number[];
  padding?: Pairs;
  dilations?: readonly number[];
  baseDilation?: readonly number[];
  groups?: number;
  batchGroups?: number;
}

/** Positions of a window along one axis: floor((dilated + low + high - reach) / stride) + 1. */
function windowCount(size: Dim, g: WindowGeometry, axis: number): Dim {
  const base = g.baseDilation[axis] as number;
  const dilated = addDims(multiplyDims(subtractDims(size, 1), base), 1);
  const reach = ((g.kernel[axis] as number) - 1) * (g.kernelDilation[axis] as number) + 1;
  const [low, high] = g.padding[axis] as Pair;
  const span = addDims(dilated, low + high - reach);
  if (isStatic(span) && span < 0)
    throw new OpError(
      "shape-mismatch",
      `a window reaching over ${reach} does not fit ${size} elements with padding ${low}, ${high}`,
    );
  return addDims(floorDivide(span, g.strides[axis] as number), 1);
}

function wantGeometry(g: WindowGeometry): void {
  const positive = [...g.kernel, ...g.strides, ...g.kernelDilation, ...g.baseDilation, g.featureGroups, g.batchGroups];
  if ([g.kernel, g.strides, g.padding, g.kernelDilation, g.baseDilation].some((list) => list.length !== 2))
    throw new OpError("bad-attribute", "kernel, strides, padding and dilations want two entries: rows and columns");
  if (positive.some((n) => n < 1))
    throw new OpError("bad-attribute", "kernel, strides, dilations and groups must be at least 1");
}

const conv2dGeometry = (weight: TensorType, a: Required<Conv2dAttrs>): WindowGeometry => {
  const kernel = weight.shape.slice(2);
  if (!kernel.every(isStatic))
    throw new OpError("shape-mismatch", `a kernel needs sizes, got ${formatType(weight)}`, { operand: 1 });
  return {
    reduce: "dot",
    kernel,
    strides: a.strides,
    padding: a.padding,
    kernelDilation: a.dilations,
    baseDilation: a.baseDilation,
    featureGroups: a.groups,
    batchGroups: a.batchGroups,
  };
};

const ones = [1, 1] as const;
const noPadding = [
  [0, 0],
  [0, 0],
] as const;

/**
 * x: [batch, in, height, width], weight: [out, in / groups, rows, columns] -> [batch / batchGroups, out, height', width'].
 * baseDilation spreads x with zeros (transposed convolution); batchGroups pairs batch slices with output slices
 * (the kernel gradient of a grouped convolution).
 */
export const conv2d: Structured<[x: Value, weight: Value], Conv2dAttrs> = {
  kind: "structured",
  summary: "two-dimensional convolution (cross-correlation) without bias",
  source: "ONNX Conv-11; StableHLO convolution for baseDilation and batchGroups",
  operands: ["x", "weight"],
  attrs: {
    strides: { kind: "ints", default: ones, doc: "rows, columns" },
    padding: { kind: "pairs", default: noPadding, doc: "[[top, bottom], [left, right]]; negative crops" },
    dilations: { kind: "ints", default: ones, doc: "of the kernel" },
    baseDilation: { kind: "ints", default: ones, doc: "of x" },
    groups: { kind: "int", default: 1, doc: "feature groups" },
    batchGroups: { kind: "int", default: 1 },
  },
  infer: ([x, weight], attrs) => {
    const input = x as TensorType;
    const kernel = weight as TensorType;
    wantFloat(input);
    wantRank(input, 4);
    wantRank(kernel, 4, 1);
    wantDType(kernel, input.dtype, 1);
    const g = conv2dGeometry(kernel, attrs);
    wantGeometry(g);
    const [batch, channels, height, width] = input.shape as readonly [Dim, Dim, Dim, Dim];
    const [out, perGroup] = kernel.shape as readonly [Dim, Dim];
    if (multiplyDims(perGroup, attrs.groups) !== channels)
      throw new OpError(
        "shape-mismatch",
        `x has ${channels} channels but the weight takes ${perGroup} in each of ${attrs.groups} group(s)`,
        { operand: 1 },
      );
    if (attrs.groups > 1 && attrs.batchGroups > 1)
      throw new OpError("bad-attribute", "groups and batchGroups cannot both be above 1");
    for (const groups of [attrs.groups, attrs.batchGroups])
      if (isStatic(out) && out % groups !== 0)
        throw new OpError("shape-mismatch", `${out} outputs do not divide into ${groups} groups`);
    if (isStatic(batch) && batch % attrs.batchGroups !== 0)
      throw new OpError("shape-mismatch", `batch ${batch} does not divide into ${attrs.batchGroups} groups`);
    return [
      {
        dtype: input.dtype,
        shape: [floorDivide(batch, attrs.batchGroups), out, windowCount(height, g, 0), windowCount(width, g, 1)],
      },
    ];
  },
  form: { kind: "window", geometry: ([, weight], attrs) => conv2dGeometry(weight as TensorType, attrs) },
};

export interface ConvTranspose2dAttrs {
  strides?: readonly number[];
  padding?: Pairs;
  outputPadding?: readonly number[];
  dilations?: readonly number[];
  groups?: number;
}

/** x: [batch, in, h, w], weight: [in, out / groups, rows, columns] as in torch. */
export const convTranspose2d: Composite<[x: Value, weight: Value], ConvTranspose2dAttrs> = {
  kind: "composite",
  summary: "transposed convolution: conv2d of x spread by the strides with the kernel turned round",
  source: "ONNX ConvTranspose-11",
  operands: ["x", "weight"],
  attrs: {
    strides: { kind: "ints", default: ones },
    padding: { kind: "pairs", default: noPadding, doc: "cropped from the result" },
    outputPadding: { kind: "ints", default: [0, 0], doc: "added to the result's bottom and right" },
    dilations: { kind: "ints", default: ones },
    groups: { kind: "int", default: 1 },
  },
  infer: ([x, weight], attrs) => {
    wantRank(x as TensorType, 4);
    wantRank(weight as TensorType, 4, 1);
    wantDType(weight as TensorType, (x as TensorType).dtype, 1);
    const [inputs, perGroup, ...kernel] = (weight as TensorType).shape as readonly [Dim, Dim, ...Dim[]];
    if (!kernel.every(isStatic) || !isStatic(inputs) || !isStatic(perGroup))
      throw new OpError("shape-mismatch", `a kernel needs sizes, got ${formatType(weight as TensorType)}`, {
        operand: 1,
      });
    if (attrs.padding.length !== 2 || attrs.outputPadding.length !== 2 || attrs.outputPadding.some((n) => n < 0))
      throw new OpError(
        "bad-attribute",
        "padding and outputPadding want two entries, rows and columns; outputPadding adds",
      );
    if (attrs.groups < 1 || inputs % attrs.groups !== 0)
      throw new OpError("shape-mismatch", `${inputs} inputs do not divide into ${attrs.groups} groups`, { operand: 1 });
    const direct: TensorType = {
      dtype: (x as TensorType).dtype,
      shape: [perGroup * attrs.groups, inputs / attrs.groups, ...kernel],
    };
    return conv2d.infer([x as TensorType, direct], directAttrs(kernel, attrs));
  },
  decompose: (b, [x, weight], attrs) => {
    const [inputs, perGroup, rows, columns] = weight.type.shape as readonly [number, number, number, number];
    const { groups } = attrs;
    const turned = b.reverse(weight, { axes: [2, 3] });
    const grouped = b.reshape(turned, { shape: [groups, inputs / groups, perGroup, rows, columns] });
    const swapped = b.transpose(grouped, { perm: [0, 2, 1, 3, 4] });
    const direct = b.reshape(swapped, { shape: [groups * perGroup, inputs / groups, rows, columns] });
    return b.conv2d(x, direct, directAttrs([rows, columns], attrs));
  },
};

function directAttrs(kernel: readonly number[], a: Required<ConvTranspose2dAttrs>): Required<Conv2dAttrs> {
  const reach = kernel.map((k, i) => (k - 1) * (a.dilations[i] ?? 1));
  return {
    strides: ones,
    padding: reach.map((r, i) => {
      const [low, high] = a.padding[i] ?? [0, 0];
      return [r - low, r - high + (a.outputPadding[i] ?? 0)] as const;
    }),
    dilations: a.dilations,
    baseDilation: a.strides,
    groups: a.groups,
    batchGroups: 1,
  };
}

export interface PoolAttrs {
  kernel: readonly number[];
  strides?: readonly number[];
  padding?: Pairs;
  dilations?: readonly number[];
}
const poolAttrs: AttrSpecs<PoolAttrs> = {
  kernel: { kind: "ints", doc: "rows, columns" },
  strides: { kind: "ints", default: ones },
  padding: { kind: "pairs", default: noPadding },
  dilations: { kind: "ints", default: ones },
};
const poolGeometry = (reduce: "max" | "sum", a: Required<PoolAttrs>): WindowGeometry => ({
  reduce,
  kernel: a.kernel,
  strides: a.strides,
  padding: a.padding,
  kernelDilation: a.dilations,
  baseDilation: ones,
  featureGroups: 1,
  batchGroups: 1,
});

function pooledType(x: TensorType, g: WindowGeometry): TensorType {
  wantFloat(x);
  wantRank(x, 4);
  wantGeometry(g);
  const [batch, channels, height, width] = x.shape as readonly [Dim, Dim, Dim, Dim];
  return { dtype: x.dtype, shape: [batch, channels, windowCount(height, g, 0), windowCount(width, g, 1)] };
}

function pool(reduce: "max" | "sum", summary: string, source: string): Structured<[x: Value], PoolAttrs> {
  return {
    kind: "structured",
    summary,
    source,
    operands: ["x"],
    attrs: poolAttrs,
    infer: ([x], attrs) => [pooledType(x as TensorType, poolGeometry(reduce, attrs))],
    form: { kind: "window", geometry: (_, attrs) => poolGeometry(reduce, attrs) },
  };
}

export const maxPool2d: Structured<[x: Value], PoolAttrs> = pool(
  "max",
  "maximum of each window; padding counts as minus infinity",
  "ONNX MaxPool-12",
);
export const sumPool2d: Structured<[x: Value], PoolAttrs> = pool(
  "sum",
  "sum of each window; padding counts as 0",
  "ONNX AveragePool-19 times the window's size",
);

export interface AvgPoolAttrs extends PoolAttrs {
  countPadding?: boolean;
}
export const avgPool2d: Composite<[x: Value], AvgPoolAttrs> = {
  kind: "composite",
  summary: "mean of each window",
  source: "ONNX AveragePool-19",
  operands: ["x"],
  attrs: {
    ...poolAttrs,
    countPadding: { kind: "boolean", default: false, doc: "divide by the whole window at the border too" },
  },
  infer: ([x], attrs) => [pooledType(x as TensorType, poolGeometry("sum", attrs))],
  decompose: (b, [x], { countPadding, ...attrs }) => {
    const total = b.sumPool2d(x, attrs);
    if (countPadding)
      return b.div(total, b.full(total.type, (attrs.kernel[0] as number) * (attrs.kernel[1] as number)));
    return b.div(total, b.sumPool2d(b.full(x.type, 1), attrs));
  },
};

export interface ResizeAttrs {
  size: readonly number[];
  mode?: "nearest" | "bilinear";
  coordinates?: "halfPixel" | "alignCorners" | "asymmetric";
}

/**
 * Resizes the last two axes of [batch, channels, height, width]. Nearest rounds down (torch's `nearest` with
 * asymmetric coordinates) or, with halfPixel, to the nearer sample (`nearest-exact`). Separable, so it is two contractions with constant interpolation matrices.
 */
export const resize2d: Composite<[x: Value], ResizeAttrs> = {
  kind: "composite",
  summary: "pictures resampled to another height and width",
  source: "ONNX Resize-13; torch.nn.functional.interpolate",
  operands: ["x"],
  attrs: {
    size: { kind: "ints", doc: "rows, columns of the result" },
    mode: { kind: ["nearest", "bilinear"], default: "nearest" },
    coordinates: { kind: ["halfPixel", "alignCorners", "asymmetric"], default: "halfPixel" },
  },
  infer: ([x], { size }) => {
    const { dtype, shape } = x as TensorType;
    wantFloat(x as TensorType);
    wantRank(x as TensorType, 4);
    if (size.length !== 2 || size.some((n) => n < 1))
      throw new OpError("bad-attribute", "size wants two sizes of at least 1");
    if (!shape.slice(2).every((d) => isStatic(d) && d > 0))
      throw new OpError(
        "shape-mismatch",
        `resizing needs a known height and width, got ${formatType(x as TensorType)}`,
      );
    return [{ dtype, shape: [...shape.slice(0, 2), ...size] }];
  },
  decompose: (b, [x], { size, mode, coordinates }) => {
    const [height, width] = x.type.shape.slice(2) as readonly number[];
    const [rows, columns] = size as readonly [number, number];
    const matrix = (from: number, to: number) =>
      b.constant({ dtype: x.type.dtype, shape: [to, from], numbers: interpolation(from, to, mode, coordinates) });
    const tall = b.contract(matrix(height as number, rows), x, { spec: "yh,bchw->bcyw" });
    return b.contract(tall, matrix(width as number, columns), { spec: "bcyw,xw->bcyx" });
  },
};

/** Row-major [to, from] matrix whose rows weigh the source samples of each result sample. */
function interpolation(from: number, to: number, mode: "nearest" | "bilinear", coordinates: string): Float64Array {
  const weights = new Float64Array(to * from);
  const clamp = (i: number) => Math.max(0, Math.min(from - 1, i));
  for (let out = 0; out < to; out++) {
    const at =
      coordinates === "alignCorners"
        ? to === 1
          ? 0
          : (out * (from - 1)) / (to - 1)
        : coordinates === "halfPixel"
          ? ((out + 0.5) * from) / to - 0.5
          : (out * from) / to;
    if (mode === "nearest") {
      const place = out * from + clamp(Math.floor(coordinates === "halfPixel" ? at + 0.5 : at));
      weights[place] = 1;
      continue;
    }
    const inside = Math.max(0, Math.min(from - 1, at));
    const low = Math.floor(inside);
    const share = inside - low;
    const first = out * from + low;
    const second = out * from + clamp(low + 1);
    weights[first] = (weights[first] as number) + 1 - share;
    weights[second] = (weights[second] as number) + share;
  }
  return weights;
}
