// Values at index expressions: loads of what has memory, the arithmetic itself for all else.
import { InternalError } from "../../ir/diagnostic.ts";
import { productOfDims } from "../../ir/dim.ts";
import type { Attrs, Node, Value } from "../../ir/graph.ts";
import type { Form } from "../../ir/op.ts";
import type { Dim } from "../../ir/type.ts";
import { accumulatorOf, type Expr, ExprPool, type Register, registerOf } from "./expr.ts";
import type { Result } from "./kernel.ts";
import { formOf } from "./rowwise.ts";
import type { Epilogue, Scheduler } from "./schedule.ts";

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
      throw new InternalError("a constant of several elements has no memory");
    }
    const form = formOf(producer.op, this.#scheduler.registry);
    if (form === undefined) throw new InternalError(`${producer.op} is read but was not stored`);
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
        throw new InternalError(`${node.op} is read but was not stored`);
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
