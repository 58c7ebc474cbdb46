import type { PassReport } from "../index.ts";

/** `mergeTokens (approximate): 241 -> 265 nodes, 3.2 ms, 12 fired, 0 refused` */
export function headline(report: PassReport): string {
  const { name, contract, nodesBefore, nodesAfter, timeMs, fired, refused } = report;
  const size = report.changed ? `${nodesBefore} -> ${nodesAfter} nodes` : `unchanged, ${nodesAfter} nodes`;
  return `${name} (${contract}): ${size}, ${timeMs.toFixed(1)} ms, ${fired.length} fired, ${refused.length} refused`;
}
