// Decides what becomes a kernel: which values are stored, which are computed where they are read, and which are
// computed where they are made (epilogues). The one place where that is decided.

import { compileError, type Loc } from "../../ir/diagnostic.ts";
import { productOfDims } from "../../ir/dim.ts";
import { type Graph, isSource, type Node, type Use, usesOf, type Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import type { TensorData } from "../../ir/type.ts";
import { type Cause, causesOfResult, type Decided, readersOf } from "./causes.ts";
import { costlyIn } from "./costly.ts";
import { type Expr, type Register, registerOf } from "./expr.ts";
import { fuseKernels, type Refusal } from "./fuse.ts";
import { type Buffer, buffersOf, type Kernel } from "./kernel.ts";
import { LoopRules } from "./loops.ts";
import { lowerNode } from "./lower.ts";
import { Reader } from "./reader.ts";
import { formOf, rowwise } from "./rowwise.ts";

export interface Schedule {
  readonly kernels: readonly Kernel[];
  readonly inputs: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
  readonly parameters: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
  readonly constants: readonly { readonly buffer: Buffer; readonly data: TensorData }[];
  readonly outputs: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
  /** Every value that has memory, and why; inputs, parameters and constants have it anyway. */
  readonly stored: readonly Stored[];
  /** Nodes that compute by a loop, and so begin a kernel. */
  readonly loops: ReadonlySet<Node>;
  /** Kernels that would be one if the device bound more buffers. */
  readonly refused: readonly Refusal[];
}

export interface Stored {
  readonly buffer: Buffer;
  readonly value: Value;
  readonly causes: readonly Cause[];
}

/** Composites that become one kernel whole, whatever else is decomposed. */
export const wholeComposites: ReadonlySet<string> = new Set(["attention"]);

const mostInlined = 48; // ops computed at each read; more are stored
const mostForProducts = 3; // the same where every element is read many times, as by a matrix product

/** Kernels of a graph, none of which binds more than `limit` buffers. */
export function schedule(graph: Graph, registry: Registry, limit: number): Schedule {
  // Nodes whose kernel read too many values through their arithmetic: theirs are stored on the next try.
  const plain = new Set<Node>();
  for (;;) {
    const scheduler = new Scheduler(graph, registry, plain);
    const made = scheduler.run();
    const before = plain.size;
    made.kernels.forEach((kernel, i) => {
      if (buffersOf(kernel).size > limit) plain.add(scheduler.makers[i] as Node);
    });
    if (plain.size === before) {
      const culprit = made.kernels.findIndex((kernel) => buffersOf(kernel).size > limit);
      if (culprit < 0) return { ...made, ...fuseKernels(made.kernels, limit) };
      const node = scheduler.makers[culprit] as Node;
      throw compileError(
        "device-limit",
        `${node.op} binds ${buffersOf(made.kernels[culprit] as Kernel).size} buffers, the device allows ${limit}`,
        {
          loc: node.locs[0] as Loc,
        },
      );
    }
  }
}

/** Where a kernel's result goes on into arithmetic of the same shape: `value` is made, `root` is stored. */
export interface Epilogue {
  readonly value: Value;
  readonly root: Value;
  readonly ops: readonly string[];
}

export class Scheduler {
  readonly graph: Graph;
  readonly registry: Registry;
  readonly #uses: ReadonlyMap<Value, readonly Use[]>;
  readonly #outputs: ReadonlySet<Value>;
  readonly #stored = new Map<Value, Buffer>();
  /** Why expressions are stored, without the readers. */
  readonly #causes = new Map<Value, readonly Omit<Cause, "readers">[]>();
  readonly #size = new Map<Value, number>();
  /** Nodes that are part of another node's kernel. */
  readonly #absorbed = new Set<Node>();
  readonly #epilogues = new Map<Node, Epilogue>();
  /** Last values of epilogues, and how many ops led there. */
  readonly #roots = new Map<Value, number>();
  readonly #rowwise = new Map<Node, ReturnType<typeof rowwise>>();

  readonly #plain: ReadonlySet<Node>;
  readonly #rules: LoopRules;
  /** Folds and products computed where they are read. */
  readonly #loops: ReadonlySet<Node>;
  /** Values that repeat a loop wherever they are read. */
  readonly #looping = new Set<Value>();
  /** The node behind each kernel, in order. */
  readonly makers: Node[] = [];

  constructor(graph: Graph, registry: Registry, plain: ReadonlySet<Node>) {
    this.graph = graph;
    this.registry = registry;
    this.#plain = plain;
    this.#uses = usesOf(graph);
    this.#outputs = new Set(graph.outputs.map((o) => o.value));
    this.#rules = new LoopRules(this.#uses, this.#outputs, registry);
    this.#loops = new Set(graph.nodes.filter((node) => !plain.has(node) && this.#rules.isLoop(node)));
  }

  run(): Schedule {
    for (const node of this.graph.nodes) this.#checkTypes(node);
    for (const node of this.graph.nodes) if (this.computes(node)) this.#findEpilogue(node);
    for (const node of this.graph.nodes) this.#decide(node);
    const kernels: Kernel[] = [];
    // A kernel runs where the last value of its epilogue stands, so that all it reads is there.
    const due = new Map<Node, Node[]>();
    for (const [node, { root }] of this.#epilogues) due.set(root.producer, [...(due.get(root.producer) ?? []), node]);
    for (const node of this.graph.nodes) {
      if (isSource(node)) continue;
      const makers = due.get(node) ?? [];
      const own =
        !this.#epilogues.has(node) && !this.#absorbed.has(node) && node.results.some((v) => this.#stored.has(v));
      for (const maker of own ? [...makers, node] : makers) {
        kernels.push(lowerNode(this, maker));
        this.makers.push(maker);
      }
    }
    const source = (value: Value, name: string) => ({ name, buffer: this.#stored.get(value) as Buffer, value });
    const named = (op: string) =>
      this.graph.nodes.filter((n) => n.op === op).map((n) => source(n.results[0] as Value, n.attrs["name"] as string));
    return {
      kernels,
      inputs: named("input"),
      parameters: named("parameter"),
      constants: this.graph.nodes
        .filter((n) => n.data !== undefined && this.#stored.has(n.results[0] as Value))
        .map((n) => ({ buffer: this.#stored.get(n.results[0] as Value) as Buffer, data: n.data as TensorData })),
      outputs: this.graph.outputs.map(({ name, value }) => source(value, name)),
      stored: [...this.#stored].map(([value, buffer]) => ({ value, buffer, causes: this.#causesOf(value) })),
      loops: new Set(this.graph.nodes.filter((node) => this.computes(node))),
      refused: [],
    };
  }

  #causesOf(value: Value): readonly Cause[] {
    if (isSource(value.producer)) return [];
    const decided: Decided = {
      registry: this.registry,
      uses: this.#uses,
      outputs: this.#outputs,
      isStored: (v) => this.#stored.has(v),
      computes: (node) => this.computes(node),
      isAbsorbed: (node) => this.#absorbed.has(node),
    };
    const known = this.#causes.get(value);
    if (known === undefined) {
      const full = (this.#roots.get(value) ?? 0) >= mostInlined;
      return causesOfResult(value, this.#plain.has(value.producer) ? "limit" : full ? "full" : undefined, decided);
    }
    const readers = readersOf(value, decided);
    return known.map((cause) => {
      if (cause.rule === "limit") return { ...cause, readers: readers.filter((user) => this.#plain.has(user)) };
      if (cause.rule !== "often" && cause.rule !== "costly") return { ...cause, readers };
      return { ...cause, readers: readers.filter((user) => this.#readsOften(user)) };
    });
  }

  #checkTypes(node: Node): void {
    for (const { type } of node.results)
      if (registerOf(type.dtype) === undefined)
        throw compileError(
          "unsupported-dtype",
          `${node.op} of ${type.dtype} cannot run on WebGPU, which has no 64-bit numbers`,
          {
            loc: node.locs[0] as Loc,
            help: "cast it to f32 or i32 first",
          },
        );
  }

  /** Whether a node is a loop of its own (a fold, a product, a window ...) rather than an expression. */
  computes(node: Node): boolean {
    if (isSource(node) || this.#loops.has(node)) return false;
    const form = formOf(node.op, this.registry);
    return form === undefined || !["elementwise", "view", "concat", "generate", "gather"].includes(form.kind);
  }

  rowwiseOf(node: Node): ReturnType<typeof rowwise> {
    if (!this.#rowwise.has(node)) this.#rowwise.set(node, rowwise(node, this.registry));
    return this.#rowwise.get(node);
  }

  epilogueOf(node: Node): Epilogue {
    const value = node.results[0] as Value;
    return this.#epilogues.get(node) ?? { value, root: value, ops: [] };
  }

  /**
   * Follows a result through arithmetic of its own shape as long as all of it comes together in one value again
   * (x * sigmoid(x) does), which is what gets stored.
   */
  #findEpilogue(node: Node): void {
    if (node.results.length > 1 || this.#plain.has(node)) return;
    const value = node.results[0] as Value;
    const open = new Map<Value, number>([[value, this.#readers(value)]]);
    const region: Node[] = [];
    let [root, length] = [value, 0];
    while (region.length < mostInlined) {
      const user = this.#nextUser(open, region);
      if (user === undefined || this.#absorbed.has(user)) break;
      const form = formOf(user.op, this.registry);
      const sameShape = user.operands.every((operand) => operand.type.shape.join() === root.type.shape.join());
      if (!(user.op === "reshape" && open.size === 1) && !(form?.kind === "elementwise" && sameShape)) break;
      region.push(user);
      for (const operand of user.operands) {
        const left = (open.get(operand) ?? 0) - 1;
        if (left > 0) open.set(operand, left);
        else open.delete(operand);
      }
      const result = user.results[0] as Value;
      open.set(result, this.#readers(result));
      if (open.size === 1) [root, length] = [result, region.length];
    }
    if (length === 0) return;
    const ops = region.slice(0, length);
    for (const user of ops) this.#absorbed.add(user);
    this.#epilogues.set(node, { value, root, ops: ops.map((user) => user.op) });
    this.#roots.set(root, ops.length);
  }

  /** The end of what is read of a node's results along an axis, where all of it is read through slices. */
  neededAlong(node: Node, axis: number): number | undefined {
    let needed = 0;
    for (const value of node.results) {
      if (this.#outputs.has(value)) return undefined;
      for (const { user } of this.#uses.get(value) ?? []) {
        const { axis: along, end, step = 1 } = user.attrs;
        if (user.op !== "slice" || along !== axis || step !== 1 || typeof end !== "number" || end < 0) return undefined;
        needed = Math.max(needed, end);
      }
    }
    return needed;
  }

  /** How often a value is read; an output is read from outside as well. */
  #readers(value: Value): number {
    return (this.#uses.get(value) ?? []).length + (this.#outputs.has(value) ? 1 : 0);
  }

  /** The earliest reader of an open value that is not in the region. */
  #nextUser(open: ReadonlyMap<Value, number>, region: readonly Node[]): Node | undefined {
    let first: Node | undefined;
    for (const value of open.keys())
      for (const { user } of this.#uses.get(value) ?? [])
        if (!region.includes(user) && (first === undefined || user.id < first.id)) first = user;
    return first;
  }

  /** Which results of a node get memory. */
  #decide(node: Node): void {
    const { op } = node;
    for (const value of node.results) {
      const uses = this.#uses.get(value) ?? [];
      const scalar = node.data !== undefined && value.type.shape.length === 0;
      const output = this.#outputs.has(value);
      if (op === "input" || op === "parameter" || (op === "constant" && (!scalar || output))) this.#store(value);
      else if (op === "constant") this.#size.set(value, 0);
      else if (this.computes(node)) {
        if ((uses.length > 0 || output) && !this.#epilogues.has(node)) this.#store(value);
      } else if (this.#absorbed.has(node)) {
        if (this.#roots.has(value)) this.#store(value);
      } else {
        const size = 1 + node.operands.reduce((sum, operand) => sum + (this.#size.get(operand) ?? 0), 0);
        const form = formOf(op, this.registry);
        const arithmetic = form?.kind === "elementwise";
        const looping = this.#loops.has(node) || node.operands.some((operand) => this.#looping.has(operand));
        if (looping) this.#looping.add(value);
        const scored = looping && this.#rules.onlyRowFolds(value);
        const repeated = looping && !scored && this.#rules.repeats(value);
        const free = form?.kind === "generate" || (form?.kind === "view" && size <= 4 && !repeated);
        const products = uses.some(({ user }) => this.#readsOften(user));
        const inProducts =
          products && uses.some(({ user }) => this.#readsOften(user, (by) => this.rowwiseOf(by) === undefined));
        const causes: Omit<Cause, "readers">[] = [];
        if (output) causes.push({ rule: "output" });
        if (uses.some(({ user }) => this.#plain.has(user))) causes.push({ rule: "limit" });
        if (!free) {
          const calls = products ? costlyIn(node, this.registry) : undefined;
          if (size > mostInlined) causes.push({ rule: "large", operations: size });
          else if (products && arithmetic && size > mostForProducts) causes.push({ rule: "often", operations: size });
          if (calls !== undefined) causes.push({ rule: "costly", calls });
          if (repeated || (inProducts && looping)) causes.push({ rule: "loop" });
          else if (arithmetic && uses.length > 1 && size > 2 && !scored)
            causes.push({ rule: "repeated", operations: size });
        }
        if (causes.length > 0) {
          this.#store(value);
          this.#causes.set(value, causes);
        } else this.#size.set(value, arithmetic ? size : size - 1);
      }
    }
  }

  /** Whether an op reads each element of its operands more than once or twice; composites `where` that says so. */
  #readsOften(user: Node, where: (user: Node) => boolean = () => true): boolean {
    const form = formOf(user.op, this.registry);
    if (form === undefined) return this.registry.get(user.op)?.kind !== "structured" && where(user);
    if (form.kind === "view")
      return (this.#uses.get(user.results[0] as Value) ?? []).some((use) => this.#readsOften(use.user, where));
    return form.kind === "contraction" || form.kind === "window";
  }

  #store(value: Value): void {
    this.#size.set(value, 0);
    this.#looping.delete(value);
    this.#stored.set(value, {
      name: `v${this.#stored.size}`,
      register: registerOf(value.type.dtype) as Register,
      elements: productOfDims(value.type.shape),
    });
  }

  bufferOf(value: Value): Buffer | undefined {
    return this.#stored.get(value);
  }

  /** A reader of values at index expressions, for one kernel. */
  reader(overrides: ReadonlyMap<Value, Expr> = new Map()): Reader {
    return new Reader(this, overrides);
  }
}
