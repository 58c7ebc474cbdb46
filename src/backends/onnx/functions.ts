import { formatLoc, unknownLoc } from "../../ir/diagnostic.ts";
import { type Graph, isSource, type Node, usesOf, type Value } from "../../ir/graph.ts";
import { Body } from "./body.ts";
import type { Plan } from "./plan.ts";
import { functionDomain, type OnnxFunction } from "./proto.ts";

/** The nodes of one block of the model, in order. */
export interface Region {
  /** `blocks.3` */
  readonly scope: string;
  readonly nodes: readonly Node[];
}

/** What is emitted as a whole: a node of the main graph, or a block as a call. */
export type Unit = Node | Region;

/** The outermost scope whose name ends in a number: `blocks.3` of `blocks.3.attn.qkv`. */
function blockOf(scope: string): string | undefined {
  const parts = scope.split(".");
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  return at < 0 ? undefined : parts.slice(0, at + 1).join(".");
}

/**
 * The graph's nodes with each block made one unit, in an order that respects operands. A block some of whose nodes must
 * run after others outside it, which themselves need the block, stays in the main graph node by node.
 */
export function unitsOf(graph: Graph, plan: Plan, functions: boolean): readonly Unit[] {
  const placed = graph.nodes.filter((node) => !isSource(node) && !plan.repeatable(node));
  if (!functions) return placed;
  const byBlock = new Map<string, Node[]>();
  for (const node of placed) {
    const block = blockOf(node.scope);
    if (block === undefined) continue;
    const list = byBlock.get(block);
    if (list === undefined) byBlock.set(block, [node]);
    else list.push(node);
  }
  const unitOf = new Map<Node, Unit>();
  for (const [scope, nodes] of byBlock) {
    const region = { scope, nodes };
    if (nodes.length > 1 && isConvex(graph, plan, new Set(nodes))) for (const node of nodes) unitOf.set(node, region);
  }
  return inOrder(placed, unitOf, plan);
}

/** Whether no path leaves the set and comes back; what is written out where it is read belongs to its reader. */
function isConvex(graph: Graph, plan: Plan, members: ReadonlySet<Node>): boolean {
  const inside = new Set(members);
  const after = new Set<Node>(); // outside, and needs a member
  for (const node of graph.nodes) {
    const below = node.operands.map((v) => v.producer);
    const needsAfter = below.some((p) => after.has(p));
    if (members.has(node)) {
      if (needsAfter) return false;
    } else if (needsAfter) after.add(node);
    else if (below.some((p) => inside.has(p))) (plan.repeatable(node) ? inside : after).add(node);
  }
  return true;
}

/** Units by first node, each after all that it reads. */
function inOrder(placed: readonly Node[], regionOf: ReadonlyMap<Node, Unit>, plan: Plan): readonly Unit[] {
  const unit = (node: Node): Unit => regionOf.get(node) ?? node;
  const waiting = new Map<Unit, Set<Unit>>();
  const readers = new Map<Unit, Set<Unit>>();
  for (const node of placed) {
    const own = unit(node);
    const needs = waiting.get(own) ?? new Set();
    waiting.set(own, needs);
    for (const source of placedSources(node, plan)) {
      const other = unit(source);
      if (other === own) continue;
      needs.add(other);
      const list = readers.get(other) ?? new Set();
      readers.set(other, list.add(own));
    }
  }
  const rank = new Map([...waiting.keys()].map((u, i) => [u, i]));
  const ready = [...waiting].filter(([, needs]) => needs.size === 0).map(([u]) => u);
  const order: Unit[] = [];
  for (let next = ready.shift(); next !== undefined; next = ready.shift()) {
    order.push(next);
    for (const reader of readers.get(next) ?? []) {
      const needs = waiting.get(reader) as Set<Unit>;
      needs.delete(next);
      if (needs.size > 0) continue;
      const place = ready.findIndex((u) => (rank.get(u) as number) > (rank.get(reader) as number));
      ready.splice(place < 0 ? ready.length : place, 0, reader);
    }
  }
  return order;
}

