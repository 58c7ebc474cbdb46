import type { Node } from "../../../ir/graph.ts";
import { expandWhere, expansionExample } from "../../../passes/decompose.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rowOf } from "../opset.ts";
import type { Profile } from "../profile.ts";

/** Whether a profile has operators for this composite node as it stands. */
export function claimed(node: Node, profile: Profile): boolean {
  const row = rowOf(node.op);
  return row?.profiles?.includes(profile) === true && (row.claims?.(node, profile) ?? true);
}

/**
 * `decompose`, except for the nodes that the profile writes whole: which those are depends on their attributes too.
 * `also`: composites to write out though there is an operator.
 */
export function expandComposites(profile: Profile, also: ReadonlySet<string> = new Set()): Pass {
  return {
    name: "expandComposites",
    summary: "composites that the profile has no operator for written out",
    contract: "reassociates",
    example: expansionExample,
    run: (graph, context) =>
      expandWhere(graph, context, "expandComposites", (node) => also.has(node.op) || !claimed(node, profile)),
  };
}
