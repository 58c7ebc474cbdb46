import type { Node } from "../../../ir/graph.ts";
import type {
  AvgPoolAttrs,
  Conv2dAttrs,
  ConvTranspose2dAttrs,
  PoolAttrs,
  ResizeAttrs,
} from "../../../ir/ops/window.ts";
import type { Dim } from "../../../ir/type.ts";
import { type Claim, everywhere, type Row } from "../row.ts";
import type { Site } from "../site.ts";
import { padded } from "./shape.ts";

type Pairs = readonly (readonly number[])[];

/** [[top, bottom], [left, right]] as ONNX has it: all beginnings, then all ends. */
const padsOf = (padding: Pairs): readonly number[] => [
  ...padding.map(([low]) => low as number),
  ...padding.map(([, high]) => high as number),
];

/** `plainWindows` has removed base dilation, batch groups and negative padding. */
export const conv2d: Row<Required<Conv2dAttrs>> = { since: 11, emit: (at) => convolution(at, [at.x(0), at.x(1)]) };

export function convolution(at: Site<Required<Conv2dAttrs>>, inputs: readonly string[]): string {
  const { strides, padding, dilations, groups } = at.attrs;
  const attrs = { strides: [...strides], pads: padsOf(padding), dilations: [...dilations], group: groups };
  return at.typed("Conv", inputs, at.dtype(), attrs);
}

export const convTranspose2d: Claim<Required<ConvTranspose2dAttrs>> = {
  profiles: everywhere,
  since: 11,
  claims: ({ attrs }) => {
    const { strides, padding, outputPadding } = attrs as unknown as Required<ConvTranspose2dAttrs>;
    return padding.flat().every((n) => n >= 0) && outputPadding.every((n, i) => n >= 0 && n < (strides[i] as number));
  },
  emit: (at) => {
    const { strides, padding, outputPadding, dilations, groups } = at.attrs;
    return at.typed("ConvTranspose", [at.x(0), at.x(1)], at.dtype(), {
      strides: [...strides],
      pads: padsOf(padding),
      output_padding: [...outputPadding],
      dilations: [...dilations],
      group: groups,
    });
  },
};

/** ONNX Runtime wants padding from 0 up to below the window's size; other padding is done before. */
function pooled(
  at: Site<Required<PoolAttrs>>,
  op: "MaxPool" | "AveragePool",
  attrs: { count_include_pad?: number },
): string {
  const { kernel, strides, padding, dilations } = at.attrs;
  const before = padding.some((pair, axis) => pair.some((n) => n < 0 || n >= (kernel[axis] as number)));
  const value = op === "MaxPool" ? Number.NEGATIVE_INFINITY : 0;
  const [top, bottom] = padding[0] as readonly [number, number];
  const [left, right] = padding[1] as readonly [number, number];
  const x = before
    ? padded(at, at.x(0), [0, 0, top, left, 0, 0, bottom, right], { mode: "constant", value, dtype: at.dtype() })
    : at.x(0);
  const pads = before ? [0, 0, 0, 0] : padsOf(padding);
  const dilated = dilations.some((n) => n !== 1) ? { dilations: [...dilations] } : {};
  return at.typed(op, [x], at.dtype(), {
    kernel_shape: [...kernel],
    strides: [...strides],
    pads,
    ...dilated,
    ...attrs,
  });
}

const averageSince = (node: Node): number =>
  (node.attrs["dilations"] as readonly number[]).some((n) => n !== 1) ? 19 : 11;

export const maxPool2d: Row<Required<PoolAttrs>> = { since: 12, emit: (at) => pooled(at, "MaxPool", {}) };

export const sumPool2d: Row<Required<PoolAttrs>> = {
  since: averageSince,
  emit: (at) => {
    const [rows, columns] = at.attrs.kernel as readonly [number, number];
    const mean = pooled(at, "AveragePool", { count_include_pad: 1 });
    return at.typed("Mul", [mean, at.scalar(rows * columns)], at.dtype());
  },
};

/** A window that lies in the padding alone has no mean; ONNX's answer there is not the decomposition's. */
export const avgPool2d: Claim<Required<AvgPoolAttrs>> = {
  profiles: everywhere,
  since: averageSince,
  claims: ({ attrs }) => {
    const { padding, kernel } = attrs as unknown as Required<AvgPoolAttrs>;
    return padding.every((pair, axis) => pair.every((n) => n >= 0 && n < (kernel[axis] as number)));
  },
  emit: (at) => pooled(at, "AveragePool", { count_include_pad: at.attrs.countPadding ? 1 : 0 }),
};

const coordinateMode = { halfPixel: "half_pixel", alignCorners: "align_corners", asymmetric: "asymmetric" } as const;

/** A symbolic batch needs Resize-18, which takes the sizes of the resized axes alone. */
export const resize2d: Claim<Required<ResizeAttrs>> = {
  profiles: everywhere,
  since: (node) => (needsAxes(node) ? 18 : 13),
  emit: (at) => {
    const { size, mode, coordinates } = at.attrs;
    const symbolic = needsAxes(at.node);
    const lead = at.typeOf(0).shape.slice(0, 2) as readonly Dim[];
    const sizes = symbolic ? [...size] : [...(lead as number[]), ...size];
    return at.typed("Resize", [at.x(0), "", "", at.ints(sizes)], at.dtype(), {
      mode: mode === "bilinear" ? "linear" : "nearest",
      coordinate_transformation_mode: coordinateMode[coordinates],
      nearest_mode: coordinates === "halfPixel" ? "round_prefer_ceil" : "floor",
      ...(symbolic ? { axes: [2, 3] } : {}),
    });
  },
};

const needsAxes = (node: Node): boolean =>
  (node.operands[0]?.type.shape ?? []).slice(0, 2).some((dim) => typeof dim !== "number");
