import { formatAttr } from "../attrs.ts";
import { bindSizes } from "../bindSizes.ts";
import { inferTypes } from "../builder.ts";
import { CompileError, compileError, OpError, unknownLoc } from "../diagnostic.ts";
import { evaluateDim } from "../dim.ts";
import { expansionOf } from "../expand.ts";
import { type Attr, type Attrs, type Graph, type Node, sourceName, type Value } from "../graph.ts";
import type { AnyOp, NumberTensor, Registry } from "../op.ts";
import { builtinOps } from "../ops/index.ts";
import { type Dim, formatType, type TensorData, tensorData, toNumbers } from "../type.ts";
import { evaluateForm } from "./forms.ts";

export { erf } from "./scalar.ts";

/** What the interpreter is told beside graph and inputs. */
export interface EvaluateOptions {
  readonly registry?: Registry;
  /** Contents of the graph's parameters by name. */
  readonly parameters?: ReadonlyMap<string, TensorData>;
  /** Called after each node; for tracing. */
  readonly onNode?: (node: Node, results: readonly NumberTensor[]) => void;
  /** What stands for the results of each computing node, also of those inside composites: for studying roundings. */
  readonly adjust?: Adjust;
}

export type Adjust = (op: string, results: readonly NumberTensor[]) => readonly NumberTensor[];

/**
 * The reference interpreter: every op by its form, routine or decomposition, floats in f64.
 * Symbols take their sizes from the inputs. Results have the graph's output dtypes (f32 values unrounded as f64 when
 * `exact`).
 */
export function evaluateGraph(
  graph: Graph,
  inputs: Readonly<Record<string, TensorData>>,
  options: EvaluateOptions = {},
): Readonly<Record<string, TensorData>> {
  const exact = evaluateExact(graph, inputs, options);
  return Object.fromEntries(
    Object.entries(exact).map(([name, { dtype, shape, values }]) => [name, tensorData(dtype, shape, values)]),
  );
}

/** As evaluateGraph, with results as f64 numbers that were never rounded. */
export function evaluateExact(
  graph: Graph,
  inputs: Readonly<Record<string, TensorData>>,
  options: EvaluateOptions = {},
): Readonly<Record<string, NumberTensor>> {
  const registry = options.registry ?? builtinOps;
  const symbols = bindInputs(graph, inputs);
  const known = new Map<Value, NumberTensor>();
  const lastUse = new Map<Value, Node>();
  for (const node of graph.nodes) for (const operand of node.operands) lastUse.set(operand, node);
  const kept = new Set(graph.outputs.map((o) => o.value));
  for (const node of graph.nodes) {
    const results = evaluateNode(node, known, inputs, symbols, registry, options);
    node.results.forEach((value, i) => known.set(value, results[i] as NumberTensor));
    options.onNode?.(node, results);
    for (const operand of node.operands) if (lastUse.get(operand) === node && !kept.has(operand)) known.delete(operand);
  }
  return Object.fromEntries(graph.outputs.map(({ name, value }) => [name, known.get(value) as NumberTensor]));
}

/** Checks inputs against the graph and reads off the size of every symbol. */
export function bindInputs(
  graph: Graph,
  inputs: Readonly<Record<string, { readonly dtype: string; readonly shape: readonly number[] }>>,
): ReadonlyMap<string, number> {
  const wanted = graph.inputs.map(({ producer, type }) => ({
    ...type,
    name: sourceName(producer),
    loc: producer.locs[0],
  }));
  return bindSizes(wanted, inputs);
}

