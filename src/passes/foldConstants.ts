import { type Builder, createBuilder } from "../ir/builder.ts";
import { CompileError } from "../ir/diagnostic.ts";
import { isStatic } from "../ir/dim.ts";
import { applyOp } from "../ir/evaluate/index.ts";
import {
  type Attr,
  type Attrs,
  type Graph,
  isSource,
  type Node,
  sourceName,
  type Value,
  type WeightSource,
} from "../ir/graph.ts";
import type { AttrSpec, Form, NumberTensor, Registry } from "../ir/op.ts";
import { bytesOf, elementsOf, formatType, type TensorType, toNumbers } from "../ir/type.ts";
import { foldedWeight } from "./foldedWeight.ts";
import { allTraits, type Pass, type PassContext } from "./pass.ts";
import { uniformNumber } from "./patterns.ts";
import { copyNode, rebuildGraph } from "./rebuild.ts";
import { rounded } from "./rounded.ts";

export interface FoldOptions {
  /** Fold views of constants and weights on their own too; backends read through them at no cost. Default false. */
  readonly views?: boolean;
}

/**
 * Computes ahead of time what depends on constants alone, and on weights where they are at hand: the largest such parts
 * that hold arithmetic. What depends on constants becomes a constant, evaluated in f64 and rounded once; what depends on
 * weights becomes a parameter `SCOPE.folded.HASH`, whose contents are computed when they are read. A result above 1 KiB
 * that takes more bytes than what it is made from stays as it is; one number repeated stays a broadcast.
 */
export function foldConstants({ views = false }: FoldOptions = {}): Pass {
  return {
    name: "foldConstants",
    summary: "arithmetic on constants and weights done ahead of time",
    contract: "exact",
    requires: [],
    preserves: allTraits,
    example: {
      before: `
graph @shift(%x: f32[2,3]) {
  %0 = constant() {data=[1,2,3]} : f32[3]
  %1 = constant() {data=[10,20,30]} : f32[3]
  %2 = mul(%0, %1) : f32[3]
  %3 = broadcast(%2) {shape=[2,3], axes=[0]} : f32[2,3]
  %4 = add(%x, %3) : f32[2,3]
  return y: %4
}`,
      after: `
graph @shift(%x: f32[2,3]) {
  %0 = constant() {data=[10,40,90]} : f32[3]
  %1 = broadcast(%0) {shape=[2,3], axes=[0]} : f32[2,3]
  %2 = add(%x, %1) : f32[2,3]
  return y: %2
}`,
    },
    run(graph, context) {
      const facts = factsOf(graph, context);
      const plan = planFolds(graph, facts, views, context);
      const constants = evaluateConstants(graph, plan, context);
      if (plan.size === 0) return graph;
      const weights = new WeightFolder(graph, plan, constants, context);
      return rebuildGraph(graph, context.registry, "foldConstants", (node, { b }) => {
        const fold = plan.get(node);
        if (fold === undefined) return undefined;
        context.fired(fold.rule, node);
        const { type } = node.results[0] as Value;
        if (fold.rule === "foldUniform") return [repeated(b, type, fold.number)];
        if (fold.rule === "foldWeights") return [b.parameter(weights.nameOf(node), type)];
        return (constants.get(node) as readonly NumberTensor[]).map((t) =>
          b.constant(rounded(t.dtype, t.shape, t.values)),
        );
      });
    },
  };
}

type Fold =
  | { readonly rule: "foldConstants" | "foldWeights" }
  /** One number in every place, whatever the shape. */
  | { readonly rule: "foldUniform"; readonly number: number };

interface Facts {
  /** Nodes that depend on constants alone, or on weights (and constants). */
  readonly known: ReadonlyMap<Node, "constant" | "weight">;
  readonly uniform: ReadonlyMap<Node, number>;
}

const smallResult = 1024; // bytes; a result of no more may be larger than its operands
const largestIntermediate = 16 * 2 ** 20; // bytes of a value inside an expression, unless an operand is larger

