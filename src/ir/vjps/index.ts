// The gradient table: every structured op and routine has a rule, or a reason for none; composites that have no row are
// differentiated through their decompositions.
import type { Registry } from "../op.ts";
import type { OpName, Ops } from "../ops/index.ts";
import type { NoGradient, Vjp } from "../vjp.ts";
import { contractionVjps } from "./contraction.ts";
import { elementwiseVjps } from "./elementwise.ts";
import { gatherVjps } from "./gather.ts";
import { nnVjps } from "./nn.ts";
import { reduceVjps } from "./reduce.ts";
import { shapeVjps } from "./shape.ts";
import { windowVjps } from "./window.ts";

type Whole = { [K in OpName]: Ops[K] extends { readonly kind: "structured" | "routine" } ? K : never }[OpName];

const table = {
  ...elementwiseVjps,
  ...reduceVjps,
  ...shapeVjps,
  ...contractionVjps,
  ...gatherVjps,
  ...windowVjps,
  ...nnVjps,
} satisfies Record<Whole, Vjp | NoGradient>;

/** The gradient rule of an op, the reason for none, or undefined for a composite to be differentiated in parts. */
export function vjpOf(name: string, registry: Registry): Vjp | NoGradient | undefined {
  const op = registry.get(name);
  const own = op?.kind === "composite" ? (op.vjp as Vjp | undefined) : undefined;
  return own ?? (Object.hasOwn(table, name) ? (table[name as keyof typeof table] as Vjp | NoGradient) : undefined);
}
