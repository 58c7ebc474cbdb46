import { InternalError } from "../ir/diagnostic.ts";
import type { Graph, Value } from "../ir/graph.ts";
import type { Pass } from "./pass.ts";
import { rebuildGraph } from "./rebuild.ts";

const mostRounds = 16; // composites of composites; deeper means that one expands into itself

/** Expands every composite that `keep` does not name, until none is left. */
export function decompose(keep: ReadonlySet<string> = new Set()): Pass {
  return {
    name: "decompose",
    summary: "composites written out as the ops that define them",
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
      let current: Graph = graph;
      for (let round = 0; round < mostRounds; round++) {
        const expands = (op: string): boolean => context.registry.get(op)?.kind === "composite" && !keep.has(op);
        if (!current.nodes.some((node) => expands(node.op))) return current;
        current = rebuildGraph(current, context.registry, "decompose", (node, { b, of }) => {
          const op = context.registry.get(node.op);
          if (op?.kind !== "composite" || keep.has(node.op)) return undefined;
          context.fired(node.op, node);
          const made = op.decompose(b, node.operands.map(of), node.attrs) as Value | readonly Value[];
          return Array.isArray(made) ? (made as readonly Value[]) : [made as Value];
        });
      }
      throw new InternalError("decompose: a composite expands into itself");
    },
  };
}