/** The emitted nodes that a node reads, seen through those that are written out where they are read. */
function placedSources(node: Node, plan: Plan): readonly Node[] {
  const found: Node[] = [];
  const queue = node.operands.map((v) => v.producer);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (isSource(next)) continue;
    if (plan.repeatable(next)) queue.push(...next.operands.map((v) => v.producer));
    else found.push(next);
  }
  return found;
}

/** Emits blocks as functions; blocks that come out alike share one. */
export class FunctionTable {
  readonly functions: OnnxFunction[] = [];
  readonly #byBody = new Map<string, OnnxFunction>();
  readonly #plan: Plan;
  readonly #taken = new Set<string>();

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** Writes the call of a block into the main graph and defines the values that are read outside it. */
  call(main: Body, region: Region): void {
    const plan = this.#plan;
    const members = new Set(region.nodes);
    const body = new Body(plan, [], { members, scope: region.scope });
    for (const node of region.nodes) plan.emitNode(body, node);
    const exported = exportsOf(plan.graph, plan, region, members);
    const outputs = exported.map((value) => ownForm(plan, body, value));
    const results = new Set<string>(body.captures.map((c) => c.local));
    const distinct = outputs.map((name) => {
      const free = !results.has(name);
      results.add(name);
      return free ? name : body.within({ name: "", doc: "" }, () => body.node("Identity", [name])[0] as string);
    });
    const doc = plan.docStrings ? formatLoc(region.nodes[0]?.locs[0] ?? unknownLoc) : "";
    const shared = this.#share(region, body, distinct, doc);
    const inputs = body.captures.map(({ from }) => {
      if ("symbol" in from) return main.dim(from.symbol);
      if ("dims" in from) return main.dims(from.dims);
      return from.short ? main.short(from.value) : main.natural(from.value);
    });
    const made = main.within({ name: region.scope, doc }, () =>
      main.node(shared.name, inputs, {}, exported.length, functionDomain),
    );
    exported.forEach((value, i) => {
      if (plan.repeatedAxes(value).length > 0) main.defineShort(value, made[i] as string);
      else main.define(value, made[i] as string);
    });
  }

  #share(region: Region, body: Body, outputs: readonly string[], doc: string): OnnxFunction {
    const inputs = body.captures.map((c) => c.local);
    const text = JSON.stringify(
      [inputs, outputs, body.nodes.map((node) => ({ ...node, doc: "" }))],
      (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value),
    );
    const known = this.#byBody.get(text);
    if (known !== undefined) return known;
    const base = region.scope.split(".").slice(0, -1).join("_") || "block";
    let name = base;
    for (let i = 1; this.#taken.has(name); i++) name = `${base}_${i}`;
    this.#taken.add(name);
    const made: OnnxFunction = { name, inputs, outputs, nodes: body.nodes, doc };
    this.#byBody.set(text, made);
    this.functions.push(made);
    return made;
  }
}

const ownForm = (plan: Plan, body: Body, value: Value): string =>
  plan.repeatedAxes(value).length > 0 ? body.short(value) : body.natural(value);

/** Results of the block that something outside reads, be it by way of nodes that are written out where they are read. */
function exportsOf(graph: Graph, plan: Plan, region: Region, members: ReadonlySet<Node>): readonly Value[] {
  const uses = usesOf(graph);
  const outputs = new Set(graph.outputs.map((o) => o.value));
  const leaves = (value: Value): boolean => {
    const queue = [value];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      if (outputs.has(next)) return true;
      for (const { user } of uses.get(next) ?? []) {
        if (members.has(user)) continue;
        if (!plan.repeatable(user)) return true;
        queue.push(...user.results);
      }
    }
    return false;
  };
  return region.nodes.flatMap((node) => node.results.filter(leaves));
}
