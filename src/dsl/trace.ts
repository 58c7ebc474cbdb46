import { type Builder, createBuilder } from "../ir/builder.ts";
import { compileError } from "../ir/diagnostic.ts";
import { expansionOf } from "../ir/expand.ts";
import type { Value } from "../ir/graph.ts";
import type { AnyOp, NamedComposite, Registry } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import { addOp } from "../ir/registry.ts";
import { formatType } from "../ir/type.ts";
import { callerLoc } from "./place.ts";

interface Trace {
  readonly b: Builder;
  /** That of the builder, to which composites are added as they are first used. */
  readonly registry: Map<string, AnyOp>;
  /** Composites and the types they were used on whose definition was seen to hold. */
  readonly sound: Set<string>;
  readonly root: string | undefined;
  scope: string;
}

// Models are traced synchronously, so one variable names the trace in progress.
let current: Trace | undefined;

/** Runs `body` with a builder of its own that every DSL call inside writes to. */
export function withTrace<T>(options: { registry?: Registry; root?: string }, body: (b: Builder) => T): T {
  const saved = current;
  const registry = new Map(options.registry ?? builtinOps);
  const b = createBuilder(registry);
  current = { b, registry, sound: new Set(), root: options.root, scope: "" };
  try {
    return body(b);
  } finally {
    current = saved;
  }
}

/** One DSL call: its nodes carry the author's line and the scope in force. */
export function record<T>(body: (b: Builder) => T): T {
  if (current === undefined)
    throw compileError("no-model", "tensors can be made only while a model is being traced", {
      help: "call this inside the build function given to defineModel",
    });
  const { b, scope } = current;
  // An outer DSL call already holds the author's line.
  if (b.loc.kind !== "unknown") return b.at({ scope }, () => body(b));
  return b.at({ loc: callerLoc(current.root), scope }, () => body(b));
}

/**
 * A DSL call that makes a composite of the user's own: the trace's registry learns it, and its definition is tried on
 * the types it meets. Fails with `duplicate-op` and `bad-composite`.
 */
export function recordOwn({ name, op }: NamedComposite, make: (b: Builder) => readonly Value[]): readonly Value[] {
  return record((b) => {
    const { registry, sound } = current as Trace;
    addOp(registry, { name, op, loc: b.loc });
    const results = make(b);
    const { operands, attrs } = (results[0] as Value).producer;
    const types = operands.map(({ type }) => type);
    const key = [name, ...types.map(formatType), JSON.stringify(attrs)].join("|");
    if (!sound.has(key)) expansionOf(name, op, types, attrs, registry, b.loc);
    sound.add(key);
    return results;
  });
}

/** Puts everything made in `body` under a dotted name: parameters `blocks.3.attn.qkv.weight`, node scope `blocks.3.attn`. */
export function scope<T>(name: string, body: () => T): T {
  if (current === undefined) throw compileError("no-model", `scope ${name} is opened outside a model`);
  const trace = current;
  const outer = trace.scope;
  trace.scope = outer === "" ? name : `${outer}.${name}`;
  try {
    return body();
  } finally {
    trace.scope = outer;
  }
}

/** `name` below the scope in force. */
export const scopedName = (name: string): string =>
  current === undefined || current.scope === "" ? name : `${current.scope}.${name}`;
