import type { Loc } from "./diagnostic.ts";
import type { TensorData, TensorType } from "./type.ts";

/** Plain data an op is configured with. */
export type Attr = number | string | boolean | readonly Attr[];
/** Every attribute of an op by name, in declared order. */
export type Attrs = Readonly<Record<string, Attr>>;

/**
 * One application of an op. Frozen once its graph is finished; equal pure nodes of one builder are one object.
 * Sources are nodes too: `input` and `parameter` (attribute `name`) and `constant` (contents in `data`).
 */
export interface Node {
  /** Creation order: operands always have smaller ids. */
  readonly id: number;
  readonly op: string;
  readonly operands: readonly Value[];
  /** Every attribute of the op, defaults filled in. */
  readonly attrs: Attrs;
  readonly results: readonly Value[];
  /** Every place that asked for this node, first come first; never empty. */
  readonly locs: readonly Loc[];
  /** Dotted name scope, "" at the top: `blocks.3.attn`. */
  readonly scope: string;
  readonly data?: TensorData;
}

/** One result of a node: what edges of the graph carry. */
export interface Value {
  readonly type: TensorType;
  readonly producer: Node;
  /** Which result of the producer this is. */
  readonly index: number;
}

/** A named result of a graph. */
export interface Output {
  readonly name: string;
  readonly value: Value;
}

/** A model's dataflow: a frozen value, which passes replace and never change. */
export interface Graph {
  readonly name: string;
  readonly inputs: readonly Value[];
  /** Exactly the live nodes (and every input), in topological and print order. */
  readonly nodes: readonly Node[];
  readonly outputs: readonly Output[];
}

/**
 * Contents of one weight, read by range so that a model larger than memory can be compiled.
 * `read(start, end)` gives elements start (inclusive) to end (exclusive), row-major.
 */
export interface WeightSource {
  readonly type: { readonly dtype: TensorType["dtype"]; readonly shape: readonly number[] };
  /** Equal hashes mean equal contents. */
  readonly hash: string;
  read(start?: number, end?: number): Promise<TensorData>;
}

/** A graph with the contents of its parameters, as far as they are at hand. */
export interface Model {
  readonly graph: Graph;
  readonly weights: ReadonlyMap<string, WeightSource>;
}

/** One operand of one node. */
export interface Use {
  readonly user: Node;
  readonly operandIndex: number;
}

const usesCache = new WeakMap<Graph, ReadonlyMap<Value, readonly Use[]>>();

/** Who reads each value; memoised per graph. Graph outputs are not uses. */
export function usesOf(graph: Graph): ReadonlyMap<Value, readonly Use[]> {
  const known = usesCache.get(graph);
  if (known !== undefined) return known;
  const uses = new Map<Value, Use[]>();
  for (const user of graph.nodes)
    user.operands.forEach((value, operandIndex) => {
      const list = uses.get(value);
      if (list === undefined) uses.set(value, [{ user, operandIndex }]);
      else list.push({ user, operandIndex });
    });
  usesCache.set(graph, uses);
  return uses;
}

/** The parameter nodes of a graph, in order. */
export const parametersOf = (graph: Graph): readonly Node[] => graph.nodes.filter((n) => n.op === "parameter");

/** The `name` of an input or parameter node. */
export const sourceName = (node: Node): string => node.attrs["name"] as string;

/** Whether a node makes values of nothing: `input`, `parameter` or `constant`. */
export const isSource = (node: Node): boolean =>
  node.op === "input" || node.op === "parameter" || node.op === "constant";

/** All symbols that occur in the graph's input types, in order of appearance. */
export function inputSymbols(graph: Graph, symbolsOf: (dim: string | number) => readonly string[]): readonly string[] {
  return [...new Set(graph.inputs.flatMap((v) => v.type.shape.flatMap(symbolsOf)))];
}
