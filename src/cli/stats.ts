import {
  type Cost,
  costOf,
  type Dim,
  evaluateDim,
  type Graph,
  isSource,
  sourceName,
  symbolsOf,
  type Value,
  type Work,
} from "../index.ts";
import { registry } from "./registry.ts";
import { count, out, scaled, table } from "./terminal.ts";

/** The cost of a graph with every symbol a size: those given, 1 for the others. */
export function graphCost(graph: Graph, sizes: ReadonlyMap<string, number>): Cost {
  const symbols = new Map<string, Dim>(
    graph.nodes
      .flatMap((node) => node.results.flatMap((value) => value.type.shape.flatMap(symbolsOf)))
      .map((s) => [s, 1]),
  );
  for (const [symbol, size] of sizes) symbols.set(symbol, size);
  return costOf(graph, { symbols, registry });
}

interface ScopeRow {
  nodes: number;
  macs: number;
  elementOps: number;
  parameters: number;
}

const scopeDepth = 2; // parts of a scope that a row is named after: `blocks.3`

/** A table by scope, then the totals, beside those of the graph before where passes changed it. */
export function statsText(source: Graph, graph: Graph, sizes: ReadonlyMap<string, number>): string {
  const cost = graphCost(graph, sizes);
  const rows = [...scopeRows(graph, cost)].map(([scope, row]) => [
    scope === "" ? "(no scope)" : scope,
    ...[row.nodes, row.macs, row.elementOps, row.parameters].map(count),
  ]);
  const byScope = table(["scope", "nodes", "MACs", "other operations", "parameters"], rows);
  const totals = totalRows(graph, cost);
  const before = source === graph ? undefined : totalRows(source, graphCost(source, sizes));
  const total = table(
    before === undefined ? ["total", ""] : ["total", "before", "after"],
    totals.map(([name, value], i) => [name, ...(before === undefined ? [] : [before[i]?.[1] ?? ""]), value]),
  );
  return `${byScope}\n\n${total}\n${out.dim(boundNote(graph, sizes))}`;
}

const totalRows = (graph: Graph, cost: Cost): readonly (readonly [string, string])[] => [
  ["nodes", count(graph.nodes.filter((node) => !isSource(node)).length)],
  ["MACs", scaled(cost.macs)],
  ["other operations", scaled(cost.elementOps)],
  ["parameters", count(cost.parameterCount)],
  ["parameter bytes", scaled(cost.parameterBytes, "B")],
  ["activation bytes", scaled(cost.activationBytes, "B")],
];

function scopeRows(graph: Graph, cost: Cost): ReadonlyMap<string, ScopeRow> {
  const rows = new Map<string, ScopeRow>();
  const row = (scope: string): ScopeRow => {
    const key = scope.split(".").slice(0, scopeDepth).join(".");
    const known = rows.get(key);
    if (known !== undefined) return known;
    const made = { nodes: 0, macs: 0, elementOps: 0, parameters: 0 };
    rows.set(key, made);
    return made;
  };
  for (const node of graph.nodes) {
    if (node.op === "parameter")
      row(sourceName(node).split(".").slice(0, -1).join(".")).parameters += sizeOf(node.results[0] as Value);
    else if (!isSource(node)) row(node.scope).nodes++;
  }
  for (const [scope, work] of cost.byScope) {
    const { macs, elementOps } = work as { readonly [K in keyof Work]: number };
    row(scope).macs += macs;
    row(scope).elementOps += elementOps;
  }
  return rows;
}

const sizeOf = ({ type }: Value): number =>
  type.shape.reduce<number>((size, dim) => size * evaluateDim(dim, new Map(symbolsOf(dim).map((s) => [s, 1]))), 1);

function boundNote(graph: Graph, sizes: ReadonlyMap<string, number>): string {
  const symbols = [...new Set(graph.inputs.flatMap((value) => value.type.shape.flatMap(symbolsOf)))];
  return symbols.length === 0 ? "" : `at ${symbols.map((s) => `${s} = ${sizes.get(s) ?? 1}`).join(", ")}`;
}
