import { completeAttrs, formatAttr } from "./attrs.ts";
import { inferTypes } from "./builder.ts";
import { InternalError, OpError } from "./diagnostic.ts";
import { type Graph, isSource, type Node, sourceName } from "./graph.ts";
import type { Registry } from "./op.ts";
import { builtinOps } from "./ops/index.ts";
import { printNode, valueNames } from "./print.ts";
import { formatType } from "./type.ts";

/** What `verifyGraph` is told beside the graph. */
export interface VerifyOptions {
  readonly registry?: Registry;
  /** Who made the graph: named in the error. */
  readonly by?: string;
  /** The graph before a pass that must keep inputs and outputs (I8). */
  readonly before?: Graph | undefined;
}

/**
 * Checks the invariants of a graph; a broken one is a defect of ours and raises InternalError.
 * I1 operands come earlier in `nodes`. I2 the op is in the registry, or is a source. I3 result types equal `infer`.
 * I4 attributes are plain data of the declared kinds. I5 no dead nodes. I6 input, parameter and output names are
 * unique. I7 everything is frozen. I8 inputs and outputs keep name and type, given the graph before.
 */
export function verifyGraph(graph: Graph, options: VerifyOptions = {}): void {
  const registry = options.registry ?? builtinOps;
  const fail = (rule: string, message: string, at?: number): never => {
    const near = at === undefined ? "" : `\n${neighbourhood(graph, at, registry)}`;
    throw new InternalError(`${options.by ?? "graph"}: ${rule} broken: ${message}${near}`);
  };
  const seen = new Map<Node, number>();
  const used = new Set<Node>();
  const names = new Set<string>();
  if (![graph, graph.nodes, graph.inputs, graph.outputs].every((part) => Object.isFrozen(part)))
    fail("I7", "the graph is not frozen");
  graph.nodes.forEach((node, at) => {
    for (const operand of node.operands) {
      if (!seen.has(operand.producer)) fail("I1", `${node.op} reads a value that is not made before it`, at);
      used.add(operand.producer);
    }
    seen.set(node, at);
    if (![node, node.operands, node.attrs, node.results].every((part) => Object.isFrozen(part)))
      fail("I7", `${node.op} is not frozen`, at);
    if (isSource(node)) {
      if (node.op === "constant") {
        if (node.data === undefined) fail("I4", "a constant without contents", at);
        return;
      }
      const name = sourceName(node);
      if (names.has(name)) fail("I6", `two inputs or parameters named ${name}`, at);
      names.add(name);
      return;
    }
    const op = registry.get(node.op);
    if (op === undefined) return fail("I2", `there is no op named ${node.op}`, at);
    try {
      const attrs = completeAttrs(node.op, op, node.attrs);
      for (const key of Object.keys(attrs))
        if (formatAttr(attrs[key] as never) !== formatAttr(node.attrs[key] as never))
          fail("I4", `${node.op}: attribute ${key} is not in its canonical form`, at);
      const types = inferTypes(node.op, op, node.operands, attrs).map(formatType).join(", ");
      const stated = node.results.map((v) => formatType(v.type)).join(", ");
      if (types !== stated) fail("I3", `${node.op} states ${stated} but infers ${types}`, at);
    } catch (error) {
      if (error instanceof OpError) fail(error.code.includes("attribute") ? "I4" : "I3", error.message, at);
      throw error;
    }
  });
  const outputNames = new Set<string>();
  for (const { name, value } of graph.outputs) {
    if (outputNames.has(name)) fail("I6", `two outputs named ${name}`);
    outputNames.add(name);
    if (!seen.has(value.producer)) fail("I1", `output ${name} is not made by a node of the graph`);
    used.add(value.producer);
  }
  graph.nodes.forEach((node, at) => {
    if (!used.has(node) && node.op !== "input") fail("I5", `${node.op} is used by nothing`, at);
  });
  if (options.before !== undefined) {
    const [was, is] = [options.before, graph].map(surface);
    if (was !== is) fail("I8", `inputs and outputs changed from\n  ${was}\nto\n  ${is}`);
  }
}

const surface = (graph: Graph): string =>
  [
    ...graph.inputs.map((v) => `${sourceName(v.producer)}: ${formatType(v.type)}`),
    "->",
    ...graph.outputs.map((o) => `${o.name}: ${formatType(o.value.type)}`),
  ].join(" ");

/** Ten nodes either side of the culprit, marked. */
function neighbourhood(graph: Graph, at: number, registry: Registry): string {
  const names = valueNames(graph);
  const from = Math.max(0, at - 10);
  return graph.nodes
    .slice(from, at + 11)
    .map((node, i) => `${from + i === at ? ">" : " "} ${printNode(node, names, { registry })}`)
    .join("\n");
}
