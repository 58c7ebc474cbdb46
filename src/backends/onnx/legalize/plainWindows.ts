import type { Builder } from "../../../ir/builder.ts";
import { multiplyDims } from "../../../ir/dim.ts";
import type { Node, Value } from "../../../ir/graph.ts";
import type { Conv2dAttrs } from "../../../ir/ops/window.ts";
import type { Dim } from "../../../ir/type.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rebuildGraph } from "../../../passes/rebuild.ts";

type Pair = readonly [number, number];

/** ONNX Conv has no base dilation, no batch groups and no negative padding: each is written out before it. */
export const plainWindows: Pass = {
  name: "plainWindows",
  summary: "convolutions that ONNX Conv cannot express as views, then a plain convolution",
  contract: "exact",
  example: {
    before: `
graph @cropped(%x: f32[1,2,5,5], %w: f32[3,2,2,2]) {
  %0 = conv2d(%x, %w) {padding=[[-1,0],[1,-2]]} : f32[1,3,3,3]
  return y: %0
}`,
    after: `
graph @cropped(%x: f32[1,2,5,5], %w: f32[3,2,2,2]) {
  %0 = pad(%x) {low=[0,0,-1,1], high=[0,0,0,-2]} : f32[1,2,4,4]
  %1 = conv2d(%0, %w) : f32[1,3,3,3]
  return y: %1
}`,
  },
  run(graph, context) {
    if (!graph.nodes.some((node) => node.op === "conv2d" && !isPlain(attrsOf(node)))) return graph;
    return rebuildGraph(graph, context.registry, "plainWindows", (node, { b, of }) => {
      if (node.op !== "conv2d" || isPlain(attrsOf(node))) return undefined;
      context.fired("plainWindows", node);
      const [x, weight] = node.operands.map(of) as [Value, Value];
      return [plainConvolution(b, x, weight, attrsOf(node))];
    });
  },
};

const attrsOf = (node: Node): Required<Conv2dAttrs> => node.attrs as unknown as Required<Conv2dAttrs>;

const isPlain = ({ baseDilation, batchGroups, padding }: Required<Conv2dAttrs>): boolean =>
  batchGroups === 1 && baseDilation.every((n) => n === 1) && padding.flat().every((n) => n >= 0);

function plainConvolution(b: Builder, given: Value, weight: Value, attrs: Required<Conv2dAttrs>): Value {
  let x = given;
  let { padding, groups } = attrs;
  const { batchGroups, baseDilation } = attrs;
  if (baseDilation.some((n) => n !== 1)) x = spreadOut(b, x, baseDilation as Pair);
  if (batchGroups > 1) {
    x = batchToChannels(b, x, batchGroups);
    groups = batchGroups;
  }
  if (padding.flat().some((n) => n < 0)) {
    const [[top, bottom], [left, right]] = padding as readonly [Pair, Pair];
    x = b.pad(x, { low: [0, 0, top, left], high: [0, 0, bottom, right] });
    padding = [
      [0, 0],
      [0, 0],
    ];
  }
  const { strides, dilations } = attrs;
  return b.conv2d(x, weight, { strides, dilations, padding, groups });
}

/** dilation - 1 zeros between neighbouring rows and columns. */
function spreadOut(b: Builder, x: Value, [rows, columns]: Pair): Value {
  const [batch, channels, height, width] = x.type.shape as readonly [Dim, Dim, Dim, Dim];
  const cells = b.reshape(x, { shape: [batch, channels, height, 1, width, 1] });
  const padded = b.pad(cells, { low: [0, 0, 0, 0, 0, 0], high: [0, 0, 0, rows - 1, 0, columns - 1] });
  const wide = b.reshape(padded, {
    shape: [batch, channels, multiplyDims(height, rows), multiplyDims(width, columns)],
  });
  return b.pad(wide, { low: [0, 0, 0, 0], high: [0, 0, 1 - rows, 1 - columns] });
}

/** [groups * batch, channels, ...] -> [batch, groups * channels, ...]: group g of the batch feeds outputs of group g. */
function batchToChannels(b: Builder, x: Value, groups: number): Value {
  const [all, channels, height, width] = x.type.shape as readonly [number, Dim, Dim, Dim];
  const batch = all / groups;
  const apart = b.reshape(x, { shape: [groups, batch, channels, height, width] });
  const swapped = b.transpose(apart, { perm: [1, 0, 2, 3, 4] });
  return b.reshape(swapped, { shape: [batch, multiplyDims(channels, groups), height, width] });
}
