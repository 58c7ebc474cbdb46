// Reverse mode: from a loss back to what it depends on, each op's cotangents by its row of the gradient table.
import type { Builder } from "../ir/builder.ts";
import { compileError, InternalError, type Loc, OpError } from "../ir/diagnostic.ts";
import { expandComposite } from "../ir/expand.ts";
import { type Graph, isSource, type Node, type Output, sourceName, type Value } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { isFloat } from "../ir/type.ts";
import { vjpOf } from "../ir/vjps/index.ts";
import type { Pass } from "./pass.ts";
import { madeBy, rebuildGraph } from "./rebuild.ts";

export interface DifferentiateOptions {
  /** Outputs whose sum is differentiated; scalars, or tensors that a cotangent input weighs. */
  readonly of: readonly string[];
  /** Parameters and inputs; every parameter of a float kind by default. */
  readonly wrt?: readonly string[];
  /** Adds an input `cot.NAME` of each output's type: the gradients are those of the sum of cotangent times output. */
  readonly cotangents?: boolean;
}

/**
 * Adds outputs `grad.NAME`, each of its parameter's or input's type, to those that are there. Fails with
 * `unknown-output`, `unknown-parameter`, `no-gradient` (a loss that is no scalar, a name that is no float).
 */
export function differentiate({ of, wrt, cotangents = false }: DifferentiateOptions): Pass {
  return {
    name: "differentiate",
    summary: "gradients of outputs with respect to parameters and inputs",
    source: "reverse-mode automatic differentiation",
    contract: "constructs",
    requires: [],
    preserves: ["separateTokens"],
    example: {
      before: `
graph @line(%x: f32[4]) {
  %w = parameter() : f32[4]
  %0 = mul(%w, %x) : f32[4]
  %1 = reduceSum(%0) {axes=[0]} : f32[]
  return loss: %1
}`,
      after: `
graph @line(%x: f32[4]) {
  %w = parameter() : f32[4]
  %0 = mul(%w, %x) : f32[4]
  %1 = reduceSum(%0) {axes=[0]} : f32[]
  %2 = constant() {data=[1]} : f32[]
  %3 = broadcast(%2) {shape=[4], axes=[0]} : f32[4]
  %4 = mul(%3, %x) : f32[4]
  return loss: %1, grad.w: %4
}`,
    },
    run(graph, { registry, fired }) {
      const names = wrt ?? namesOfParameters(graph);
      const open = expandUndefined(graph, registry, names, fired);
      const sources = sourcesOf(open, names);
      const losses = of.map((name) => outputOf(open, name));
      return rebuildGraph(
        open,
        registry,
        "differentiate",
        () => undefined,
        ({ b, of: now }) => {
          const seeds = new Map<Value, Value>();
          losses.forEach(({ name, value }) => seeds.set(now(value), seedOf(b, name, now(value), cotangents)));
          const gradients = gradientsOf(b, seeds, sources.map(now), (node) => fired(node.op, node));
          return [
            ...open.outputs.map(({ name, value }): Output => ({ name, value: now(value) })),
            ...sources.map(
              (source, i): Output => ({
                name: `grad.${names[i]}`,
                value: gradients[i] ?? b.full(source.type, 0),
              }),
            ),
          ];
        },
      );
    },
  };
}

function namesOfParameters(graph: Graph): readonly string[] {
  return graph.nodes
    .filter((node) => node.op === "parameter" && isFloat((node.results[0] as Value).type.dtype))
    .map(sourceName);
}

function outputOf(graph: Graph, name: string): Output {
  const found = graph.outputs.find((output) => output.name === name);
  if (found === undefined)
    throw compileError("unknown-output", `${graph.name} has no output named ${name}`, {
      help: `its outputs: ${graph.outputs.map((output) => output.name).join(", ")}`,
    });
  return found;
}

function sourcesOf(graph: Graph, names: readonly string[]): readonly Value[] {
  const known = new Map(
    graph.nodes.filter((node) => isSource(node) && node.data === undefined).map((node) => [sourceName(node), node]),
  );
  return names.map((name) => {
    const node = known.get(name);
    if (node === undefined)
      throw compileError("unknown-parameter", `${graph.name} has no parameter or input named ${name}`, {
        help: `it has ${[...known.keys()].slice(0, 12).join(", ")}`,
      });
    const value = node.results[0] as Value;
    if (!isFloat(value.type.dtype))
      throw compileError("no-gradient", `${name} is ${value.type.dtype}, and only floats have gradients`, {
        loc: node.locs[0] as Loc,
      });
    return value;
  });
}

