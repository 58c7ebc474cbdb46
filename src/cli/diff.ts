import {
  formatLoc,
  formatType,
  type Graph,
  type Node,
  printNode,
  sourceName,
  type TensorData,
  unknownLoc,
  type Value,
  valueNames,
} from "../index.ts";
import { editScript } from "./align.ts";
import { registry } from "./registry.ts";

/** One line of a difference between graphs. */
export interface DiffLine {
  readonly kind: "same" | "removed" | "added";
  readonly text: string;
  /** The author's line that the node comes from; empty where it is not known. */
  readonly at: string;
}

/** The changed lines of one scope with the lines around them. */
export interface Hunk {
  readonly scope: string;
  readonly lines: readonly DiffLine[];
}

const context = 2; // unchanged lines shown on either side

/**
 * What differs between two graphs, scope by scope. Nodes are paired by op, attributes and place in their scope, never by
 * their printed numbers: a pair has one name, so that a line counts as changed only if its op, its attributes, its types
 * or what it reads did. Names are those of the graph after; what is only in the graph before is called `%old0` and on.
 */
export function diffGraphs(before: Graph, after: Graph): readonly Hunk[] {
  const [was, is] = [byScope(before), byScope(after)];
  const scopes = [...new Set([...is.keys(), ...was.keys()])];
  const names = new Map<Value, string>(valueNames(after));
  let old = 0;
  const pairs = scopes.map((scope) => pairNodes(was.get(scope) ?? [], is.get(scope) ?? []));
  for (const pairing of pairs)
    for (const [node, partner] of pairing)
      node.results.forEach((value, i) => {
        const shared = partner === undefined ? undefined : names.get(partner.results[i] as Value);
        names.set(value, shared ?? (isNamed(node) ? `%${sourceName(node)}` : `%old${old++}`));
      });
  const line = (node: Node): string => lineOf(node, names);
  const hunks = scopes.flatMap((scope, at) => {
    const pairing = pairs[at] as Pairing;
    const partners = new Set(pairing.values());
    const [a, b] = [was.get(scope) ?? [], is.get(scope) ?? []];
    const lines = merged(
      a.map((node) => ({ text: line(node), at: placeOf(node), partner: pairing.get(node) })),
      b.map((node) => ({ text: line(node), at: placeOf(node), node, paired: partners.has(node) })),
    );
    return hunksOf(scope, lines);
  });
  const outputs = (graph: Graph): string[] =>
    graph.outputs.map(({ name, value }) => `return ${name}: ${names.get(value)}`);
  return [...hunks, ...hunksOf("outputs", lineDiff(outputs(before), outputs(after)))];
}

const placeOf = (node: Node): string => formatLoc(node.locs[0] ?? unknownLoc);

/** Unified text of a difference, with the author's lines where asked; empty where nothing differs. */
export const formatDiff = (hunks: readonly Hunk[], locations = false): string =>
  hunks
    .flatMap(({ scope, lines }) => [
      `@@ ${scope === "" ? "(no scope)" : scope} @@`,
      ...lines.map((line) => formatLine(line, locations)),
    ])
    .join("\n");

const marks = { same: " ", removed: "-", added: "+" } as const;
const formatLine = ({ kind, text, at }: DiffLine, locations: boolean): string =>
  `${marks[kind]} ${text}${locations && at !== "" ? `  // ${at}` : ""}`;

const isNamed = (node: Node): boolean => node.op === "input" || node.op === "parameter";

/** Nodes by scope, parameters by the scope that reads them. */
function byScope(graph: Graph): ReadonlyMap<string, readonly Node[]> {
  const scopes = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    const list = scopes.get(node.scope);
    if (list === undefined) scopes.set(node.scope, [node]);
    else list.push(node);
  }
  return scopes;
}

/** Each node of the graph before, with the one after that it corresponds to. */
type Pairing = ReadonlyMap<Node, Node | undefined>;

