import { OpError } from "../diagnostic.ts";
import { addDims, floorDivide, isStatic, productOfDims, sameShape, subtractDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { IntScalar, Structured } from "../op.ts";
import { type Dim, type DType, formatType, isDType, isNumberOf, type TensorType } from "../type.ts";
import { wantAxes, wantAxis, wantDType } from "./rules.ts";

export const reshape: Structured<[x: Value], { shape: readonly Dim[] }> = {
  kind: "structured",
  summary: "the same elements in row-major order under another shape",
  source: "ONNX Reshape-14",
  operands: ["x"],
  attrs: { shape: { kind: "dims" } },
  infer: ([x], { shape }) => {
    const { dtype, shape: from } = x as TensorType;
    if (productOfDims(from) !== productOfDims(shape))
      throw new OpError(
        "shape-mismatch",
        `${formatType(x as TensorType)} has ${productOfDims(from)} elements but [${shape.join(",")}] has ${productOfDims(shape)}`,
      );
    return [{ dtype, shape }];
  },
  form: {
    kind: "view",
    index: (s, out, dims, { shape }) =>
      unravel(
        s,
        ravel(
          s,
          out,
          shape.map((d) => s.dim(d)),
        ),
        dims,
      ),
  },
};

/** Row-major position of an index. */
function ravel<I>(s: IntScalar<I>, index: readonly I[], dims: readonly I[]): I {
  return index.reduce((position, i, axis) => (axis === 0 ? i : s.add(s.mul(position, dims[axis] as I), i)), s.lit(0));
}

function unravel<I>(s: IntScalar<I>, position: I, dims: readonly I[]): readonly I[] {
  const out: I[] = [];
  let rest = position;
  for (let axis = dims.length - 1; axis > 0; axis--) {
    out.unshift(s.mod(rest, dims[axis] as I));
    rest = s.div(rest, dims[axis] as I);
  }
  return dims.length === 0 ? [] : [rest, ...out];
}

export const transpose: Structured<[x: Value], { perm: readonly number[] }> = {
  kind: "structured",
  summary: "axes in another order: result axis i is operand axis perm[i]",
  source: "ONNX Transpose-13",
  operands: ["x"],
  attrs: { perm: { kind: "ints" } },
  infer: ([x], { perm }) => {
    const { dtype, shape } = x as TensorType;
    if (perm.length !== shape.length || new Set(perm).size !== perm.length)
      throw new OpError(
        "bad-axis",
        `perm [${perm.join(",")}] does not order the axes of ${formatType(x as TensorType)}`,
      );
    for (const axis of perm) wantAxis(axis, shape.length);
    return [{ dtype, shape: perm.map((axis) => shape[axis] as Dim) }];
  },
  form: { kind: "view", index: (_s, out, dims, { perm }) => dims.map((_, axis) => out[perm.indexOf(axis)] as never) },
};

/** The operand's shape must equal `shape` without the axes named in `axes`. */
export const broadcast: Structured<[x: Value], { shape: readonly Dim[]; axes: readonly number[] }> = {
  kind: "structured",
  summary: "repetition along new axes",
  source: "StableHLO broadcast_in_dim; ONNX Expand-13",
  operands: ["x"],
  attrs: {
    shape: { kind: "dims", doc: "of the result" },
    axes: { kind: "ints", doc: "result axes that are new, rising" },
  },
  infer: ([x], { shape, axes }) => {
    const type = x as TensorType;
    wantAxes(axes, shape.length);
    const kept = shape.filter((_, axis) => !axes.includes(axis));
    if (!sameShape(kept, type.shape))
      throw new OpError(
        "shape-mismatch",
        `[${shape.join(",")}] without axes [${axes.join(",")}] is [${kept.join(",")}] but x is ${formatType(type)}`,
      );
    return [{ dtype: type.dtype, shape }];
  },
  form: { kind: "view", index: (_s, out, _dims, { axes }) => out.filter((_, axis) => !axes.includes(axis)) },
};

export interface SliceAttrs {
  axis: number;
  start?: Dim;
  /** Exclusive. */
  end: Dim;
  step?: number;
}

export const slice: Structured<[x: Value], SliceAttrs> = {
  kind: "structured",
  summary: "every step-th element from start up to, not including, end along one axis",
  source: "ONNX Slice-13",
  operands: ["x"],
  attrs: {
    axis: { kind: "int" },
    start: { kind: "dim", default: 0 },
    end: { kind: "dim", doc: "exclusive" },
    step: { kind: "int", default: 1, doc: "at least 1" },
  },
  infer: ([x], { axis, start, end, step }) => {
    const { dtype, shape } = x as TensorType;
    wantAxis(axis, shape.length);
    const size = shape[axis] as Dim;
    const out = (why: string) =>
      new OpError(
        "slice-out-of-range",
        `${start}:${end}:${step} along axis ${axis} of ${formatType(x as TensorType)} ${why}`,
      );
    if (step < 1) throw out("has a step below 1");
    const [length, beyond] = [subtractDims(end, start), subtractDims(end, size)];
    if (isStatic(start) && start < 0) throw out("starts below 0");
    if (isStatic(beyond) && beyond > 0) throw out("ends past the axis");
    if (isStatic(length) && length < 0) throw out("ends before it starts");
    const count = floorDivide(addDims(length, step - 1), step);
    return [{ dtype, shape: shape.map((dim, a) => (a === axis ? count : dim)) }];
  },
  form: {
    kind: "view",
    index: (s, out, _dims, { axis, start, step }) =>
      out.map((i, a) => (a === axis ? s.add(s.dim(start), s.mul(i, s.lit(step))) : i)),
  },
};

export const reverse: Structured<[x: Value], { axes: readonly number[] }> = {
  kind: "structured",
  summary: "the order along each named axis turned round",
  source: "StableHLO reverse; ONNX Slice-13 with step -1",
  operands: ["x"],
  attrs: { axes: { kind: "ints" } },
  infer: ([x], { axes }) => {
    wantAxes(axes, (x as TensorType).shape.length);
    return [x as TensorType];
  },
  form: {
    kind: "view",
    index: (s, out, dims, { axes }) =>
      out.map((i, axis) => (axes.includes(axis) ? s.sub(s.sub(dims[axis] as never, s.lit(1)), i) : i)),
  },
};

export interface PadAttrs {
  low: readonly number[];
  high: readonly number[];
  mode?: "constant" | "reflect" | "edge";
  value?: number;
}

export const pad: Structured<[x: Value], PadAttrs> = {
  kind: "structured",
  summary: "elements added (or cropped, where negative) before and after each axis",
  source: "ONNX Pad-13",
  operands: ["x"],
  attrs: {
    low: { kind: "ints", doc: "per axis" },
    high: { kind: "ints", doc: "per axis" },
    mode: { kind: ["constant", "reflect", "edge"], default: "constant" },
    value: { kind: "number", default: 0, doc: "of added elements in constant mode" },
  },
  infer: ([x], { low, high, mode, value }) => {
    const { dtype, shape } = x as TensorType;
    if (low.length !== shape.length || high.length !== shape.length)
      throw new OpError("bad-attribute", `low and high want one entry per axis of ${formatType(x as TensorType)}`);
    if (mode === "constant" && !isNumberOf(value, dtype)) throw new OpError("bad-attribute", `${value} is no ${dtype}`);
    const padded = shape.map((dim, axis) => addDims(dim, (low[axis] as number) + (high[axis] as number)));
    padded.forEach((dim, axis) => {
      if (isStatic(dim) && dim < 0) throw new OpError("bad-attribute", `axis ${axis} is cropped below size 0`);
      const size = shape[axis] as Dim;
      const most = Math.max(low[axis] as number, high[axis] as number);
      if (mode === "reflect" && isStatic(size) && most > 0 && most >= size)
        throw new OpError("bad-attribute", `reflecting ${most} elements needs an axis longer than ${size}`);
      if (mode === "edge" && size === 0 && most > 0)
        throw new OpError("bad-attribute", `axis ${axis} is empty and has no edge to repeat`);
    });
    return [{ dtype, shape: padded }];
  },
  form: {
    kind: "view",
    index: (s, out, dims, { low, mode }) =>
      out.map((i, axis) => {
        const at = s.sub(i, s.lit(low[axis] as number));
        const last = s.sub(dims[axis] as never, s.lit(1));
        if (mode === "edge") return s.max(s.lit(0), s.min(at, last));
        if (mode === "reflect") return s.sub(last, s.abs(s.sub(last, s.abs(at))));
        return at;
      }),
    inside: (s, out, dims, { low, mode }) => {
      if (mode !== "constant") return undefined;
      const [first, ...rest] = out.map((i, axis) => {
        const at = s.sub(i, s.lit(low[axis] as number));
        return s.and(s.lessEqual(s.lit(0), at), s.less(at, dims[axis] as never));
      });
      return first === undefined ? undefined : rest.reduce((all, one) => s.and(all, one), first);
    },
    fill: ({ value }) => value,
  },
};

export const concat: Structured<readonly Value[], { axis: number }> = {
  kind: "structured",
  summary: "operands laid end to end along an axis",
  source: "ONNX Concat-13",
  operands: ["parts..."],
  attrs: { axis: { kind: "int" } },
  infer: (types, { axis }) => {
    const [first, ...rest] = types;
    if (first === undefined) throw new OpError("operand-count", "concat wants at least one operand");
    wantAxis(axis, first.shape.length);
    let total = first.shape[axis] as Dim;
    rest.forEach((type, i) => {
      wantDType(type, first.dtype, i + 1);
      const fits =
        type.shape.length === first.shape.length && type.shape.every((d, a) => a === axis || d === first.shape[a]);
      if (!fits)
        throw new OpError(
          "shape-mismatch",
          `concat on axis ${axis}: ${formatType(first)} and ${formatType(type)} differ on another axis`,
          { operand: i + 1 },
        );
      total = addDims(total, type.shape[axis] as Dim);
    });
    return [{ dtype: first.dtype, shape: first.shape.map((d, a) => (a === axis ? total : d)) }];
  },
  form: { kind: "concat", axis: ({ axis }) => axis },
};

export const iota: Structured<[], { shape: readonly Dim[]; axis: number; dtype?: DType }, Value> = {
  kind: "structured",
  summary: "0, 1, 2, ... along an axis",
  source: "StableHLO iota; ONNX Range-11",
  operands: [],
  attrs: { shape: { kind: "dims" }, axis: { kind: "int" }, dtype: { kind: "dtype", default: "i32" } },
  infer: (_, { shape, axis, dtype }) => {
    wantAxis(axis, shape.length);
    if (!isDType(dtype) || dtype === "bool") throw new OpError("dtype-mismatch", `iota cannot count in ${dtype}`);
    return [{ dtype, shape }];
  },
  form: { kind: "generate", value: (_s, out, { axis }) => out[axis] as never },
};
