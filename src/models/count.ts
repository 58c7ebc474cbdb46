import type { Graph } from "../ir/graph.ts";

/** Elements of all parameters; NaN where one has a symbol in its shape. Shared parameters count once. */
export function countParameters(graph: Graph): number {
  let total = 0;
  for (const { op, results } of graph.nodes) {
    if (op !== "parameter") continue;
    for (const { type } of results)
      total += type.shape.reduce<number>((product, dim) => product * (typeof dim === "number" ? dim : Number.NaN), 1);
  }
  return total;
}
