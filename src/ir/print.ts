import { formatAttr, shownAttrs } from "./attrs.ts";
import type { Loc } from "./diagnostic.ts";
import { type Graph, type Node, sourceName, type Value } from "./graph.ts";
import type { Registry } from "./op.ts";
import { builtinOps } from "./ops/index.ts";
import { formatType, type TensorData, toNumbers } from "./type.ts";

/** What `printGraph` shows of a graph. */
export interface PrintOptions {
  readonly registry?: Registry;
  /** Append `loc(...)` to every node. */
  readonly locations?: boolean;
  /** Append `in scope` to every node; on by default. */
  readonly scopes?: boolean;
  /** Constants above this many elements print as `ref="c0"`; the reader gets them from `largeConstants`. */
  readonly inlineElements?: number;
}

export const defaultInlineElements = 64;

/** IR text of a graph. `parseGraph(printGraph(g))` is the same graph (large constants by reference). */
export function printGraph(graph: Graph, options: PrintOptions = {}): string {
  const names = valueNames(graph);
  const refs = new Map(largeConstants(graph, options.inlineElements).map(([ref, node]) => [node, ref]));
  const inputs = graph.inputs.map((v) => `${names.get(v)}: ${formatType(v.type)}${suffix(v.producer, options)}`);
  const lines = [`graph @${word(graph.name)}(${inputs.join(", ")}) {`];
  for (const node of graph.nodes)
    if (node.op !== "input") lines.push(`  ${printNode(node, names, options, refs.get(node))}`);
  const outputs = graph.outputs.map(({ name, value }) => `${word(name)}: ${names.get(value)}`);
  lines.push(`  return ${outputs.join(", ")}`, "}");
  return `${lines.join("\n")}\n`;
}

/** Reference name and node of each constant too large to print, in order. */
export function largeConstants(graph: Graph, inlineElements = defaultInlineElements): [string, Node][] {
  return graph.nodes
    .filter((node) => node.data !== undefined && node.data.values.length > inlineElements)
    .map((node, i) => [`c${i}`, node]);
}

/** The printed name of every value: `%image`, `%blocks.0.attn.qkv.weight`, `%12`. */
export function valueNames(graph: Graph): ReadonlyMap<Value, string> {
  const names = new Map<Value, string>();
  let count = 0;
  for (const node of graph.nodes)
    for (const value of node.results)
      names.set(value, node.op === "input" || node.op === "parameter" ? `%${word(sourceName(node))}` : `%${count++}`);
  return names;
}

/** One node as its line of IR text, its values named by `valueNames`. */
export function printNode(
  node: Node,
  names: ReadonlyMap<Value, string>,
  options: PrintOptions = {},
  constantRef?: string,
): string {
  const results = node.results.map((v) => names.get(v)).join(", ");
  const operands = node.operands.map((v) => names.get(v) ?? "%?").join(", ");
  const types = node.results.map((v) => formatType(v.type)).join(", ");
  return `${results} = ${node.op}(${operands})${attrText(node, options, constantRef)} : ${types}${suffix(node, options)}`;
}

function attrText(node: Node, options: PrintOptions, constantRef: string | undefined): string {
  if (node.data !== undefined)
    return constantRef === undefined ? ` {data=${numbersText(node.data)}}` : ` {ref=${JSON.stringify(constantRef)}}`;
  if (node.op === "parameter") return "";
  const shown = shownAttrs((options.registry ?? builtinOps).get(node.op), node.attrs);
  return shown.length === 0 ? "" : ` {${shown.map(([key, value]) => `${key}=${formatAttr(value)}`).join(", ")}}`;
}

function numbersText(data: TensorData): string {
  if (data.values instanceof BigInt64Array) return `[${data.values.join(",")}]`;
  const numbers = [...toNumbers(data)];
  return formatAttr(data.values instanceof Float32Array ? numbers.map(shortest) : numbers);
}

/** The number of fewest digits that rounds to this f32; 9 digits always do. */
function shortest(x: number): number {
  if (!Number.isFinite(x) || Object.is(x, -0)) return x;
  for (let digits = 1; ; digits++) {
    const short = Number(x.toPrecision(digits));
    if (Math.fround(short) === x) return short;
  }
}

function suffix(node: Node, { locations = false, scopes = true }: PrintOptions): string {
  const scope = scopes && node.scope !== "" ? ` in ${word(node.scope)}` : "";
  const known = locations ? node.locs.filter((loc) => loc.kind !== "unknown") : [];
  return known.length === 0 ? scope : `${scope} loc(${known.map(locText).join(", ")})`;
}

function locText(loc: Loc): string {
  if (loc.kind === "file")
    return `${JSON.stringify(loc.file)}:${loc.line}:${loc.column}${loc.length === undefined ? "" : `+${loc.length}`}`;
  if (loc.kind === "made") return `made ${JSON.stringify(loc.by)} from [${loc.from.map(locText).join(", ")}]`;
  return "unknown";
}

/** A name as it stands, quoted where it begins with a digit or is more than letters, digits, dots, dashes, underscores. */
export const word = (name: string): string => (/^[A-Za-z_][\w.-]*$/.test(name) ? name : JSON.stringify(name));
