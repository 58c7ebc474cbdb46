// Decides what becomes a kernel: which values are stored, which are computed where they are read, and which are
// computed where they are made (epilogues). The one place where that is decided.

import { compileError, type Loc } from "../../ir/diagnostic.ts";
import { isStatic, productOfDims, sameShape } from "../../ir/dim.ts";
import { type Attrs, type Graph, isSource, type Node, type Use, usesOf, type Value } from "../../ir/graph.ts";
import type { Form, Registry } from "../../ir/op.ts";
import type { Dim, TensorData } from "../../ir/type.ts";
import { accumulatorOf, type Expr, ExprPool, type Register, registerOf, walk } from "./expr.ts";
import { fuseKernels } from "./fuse.ts";
import { type Buffer, buffersOf, type Kernel, type Result } from "./kernel.ts";
import { lowerNode } from "./lower.ts";
import { formOf, rowwise } from "./rowwise.ts";

export interface Schedule {
  readonly kernels: readonly Kernel[];
  readonly inputs: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
  readonly parameters: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
  readonly constants: readonly { readonly buffer: Buffer; readonly data: TensorData }[];
  readonly outputs: readonly { readonly name: string; readonly buffer: Buffer; readonly value: Value }[];
}

/** Composites that become one kernel whole, whatever else is decomposed. */
export const wholeComposites: ReadonlySet<string> = new Set(["attention"]);

const mostInlined = 48; // ops computed at each read; more are stored
const mostForProducts = 3; // the same where every element is read many times, as by a matrix product

const mostTerms = 16; // of a fold repeated where it is read
const mostSelected = 32; // terms of a product with a selection matrix repeated where it is read
const mostScored = 128; // terms of a score that only row folds read

const costly: ReadonlySet<string> = new Set([
  "exp",
  "log",
  "log1p",
  "expm1",
  "sin",
  "cos",
  "tanh",
  "erf",
  "pow",
  "sqrt",
  "rsqrt",
  "div",
]);

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
      if (culprit < 0) return { ...made, kernels: fuseKernels(made.kernels, limit) };
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

/** Terms of a fold or product where their number is known. */
function termsOf(node: Node, form: Extract<Form<Attrs>, { kind: "reduction" | "contraction" }>): number | undefined {
  const first = node.operands[0]?.type.shape ?? [];
  const terms =
    form.kind === "reduction"
      ? productOfDims(form.axes(node.attrs, first.length).map((axis) => first[axis] as Dim))
      : productOfDims(summedOf(node, form).map((letter) => letter.size));
  return isStatic(terms) ? terms : undefined;
}

