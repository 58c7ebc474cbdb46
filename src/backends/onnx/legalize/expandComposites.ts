import { InternalError } from "../../../ir/diagnostic.ts";
import type { Node, Value } from "../../../ir/graph.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rebuildGraph } from "../../../passes/rebuild.ts";
import { rowOf } from "../opset.ts";
import type { Profile } from "../profile.ts";

const mostRounds = 16; // composites of composites; deeper means that one expands into itself

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
    example: {
      before: `
graph @activation(%x: f32[4]) {
  %0 = silu(%x) : f32[4]
  return y: %0
}`,
      after: `
graph @activation(%x: f32[4]) {
  %0 = sigmoid(%x) : f32[4]
  %1 = mul(%x, %0) : f32[4]
  return y: %1
}`,
    },
    run(graph, context) {
      let current = graph;
      const expands = (node: Node): boolean =>
        context.registry.get(node.op)?.kind === "composite" && (also.has(node.op) || !claimed(node, profile));
      for (let round = 0; round < mostRounds; round++) {
        if (!current.nodes.some(expands)) return current;
        current = rebuildGraph(current, context.registry, "expandComposites", (node, { b, of }) => {
          const op = context.registry.get(node.op);
          if (op?.kind !== "composite" || !expands(node)) return undefined;
          context.fired(node.op, node);
          const made = op.decompose(b, node.operands.map(of), node.attrs) as Value | readonly Value[];
          return Array.isArray(made) ? (made as readonly Value[]) : [made as Value];
        });
      }
      throw new InternalError("expandComposites: a composite expands into itself");
    },
  };
}