/** First by everything but operands, then, between those, by op alone: a type that changed downstream keeps its pair. */
function pairNodes(before: readonly Node[], after: readonly Node[]): Pairing {
  const pairing = new Map<Node, Node | undefined>(before.map((node) => [node, undefined]));
  const pairUp = (a: readonly Node[], b: readonly Node[], keyOf: (node: Node) => string): void => {
    for (const edit of editScript(a.map(keyOf), b.map(keyOf)))
      if (edit.kind === "same") pairing.set(a[edit.before] as Node, b[edit.after] as Node);
  };
  pairUp(before, after, exactKey);
  const taken = new Set(pairing.values());
  for (const [a, b] of gaps(before, after, pairing)) {
    const free = b.filter((node) => !taken.has(node));
    pairUp(a, free, (node) => (isNamed(node) ? exactKey(node) : node.op));
  }
  return pairing;
}

const unnamed: ReadonlyMap<Value, string> = new Map();
const exactKey = (node: Node): string =>
  isNamed(node) ? `${node.op} ${sourceName(node)}` : `${node.operands.length} ${lineOf(node, unnamed)}`;

const inlineElements = 64;
const contents = new WeakMap<TensorData, string>(); // large constants are told apart by identity
let contentsSeen = 0;

function lineOf(node: Node, names: ReadonlyMap<Value, string>): string {
  const { data } = node;
  if (node.op === "input") return `input %${sourceName(node)}: ${formatType((node.results[0] as Value).type)}`;
  if (data === undefined || data.values.length <= inlineElements)
    return printNode(node, names, { scopes: false, registry });
  const ref = contents.get(data) ?? `large${contentsSeen++}`;
  contents.set(data, ref);
  return printNode(node, names, { scopes: false, registry }, ref);
}

/** The runs of nodes on either side that lie between two pairs. */
function gaps(
  before: readonly Node[],
  after: readonly Node[],
  pairing: Pairing,
): readonly (readonly [readonly Node[], readonly Node[]])[] {
  const place = new Map(after.map((node, i) => [node, i]));
  const runs: (readonly [readonly Node[], readonly Node[]])[] = [];
  let [start, startAfter] = [0, 0];
  const close = (end: number, endAfter: number): void => {
    if (end > start && endAfter > startAfter) runs.push([before.slice(start, end), after.slice(startAfter, endAfter)]);
  };
  before.forEach((node, i) => {
    const partner = pairing.get(node);
    if (partner === undefined) return;
    const at = place.get(partner) as number;
    close(i, at);
    [start, startAfter] = [i + 1, at + 1];
  });
  close(before.length, after.length);
  return runs;
}

/** Lines of both sides in order; a pair with equal text is one line, any other pair is a removal and an addition. */
function merged(
  before: readonly (Placed & { readonly partner: Node | undefined })[],
  after: readonly (Placed & { readonly node: Node; readonly paired: boolean })[],
): readonly DiffLine[] {
  const lines: DiffLine[] = [];
  let at = 0;
  const added = (line: Placed | undefined): DiffLine => ({ kind: "added", text: line?.text ?? "", at: line?.at ?? "" });
  for (const { text, at: place, partner } of before) {
    if (partner === undefined) {
      lines.push({ kind: "removed", text, at: place });
      continue;
    }
    for (; at < after.length && after[at]?.node !== partner; at++) lines.push(added(after[at]));
    const now = after[at++];
    if (now?.text === text) lines.push({ kind: "same", text, at: now.at });
    else lines.push({ kind: "removed", text, at: place }, added(now));
  }
  for (; at < after.length; at++) lines.push(added(after[at]));
  return lines;
}

interface Placed {
  readonly text: string;
  readonly at: string;
}

const lineDiff = (before: readonly string[], after: readonly string[]): readonly DiffLine[] =>
  editScript(before, after).map((edit) => ({
    kind: edit.kind,
    text: (edit.kind === "removed" ? before[edit.before] : after[edit.after]) as string,
    at: "",
  }));

function hunksOf(scope: string, lines: readonly DiffLine[]): readonly Hunk[] {
  const near = new Set<number>();
  lines.forEach(({ kind }, i) => {
    if (kind !== "same") for (let j = i - context; j <= i + context; j++) near.add(j);
  });
  const hunks: Hunk[] = [];
  let run: DiffLine[] = [];
  lines.forEach((line, i) => {
    if (near.has(i)) run.push(line);
    else if (run.length > 0) {
      hunks.push({ scope, lines: run });
      run = [];
    }
  });
  if (run.length > 0) hunks.push({ scope, lines: run });
  return hunks;
}
