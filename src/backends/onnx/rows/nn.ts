import type { AttentionAttrs, NormAttrs } from "../../../ir/ops/nn.ts";
import type { Dim } from "../../../ir/type.ts";
import { attentionRefusal } from "../attentionLimits.ts";
import { ortDomain, type Profile } from "../profile.ts";
import { type Claim, everywhere } from "../row.ts";
import { reduced } from "./reduce.ts";

type Axis = { readonly axis: number };

export const softmax: Claim<Axis> = {
  profiles: everywhere,
  since: 13,
  emit: (at) => at.typed("Softmax", [at.x(0)], at.dtype(), { axis: at.attrs.axis }),
};

/** WebGPU has no LogSoftmax. */
export const logSoftmax: Claim<Axis> = {
  profiles: ["portable", "ort-cuda", "standard"],
  since: 13,
  emit: (at) => at.typed("LogSoftmax", [at.x(0)], at.dtype(), { axis: at.attrs.axis }),
};

/** Not LpNormalization, which answers 0 for a zero vector. */
export const l2Normalize: Claim<Axis> = {
  profiles: everywhere,
  since: 13,
  emit: (at) => at.make("Div", [at.x(0), reduced(at, "ReduceL2", at.x(0), [at.attrs.axis], true)]),
};

export const layerNorm: Claim<NormAttrs> = {
  profiles: everywhere,
  since: 17,
  emit: (at) =>
    at.typed("LayerNormalization", [at.x(0), at.x(1), at.x(2)], at.dtype(), {
      axis: -1,
      epsilon: { float: at.attrs.epsilon },
    }),
};

const knows23: readonly Profile[] = ["ort-cuda", "ort-webgpu", "standard"];

export const rmsNorm: Claim<NormAttrs> = {
  profiles: knows23,
  since: 23,
  emit: (at) =>
    at.typed("RMSNormalization", [at.x(0), at.x(1)], at.dtype(), { axis: -1, epsilon: { float: at.attrs.epsilon } }),
};

export const groupNorm: Claim<NormAttrs & { readonly groups: number }> = {
  profiles: ["standard"],
  since: 21,
  emit: (at) =>
    at.typed("GroupNormalization", [at.x(0), at.x(1), at.x(2)], at.dtype(), {
      num_groups: at.attrs.groups,
      epsilon: { float: at.attrs.epsilon },
    }),
};

export const batchNorm: Claim<NormAttrs> = {
  profiles: everywhere,
  since: 15,
  emit: (at) =>
    at.typed(
      "BatchNormalization",
      [0, 1, 2, 3, 4].map((i) => at.x(i)),
      at.dtype(),
      {
        epsilon: { float: at.attrs.epsilon },
      },
    ),
};

/** Spelt in the order of operations that ONNX Runtime's own fusion looks for, where Gelu is not an operator. */
export const gelu: Claim<{ readonly approximate: "none" | "tanh" }> = {
  profiles: everywhere,
  since: 13,
  // FastGelu takes no scalar.
  claims: ({ attrs, results }, profile) =>
    attrs["approximate"] === "none" ||
    profile === "standard" ||
    (profile !== "portable" && (results[0]?.type.shape.length ?? 0) > 0),
  emit: (at) => {
    const { approximate } = at.attrs;
    const { profile, opset } = at.plan;
    if (profile === "standard" && opset >= 20) return at.typed("Gelu", [at.x(0)], at.dtype(), { approximate });
    if (profile === "ort-cuda" || profile === "ort-webgpu")
      return at.make(approximate === "tanh" ? "FastGelu" : "Gelu", [at.x(0)], {}, ortDomain);
    const share = at.make("Erf", [at.make("Div", [at.x(0), at.scalar(Math.SQRT2)])]);
    const weighed = at.make("Mul", [at.x(0), at.make("Add", [share, at.scalar(1)])]);
    return at.make("Mul", [weighed, at.scalar(0.5)]);
  },
};

export const softplus: Claim = {
  profiles: everywhere,
  since: 13,
  emit: (at) => at.typed("Softplus", [at.x(0)], at.dtype()),
};

export const rotaryEmbedding: Claim<{ readonly interleaved: boolean }> = {
  profiles: knows23,
  since: 23,
  emit: (at) => {
    const [batch, , tokens, channels] = at.typeOf(0).shape as readonly [number, number, number, number];
    const half = at.typeOf(1).shape[1] as number;
    // Tables without position ids carry the batch: [batch, tokens, half].
    const wide = (i: number) =>
      at.body.once(`tables|${at.x(i)}|${batch}`, () =>
        at.make("Expand", [at.unsqueeze(at.x(i), [0]), at.body.dims([batch, tokens, half])]),
      );
    return at.typed("RotaryEmbedding", [at.x(0), wide(1), wide(2)], at.dtype(), {
      interleaved: at.attrs.interleaved ? 1 : 0,
      rotary_embedding_dim: 2 * half === channels ? 0 : 2 * half,
    });
  },
};

/** Attention-23; `fuseAttention` takes the others' place. Mask, bias and log-size go into its one mask operand, [1 or batch, 1 or heads, queries, keys]. */
export const attention: Claim<Required<AttentionAttrs>> = {
  profiles: knows23,
  since: 23,
  claims: (node, profile) => attentionRefusal(node, profile) === undefined,
  emit: (at) => {
    const { extras, scale, causal } = at.attrs;
    const dtype = at.dtype();
    let mask: string | undefined;
    let added: string | undefined;
    extras.forEach((extra, i) => {
      const x = at.x(3 + i);
      if (extra === "mask") mask = x;
      else {
        const term = extra === "logSize" ? at.unsqueeze(x, [1, 2]) : x;
        added = added === undefined ? term : at.make("Add", [added, term]);
      }
    });
    const hidden = at.scalar(dtype === "f16" ? -65504 : Number.NEGATIVE_INFINITY);
    const both = mask !== undefined && added !== undefined ? at.make("Where", [mask, added, hidden]) : (mask ?? added);
    // One row per query: a mask of a single row is not repeated.
    const onlySizes = extras.length === 1 && extras[0] === "logSize";
    const queries = at.typeOf(0).shape[2] as Dim;
    const whole = onlySizes ? at.make("Expand", [both as string, at.body.dims([1, 1, queries, 1])]) : both;
    return at.typed("Attention", [at.x(0), at.x(1), at.x(2), ...(whole === undefined ? [] : [whole])], dtype, {
      scale: { float: scale },
      ...(causal ? { is_causal: 1 } : {}),
    });
  },
};
