import { type Builder, createBuilder, inferTypes } from "./builder.ts";
import { compileError, type Loc, OpError, unknownLoc } from "./diagnostic.ts";
import type { Attrs, Graph, Value } from "./graph.ts";
import type { AnyOp, Registry } from "./op.ts";
import { formatType, type TensorType } from "./type.ts";

type CompositeOp = Extract<AnyOp, { kind: "composite" }>;

/**
 * The results of a composite, made of the ops that define it; what it cannot do is told at the builder's place. Fails
 * with `bad-composite` where its definition gives other types than it states.
 */
export function expandComposite(
  b: Builder,
  name: string,
  op: CompositeOp,
  operands: readonly Value[],
  attrs: Attrs,
): readonly Value[] {
  try {
    const made = op.decompose(b, operands, attrs) as Value | readonly (Value | undefined)[];
    const results = (Array.isArray(made) ? made : [made]).filter((value): value is Value => value !== undefined);
    const [given, stated] = [results.map(({ type }) => type), inferTypes(name, op, operands, attrs)].map((types) =>
      types.map(formatType).join(", "),
    );
    if (given !== stated)
      throw compileError("bad-composite", `${name} is ${stated} by infer, but ${given} by decompose`, { loc: b.loc });
    return results;
  } catch (error) {
    if (error instanceof OpError)
      throw compileError(error.code, `${name}: ${error.message}`, { loc: b.loc, help: error.help });
    throw error;
  }
}

/** A composite as a graph of its own: operands are the inputs x0, x1, ..., results the outputs y0, y1, ... */
export function expansionOf(
  name: string,
  op: CompositeOp,
  types: readonly TensorType[],
  attrs: Attrs,
  registry: Registry,
  loc: Loc = unknownLoc,
): Graph {
  const b = createBuilder(registry);
  const inputs = types.map(({ dtype, shape }, i) => b.input(`x${i}`, { dtype, shape }));
  const results = b.at({ loc }, () => expandComposite(b, name, op, inputs, attrs));
  return b.finish(
    name,
    results.map((value, i) => ({ name: `y${i}`, value })),
  );
}
