import { type Builder, createBuilder } from "../ir/builder.ts";
import { compileError } from "../ir/diagnostic.ts";
import type { Registry } from "../ir/op.ts";
import { callerLoc } from "./place.ts";

interface Trace {
  readonly b: Builder;
  readonly root: string | undefined;
  scope: string;
}

// Models are traced synchronously, so one variable names the trace in progress.
let current: Trace | undefined;

/** Runs `body` with a builder of its own that every DSL call inside writes to. */
export function withTrace<T>(options: { registry?: Registry; root?: string }, body: (b: Builder) => T): T {
  const saved = current;
  const b = createBuilder(options.registry);
  current = { b, root: options.root, scope: "" };
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
