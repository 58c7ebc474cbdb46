import { type Builder, createBuilder } from "../ir/builder.ts";
import type { Loc } from "../ir/diagnostic.ts";
import { type Graph, isSource, type Node, type Output, sourceName, type Value } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";

export interface Rebuild {
  readonly b: Builder;
  /** The new value that stands for an old one. */
  of(value: Value): Value;
}

/**
 * Builds a new graph from an old one, node by node in order. `replace` gives the new results of a node, or undefined
 * to copy it over its new operands; `outputs` the new outputs where they are not the old ones. Nodes made inside `replace` carry the location "made by" the pass from the node.
 */
export function rebuildGraph(
  graph: Graph,
  registry: Registry,
  by: string,
  replace: (node: Node, rebuild: Rebuild) => readonly Value[] | undefined,
  outputs: (rebuild: Rebuild) => readonly Output[] = ({ of }) =>
    graph.outputs.map(({ name, value }) => ({ name, value: of(value) })),
): Graph {
  const b = createBuilder(registry);
  const map = new Map<Value, Value>();
  const rebuild: Rebuild = {
    b,
    of: (value) => map.get(value) as Value,
  };
  for (const node of graph.nodes) {
    const made = madeBy(by, [node]);
    const results = b.at({ loc: made, scope: node.scope }, () => replace(node, rebuild)) ?? copyNode(node, rebuild);
    node.results.forEach((value, i) => map.set(value, results[i] as Value));
  }
  return b.finish(graph.name, outputs(rebuild));
}

/** The location of nodes that a pass made from others. */
export const madeBy = (by: string, from: readonly Node[]): Loc => ({
  kind: "made",
  by,
  from: from.map((node) => node.locs[0] as Loc),
});

/** The same node over new operands, at its own place; attributes may be changed. */
export function copyNode(
  node: Node,
  { b, of }: Rebuild,
  attrs: Readonly<Record<string, unknown>> = node.attrs,
): readonly Value[] {
  const make = (): readonly Value[] => b.make(node.op, node.operands.map(of), attrs);
  return b.at({ loc: node.locs[0], scope: node.scope }, () => {
    const type = (node.results[0] as Value).type;
    if (!isSource(node)) {
      const results = make();
      for (const loc of node.locs.slice(1)) b.at({ loc }, make); // interned: the same node learns its other places
      return results;
    }
    if (node.data !== undefined) return [b.constant(node.data)];
    return [node.op === "input" ? b.input(sourceName(node), type) : b.parameter(sourceName(node), type)];
  });
}
