// The op table. The exported constant is the table key, the builder method and the word in IR text.
import type { AnyOp, Registry } from "../op.ts";
import * as contraction from "./contraction.ts";
import * as elementwise from "./elementwise.ts";
import * as gather from "./gather.ts";
import * as nn from "./nn.ts";
import * as reduce from "./reduce.ts";
import * as shape from "./shape.ts";
import * as tokens from "./tokens.ts";
import * as window from "./window.ts";

const { attentionExtras: _attentionExtras, ...layers } = nn;
const { largestMerge: _largestMerge, ...tokenOps } = tokens;

export const ops = {
  ...elementwise,
  ...reduce,
  ...shape,
  ...contraction,
  ...gather,
  ...window,
  ...layers,
  ...tokenOps,
} satisfies Record<string, AnyOp>;

/** The op table's types, by name. */
export type Ops = typeof ops;
/** The name of an op of the table. */
export type OpName = keyof Ops;
export type CompositeName = { [K in OpName]: Ops[K] extends { readonly kind: "composite" } ? K : never }[OpName];
export type RoutineName = { [K in OpName]: Ops[K] extends { readonly kind: "routine" } ? K : never }[OpName];

/** Attributes of an op as its own code sees them, defaults filled in. */
export type AttrsOf<T> = T extends { readonly signature?: (operands: never, attrs: infer A) => unknown }
  ? Required<A>
  : never;

/** The op table as a registry; docs/ops.md lists it. */
export const builtinOps: Registry = new Map<string, AnyOp>(Object.entries(ops));