function factsOf(graph: Graph, { registry, weights, refused }: PassContext): Facts {
  const known = new Map<Node, "constant" | "weight">();
  const uniform = new Map<Node, number>();
  for (const node of graph.nodes) {
    const number = uniformOf(node, uniform, registry);
    if (number !== undefined) uniform.set(node, number);
    if (node.op === "constant") known.set(node, "constant");
    else if (node.op === "parameter") {
      const source = weights?.get(sourceName(node));
      const { type } = node.results[0] as Value;
      if (source === undefined || type.dtype === "i64") continue;
      if (formatType(source.type) === formatType(type)) known.set(node, "weight");
      else refused("foldWeights", node, `its contents are ${formatType(source.type)}`);
    } else if (isStaticNode(node, registry)) {
      const kinds = node.operands.map((value) => known.get(value.producer));
      if (kinds.includes(undefined) || isSource(node)) continue;
      const largest = Math.max(0, ...node.operands.map((value) => bytesOfValue(value)));
      if (node.results.some((value) => bytesOfValue(value) > Math.max(largestIntermediate, largest))) continue;
      if (!kinds.includes("weight")) known.set(node, "constant");
      else if (node.results.length === 1 && (node.results[0] as Value).type.dtype !== "i64") known.set(node, "weight");
    }
  }
  return { known, uniform };
}

/** The number in every place of a node's result, where it follows from the operands'. */
function uniformOf(node: Node, uniform: ReadonlyMap<Node, number>, registry: Registry): number | undefined {
  if (node.data !== undefined) return uniformNumber(node.results[0] as Value);
  const op = registry.get(node.op);
  const form = op?.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
  const numbers = node.operands.map((value) => uniform.get(value.producer));
  if (numbers.length === 0 || numbers.includes(undefined)) return undefined;
  if (form?.kind === "view") return form.inside === undefined ? numbers[0] : undefined;
  if (form?.kind !== "elementwise") return undefined;
  const scalars = numbers.map((number, i) => ({
    dtype: (node.operands[i] as Value).type.dtype,
    shape: [],
    values: Float64Array.of(number as number),
  }));
  return applyOp(node.op, registry, scalars, node.attrs)[0]?.values[0];
}

/** No symbol in its types or dimensions. */
function isStaticNode(node: Node, registry: Registry): boolean {
  const specs = (registry.get(node.op)?.attrs ?? {}) as Readonly<Record<string, AttrSpec>>;
  const symbolic = (attr: Attr | undefined): boolean =>
    Array.isArray(attr) ? attr.some(symbolic) : typeof attr === "string";
  const kinds = Object.entries(specs).filter(([, { kind }]) => kind === "dim" || kind === "dims");
  return (
    node.results.every(({ type }) => type.shape.every(isStatic)) && !kinds.some(([key]) => symbolic(node.attrs[key]))
  );
}

const bytesOfValue = ({ type }: Value): number => bytesOf(type.dtype, elementsOf(type.shape));

/** A view only moves elements: backends read through it. */
function isView(node: Node, registry: Registry): boolean {
  const op = registry.get(node.op);
  return op?.kind === "structured" && (op.form as Form<Attrs>).kind === "view";
}

/** What to fold, from the outputs up: below a node that is folded, only what others read is looked at. */
function planFolds(graph: Graph, { known, uniform }: Facts, views: boolean, context: PassContext): Map<Node, Fold> {
  const plan = new Map<Node, Fold>();
  const needed = new Set(graph.outputs.map(({ value }) => value.producer));
  for (const node of graph.nodes.toReversed()) {
    if (!needed.has(node) || isSource(node)) continue;
    const view = isView(node, context.registry);
    const number = uniform.get(node);
    const kind = known.get(node);
    if (number !== undefined && !view) plan.set(node, { rule: "foldUniform", number });
    else if (kind !== undefined && number === undefined && (!view || views)) {
      const rule = kind === "constant" ? "foldConstants" : "foldWeights";
      const growth = growthOf(node);
      if (growth === undefined) plan.set(node, { rule });
      else if (!view && node.operands.length > 0) context.refused(rule, node, growth);
    }
    if (!plan.has(node)) for (const operand of node.operands) needed.add(operand.producer);
  }
  return plan;
}

/** Why folding would take more bytes than it saves. */
function growthOf(node: Node): string | undefined {
  const bytes = node.results.reduce((sum, value) => sum + bytesOfValue(value), 0);
  if (bytes <= smallResult) return undefined;
  let leaves = 0;
  const seen = new Set<Node>([node]);
  const open = [node];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (isSource(next)) leaves += bytesOfValue(next.results[0] as Value);
    if (leaves >= bytes) return undefined;
    for (const { producer } of next.operands)
      if (!seen.has(producer)) {
        seen.add(producer);
        open.push(producer);
      }
  }
  return `the result would take ${bytes} bytes, what it is made from ${leaves}`;
}