function seedOf(b: Builder, name: string, value: Value, asInput: boolean): Value {
  const { dtype, shape } = value.type;
  if (asInput) return b.input(`cot.${name}`, { dtype, shape });
  if (shape.length > 0)
    throw compileError("no-gradient", `${name} has shape [${shape.join(",")}], but a loss is a scalar`, {
      loc: value.producer.locs[0] as Loc,
      help: "sum or average it first, or ask for cotangents",
    });
  return b.full(value.type, 1);
}

/** Values that change when the sources do, as far as floats carry it. */
function dependentOn(nodes: readonly Node[], sources: Iterable<Value>): ReadonlySet<Value> {
  const dependent = new Set(sources);
  for (const node of nodes)
    if (node.operands.some((operand) => dependent.has(operand)))
      for (const value of node.results) if (isFloat(value.type.dtype)) dependent.add(value);
  return dependent;
}

/** Writes out the composites on the way that have no gradient rule of their own, until none is left. */
function expandUndefined(
  graph: Graph,
  registry: Registry,
  names: readonly string[],
  fired: (rule: string, node: Node) => void,
): Graph {
  let current = graph;
  for (;;) {
    const dependent = dependentOn(current.nodes, sourcesOf(current, names));
    const open = (node: Node): boolean =>
      !isSource(node) &&
      registry.get(node.op)?.kind === "composite" &&
      vjpOf(node.op, registry) === undefined &&
      node.operands.some((operand) => dependent.has(operand));
    if (!current.nodes.some(open)) return current;
    current = rebuildGraph(current, registry, "differentiate", (node, { b, of }) => {
      const op = registry.get(node.op);
      if (op?.kind !== "composite" || !open(node)) return undefined;
      fired(node.op, node);
      return expandComposite(b, node.op, op, node.operands.map(of), node.attrs);
    });
  }
}

/**
 * Cotangents of `wrt` from those of other values of the same builder; undefined where nothing flows. Every op between
 * has a row in the gradient table; `pulled` hears of each node that was gone through.
 */
export function gradientsOf(
  b: Builder,
  seeds: ReadonlyMap<Value, Value>,
  wrt: readonly Value[],
  pulled: (node: Node) => void = () => undefined,
): readonly (Value | undefined)[] {
  const nodes = ancestorsOf(seeds.keys());
  const dependent = dependentOn(nodes, wrt);
  const cotangents = new Map<Value, Value>(seeds);
  for (const node of nodes.toReversed()) {
    const incoming = node.results.map((value) => cotangents.get(value));
    if (incoming.every((ct) => ct === undefined) || !node.operands.some((operand) => dependent.has(operand))) continue;
    const outgoing = b.at({ loc: madeBy("differentiate", [node]), scope: node.scope }, () => pull(b, node, incoming));
    pulled(node);
    outgoing.forEach((ct, i) => {
      const operand = node.operands[i] as Value;
      if (ct === undefined || !dependent.has(operand)) return;
      const known = cotangents.get(operand);
      cotangents.set(operand, known === undefined ? ct : b.add(known, ct));
    });
  }
  return wrt.map((value) => cotangents.get(value));
}

function pull(b: Builder, node: Node, cotangents: readonly (Value | undefined)[]): readonly (Value | undefined)[] {
  const rule = vjpOf(node.op, b.registry);
  if (rule === undefined) throw new InternalError(`differentiate: ${node.op} has no gradient rule`);
  if (typeof rule !== "function") return node.operands.map(() => undefined);
  try {
    const { operands, results, attrs } = node;
    return rule({ b, operands, results, cotangents, attrs: attrs as never });
  } catch (error) {
    if (error instanceof OpError)
      throw compileError(error.code, `${node.op}: ${error.message}`, { loc: node.locs[0] as Loc, help: error.help });
    throw error;
  }
}

/** What the values are computed from, operands first. */
function ancestorsOf(values: Iterable<Value>): readonly Node[] {
  const found = new Set<Node>();
  const open = [...values].map((value) => value.producer);
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    open.push(...node.operands.map((operand) => operand.producer));
  }
  return [...found].sort((a, c) => a.id - c.id);
}
