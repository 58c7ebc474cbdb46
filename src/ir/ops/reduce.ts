import { OpError } from "../diagnostic.ts";
import type { Value } from "../graph.ts";
import type { AttrSpecs, Form, Scalar, Structured } from "../op.ts";
import { formatType, rangeOf, type TensorType } from "../type.ts";
import { wantAxes, wantAxis, wantKind } from "./rules.ts";

export interface ReduceAttrs {
  axes: readonly number[];
  keepDims?: boolean;
}
type Reduction = Structured<[x: Value], ReduceAttrs>;
type Steps = Pick<Extract<Form<Required<ReduceAttrs>>, { kind: "reduction" }>, "init" | "step" | "merge" | "finish">;

const attrs: AttrSpecs<ReduceAttrs> = {
  axes: { kind: "ints", doc: "which axes are folded, rising" },
  keepDims: { kind: "boolean", default: false, doc: "keep each folded axis with size 1" },
};

/** Shape after folding `axes`. */
function folded(x: TensorType, axes: readonly number[], keepDims: boolean): TensorType["shape"] {
  wantAxes(axes, x.shape.length);
  return keepDims
    ? x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
    : x.shape.filter((_, axis) => !axes.includes(axis));
}

function reduction(
  summary: string,
  source: string,
  kinds: readonly ("float" | "signed" | "unsigned" | "bool")[],
  steps: Steps,
): Reduction {
  return {
    kind: "structured",
    summary,
    source,
    operands: ["x"],
    attrs,
    infer: ([x], { axes, keepDims }) => {
      wantKind(x as TensorType, kinds);
      return [{ dtype: (x as TensorType).dtype, shape: folded(x as TensorType, axes, keepDims) }];
    },
    form: { kind: "reduction", axes: ({ axes }) => axes, ...steps },
  };
}

const numbers = ["float", "signed", "unsigned"] as const;

export const reduceSum: Reduction = reduction("sum", "ONNX ReduceSum-13", numbers, {
  init: () => [0],
  step: (s, [acc], x) => [s.add(acc as never, x)],
  merge: (s, [a], [b]) => [s.add(a as never, b as never)],
  finish: (_, [acc]) => acc as never,
});
export const reduceMean: Reduction = reduction("arithmetic mean", "ONNX ReduceMean-13", ["float"], {
  init: () => [0],
  step: (s, [acc], x) => [s.add(acc as never, x)],
  merge: (s, [a], [b]) => [s.add(a as never, b as never)],
  finish: (s, [acc], count) => s.div(acc as never, count),
});
export const reduceMax: Reduction = reduction("maximum", "ONNX ReduceMax-13", numbers, {
  init: (dtype) => [rangeOf(dtype)[0]],
  step: (s, [acc], x) => [s.max(acc as never, x)],
  merge: (s, [a], [b]) => [s.max(a as never, b as never)],
  finish: (_, [acc]) => acc as never,
});
export const reduceMin: Reduction = reduction("minimum", "ONNX ReduceMin-13", numbers, {
  init: (dtype) => [rangeOf(dtype)[1]],
  step: (s, [acc], x) => [s.min(acc as never, x)],
  merge: (s, [a], [b]) => [s.min(a as never, b as never)],
  finish: (_, [acc]) => acc as never,
});
export const reduceProd: Reduction = reduction("product", "ONNX ReduceProd-13", numbers, {
  init: () => [1],
  step: (s, [acc], x) => [s.mul(acc as never, x)],
  merge: (s, [a], [b]) => [s.mul(a as never, b as never)],
  finish: (_, [acc]) => acc as never,
});

/** State: running maximum and the sum of exponentials relative to it. */
export const logSumExp: Reduction = reduction(
  "ln of the sum of e^x, safe for large x",
  "ONNX ReduceLogSumExp-13",
  ["float"],
  {
    init: () => [Number.NEGATIVE_INFINITY, 0],
    step: (s, [peak, total], x) => {
      const next = s.max(peak as never, x);
      return [next, s.add(s.mul(total as never, expAbove(s, peak as never, next)), expAbove(s, x, next))];
    },
    merge: (s, [peakA, totalA], [peakB, totalB]) => {
      const next = s.max(peakA as never, peakB as never);
      const a = s.mul(totalA as never, expAbove(s, peakA as never, next));
      const b = s.mul(totalB as never, expAbove(s, peakB as never, next));
      return [next, s.add(a, b)];
    },
    finish: (s, [peak, total]) =>
      s.select(
        s.equal(total as never, s.lit(0)),
        s.lit(Number.NEGATIVE_INFINITY),
        s.add(peak as never, s.log(total as never)),
      ),
  },
);

