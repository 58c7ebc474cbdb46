import type { ArgAttrs, ReduceAttrs } from "../../../ir/ops/reduce.ts";
import type { Row } from "../row.ts";
import type { Site } from "../site.ts";

type Reduce = Row<Required<ReduceAttrs>>;

/** Axes are an input of ReduceSum since 13 and of its kin since 18; an attribute before. */
export function reduced(at: Site, op: string, x: string, axes: readonly number[], keepDims: boolean): string {
  const dtype = at.dtype();
  const keepdims = keepDims ? 1 : 0;
  // ONNX Runtime's CPU kernels saturate where i32 wraps; its WebGPU provider, which wraps, has no i64.
  const saturates = dtype === "i32" && (op === "ReduceSum" || op === "ReduceProd") && at.plan.profile !== "ort-webgpu";
  const work = saturates ? "i64" : at.workType(op, dtype);
  const wide = at.body.cast(x, dtype, work);
  const asInput = op === "ReduceSum" || at.plan.opset >= 18;
  const y = asInput
    ? at.make(op, [wide, at.ints(axes)], { keepdims })
    : at.make(op, [wide], { axes: [...axes], keepdims });
  return at.body.cast(y, work, dtype);
}

const reduction = (op: string): Reduce => ({
  since: 13,
  // Folding no axis changes nothing, but ONNX reads an empty list as all axes.
  emit: (at) => (at.attrs.axes.length === 0 ? at.x(0) : reduced(at, op, at.x(0), at.attrs.axes, at.attrs.keepDims)),
});

export const reduceSum: Reduce = reduction("ReduceSum");
export const reduceMean: Reduce = reduction("ReduceMean");
export const reduceMax: Reduce = reduction("ReduceMax");
export const reduceMin: Reduce = reduction("ReduceMin");
export const reduceProd: Reduce = reduction("ReduceProd");

/** ReduceLogSumExp overflows on WebGPU: there the maximum is taken out by hand. */
export const logSumExp: Reduce = {
  since: 13,
  emit: (at) => {
    const { axes, keepDims } = at.attrs;
    if (axes.length === 0) return at.x(0);
    if (at.plan.profile !== "ort-webgpu") return reduced(at, "ReduceLogSumExp", at.x(0), axes, keepDims);
    const floor = at.scalar(at.dtype() === "f16" ? -65504 : -3.4e38); // -inf - -inf would be NaN
    const peak = at.make("Max", [reduced(at, "ReduceMax", at.x(0), axes, true), floor]);
    const raised = at.make("Exp", [at.make("Sub", [at.x(0), peak])]);
    const total = at.make("Add", [at.make("Log", [reduced(at, "ReduceSum", raised, axes, true)]), peak]);
    return keepDims ? total : at.make("Squeeze", [total, at.ints(axes)]);
  },
};

const argReduction = (op: "ArgMax" | "ArgMin"): Row<Required<ArgAttrs>> => ({
  since: 13,
  indices: () => [0],
  emit: (at) =>
    at.typed(op, [at.x(0)], at.dtype(), { axis: at.attrs.axis, keepdims: at.attrs.keepDims ? 1 : 0 }, false),
});
export const argMax: Row<Required<ArgAttrs>> = argReduction("ArgMax");
export const argMin: Row<Required<ArgAttrs>> = argReduction("ArgMin");

export const cumsum: Row<{ readonly axis: number; readonly exclusive: boolean; readonly reverse: boolean }> = {
  since: 14,
  emit: (at) => {
    const { axis, exclusive, reverse } = at.attrs;
    const attrs = { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 };
    const work = at.workType("CumSum", at.dtype());
    const y = at.make("CumSum", [at.body.cast(at.x(0), at.dtype(), work), at.scalar(axis, "i32")], attrs);
    return at.body.cast(y, work, at.dtype());
  },
};