function evaluateNode(
  node: Node,
  known: ReadonlyMap<Value, NumberTensor>,
  inputs: Readonly<Record<string, TensorData>>,
  symbols: ReadonlyMap<string, number>,
  registry: Registry,
  options: EvaluateOptions,
): readonly NumberTensor[] {
  const stored = (data: TensorData): readonly NumberTensor[] => [
    { dtype: data.dtype, shape: data.shape, values: toNumbers(data) },
  ];
  if (node.data !== undefined) return stored(node.data);
  if (node.op === "input") return stored(inputs[sourceName(node)] as TensorData);
  if (node.op === "parameter") {
    const name = sourceName(node);
    const data = options.parameters?.get(name);
    if (data === undefined) throw compileError("missing-weights", `no contents for parameter ${name}`);
    const want = (node.results[0] as Value).type;
    if (formatType(data) !== formatType(want))
      throw compileError(
        "weights-mismatch",
        `parameter ${name} is ${formatType(data)}, the graph wants ${formatType(want)}`,
      );
    return stored(data);
  }
  const operands = node.operands.map((v) => known.get(v) as NumberTensor);
  const loc = node.locs[0] ?? unknownLoc;
  try {
    const op = registry.get(node.op);
    const attrs = op === undefined ? node.attrs : bindAttrs(node.attrs, op, symbols);
    return applyOp(node.op, registry, operands, attrs, options.adjust);
  } catch (error) {
    if (error instanceof OpError)
      throw compileError(error.code, `${node.op}: ${error.message}`, { loc, help: error.help });
    if (error instanceof CompileError)
      throw new CompileError(error.diagnostics.map((d) => (d.loc.kind === "unknown" ? { ...d, loc } : d)));
    throw error;
  }
}

/** Dimensions in attributes become sizes. */
function bindAttrs(attrs: Attrs, op: AnyOp, symbols: ReadonlyMap<string, number>): Attrs {
  const bind = (value: Attr): Attr => (Array.isArray(value) ? value.map(bind) : evaluateDim(value as Dim, symbols));
  const specs = op.attrs as Readonly<Record<string, { kind: unknown }>>;
  return Object.fromEntries(
    Object.entries(attrs).map(([key, value]) => {
      const kind = specs[key]?.kind;
      return [key, kind === "dim" || kind === "dims" ? bind(value) : value];
    }),
  );
}

const decompositions = new WeakMap<AnyOp, Map<string, Graph>>();
const decompositionsPerOp = 64; // distinct shapes kept

/** One op on numbers. Composites run by their decomposition, where `adjust` has its say after each node. */
export function applyOp(
  name: string,
  registry: Registry,
  operands: readonly NumberTensor[],
  attrs: Attrs,
  adjust: Adjust = (_, results) => results,
): readonly NumberTensor[] {
  const op = registry.get(name);
  if (op === undefined) throw compileError("unknown-op", `there is no op named ${name}`);
  if (op.kind === "routine") return adjust(name, op.evaluate(operands, attrs));
  if (op.kind === "structured") {
    const types = operands.map((type) => ({ type }));
    const [result] = inferTypes(name, op, types, attrs);
    const sized = result as { dtype: NumberTensor["dtype"]; shape: readonly number[] };
    return adjust(name, [evaluateForm(op, operands, attrs, sized)]);
  }
  const graph = decomposition(name, op, registry, operands, attrs);
  const inputs = Object.fromEntries(operands.map((tensor, i) => [`x${i}`, tensor as TensorData]));
  const results = evaluateExact(graph, inputs, { registry, adjust });
  return graph.outputs.map((o) => results[o.name] as NumberTensor);
}

function decomposition(
  name: string,
  op: Extract<AnyOp, { kind: "composite" }>,
  registry: Registry,
  operands: readonly NumberTensor[],
  attrs: Attrs,
): Graph {
  const key = `${operands.map(formatType).join("|")}|${Object.values(attrs).map(formatAttr).join("|")}`;
  const cache = decompositions.get(op) ?? new Map<string, Graph>();
  decompositions.set(op, cache);
  const cached = cache.get(key);
  if (cached !== undefined) return cached;
  const graph = expansionOf(name, op, operands, attrs, registry);
  if (cache.size >= decompositionsPerOp) cache.clear();
  cache.set(key, graph);
  return graph;
}