/** e^(x - peak); 1 at the peak, also where it is infinite and the difference would be NaN. */
const expAbove = <E>(s: Scalar<E>, x: E, peak: E): E => s.select(s.equal(x, peak), s.lit(1), s.exp(s.sub(x, peak)));

export interface ArgAttrs {
  axis: number;
  keepDims?: boolean;
}

function argReduction(summary: string, source: string, better: "larger" | "smaller"): Structured<[x: Value], ArgAttrs> {
  return {
    kind: "structured",
    summary,
    source,
    operands: ["x"],
    attrs: { axis: { kind: "int" }, keepDims: { kind: "boolean", default: false } },
    infer: ([x], { axis, keepDims }) => {
      wantKind(x as TensorType, numbers);
      wantAxis(axis, (x as TensorType).shape.length);
      if ((x as TensorType).shape[axis] === 0)
        throw new OpError("shape-mismatch", `axis ${axis} of ${formatType(x as TensorType)} is empty and has no best`);
      return [{ dtype: "i32", shape: folded(x as TensorType, [axis], keepDims) }];
    },
    form: {
      kind: "reduction",
      indexed: true,
      axes: ({ axis }) => [axis],
      init: (dtype) => [better === "larger" ? rangeOf(dtype)[0] : rangeOf(dtype)[1], -1],
      // An index of -1 means that nothing was seen yet, so that a row of infinities still answers 0.
      step: (s, [best, at], x, index) => {
        const wins = s.or(
          better === "larger" ? s.less(best as never, x) : s.less(x, best as never),
          s.less(at as never, s.lit(0)),
        );
        return [s.select(wins, x, best as never), s.select(wins, index, at as never)];
      },
      merge: (s, [bestA, atA], [bestB, atB]) => {
        const beats =
          better === "larger" ? s.less(bestA as never, bestB as never) : s.less(bestB as never, bestA as never);
        const earlier = s.and(s.equal(bestA as never, bestB as never), s.less(atB as never, atA as never));
        const wins = s.and(
          s.lessEqual(s.lit(0), atB as never),
          s.or(s.less(atA as never, s.lit(0)), s.or(beats, earlier)),
        );
        return [s.select(wins, bestB as never, bestA as never), s.select(wins, atB as never, atA as never)];
      },
      finish: (_, [, at]) => at as never,
    },
  };
}

export const argMax: Structured<[x: Value], ArgAttrs> = argReduction(
  "i32 index of the maximum; the lowest on ties",
  "ONNX ArgMax-13",
  "larger",
);
export const argMin: Structured<[x: Value], ArgAttrs> = argReduction(
  "i32 index of the minimum; the lowest on ties",
  "ONNX ArgMin-13",
  "smaller",
);

export const cumsum: Structured<[x: Value], { axis: number; exclusive?: boolean; reverse?: boolean }> = {
  kind: "structured",
  summary: "running sum along an axis",
  source: "ONNX CumSum-14",
  operands: ["x"],
  attrs: {
    axis: { kind: "int" },
    exclusive: { kind: "boolean", default: false, doc: "the sum of what comes before" },
    reverse: { kind: "boolean", default: false, doc: "from the end" },
  },
  infer: ([x], { axis }) => {
    wantKind(x as TensorType, numbers);
    wantAxis(axis, (x as TensorType).shape.length);
    return [x as TensorType];
  },
  form: {
    kind: "scan",
    axis: ({ axis }) => axis,
    exclusive: ({ exclusive }) => exclusive,
    reverse: ({ reverse }) => reverse,
    init: 0,
    step: (s, acc, x) => s.add(acc, x),
  },
};
