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
  return undefined;
}
