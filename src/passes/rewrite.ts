import type { Builder } from "../ir/builder.ts";
import { InternalError, type Loc } from "../ir/diagnostic.ts";
import { type Graph, type Node, type Use, usesOf, type Value } from "../ir/graph.ts";
import { formatType } from "../ir/type.ts";
import type { Contract, Pass, PassContext } from "./pass.ts";
import { eachMatch, type Match, type Matched, type NodePattern } from "./patterns.ts";
import { rebuildGraph } from "./rebuild.ts";

export {
  any,
  type BindingsOf,
  constant,
  type Matched,
  type NodePattern,
  type Pattern,
  pat,
  patOf,
  rest,
  uniform,
} from "./patterns.ts";

/** Where a rule is tried: the graph that it matched in. */
export interface Site {
  readonly root: Node;
  readonly graph: Graph;
  readonly uses: ReadonlyMap<Value, readonly Use[]>;
  /** Read by exactly one operand, and no output of the graph. */
  usedOnce(value: Value): boolean;
}

interface RuleOf<B extends object> {
  /** Shown by --trace-rules; the pass's name if absent. */
  readonly name?: string;
  readonly match: NodePattern<B, never>;
  /** Why not, where the match must be declined. */
  readonly where?: (m: B, site: Site) => true | string;
  /** The new results of the root, of the old types, over the bound values. */
  readonly build: (b: Builder, m: B) => Value | readonly Value[];
}

/** A rule whose names were checked; made by `rule`. */
export interface Rule {
  readonly name?: string;
  readonly match: NodePattern;
  readonly where?: (m: never, site: Site) => true | string;
  readonly build: (b: Builder, m: never) => Value | readonly Value[];
}

/** Checks the names used in `where` and `build` against the pattern. */
export const rule = <B extends object, A>(
  declared: Omit<RuleOf<NoInfer<B>>, "match"> & { readonly match: NodePattern<B, A> },
): Rule => declared as unknown as Rule;

/** What `rewritePass` takes: a pass that is a list of rules. */
export interface RewritePassDeclaration {
  readonly name: string;
  readonly summary: string;
  readonly contract: Contract;
  readonly source?: string;
  readonly requires?: NonNullable<Pass["requires"]>;
  readonly preserves?: NonNullable<Pass["preserves"]>;
  readonly example: Pass["example"];
  /** Most specific first: the first rule that matches a node and does not decline it fires. */
  readonly rules: readonly Rule[];
  /** Sweeps after which the rules count as running for ever. */
  readonly sweeps?: number;
}

const standardSweeps = 100; // halving chains of 2^100 nodes; rules that move one step a sweep state their own

/**
 * A pass of local rules. Each sweep matches all rules on the graph as it stands and builds a new graph with every match
 * applied whose nodes no other match of the sweep replaced; sweeps repeat until nothing fires. Refusals are those of
 * the last sweep, so a rule that is declined and fires later counts as fired.
 */
export function rewritePass(declared: RewritePassDeclaration): Pass {
  const { rules, sweeps = standardSweeps, ...rest } = declared;
  const byOp = new Map<string, Rule[]>();
  for (const one of rules) byOp.set(one.match.op, [...(byOp.get(one.match.op) ?? []), one]);
  return {
    ...rest,
    run(graph, context) {
      let current = graph;
      for (let sweep = 0; ; sweep++) {
        const { plan, refusals } = planSweep(current, byOp, declared.name);
        if (plan.size === 0) {
          for (const { rule, node, reason } of refusals) context.refused(rule, node, reason);
          return current;
        }
        if (sweep === sweeps)
          throw new InternalError(
            `${declared.name}: still rewriting after ${sweeps} sweeps, rules ${[...new Set([...plan.values()].map((f) => f.name))].join(", ")}`,
          );
        current = applySweep(current, plan, declared.name, context);
      }
    },
  };
}

interface Planned {
  readonly name: string;
  readonly rule: Rule;
  readonly match: Match;
}
interface Refusal {
  readonly rule: string;
  readonly node: Node;
  readonly reason: string;
}

function planSweep(
  graph: Graph,
  byOp: ReadonlyMap<string, readonly Rule[]>,
  pass: string,
): { readonly plan: ReadonlyMap<Node, Planned>; readonly refusals: readonly Refusal[] } {
  const plan = new Map<Node, Planned>();
  const refusals: Refusal[] = [];
  const uses = usesOf(graph);
  const outputs = new Set(graph.outputs.map((o) => o.value));
  const usedOnce = (value: Value) => uses.get(value)?.length === 1 && !outputs.has(value);
  for (const root of graph.nodes)
    for (const one of byOp.get(root.op) ?? []) {
      const name = one.name ?? pass;
      const site: Site = { root, graph, uses, usedOnce };
      let declined: string | undefined;
      const fires = eachMatch(one.match, root, (match) => {
        if (match.nodes.some((node) => plan.has(node))) return false;
        const verdict = one.where?.(bindingsFor(match, (value) => value) as never, site) ?? true;
        if (verdict === true) plan.set(root, { name, rule: one, match });
        else declined ??= verdict;
        return verdict === true;
      });
      if (fires) break;
      if (declined !== undefined) refusals.push({ rule: name, node: root, reason: declined });
    }
  return { plan, refusals };
}

function applySweep(graph: Graph, plan: ReadonlyMap<Node, Planned>, pass: string, context: PassContext): Graph {
  return rebuildGraph(graph, context.registry, pass, (node, { b, of }) => {
    const planned = plan.get(node);
    if (planned === undefined) return undefined;
    const { name, match } = planned;
    context.fired(name, node);
    const made = b.at({ loc: { kind: "made", by: pass, from: placesOf(match.nodes, pass) } }, () =>
      planned.rule.build(b, bindingsFor(match, of) as never),
    );
    const results = Array.isArray(made) ? (made as readonly Value[]) : [made as Value];
    const [was, is] = [node.results, results].map((values) => values.map((v) => formatType(v.type)).join(", "));
    if (was !== is) throw new InternalError(`${pass}: rule ${name} makes ${is} of ${node.op}, which is ${was}`);
    return results;
  });
}

/** The names of a match, every value seen through `of`. */
function bindingsFor({ bindings }: Match, of: (value: Value) => Value): Readonly<Record<string, Bound>> {
  return Object.fromEntries(
    Object.entries(bindings).map(([name, bound]): [string, Bound] => {
      if ("producer" in bound) return [name, of(bound)];
      if (!("node" in bound)) return [name, bound.map(of)];
      const was = bound.node.results[bound.index] as Value;
      return [name, { value: of(was), type: was.type, attrs: bound.node.attrs }];
    }),
  );
}
type Bound = Value | readonly Value[] | Matched;

const mostPlaces = 16; // places kept of what a node was made from, so that long chains of rewrites stay linear

/** Where the matched nodes come from; what this pass itself made earlier stands for its own origins. */
function placesOf(nodes: readonly Node[], pass: string): readonly Loc[] {
  const places = nodes.flatMap(({ locs }) => {
    const loc = locs[0] as Loc;
    return loc.kind === "made" && loc.by === pass ? loc.from : [loc];
  });
  return [...new Set(places)].filter((loc) => loc.kind !== "unknown").slice(0, mostPlaces);
}