/** Contents of the constants that are planned; a node that cannot be evaluated is refused and leaves the plan. */
function evaluateConstants(
  graph: Graph,
  plan: Map<Node, Fold>,
  context: PassContext,
): ReadonlyMap<Node, readonly NumberTensor[]> {
  const wanted = new Set([...plan].filter(([, { rule }]) => rule === "foldConstants").map(([node]) => node));
  for (const node of graph.nodes.toReversed())
    if (wanted.has(node)) for (const operand of node.operands) wanted.add(operand.producer);
  const found = new Map<Node, readonly NumberTensor[]>();
  for (const node of graph.nodes) {
    if (!wanted.has(node)) continue;
    if (node.data !== undefined) {
      found.set(node, [{ dtype: node.data.dtype, shape: node.data.shape, values: toNumbers(node.data) }]);
      continue;
    }
    const operands = node.operands.map((value) => found.get(value.producer)?.[value.index]);
    try {
      if (!operands.includes(undefined))
        found.set(node, applyOp(node.op, context.registry, operands as readonly NumberTensor[], node.attrs));
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      context.refused("foldConstants", node, error.diagnostics[0]?.message ?? error.message);
    }
    if (!found.has(node)) plan.delete(node);
  }
  return found;
}

function repeated(b: Builder, type: TensorType, number: number): Value {
  const scalar = b.constant(rounded(type.dtype, [], Float64Array.of(number)));
  const { shape } = type;
  return shape.length === 0 ? scalar : b.broadcast(scalar, { shape, axes: shape.map((_, axis) => axis) });
}

/** Makes the planned weights in the order they are asked for; one may be made from another. */
class WeightFolder {
  readonly #plan: ReadonlyMap<Node, Fold>;
  readonly #constants: ReadonlyMap<Node, readonly NumberTensor[]>;
  readonly #context: PassContext;
  readonly #sources: Map<string, WeightSource>;
  readonly #taken: Set<string>;
  readonly #names = new Map<Node, string>();

  constructor(
    graph: Graph,
    plan: ReadonlyMap<Node, Fold>,
    constants: ReadonlyMap<Node, readonly NumberTensor[]>,
    context: PassContext,
  ) {
    this.#plan = plan;
    this.#constants = constants;
    this.#context = context;
    this.#sources = new Map(context.weights);
    const named = graph.nodes.filter((node) => node.op === "input" || node.op === "parameter");
    this.#taken = new Set([...named.map(sourceName), ...this.#sources.keys()]);
  }

  /** The name of the parameter that stands for a planned node; operands that are planned too have theirs already. */
  nameOf(node: Node): string {
    const known = this.#names.get(node);
    if (known !== undefined) return known;
    const { source, shortHash } = foldedWeight(this.#expression(node), this.#sources, this.#context.registry);
    const base = `${node.scope === "" ? "" : `${node.scope}.`}folded.${shortHash}`;
    let name = base;
    for (let i = 2; this.#taken.has(name) && this.#sources.get(name)?.hash !== source.hash; i++) name = `${base}_${i}`;
    this.#taken.add(name);
    this.#names.set(node, name);
    this.#sources.set(name, source);
    this.#context.addWeight(name, source);
    return name;
  }

  /** The graph of one node over parameters and constants, among them what is folded already. */
  #expression(root: Node): Graph {
    const parts = new Set([root]);
    for (const node of parts)
      if (node === root || !this.#plan.has(node)) for (const { producer } of node.operands) parts.add(producer);
    const b = createBuilder(this.#context.registry);
    const map = new Map<Value, Value>();
    const of = (value: Value) => map.get(value) as Value;
    for (const node of [...parts].sort((a, c) => a.id - c.id)) {
      const results = (node === root ? undefined : this.#folded(b, node)) ?? copyNode(node, { b, of });
      node.results.forEach((value, i) => map.set(value, results[i] as Value));
    }
    return b.finish("folded", { value: of(root.results[0] as Value) });
  }

  #folded(b: Builder, node: Node): readonly Value[] | undefined {
    const fold = this.#plan.get(node);
    const { type } = node.results[0] as Value;
    switch (fold?.rule) {
      case undefined:
        return undefined;
      case "foldWeights":
        return [b.parameter(this.nameOf(node), type)];
      case "foldUniform":
        return [repeated(b, type, fold.number)];
      case "foldConstants":
        return this.#constants.get(node)?.map((t) => b.constant(rounded(t.dtype, t.shape, t.values)));
      default:
        return fold satisfies never;
    }
  }
}
