import type { AttrsOf } from "../../../ir/ops/index.ts";
import type { Conv2dAttrs } from "../../../ir/ops/window.ts";
import type { HeadsAttrs, nativeOps } from "../native.ts";
import { ortDomain } from "../profile.ts";
import { type Claim, everywhere } from "../row.ts";
import { convolution } from "./window.ts";

const onnxRuntime = ["ort-cuda", "ort-webgpu"] as const;

const onnxLinear: Claim = {
  profiles: everywhere,
  since: 13,
  emit: (at) =>
    at.typed(
      "Gemm",
      at.node.operands.map((_, i) => at.x(i)),
      at.dtype(),
      { transB: 1 },
    ),
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
