// Why a value has memory: what the scheduler decided, kept for people.
import type { Node, Use, Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { formOf } from "./rowwise.ts";

/** Why a value is stored instead of being computed where it is read. */
export interface Cause {
  readonly rule: Rule;
  /** The ops that the rule is about, mostly readers of the value; of a view that has no memory, what reads it. */
  readonly readers: readonly Node[];
  /** Scalar operations that each read would repeat, where that decided. */
  readonly operations?: number;
  /** The function that is dear to repeat. */
  readonly calls?: string;
}

/**
 * Of any value: `output` of the graph; `limit`, a kernel (of `readers`) would bind too many buffers. Of what a loop
 * makes: `shared` by several readers; its one reader is a loop and takes an `operand` from memory, has another `shape`,
 * or is `taken` by another kernel; `full`, as much follows as one kernel takes. Of an expression: `large`; read `often`
 * by a product; `costly` there; a `loop` that readers would repeat; `repeated` arithmetic.
 */
export type Rule =
  | "output"
  | "limit"
  | "shared"
  | "operand"
  | "shape"
  | "taken"
  | "full"
  | "large"
  | "often"
  | "costly"
  | "loop"
  | "repeated";

/** What is known once every value is decided. */
export interface Decided {
  readonly registry: Registry;
  readonly uses: ReadonlyMap<Value, readonly Use[]>;
  readonly outputs: ReadonlySet<Value>;
  isStored(value: Value): boolean;
  computes(node: Node): boolean;
  /** Whether a node is arithmetic behind some loop, in the loop's kernel. */
  isAbsorbed(node: Node): boolean;
}

const moves: ReadonlySet<string> = new Set(["view", "concat", "gather"]);

/** The ops that read a value, in order; through views and other moves that have no memory of their own. */
export function readersOf(value: Value, { uses, registry, isStored, isAbsorbed }: Decided): readonly Node[] {
  const readers = new Set<Node>();
  const open = [value];
  for (let v = open.pop(); v !== undefined; v = open.pop())
    for (const { user } of uses.get(v) ?? []) {
      const form = formOf(user.op, registry);
      const [result] = user.results as readonly [Value];
      if (form !== undefined && moves.has(form.kind) && !isStored(result) && !isAbsorbed(user)) open.push(result);
      else readers.add(user);
    }
  return [...readers].sort((a, b) => a.id - b.id);
}

/** Why a loop's result is stored instead of going on into what reads it; `stop` where its kernel takes no more. */
export function causesOfResult(value: Value, stop: "limit" | "full" | undefined, decided: Decided): readonly Cause[] {
  const readers = readersOf(value, decided);
  const causes: Cause[] = decided.outputs.has(value) ? [{ rule: "output", readers: [] }] : [];
  const [reader] = readers;
  if (reader === undefined) return causes;
  if (stop === "limit") return [...causes, { rule: stop, readers: [value.producer] }];
  if (readers.length > 1) return [...causes, { rule: "shared", readers }];
  const outside = decided.isAbsorbed(reader) ? "taken" : decided.computes(reader) ? "operand" : "shape";
  return [...causes, { rule: stop ?? outside, readers }];
}
