import type { Node, Value } from "../../ir/graph.ts";
import type { AttentionAttrs } from "../../ir/ops/nn.ts";
import type { Profile } from "./profile.ts";

/** Why ONNX's attention operators cannot express a node; undefined where they can. */
export function attentionRefusal(node: Node, profile: Profile): string | undefined {
  const { left, right, causal, past, logSumExp } = node.attrs as unknown as Required<AttentionAttrs>;
  const { dtype } = (node.results[0] as Value).type;
  if (dtype !== "f32" && dtype !== "f16") return `attention operators have no kernel for ${dtype}`;
  if (logSumExp) return "attention operators do not give the log-sum-exp";
  if (left >= 0 || right >= 0) return "attention operators have no window";
  if (causal && past !== 0) return "attention operators count query positions from 0";
  const [queries, keys] = node.operands.slice(0, 2).map((v) => v.type.shape[2]);
  if (causal && queries !== keys && profile !== "standard")
    return "com.microsoft's operator counts the positions of fewer queries than keys from the end";
  if (profile === "ort-webgpu" && isTiled(node)) return "the provider's tiled kernel is wrong on some adapters";
  return undefined;
}

const fewestTiled = 32; // queries; fewer take kernels without subgroups

/**
 * Whether ONNX Runtime's WebGPU provider may run MultiHeadAttention in its tiled kernel: value heads as wide as query
 * heads, a multiple of 4, and at least 32 queries (flash_attention.cc, CanApplyFlashAttention; 1.30.0). That kernel goes
 * through the keys by the size of a subgroup, yet always takes 8 of them: with subgroups of 4, as SwiftShader has them,
 * half of the keys count twice. Measured: 31 queries exact, 32 off by 2e-2, at any head size that is a multiple of 4.
 */
function isTiled({ operands }: Node): boolean {
  const [query, , value] = operands.map((v) => v.type.shape);
  const [queries, width] = [query?.[2], query?.[3]];
  const fewer = typeof queries === "number" && queries < fewestTiled;
  return !fewer && value?.[3] === width && (typeof width !== "number" || width % 4 === 0);
}
