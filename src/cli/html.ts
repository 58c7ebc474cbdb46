import { type Graph, type Node, printGraph, printNode, valueNames } from "../index.ts";
import { type DiffLine, diffGraphs } from "./diff.ts";
import { headline } from "./headline.ts";
import type { Prepared } from "./prepare.ts";
import { registry } from "./registry.ts";
import { statsText } from "./stats.ts";

/** A self-contained page: totals, the graph by scope, what each pass changed, the IR text. */
export function htmlPage({ loaded, model, source, reports }: Prepared, sizes: ReadonlyMap<string, number>): string {
  const { graph } = model;
  const passes = reports.map((report) => {
    const refusals = report.refused.map(({ rule, refused }) => `refused ${rule}: ${refused}`);
    const body = `${pre(refusals.join("\n"))}${difference(report.before, report.after)}`;
    return details(escaped(headline(report)), body, false);
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(loaded.name)}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
pre { font: 13px/1.45 ui-monospace, monospace; overflow-x: auto; margin: 0.25rem 0; }
details { border-left: 2px solid #8884; padding-left: 0.75rem; margin: 0.2rem 0; }
summary { cursor: pointer; }
.op { font-weight: 600; } .count { color: #888; }
.added { background: #2a52; color: light-dark(#163, #7d9); } .removed { background: #d332; color: light-dark(#911, #f99); }
.scope { color: #888; }
</style>
<h1>${escaped(loaded.name)}</h1>
${pre(statsText(source, graph, sizes))}
<h2>Graph</h2>
${scopeTree(graph)}
${reports.length === 0 ? "" : `<h2>Passes</h2>\n${passes.join("\n")}`}
<h2>IR</h2>
${details("IR text", pre(printGraph(graph, { locations: true, registry })), false)}
</html>
`;
}

interface Branch {
  readonly children: Map<string, Branch>;
  readonly lines: string[];
  nodes: number;
}

/** Scopes as nested, folded lists, the outermost open. */
function scopeTree(graph: Graph): string {
  const root = newBranch();
  const names = valueNames(graph);
  for (const node of graph.nodes) {
    let branch = root;
    branch.nodes++;
    for (const part of node.scope === "" ? [] : node.scope.split(".")) {
      const next = branch.children.get(part) ?? newBranch();
      branch.children.set(part, next);
      branch = next;
      branch.nodes++;
    }
    branch.lines.push(nodeLine(node, names));
  }
  return branchHtml(root);
}

const newBranch = (): Branch => ({ children: new Map(), lines: [], nodes: 0 });

/** Depth is that of the scope names, a handful. */
function branchHtml({ children, lines }: Branch): string {
  const inner = [...children].map(([name, child]) =>
    details(`${escaped(name)} <span class="count">${child.nodes} nodes</span>`, branchHtml(child), false),
  );
  return `${inner.join("\n")}${lines.length === 0 ? "" : `<pre>${lines.join("\n")}</pre>`}`;
}

function nodeLine(node: Node, names: Parameters<typeof printNode>[1]): string {
  const large = node.data !== undefined && node.data.values.length > 64;
  const text = escaped(printNode(node, names, { scopes: false, registry }, large ? "large" : undefined));
  return text.replace(` ${node.op}(`, ` <span class="op">${escaped(node.op)}</span>(`);
}

function difference(before: Graph, after: Graph): string {
  const mark = { same: "  ", added: "+ ", removed: "- " } as const;
  const line = ({ kind, text }: DiffLine): string => `<span class="${kind}">${escaped(mark[kind] + text)}</span>`;
  const hunks = diffGraphs(before, after).map(
    ({ scope, lines }) =>
      `<span class="scope">${escaped(scope === "" ? "(no scope)" : scope)}</span>\n${lines.map(line).join("\n")}`,
  );
  return hunks.length === 0 ? "" : `<pre>${hunks.join("\n")}</pre>`;
}

const details = (summary: string, body: string, open: boolean): string =>
  `<details${open ? " open" : ""}><summary>${summary}</summary>${body}</details>`;
const pre = (text: string): string => (text === "" ? "" : `<pre>${escaped(text)}</pre>`);
const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
