import { createBuilder } from "../ir/builder.ts";
import { evaluateExact } from "../ir/evaluate/index.ts";
import { type Graph, isSource, type Node, type Output, sourceName, type Value } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import { printGraph } from "../ir/print.ts";
import { formatType, type TensorData, tensorData } from "../ir/type.ts";

export type Inputs = Readonly<Record<string, TensorData>>;

export interface ShrunkGraph {
  readonly graph: Graph;
  /** What the graph fails on: the inputs left, and the values of those that a cut made. */
  readonly inputs: Inputs;
  /** The graph's IR text with every constant in it. */
  readonly text: string;
}

/**
 * The smallest graph found that still fails. Tries fewer outputs, an operand in place of a node, and, given the inputs,
 * a new input with the node's reference value in place of a node. `fails` says whether a candidate shows the failure.
 */
export async function shrinkGraph(
  graph: Graph,
  fails: (graph: Graph, inputs: Inputs) => Promise<boolean>,
  inputs?: Inputs,
  registry: Registry = builtinOps,
): Promise<ShrunkGraph> {
  let best = { graph, inputs: inputs ?? {} };
  for (let shrunk = true; shrunk; ) {
    shrunk = false;
    for (const candidate of candidates(best.graph, inputs === undefined ? undefined : best.inputs, registry)) {
      if (weight(candidate.graph) >= weight(best.graph) || !(await fails(candidate.graph, candidate.inputs))) continue;
      best = candidate;
      shrunk = true;
      break;
    }
  }
  return { ...best, text: printGraph(best.graph, { inlineElements: Infinity, registry }) };
}

type Candidate = Pick<ShrunkGraph, "graph" | "inputs">;

/** Nodes that compute count most, then sources, then outputs. */
const weight = ({ nodes, outputs }: Graph): number =>
  outputs.length + nodes.reduce((sum, node) => sum + (isSource(node) ? 1 : 1000), 0);

function* candidates(graph: Graph, inputs: Inputs | undefined, registry: Registry): Generator<Candidate> {
  const attempt = (outputs: readonly Output[], edits: ReadonlyMap<Value, Edit>): Candidate => {
    const cut = rewrite(graph, outputs, edits, registry);
    return { graph: cut, inputs: inputsOf(cut, inputs ?? {}, edits) };
  };
  const none = new Map<Value, Edit>();
  if (graph.outputs.length > 1) {
    for (const output of graph.outputs) yield attempt([output], none);
    for (const output of graph.outputs)
      yield attempt(
        graph.outputs.filter((o) => o !== output),
        none,
      );
  }
  yield attempt(graph.outputs, none); // without the inputs that nothing reads
  const computing = graph.nodes.filter((node) => !isSource(node));
  // An output further up first: everything below it goes.
  for (const node of computing)
    for (const value of node.results)
      if (!graph.outputs.some((o) => o.value === value)) yield attempt([{ name: "y", value }], none);
  const known = inputs === undefined ? undefined : referenceValues(graph, inputs, registry);
  for (const node of computing.toReversed())
    for (const value of node.results) {
      const data = known?.get(value);
      const name = `cut${value.producer.id}_${value.index}`;
      if (data !== undefined) yield attempt(graph.outputs, new Map([[value, { name, data }]]));
      for (const operand of node.operands)
        if (formatType(operand.type) === formatType(value.type))
          yield attempt(graph.outputs, new Map([[value, operand]]));
    }
}

/** What stands for a value: another one from above it, or a new input. */
type Edit = Value | { readonly name: string; readonly data: TensorData };

/** The live part of a graph under edits, with only the inputs that are read. */
function rewrite(graph: Graph, outputs: readonly Output[], edits: ReadonlyMap<Value, Edit>, registry: Registry): Graph {
  const resolved = (value: Value): Value | Exclude<Edit, Value> => edits.get(value) ?? value;
  const live = new Set<Node>();
  const reach = (value: Value) => {
    const stand = resolved(value);
    if ("producer" in stand) live.add(stand.producer);
  };
  for (const { value } of outputs) reach(value);
  for (const node of graph.nodes.toReversed()) if (live.has(node)) node.operands.forEach(reach);
  const b = createBuilder(registry);
  const map = new Map<Value, Value>();
  const of = (value: Value): Value => {
    const stand = resolved(value);
    if ("producer" in stand) return map.get(stand) as Value;
    const made = map.get(value) ?? b.input(stand.name, stand.data);
    map.set(value, made);
    return made;
  };
  for (const node of graph.nodes) {
    if (!live.has(node)) continue;
    const { type } = node.results[0] as Value;
    const results = isSource(node)
      ? [
          node.data !== undefined
            ? b.constant(node.data)
            : node.op === "input"
              ? b.input(sourceName(node), type)
              : b.parameter(sourceName(node), type),
        ]
      : b.make(node.op, node.operands.map(of), node.attrs);
    node.results.forEach((value, i) => map.set(value, results[i] as Value));
  }
  return b.finish(
    graph.name,
    outputs.map(({ name, value }) => ({ name, value: of(value) })),
  );
}

function inputsOf(graph: Graph, inputs: Inputs, edits: ReadonlyMap<Value, Edit>): Inputs {
  const made = new Map(
    [...edits.values()].flatMap((edit) => ("data" in edit ? [[edit.name, edit.data] as const] : [])),
  );
  return Object.fromEntries(
    graph.inputs.flatMap(({ producer }) => {
      const name = sourceName(producer);
      const data = made.get(name) ?? inputs[name];
      return data === undefined ? [] : [[name, data]];
    }),
  );
}

/** Every value of the graph as the reference computes it; undefined where it cannot. */
function referenceValues(graph: Graph, inputs: Inputs, registry: Registry): ReadonlyMap<Value, TensorData> | undefined {
  const known = new Map<Value, TensorData>();
  try {
    evaluateExact(graph, inputs, {
      registry,
      onNode: (node, results) =>
        results.forEach(({ dtype, shape, values }, i) =>
          known.set(node.results[i] as Value, tensorData(dtype, shape, values)),
        ),
    });
  } catch {
    return undefined;
  }
  return known;
}
