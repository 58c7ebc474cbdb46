import { compileError, didYouMean, type Loc } from "../ir/diagnostic.ts";
import { substituteDim, symbolsOf } from "../ir/dim.ts";
import { type Attr, type Attrs, type Graph, isSource, type Node, sourceName, type Value } from "../ir/graph.ts";
import type { AttrSpec, Registry } from "../ir/op.ts";
import { type Dim, formatType, type TensorType } from "../ir/type.ts";
import { allTraits, type Pass } from "./pass.ts";
import { copyNode, rebuildGraph } from "./rebuild.ts";

/**
 * Replaces symbols by sizes in every type and every attribute that is a dimension; those not named stay symbols.
 * Fails with `unknown-symbol` for a name that the graph does not have, and with `bad-option` for a size that is not a
 * positive integer or leaves a tensor with a negative size.
 */
export function bindSymbols(sizes: Readonly<Record<string, number>>): Pass {
  return {
    name: "bindSymbols",
    summary: "sizes in place of symbolic dimensions",
    contract: "constructs",
    requires: [],
    preserves: allTraits,
    example: {
      before: `
graph @classify(%features: f32[batch,4], %weight: f32[4,3], %bias: f32[3]) {
  %0 = matmul(%features, %weight) : f32[batch,3]
  %1 = broadcast(%bias) {shape=["batch",3], axes=[0]} : f32[batch,3]
  %2 = add(%0, %1) : f32[batch,3]
  return logits: %2
}`,
      after: `
graph @classify(%features: f32[1,4], %weight: f32[4,3], %bias: f32[3]) {
  %0 = matmul(%features, %weight) : f32[1,3]
  %1 = broadcast(%bias) {shape=[1,3], axes=[0]} : f32[1,3]
  %2 = add(%0, %1) : f32[1,3]
  return logits: %2
}`,
    },
    run(graph, context) {
      const symbols = checkedSizes(sizes, graph, context.registry);
      if (symbols.size === 0) return graph;
      const bindType = ({ dtype, shape }: TensorType): TensorType => ({
        dtype,
        shape: shape.map((dim) => substituteDim(dim, symbols)),
      });
      return rebuildGraph(graph, context.registry, "bindSymbols", (node, rebuild) => {
        const was = (node.results[0] as Value).type;
        const type = bindType(was);
        const negative = type.shape.findIndex((dim) => typeof dim === "number" && dim < 0);
        if (negative >= 0)
          throw compileError("bad-option", `bindSymbols: ${formatType(was)} would become ${formatType(type)}`, {
            loc: node.locs[0] as Loc,
          });
        if (node.op === "constant") return undefined;
        if (!isSource(node)) return copyNode(node, rebuild, boundAttrs(node, context.registry, symbols));
        if (formatType(type) !== formatType(was)) context.fired(changes(was, symbols), node);
        const { b } = rebuild;
        const make = () => [
          node.op === "input" ? b.input(sourceName(node), type) : b.parameter(sourceName(node), type),
        ];
        return b.at({ loc: node.locs[0], scope: node.scope }, make);
      });
    },
  };
}

/** `batch=1`, for the symbols that a type names. */
const changes = ({ shape }: TensorType, symbols: ReadonlyMap<string, number>): string =>
  [...new Set(shape.flatMap(symbolsOf))].flatMap((s) => (symbols.has(s) ? [`${s}=${symbols.get(s)}`] : [])).join(", ");

function checkedSizes(
  sizes: Readonly<Record<string, number>>,
  graph: Graph,
  registry: Registry,
): ReadonlyMap<string, number> {
  const known = symbolsIn(graph, registry);
  const symbols = new Map<string, number>();
  for (const [name, size] of Object.entries(sizes)) {
    if (!known.has(name))
      throw compileError("unknown-symbol", `bindSymbols: ${graph.name} has no symbol ${JSON.stringify(name)}`, {
        help: didYouMean(name, known) ?? `its symbols: ${[...known].join(", ") || "none"}`,
      });
    if (!Number.isSafeInteger(size) || size < 1)
      throw compileError("bad-option", `bindSymbols: ${name} wants a positive integer, got ${JSON.stringify(size)}`);
    symbols.set(name, size);
  }
  return symbols;
}

/** Every symbol of the graph: most stand in input types, some only in attributes (the position `past`). */
function symbolsIn(graph: Graph, registry: Registry): ReadonlySet<string> {
  const found = new Set<string>();
  const collect = (attr: Attr): void => {
    if (Array.isArray(attr)) attr.forEach(collect);
    else for (const symbol of symbolsOf(attr as Dim)) found.add(symbol);
  };
  for (const node of graph.nodes) {
    for (const { type } of node.results) type.shape.forEach(collect);
    for (const key of dimAttrs(node, registry)) collect(node.attrs[key] as Attr);
  }
  return found;
}

function boundAttrs(node: Node, registry: Registry, symbols: ReadonlyMap<string, number>): Attrs {
  const bind = (attr: Attr): Attr => (Array.isArray(attr) ? attr.map(bind) : substituteDim(attr as Dim, symbols));
  const bound = dimAttrs(node, registry).map((key) => [key, bind(node.attrs[key] as Attr)] as const);
  return bound.length === 0 ? node.attrs : { ...node.attrs, ...Object.fromEntries(bound) };
}

/** The attributes of a node that are dimensions by declaration. */
function dimAttrs(node: Node, registry: Registry): readonly string[] {
  const specs = (registry.get(node.op)?.attrs ?? {}) as Readonly<Record<string, AttrSpec>>;
  return Object.keys(specs).filter((key) => specs[key]?.kind === "dim" || specs[key]?.kind === "dims");
}
