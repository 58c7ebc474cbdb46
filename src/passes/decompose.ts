import { InternalError } from "../ir/diagnostic.ts";
import { expandComposite } from "../ir/expand.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { allTraits, type Pass, type PassContext } from "./pass.ts";
import { rebuildGraph } from "./rebuild.ts";

const mostRounds = 16; // composites of composites; deeper means that one expands into itself

/** Expands every composite that `keep` does not name, until none is left. */
export function decompose(keep: ReadonlySet<string> = new Set()): Pass {
  return {
    name: "decompose",
    summary: "composites written out as the ops that define them",
    contract: "reassociates",
    requires: [],
    preserves: allTraits.filter((trait) => trait !== "wholeAttention" || keep.has("attention")),
    example: expansionExample,
    run: (graph, context) => expandWhere(graph, context, "decompose", (node) => !keep.has(node.op)),
  };
}

/** What every pass that writes composites out does to one. */
export const expansionExample = {
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
} as const;

/** Writes out the composites that `expands` asks for, and those that come out of them, until none is left. */
export function expandWhere(
  graph: Graph,
  context: Pick<PassContext, "registry" | "fired">,
  by: string,
  expands: (node: Node) => boolean,
): Graph {
  const { registry } = context;
  const wanted = (node: Node): boolean => registry.get(node.op)?.kind === "composite" && expands(node);
  let current = graph;
  for (let round = 0; round < mostRounds; round++) {
    if (!current.nodes.some(wanted)) return current;
    current = rebuildGraph(current, registry, by, (node, { b, of }) => {
      const op = registry.get(node.op);
      if (op?.kind !== "composite" || !expands(node)) return undefined;
      context.fired(node.op, node);
      return expandComposite(b, node.op, op, node.operands.map(of), node.attrs);
    });
  }
  throw new InternalError(`${by}: a composite expands into itself`);
}
