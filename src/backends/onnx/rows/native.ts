import type { AttrsOf } from "../../../ir/ops/index.ts";
import type { Conv2dAttrs } from "../../../ir/ops/window.ts";
import type { Dim } from "../../../ir/type.ts";
import type { HeadsAttrs, nativeOps } from "../native.ts";
import { ortDomain } from "../profile.ts";
import { type Claim, everywhere } from "../row.ts";
import { reshaped } from "./shape.ts";
import { convolution } from "./window.ts";

const onnxRuntime = ["ort-cuda", "ort-webgpu"] as const;

/** Gemm takes matrices: tokens of all batches are laid end to end. */
const onnxLinear: Claim = {
  profiles: everywhere,
  since: 13,
  emit: (at) => {
    const { shape } = at.typeOf(0);
    const { shape: out } = at.result();
    const more = at.node.operands.slice(1).map((_, i) => at.x(i + 1));
    if (shape.length === 2) return at.typed("Gemm", [at.x(0), ...more], at.dtype(), { transB: 1 });
    const rows = at.make("Reshape", [at.x(0), at.ints([-1, shape.at(-1) as number])]);
    const y = at.typed("Gemm", [rows, ...more], at.dtype(), { transB: 1 });
    return reshaped(at, y, ["rows of all batches", out.at(-1) as Dim], out);
  },
};

const onnxConv: Claim<Required<Conv2dAttrs>> = {
  profiles: everywhere,
  since: 11,
  emit: (at) => convolution(at, [at.x(0), at.x(1), at.x(2)]),
};

/** Inputs four and five, a bias of the projections and a padding mask, are left out. */
const onnxMultiHeadAttention: Claim<Required<HeadsAttrs>> = {
  profiles: onnxRuntime,
  since: 13,
  emit: (at) => {
    const bias = at.node.operands.length > 3 ? ["", "", at.x(3)] : [];
    const { heads, scale, causal } = at.attrs;
    const attrs = { num_heads: heads, scale: { float: scale }, ...(causal ? { unidirectional: 1 } : {}) };
    return at.make("MultiHeadAttention", [at.x(0), at.x(1), at.x(2), ...bias], attrs, ortDomain);
  },
};

const onnxSkipLayerNorm: Claim<{ readonly epsilon: number }> = {
  profiles: onnxRuntime,
  since: 13,
  emit: (at) => {
    const inputs = [0, 1, 2, 3].map((i) => at.x(i));
    const attrs = { epsilon: { float: at.attrs.epsilon } };
    const results = at.body.node("SkipLayerNormalization", inputs, attrs, 4, ortDomain);
    return [results[0], results[3]];
  },
};

const onnxBiasGelu: Claim = {
  profiles: onnxRuntime,
  since: 13,
  emit: (at) => at.make("BiasGelu", [at.x(0), at.x(1)], {}, ortDomain),
};

const onnxFusedMatmul: Claim = {
  profiles: ["ort-cuda"],
  since: 13,
  emit: (at) => at.make("FusedMatMul", [at.x(0), at.x(1)], { transB: 1 }, ortDomain),
};

export const nativeRows = {
  onnxLinear,
  onnxConv,
  onnxMultiHeadAttention,
  onnxSkipLayerNorm,
  onnxBiasGelu,
  onnxFusedMatmul,
} satisfies { readonly [K in keyof typeof nativeOps]: Claim<AttrsOf<(typeof nativeOps)[K]>> };
