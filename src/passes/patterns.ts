// Patterns over values: `pat.matmul([pat.mul([any("q"), any("scale")]), any("k")])`.
import type { Attrs, Node, Value } from "../ir/graph.ts";
import type { AnyOp, Form, Scalar } from "../ir/op.ts";
import { type AttrsOf, builtinOps, type OpName, type Ops } from "../ir/ops/index.ts";
import { type TensorData, type TensorType, toNumbers } from "../ir/type.ts";

/** What a value may look like; `B` says which names it binds and to what. */
export interface Pattern<B extends object = object> {
  readonly kind: "any" | "constant" | "uniform" | "rest" | "node";
  /** Never present: carries B. */
  readonly bound?: B;
}

/** A node that a pattern named with `as`. */
export interface Matched<A = Attrs> {
  /** The result that the pattern is about. In `build`, the root of the rule has none: it is what is being made. */
  readonly value: Value;
  readonly type: TensorType;
  readonly attrs: A;
}

/** The names that a pattern binds. */
export type BindingsOf<P> = P extends { readonly bound?: infer B extends object } ? B : never;

/** A pattern of one op over patterns of its operands. */
export interface NodePattern<B extends object = object, A = Attrs> extends Pattern<B> {
  readonly kind: "node";
  readonly op: string;
  readonly operands: readonly Pattern[];
  readonly name: string | undefined;
  readonly accepts: ((attrs: A, node: Node) => boolean) | undefined;
  readonly index: number;
  /** Only with such attributes (or types, as the node shows them); a rule's own `where` says why it declines. */
  where(accepts: (attrs: A, node: Node) => boolean): NodePattern<B, A>;
  /** Binds the node. */
  as<const N extends string>(name: N): NodePattern<Flat<B & { readonly [K in N]: Matched<A> }>, A>;
  /** The n-th result of an op with several (below the root of a rule, where all results are replaced). */
  result(index: number): NodePattern<B, A>;
}

type Flat<B> = { readonly [K in keyof B]: B[K] };
type Intersect<U> = (U extends unknown ? (u: U) => void : never) extends (u: infer I) => void ? I : never;
type AllBindings<P extends readonly Pattern[]> = P["length"] extends 0
  ? object
  : Flat<Intersect<BindingsOf<P[number]>>>;
type OperandsOf<T> = T extends { readonly signature?: (operands: infer O, attrs: never) => unknown } ? O : never;
type OperandPatterns<O> = O extends readonly unknown[]
  ? number extends O["length"]
    ? readonly Pattern[]
    : { readonly [I in keyof O]: Pattern }
  : never;

/** Any value; the same name twice wants the same value twice. */
export const any = <const N extends string>(name: N): Pattern<{ readonly [K in N]: Value }> => named("any", name);

/** The value of a constant node. */
export const constant = <const N extends string>(name: N): Pattern<{ readonly [K in N]: Value }> =>
  named("constant", name);

/** All operands that are left; the last operand pattern of an op that takes any number. */
export const rest = <const N extends string>(name: N): Pattern<{ readonly [K in N]: readonly Value[] }> =>
  named("rest", name);

interface Named<K = "any" | "constant" | "rest"> {
  readonly kind: K;
  readonly name: string;
}
const named = <B extends object>(kind: Named["kind"], name: string): Pattern<B> =>
  ({ kind, name }) as Pattern as Pattern<B>;

interface Uniform {
  readonly kind: "uniform";
  readonly number: number;
}

/** A constant, or a view of one, that is this number in every place (0 and -0 are the same). */
export const uniform = (number: number): Pattern => ({ kind: "uniform", number }) as Uniform;

/** One constructor per op: operand patterns in order. Operands of commutative ops match in both orders. */
export const pat = Object.fromEntries(
  [...builtinOps.keys()].map((name) => [name, (operands: readonly Pattern[] = []) => nodePattern(name, operands)]),
) as unknown as {
  readonly [K in OpName]: <const P extends OperandPatterns<OperandsOf<Ops[K]>>>(
    operands: P,
  ) => NodePattern<AllBindings<P & readonly Pattern[]>, AttrsOf<Ops[K]>>;
};

/** A pattern of an op from outside the table. */
export const patOf = <const P extends readonly Pattern[]>(op: string, operands: P): NodePattern<AllBindings<P>> =>
  nodePattern(op, operands) as NodePattern<AllBindings<P>>;

function nodePattern(
  op: string,
  operands: readonly Pattern[],
  more: Partial<Pick<NodePattern, "name" | "accepts" | "index">> = {},
): NodePattern {
  const { name, accepts, index = 0 } = more;
  const make = (changed: typeof more) => nodePattern(op, operands, { name, accepts, index, ...changed });
  return {
    kind: "node",
    op,
    operands,
    name,
    accepts,
    index,
    where: (test) =>
      make({ accepts: accepts === undefined ? test : (attrs, node) => accepts(attrs, node) && test(attrs, node) }),
    as: ((as: string) => make({ name: as })) as NodePattern["as"],
    result: (index) => make({ index }),
  };
}

/** What a name stands for: a value, the rest of an operand list, or a result of a node named with `as`. */
export type Binding = Value | readonly Value[] | { readonly node: Node; readonly index: number };

/** One way to match: what each name is bound to, and the nodes that node patterns matched, root first. */
export interface Match {
  readonly bindings: Readonly<Record<string, Binding>>;
  readonly nodes: readonly Node[];
}

