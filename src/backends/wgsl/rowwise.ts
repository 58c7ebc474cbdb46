import { expansionOf } from "../../ir/expand.ts";
import type { Attrs, Graph, Node, Value } from "../../ir/graph.ts";
import type { Form, Registry } from "../../ir/op.ts";

/**
 * The decomposition of a composite that works row by row: elementwise arithmetic, broadcasts and folds over one and the
 * same set of axes of tensors shaped like the (single) result. Softmax and the norms are; so is any such composite of
 * a user's. Undefined for every other op.
 */
export function rowwise(node: Node, registry: Registry): { graph: Graph; axes: readonly number[] } | undefined {
  const op = registry.get(node.op);
  if (op?.kind !== "composite" || node.results.length !== 1) return undefined;
  const shape = (node.results[0] as Value).type.shape.join(",");
  const graph = expansionOf(
    node.op,
    op,
    node.operands.map((operand) => operand.type),
    node.attrs,
    registry,
  );
  let axes: readonly number[] | undefined;
  for (const inner of graph.nodes) {
    if (inner.op === "input" || inner.op === "constant") continue;
    const form = formOf(inner.op, registry);
    if (form === undefined) return undefined;
    if (form.kind === "reduction") {
      const folded = form.axes(inner.attrs, inner.operands[0]?.type.shape.length ?? 0);
      if (inner.attrs["keepDims"] === true || inner.operands[0]?.type.shape.join(",") !== shape) return undefined;
      if (axes !== undefined && axes.join() !== folded.join()) return undefined;
      axes = folded;
    } else if (form.kind !== "elementwise" && inner.op !== "broadcast") return undefined;
  }
  if (axes === undefined) return undefined;
  // A value per row may be repeated only along the row, so that every read of it stays in the row.
  const perRow = new Set<Value>();
  for (const inner of graph.nodes) {
    const form = formOf(inner.op, registry);
    const from = inner.operands.some((operand) => perRow.has(operand));
    if (form?.kind === "reduction" || (from && form?.kind === "elementwise")) perRow.add(inner.results[0] as Value);
    if (from && inner.op === "broadcast" && (inner.attrs["axes"] as readonly number[]).join() !== axes.join())
      return undefined;
  }
  return { graph, axes };
}

export function formOf(name: string, registry: Registry): Form<Attrs> | undefined {
  const op = registry.get(name);
  return op?.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
}