/** The letters of a product that its result lacks. */
export function summedOf(
  node: Node,
  form: Extract<Form<Attrs>, { kind: "contraction" }>,
): readonly { readonly letter: string; readonly size: Dim }[] {
  const types = node.operands.map((operand) => operand.type);
  const [left, right, out] = form.spec(types, node.attrs).split(/,|->/) as [string, string, string];
  const sizes = new Map<string, Dim>();
  [...left].forEach((letter, axis) => sizes.set(letter, types[0]?.shape[axis] as Dim));
  [...right].forEach((letter, axis) => sizes.set(letter, types[1]?.shape[axis] as Dim));
  return [...sizes].filter(([letter]) => !out.includes(letter)).map(([letter, size]) => ({ letter, size }));
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
  readonly #size = new Map<Value, number>();
  /** Nodes that are part of another node's kernel. */
  readonly #absorbed = new Set<Node>();
  readonly #epilogues = new Map<Node, Epilogue>();
  readonly #roots = new Set<Value>();
  readonly #rowwise = new Map<Node, ReturnType<typeof rowwise>>();

  readonly #plain: ReadonlySet<Node>;
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
    this.#loops = new Set(graph.nodes.filter((node) => !plain.has(node) && this.#isLoop(node)));
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
    };
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

  /** Whether a fold or product is better repeated where it is read than stored: short ones, and scores of row folds. */
  #isLoop(node: Node): boolean {
    const form = formOf(node.op, this.registry);
    const [value] = node.results as readonly [Value];
    if (this.#outputs.has(value) || (form?.kind !== "reduction" && form?.kind !== "contraction")) return false;
    const terms = termsOf(node, form);
    if (terms === undefined) return false;
    const users = (this.#uses.get(value) ?? []).map(({ user }) => user);
    if (form.kind === "reduction")
      return (
        terms <= mostTerms &&
        users.length === 1 &&
        users.every((user) => this.#readsFew(user)) &&
        form.init("f32").length === 1
      );
    if (terms <= mostSelected && node.operands.some((operand) => this.#selects(operand)))
      return users.length === 1 && users.every((user) => this.#readsFew(user));
    return terms <= mostScored && this.#onlyRowFolds(value);
  }

  /** Whether an op reads each element of its operands at most a few times, and stays an expression itself. */
  #readsFew(user: Node): boolean {
    const form = formOf(user.op, this.registry);
    if (user.op === "broadcast") return false;
    if (form?.kind === "elementwise") return true;
    if (form?.kind === "view" || form?.kind === "concat")
      return (this.#uses.get(user.results[0] as Value) ?? []).every((use) => this.#readsFew(use.user));
    return form === undefined && this.rowwiseOf(user) !== undefined;
  }

  /** Whether a value is zeros and ones made from places: rows of a selection matrix. */
  #selects({ producer, type }: Value): boolean {
    const form = formOf(producer.op, this.registry);
    if (form?.kind === "generate") return true;
    if (isSource(producer) || form === undefined) return false;
    const made = type.dtype === "bool" || producer.op === "cast" || form.kind === "view";
    return made && producer.operands.some((operand) => this.#selects(operand));
  }

  /** Whether nothing but folds along the last axis reads a value, possibly through arithmetic of its shape. */
  #onlyRowFolds(value: Value): boolean {
    const rank = value.type.shape.length;
    const open = [value];
    let folds = 0;
    for (let v = open.pop(); v !== undefined; v = open.pop()) {
      if (this.#outputs.has(v)) return false;
      for (const { user } of this.#uses.get(v) ?? []) {
        const form = formOf(user.op, this.registry);
        if (form?.kind === "reduction") {
          if (form.axes(user.attrs, rank).join() !== String(rank - 1)) return false;
          folds++;
        } else if (form?.kind === "elementwise" && sameShape((user.results[0] as Value).type.shape, value.type.shape))
          open.push(user.results[0] as Value);
        else return false;
      }
    }
    return folds > 0 && folds <= 2;
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
    this.#roots.add(root);
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
        const scored = looping && this.#onlyRowFolds(value);
        const repeated = looping && !scored && this.#repeats(value);
        const free = form?.kind === "generate" || (form?.kind === "view" && size <= 4 && !repeated);
        const products = uses.some(({ user }) => this.#readsOften(user));
        const tooBig = size > mostInlined || (products && arithmetic && size > mostForProducts);
        const shared = repeated || (arithmetic && uses.length > 1 && size > 2 && !scored);
        const asked = uses.some(({ user }) => this.#plain.has(user));
        if (output || asked || (!free && (tooBig || shared || (products && this.#heavy(node))))) this.#store(value);
        else this.#size.set(value, arithmetic ? size : size - 1);
      }
    }
  }

  /** Whether an op reads each element of its operands more than a few times. */
  #readsOften(user: Node): boolean {
    const form = formOf(user.op, this.registry);
    if (form === undefined) return this.registry.get(user.op)?.kind !== "structured";
    if (form.kind === "view")
      return (this.#uses.get(user.results[0] as Value) ?? []).some((use) => this.#readsOften(use.user));
    return form.kind === "contraction" || form.kind === "window";
  }

  /** Whether an elementwise op calls a function that costs many multiplications. */
  #heavy(node: Node): boolean {
    const form = formOf(node.op, this.registry);
    if (form?.kind !== "elementwise") return false;
    const pool = new ExprPool();
    const xs = node.operands.map((operand, i) => pool.variable(`x${i}`, registerOf(operand.type.dtype) as Register));
    const own = (node.operands.at(-1) as Value).type.dtype;
    const result = form.scalar(pool.scalar(registerOf(own) as Register), xs, node.attrs, own);
    let heavy = false;
    walk([result], (e) => {
      heavy ||= costly.has(e.op);
    });
    return heavy;
  }

  /** Whether a value is read more often than it has elements. */
  #repeats(value: Value): boolean {
    const uses = this.#uses.get(value) ?? [];
    if (uses.length > 1) return true;
    return uses.some(({ user }) => {
      if (user.op === "broadcast") return true;
      return formOf(user.op, this.registry)?.kind === "view" && this.#repeats(user.results[0] as Value);
    });
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

/** Index of the operand from the kept axes' index and the folded axes' index. */
export function weave(
  rank: number,
  axes: readonly number[],
  kept: readonly Expr[],
  folded: readonly Expr[],
): readonly Expr[] {
  let k = 0;
  let f = 0;
  return Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? folded[f++] : kept[k++]) as Expr);
}

/** Turns reads of values into expressions: loads of stored ones, the arithmetic itself for all others. */
export class Reader {
  readonly pool = new ExprPool();
  readonly #scheduler: Scheduler;
  readonly #overrides: Map<Value, Expr>;
  /** Values of an inner graph (a decomposition) that stand for values outside. */
  readonly #outer = new Map<Value, Value>();

  constructor(scheduler: Scheduler, overrides: ReadonlyMap<Value, Expr>) {
    this.#scheduler = scheduler;
    this.#overrides = new Map(overrides);
  }

  override(value: Value, expr: Expr): void {
    this.#overrides.set(value, expr);
  }

  alias(inner: Value, outer: Value): void {
    this.#outer.set(inner, outer);
  }

  dims(shape: readonly Dim[]): readonly Expr[] {
    return shape.map((d) => this.pool.dim(d));
  }

  /** Row-major position of an index. */
  ravel(index: readonly Expr[], shape: readonly Dim[]): Expr {
    const { index: s } = this.pool;
    return index.reduce(
      (at, i, axis) => s.add(s.mul(at, this.pool.dim(shape[axis] as Dim)), i),
      this.pool.literal(0, "i32"),
    );
  }

  /** The index at a row-major position. */
  unravel(at: Expr, shape: readonly Dim[]): readonly Expr[] {
    const { index: s } = this.pool;
    const out: Expr[] = [];
    let rest = at;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const size = this.pool.dim(shape[axis] as Dim);
      out.unshift(axis === 0 ? rest : s.mod(rest, size));
      rest = s.div(rest, size);
    }
    return out;
  }

  /** A variable that runs below a dimension. */
  variable(name: string, dim: Dim): Expr {
    return this.pool.variable(name, "i32", typeof dim === "number" ? dim : undefined);
  }

  read(value: Value, index: readonly Expr[]): Expr {
    const override = this.#overrides.get(value);
    if (override !== undefined) return override;
    const outer = this.#outer.get(value);
    if (outer !== undefined) return this.read(outer, index);
    const buffer = this.#scheduler.bufferOf(value);
    if (buffer !== undefined) return this.pool.load(buffer, this.ravel(index, value.type.shape));
    const { producer } = value;
    const register = registerOf(value.type.dtype) as Register;
    if (producer.data !== undefined) {
      if (producer.data.values.length === 1) return this.pool.literal(Number(producer.data.values[0]), register);
      throw new TypeError("a constant of several elements has no memory");
    }
    const form = formOf(producer.op, this.#scheduler.registry);
    if (form === undefined) throw new TypeError(`${producer.op} is read but was not stored`);
    return this.#inline(producer, form, value, index);
  }

  /** A stored value through its own arithmetic: what the kernel that fills its memory computes. */
  inlined(value: Value, index: readonly Expr[]): Expr {
    const { producer } = value;
    return this.#inline(producer, formOf(producer.op, this.#scheduler.registry) as Form<Attrs>, value, index);
  }

  #inline(node: Node, form: Form<Attrs>, value: Value, index: readonly Expr[]): Expr {
    const { pool } = this;
    const [first] = node.operands as readonly [Value];
    switch (form.kind) {
      case "elementwise": {
        const own = (node.operands.length === 3 ? (node.operands[1] as Value) : first).type.dtype;
        const xs = node.operands.map((operand) => this.read(operand, index));
        const result = form.scalar(pool.scalar(registerOf(own) as Register), xs, node.attrs, own);
        const typed =
          result.type === "number"
            ? pool.literal(result.value as number, registerOf(value.type.dtype) as Register)
            : result;
        return pool.narrow(typed, value.type.dtype);
      }
      case "view": {
        const dims = this.dims(first.type.shape);
        const inside = form.inside?.(pool.index, index, dims, node.attrs);
        if (inside?.op === "literal" && inside.value === 0)
          return pool.literal(form.fill?.(node.attrs) ?? 0, registerOf(value.type.dtype) as Register);
        const read = this.read(first, form.index(pool.index, index, dims, node.attrs));
        if (inside === undefined || inside.op === "literal") return read;
        const fill = pool.literal(form.fill?.(node.attrs) ?? 0, read.type);
        return pool.make("select", [inside, read, fill], read.type);
      }
      case "concat": {
        const axis = form.axis(node.attrs);
        let start: Expr = pool.literal(0, "i32");
        let chosen: Expr | undefined;
        const parts: { part: Expr; end: Expr }[] = [];
        for (const operand of node.operands) {
          const shifted = index.map((i, a) => (a === axis ? pool.index.sub(i, start) : i));
          start = pool.index.add(start, pool.dim(operand.type.shape[axis] as Dim));
          parts.push({ part: this.read(operand, shifted), end: start });
        }
        for (const { part, end } of parts.toReversed())
          chosen =
            chosen === undefined
              ? part
              : pool.make("select", [pool.index.less(index[axis] as Expr, end), part, chosen], part.type);
        return chosen as Expr;
      }
      case "generate": {
        const register = registerOf(value.type.dtype) as Register;
        const made = form.value(pool.scalar("i32"), index, node.attrs);
        return pool.narrow(register === "i32" ? made : pool.make(`to-${register}`, [made], register), value.type.dtype);
      }
      case "gather": {
        const [x, indices] = node.operands as readonly [Value, Value];
        const [axis, batch] = [form.axis(node.attrs), form.batch(node.attrs)];
        const shared = batch > 0 ? index.slice(0, batch) : [];
        const extra = indices.type.shape.length - batch;
        const at = this.read(indices, [...shared, ...index.slice(axis, axis + extra)]);
        return this.read(x, [...index.slice(0, axis), at, ...index.slice(axis + extra)]);
      }
      case "reduction":
        return this.#foldInline(node, form, index);
      case "contraction":
        return this.#productInline(node, form, index);
      default:
        throw new TypeError(`${node.op} is read but was not stored`);
    }
  }

  /** A fold of one accumulator as a loop inside the expression. */
  #foldInline(node: Node, form: Extract<Form<Attrs>, { kind: "reduction" }>, index: readonly Expr[]): Expr {
    const { pool } = this;
    const [operand] = node.operands as readonly [Value];
    const { shape, dtype } = operand.type;
    const axes = form.axes(node.attrs, shape.length);
    const sizes = axes.map((axis) => shape[axis] as Dim);
    const terms = productOfDims(sizes);
    const kept = node.attrs["keepDims"] === true ? index.filter((_, axis) => !axes.includes(axis)) : index;
    const name = `u${node.id}`;
    const place = this.variable(name, terms);
    const x = this.read(operand, weave(shape.length, axes, kept, this.unravel(place, sizes)));
    const register = registerOf(dtype) as Register;
    const s = pool.scalar(register);
    const typed = (e: Expr): Expr => (e.type === "number" ? pool.literal(e.value as number, register) : e);
    const acc = pool.variable(accumulatorOf(name), register);
    const step = typed(form.step(s, [acc], x, place)[0] as Expr);
    const folded = pool.fold(name, terms, pool.literal(form.init(dtype)[0] as number, register), step);
    const count = register === "f32" ? pool.make("to-f32", [pool.dim(terms)], "f32") : pool.dim(terms);
    return pool.narrow(typed(form.finish(s, [folded], count)), (node.results[0] as Value).type.dtype);
  }

  /** A product as a loop inside the expression. */
  #productInline(node: Node, form: Extract<Form<Attrs>, { kind: "contraction" }>, index: readonly Expr[]): Expr {
    const { pool } = this;
    const [lhs, rhs] = node.operands as readonly [Value, Value];
    const spec = form.spec([lhs.type, rhs.type], node.attrs);
    const [left, right, out] = spec.split(/,|->/) as [string, string, string];
    const summed = summedOf(node, form);
    const terms = productOfDims(summed.map(({ size }) => size));
    const name = `u${node.id}`;
    const at = new Map<string, Expr>([...out].map((letter, axis) => [letter, index[axis] as Expr]));
    const places = this.unravel(
      this.variable(name, terms),
      summed.map(({ size }) => size),
    );
    summed.forEach(({ letter }, k) => at.set(letter, places[k] as Expr));
    const operand = (value: Value, letters: string) =>
      this.read(
        value,
        [...letters].map((c) => at.get(c) as Expr),
      );
    const register = registerOf(lhs.type.dtype) as Register;
    const s = pool.scalar(register);
    const acc = pool.variable(accumulatorOf(name), register);
    const step = s.add(acc, s.mul(operand(lhs, left), operand(rhs, right)));
    const folded = pool.fold(name, terms, pool.literal(0, register), step);
    return pool.narrow(folded, (node.results[0] as Value).type.dtype);
  }

  /** What is stored for a result `acc` found at linear index i: the epilogue's root. */
  results(
    { value, root }: Epilogue,
    i: Expr,
    acc: Expr,
    store = (v: Value) => this.#scheduler.bufferOf(v),
  ): readonly Result[] {
    const buffer = store(root);
    if (buffer === undefined) return [];
    this.override(value, acc);
    if (root === value) return [{ buffer, value: acc }];
    return [{ buffer, value: this.inlined(root, this.unravel(i, root.type.shape)) }];
  }
}