/** Calls `visit` with each way in which `pattern` matches the node until it returns true; whether it did. */
export function eachMatch(pattern: NodePattern, node: Node, visit: (match: Match) => boolean): boolean {
  const start: Goals = { pattern, to: node.results[0] as Value, next: undefined };
  return solve(start, undefined, undefined, (bound, nodes) => {
    const bindings: Record<string, Binding> = {};
    for (let at = bound; at !== undefined; at = at.next) bindings[at.name] = at.to;
    const list: Node[] = [];
    for (let at = nodes; at !== undefined; at = at.next) list.unshift(at.node);
    return visit({ bindings, nodes: list });
  });
}

/** What is left to match, as a list: a value against its pattern, or the operands that are left. */
interface Goals {
  readonly pattern: Pattern;
  readonly to: Value | readonly Value[];
  readonly next: Goals | undefined;
}
interface Bound {
  readonly name: string;
  readonly to: Binding;
  readonly next: Bound | undefined;
}
interface Visited {
  readonly node: Node;
  readonly next: Visited | undefined;
}
type Done = (bound: Bound | undefined, nodes: Visited | undefined) => boolean;

/** Recursion is as deep as the pattern has parts, whatever the graph. */
function solve(goals: Goals | undefined, bound: Bound | undefined, nodes: Visited | undefined, done: Done): boolean {
  if (goals === undefined) return done(bound, nodes);
  const { next } = goals;
  const bind = (name: string | undefined, to: Binding, then: Goals | undefined, visited = nodes): boolean => {
    if (name === undefined) return solve(then, bound, visited, done);
    for (let at = bound; at !== undefined; at = at.next)
      if (at.name === name) return sameBinding(at.to, to) && solve(then, bound, visited, done);
    return solve(then, { name, to, next: bound }, visited, done);
  };
  const pattern = goals.pattern as Named<"any"> | Named<"constant"> | Named<"rest"> | Uniform | NodePattern;
  if (pattern.kind === "rest") return bind(pattern.name, goals.to, next);
  const value = goals.to as Value;
  switch (pattern.kind) {
    case "any":
      return bind(pattern.name, value, next);
    case "constant":
      return value.producer.op === "constant" && bind(pattern.name, value, next);
    case "uniform":
      return uniformNumber(value) === pattern.number && solve(next, bound, nodes, done);
    case "node": {
      const node = value.producer;
      if (node.op !== pattern.op || (nodes !== undefined && value.index !== pattern.index)) return false;
      if (pattern.accepts?.(node.attrs, node) === false) return false;
      const visited = { node, next: nodes };
      for (const operands of orders(node)) {
        const then = operandGoals(pattern.operands, operands, next);
        if (then !== false && bind(pattern.name, { node, index: value.index }, then, visited)) return true;
      }
      return false;
    }
    default:
      return pattern satisfies never;
  }
}

function sameBinding(a: Binding, b: Binding): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function operandGoals(
  patterns: readonly Pattern[],
  operands: readonly Value[],
  next: Goals | undefined,
): Goals | undefined | false {
  const open = patterns.at(-1)?.kind === "rest";
  const fixed = open ? patterns.length - 1 : patterns.length;
  if (open ? operands.length < fixed : operands.length !== fixed) return false;
  let goals = next;
  if (open) goals = { pattern: patterns[fixed] as Pattern, to: operands.slice(fixed), next: goals };
  for (let i = fixed - 1; i >= 0; i--)
    goals = { pattern: patterns[i] as Pattern, to: operands[i] as Value, next: goals };
  return goals;
}

function orders(node: Node): readonly (readonly Value[])[] {
  const [lhs, rhs, more] = node.operands;
  if (lhs === undefined || rhs === undefined || more !== undefined || lhs === rhs) return [node.operands];
  const op = builtinOps.get(node.op);
  return op !== undefined && commutes(op) ? [node.operands, [rhs, lhs]] : [node.operands];
}

const commuting = new WeakMap<AnyOp, boolean>();

/** Whether an elementwise op of two operands gives the same formula with its operands exchanged. */
export function commutes(op: AnyOp): boolean {
  const known = commuting.get(op);
  if (known !== undefined) return known;
  const form = op.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
  const formula = (xs: readonly string[]) =>
    form?.kind === "elementwise" ? form.scalar(formulaScalar, xs, {}, "f32") : "";
  const answer =
    form?.kind === "elementwise" && op.operands.length === 2 && formula(["a", "b"]) === formula(["b", "a"]);
  commuting.set(op, answer);
  return answer;
}

const commutativeArithmetic: ReadonlySet<string> = new Set<keyof Scalar<string>>([
  "add",
  "mul",
  "min",
  "max",
  "equal",
  "and",
  "or",
  "xor",
  "bitAnd",
  "bitOr",
  "bitXor",
]);

/** Arithmetic that writes its formula down, the operands of commutative operations in one order. */
const formulaScalar = new Proxy({} as Scalar<string>, {
  get:
    (_, name) =>
    (...xs: readonly unknown[]) =>
      `${String(name)}(${(commutativeArithmetic.has(String(name)) ? xs.toSorted() : xs).join()})`,
});

const uniformData = new WeakMap<TensorData, number | "mixed">();

/** The number that every element of a constant, or of views of one, equals; undefined where there is none. */
export function uniformNumber(value: Value): number | undefined {
  let at = value.producer;
  while (at.data === undefined) {
    const op = builtinOps.get(at.op);
    const form = op?.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
    if (form?.kind !== "view" || form.inside !== undefined) return undefined;
    at = (at.operands[0] as Value).producer;
  }
  const known = uniformData.get(at.data);
  if (known !== undefined) return known === "mixed" ? undefined : known;
  const numbers = toNumbers(at.data);
  const first = numbers[0];
  const found = first !== undefined && numbers.every((x) => Object.is(x, first)) ? first : "mixed";
  uniformData.set(at.data, found);
  return found === "mixed" ? undefined : found;
}
