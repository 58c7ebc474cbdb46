import { CompileError, compileError, type Diagnostic, diagnostic, type Loc } from "../ir/diagnostic.ts";
import type { Graph, Model, Node, WeightSource } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import { verifyGraph } from "../ir/verify.ts";

/**
 * What a pass promises. `exact`: equal results in exact arithmetic, term by term. `reassociates`: equal up to the order
 * of floating-point operations. `approximate`: other results on purpose. `constructs`: another signature.
 */
export type Contract = "exact" | "reassociates" | "approximate" | "constructs";

/** What a graph has from the start, and some passes need while others take it away. */
export const graphTraits = {
  wholeAttention: "attention that is not written out",
  separateTokens: "tokens that each stand for one patch or word",
  forwardOnly: "no gradients among the outputs",
} as const;
/** The name of a trait. */
export type GraphTrait = keyof typeof graphTraits;
/** Every trait. */
export const allTraits = Object.keys(graphTraits) as readonly GraphTrait[];

/** A function from graph to graph, with what it promises and an example that is its test. */
export interface Pass {
  readonly name: string;
  readonly summary: string;
  readonly source?: string;
  readonly contract: Contract;
  /** Nothing where it is not said. */
  readonly requires?: readonly GraphTrait[];
  /** Everything where it is not said. */
  readonly preserves?: readonly GraphTrait[];
  /** IR text before and after; a test runs it. */
  readonly example: { readonly before: string; readonly after: string };
  run(graph: Graph, context: PassContext): Graph;
}

/** One decision of a pass: a rewrite that fired, or one that was refused and why. */
export interface Firing {
  readonly rule: string;
  readonly loc: Loc;
  /** Why not; absent where the rule fired. */
  readonly refused?: string;
}

/** What a pass gets beside the graph: ops, weights, and where to say what it did. */
export interface PassContext {
  readonly registry: Registry;
  /** Weights at hand while compiling; undefined when the model is compiled without. */
  readonly weights: ReadonlyMap<string, WeightSource> | undefined;
  addWeight(name: string, source: WeightSource): void;
  fired(rule: string, at: Node): void;
  refused(rule: string, at: Node, reason: string): void;
  note(message: string, loc: Loc): void;
}

/** What a pass did to a graph, and how long it took. */
export interface PassReport {
  readonly name: string;
  readonly contract: Contract;
  readonly changed: boolean;
  readonly timeMs: number;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  readonly fired: readonly Firing[];
  readonly refused: readonly Firing[];
  readonly notes: readonly Diagnostic[];
  readonly before: Graph;
  readonly after: Graph;
}

/** How `runPasses` runs. */
export interface PassOptions {
  readonly registry?: Registry;
  /** Off only in timing runs. */
  readonly verify?: boolean;
  /** Called after each pass, for print-after-all. */
  readonly after?: (report: PassReport) => void;
}

/**
 * Runs passes in order, verifying the graph before the first and after each. Fails with `pass-order` where one requires
 * what an earlier one, when it changed the graph, did not preserve.
 */
export function runPasses(
  model: Model,
  passes: readonly Pass[],
  options: PassOptions = {},
): { readonly model: Model; readonly reports: readonly PassReport[] } {
  const registry = options.registry ?? builtinOps;
  const verify = options.verify ?? true;
  let graph = model.graph;
  let weights = model.weights;
  if (verify) verifyGraph(graph, { registry, by: "before the first pass" });
  const reports: PassReport[] = [];
  const lost = new Map<GraphTrait, Pass>(); // and to which pass
  for (const pass of passes) {
    refuseOrder(pass, lost);
    const firings: Firing[] = [];
    const notes: Diagnostic[] = [];
    const added = new Map<string, WeightSource>();
    const context: PassContext = {
      registry,
      weights: weights.size === 0 ? undefined : weights,
      addWeight: (name, source) => void added.set(name, source),
      fired: (rule, at) => void firings.push({ rule, loc: at.locs[0] as Loc }),
      refused: (rule, at, refused) => void firings.push({ rule, loc: at.locs[0] as Loc, refused }),
      note: (message, loc) => void notes.push(diagnostic(pass.name, message, { loc, severity: "note" })),
    };
    const start = performance.now();
    const before = graph;
    const after = pass.run(before, context);
    const timeMs = performance.now() - start;
    if (verify && after !== before)
      verifyGraph(after, { registry, by: pass.name, before: pass.contract === "constructs" ? undefined : before });
    if (after !== before)
      for (const trait of allTraits) if (pass.preserves?.includes(trait) === false) lost.set(trait, pass);
    if (added.size > 0) weights = new Map([...weights, ...added]);
    graph = after;
    const report: PassReport = {
      name: pass.name,
      contract: pass.contract,
      changed: after !== before,
      timeMs,
      nodesBefore: before.nodes.length,
      nodesAfter: after.nodes.length,
      fired: firings.filter((f) => f.refused === undefined),
      refused: firings.filter((f) => f.refused !== undefined),
      notes,
      before,
      after,
    };
    reports.push(report);
    options.after?.(report);
  }
  return { model: { graph, weights }, reports };
}

function refuseOrder({ name, requires = [], preserves = allTraits }: Pass, lost: ReadonlyMap<GraphTrait, Pass>): void {
  const trait = requires.find((required) => lost.has(required));
  const earlier = trait === undefined ? undefined : lost.get(trait);
  if (trait === undefined || earlier === undefined) return;
  const swapped = (earlier.requires ?? []).every((required) => preserves.includes(required));
  throw compileError("pass-order", `${name} wants ${graphTraits[trait]}, but ${earlier.name} runs before it`, {
    help: earlier.name === name ? `run ${name} once` : swapped ? `put ${name} before ${earlier.name}` : undefined,
  });
}

/** A pass met a graph it cannot serve: the reasons, each at the user's line. */
export function patternNotFound(
  pass: string,
  looked: string,
  refusals: readonly { readonly reason: string; readonly loc: Loc }[],
  at: Loc,
  help?: string,
): CompileError {
  return new CompileError([
    diagnostic("pattern-not-found", `${pass} found nothing to rewrite: it looks for ${looked}`, {
      loc: refusals[0]?.loc ?? at,
      notes: refusals.map(({ reason, loc }) => ({ message: reason, loc })),
      help,
    }),
  ]);
}
