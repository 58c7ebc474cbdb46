// Composites private to this backend: what ONNX has one operator for and the op table has not. Their decompositions are
// their meaning, so that a legalized graph can be verified, printed and evaluated like any other.
import type { Builder } from "../../ir/builder.ts";
import { OpError } from "../../ir/diagnostic.ts";
import { multiplyDims } from "../../ir/dim.ts";
import type { Value } from "../../ir/graph.ts";
import type { AnyOp, Composite } from "../../ir/op.ts";
import { ops } from "../../ir/ops/index.ts";
import type { Conv2dAttrs } from "../../ir/ops/window.ts";
import type { Dim, TensorType } from "../../ir/type.ts";

const along = (b: Builder, vector: Value, like: Value, axis: number): Value =>
  b.broadcast(vector, { shape: like.type.shape, axes: like.type.shape.map((_, a) => a).filter((a) => a !== axis) });

/** x [rows, in], weight [out, in], bias [out] -> [rows, out]. */
export const onnxLinear: Composite<readonly Value[]> = {
  kind: "composite",
  summary: "x times the transposed weight, plus bias",
  source: "ONNX Gemm-13",
  operands: ["x", "weight", "bias..."],
  attrs: {},
  infer: ([x, weight]) => {
    const { dtype, shape } = x as TensorType;
    const [out, inner] = (weight as TensorType).shape as readonly [Dim, Dim];
    if (shape.at(-1) !== inner)
      throw new OpError("shape-mismatch", `x has ${shape.at(-1)} channels but the weight takes ${inner}`);
    return [{ dtype, shape: [...shape.slice(0, -1), out] }];
  },
  decompose: (b, [x, weight, bias]) => {
    const product = b.matmul(x as Value, b.transpose(weight as Value, { perm: [1, 0] }));
    return bias === undefined ? product : b.add(product, along(b, bias, product, product.type.shape.length - 1));
  },
};

/** Conv with its bias [out]. */
export const onnxConv: Composite<[x: Value, weight: Value, bias: Value], Conv2dAttrs> = {
  kind: "composite",
  summary: "convolution and bias",
  source: "ONNX Conv-11",
  operands: ["x", "weight", "bias"],
  attrs: ops.conv2d.attrs,
  infer: ([x, weight], attrs) => ops.conv2d.infer([x as TensorType, weight as TensorType], attrs),
  decompose: (b, [x, weight, bias], attrs) => {
    const y = b.conv2d(x, weight, attrs);
    return b.add(y, along(b, bias, y, 1));
  },
};

export interface HeadsAttrs {
  heads: number;
  scale: number;
  causal?: boolean;
}

/**
 * query: [batch, queries, heads * channels], key: [batch, keys, heads * channels], value: [batch, keys, heads * value
 * channels], bias: [1 or batch, 1 or heads, queries, keys] -> [batch, queries, heads * value channels].
 */
export const onnxMultiHeadAttention: Composite<readonly Value[], HeadsAttrs> = {
  kind: "composite",
  summary: "attention on tokens whose heads lie side by side",
  source: "com.microsoft MultiHeadAttention-1",
  operands: ["query", "key", "value", "bias..."],
  attrs: { heads: { kind: "int" }, scale: { kind: "number" }, causal: { kind: "boolean", default: false } },
  infer: ([query, , value]) => {
    const { dtype, shape } = query as TensorType;
    return [{ dtype, shape: [...shape.slice(0, 2), (value as TensorType).shape[2] as Dim] }];
  },
  decompose: (b, [query, key, value, bias], { heads, ...attrs }) => {
    const apart = (x: Value): Value => {
      const [batch, tokens, width] = x.type.shape as readonly [Dim, Dim, number];
      const shape = [batch, tokens, heads, width / heads];
      return b.transpose(b.reshape(x, { shape }), { perm: [0, 2, 1, 3] });
    };
    const parts = [query as Value, key as Value, value as Value].map(apart);
    const extras = bias === undefined ? [] : (["bias"] as const);
    const [out] = b.attention(bias === undefined ? parts : [...parts, bias], { ...attrs, extras });
    const [batch, , tokens, width] = out.type.shape as readonly [Dim, Dim, Dim, Dim];
    const side = b.transpose(out, { perm: [0, 2, 1, 3] });
    return b.reshape(side, { shape: [batch, tokens, multiplyDims(width, heads)] });
  },
};

/** layerNorm(x + skip), and x + skip itself. */
export const onnxSkipLayerNorm: Composite<
  [x: Value, skip: Value, gain: Value, bias: Value],
  { epsilon: number },
  readonly [normed: Value, sum: Value]
> = {
  kind: "composite",
  summary: "residual sum and its layer norm",
  source: "com.microsoft SkipLayerNormalization-1",
  operands: ["x", "skip", "gain", "bias"],
  attrs: { epsilon: { kind: "number" } },
  infer: ([x]) => [x as TensorType, x as TensorType],
  decompose: (b, [x, skip, gain, bias], attrs) => {
    const sum = b.add(x, skip);
    return [b.layerNorm(sum, gain, bias, attrs), sum];
  },
};

export const onnxBiasGelu: Composite<[x: Value, bias: Value]> = {
  kind: "composite",
  summary: "gelu of x plus a bias over the last axis",
  source: "com.microsoft BiasGelu-1",
  operands: ["x", "bias"],
  attrs: {},
  infer: ([x]) => [x as TensorType],
  decompose: (b, [x, bias]) => b.gelu(b.add(x, along(b, bias, x, x.type.shape.length - 1))),
};

/** lhs times rhs with its last two axes exchanged. */
export const onnxFusedMatmul: Composite<[lhs: Value, rhs: Value]> = {
  kind: "composite",
  summary: "matrix product with the transposed right side",
  source: "com.microsoft FusedMatMul-1",
  operands: ["lhs", "rhs"],
  attrs: {},
  infer: ([lhs, rhs]) => {
    const { dtype, shape } = lhs as TensorType;
    return [{ dtype, shape: [...shape.slice(0, -1), (rhs as TensorType).shape.at(-2) as Dim] }];
  },
  decompose: (b, [lhs, rhs]) => {
    const rank = rhs.type.shape.length;
    const perm = [...rhs.type.shape.keys()];
    return b.matmul(lhs, b.transpose(rhs, { perm: [...perm.slice(0, -2), rank - 1, rank - 2] }));
  },
};

/** Composites for operators that ONNX has and the op table has not; a legalized graph is made of both. */
export const nativeOps = {
  onnxLinear,
  onnxConv,
  onnxMultiHeadAttention,
  onnxSkipLayerNorm,
  onnxBiasGelu,
  onnxFusedMatmul,
} satisfies Readonly<Record<string, AnyOp>>;
