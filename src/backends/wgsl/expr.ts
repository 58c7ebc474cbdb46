// Scalar expressions of a kernel as a directed graph: what the forms of the op table become when they are asked for
// text instead of numbers. Index arithmetic folds as it is built.
import { type Dim, symbolsOf } from "../../ir/dim.ts";
import type { IntScalar, Scalar } from "../../ir/op.ts";
import { type DType, dtypes } from "../../ir/type.ts";

/** What a register holds. Narrow integers compute in 32 bits; bool is stored as u32. */
export type Register = "f32" | "i32" | "u32" | "bool";

/** A number without a type of its own yet takes that of its partner. */
export interface Expr {
  readonly op: string;
  readonly args: readonly Expr[];
  readonly type: Register | "number";
  /** Of a literal. */
  readonly value?: number;
  /** Of a variable, symbol or load: what it names. */
  readonly name?: string;
  /** Largest value plus one, for non-negative index expressions whose range is known. */
  readonly bound?: number;
  /** Elements of the buffer that a load reads from; terms of a fold. */
  readonly elements?: Dim;
  /** Values at once: four neighbours, where vectorised (vector.ts). */
  readonly width?: 4;
}

export function registerOf(dtype: DType): Register | undefined {
  const { kind, bits } = dtypes[dtype];
  if (bits === 64) return undefined;
  if (kind === "float") return "f32";
  return kind === "signed" ? "i32" : kind === "unsigned" ? "u32" : "bool";
}

/** Makes expressions; equal ones are one object, so that shared work is computed once. */
export class ExprPool {
  readonly #known = new Map<string, Expr>();
  readonly #ids = new Map<Expr, number>();

  make(op: string, args: readonly Expr[], type: Expr["type"], rest: Partial<Expr> = {}): Expr {
    const value = Object.is(rest.value, -0) ? "-0" : (rest.value ?? "");
    const key = `${op}|${type}|${rest.width ?? 1}|${rest.name ?? ""}|${value}|${args.map((a) => this.#id(a)).join(",")}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const expr: Expr = { op, args, type, ...rest };
    this.#known.set(key, expr);
    return expr;
  }

  /** Expressions of another pool take part as they are. */
  #id(e: Expr): number {
    const known = this.#ids.get(e) ?? this.#ids.size;
    this.#ids.set(e, known);
    return known;
  }

  literal(value: number, type: Expr["type"] = "number"): Expr {
    const bound = Number.isInteger(value) && value >= 0 ? { bound: value + 1 } : {};
    return this.make("literal", [], type, { value, ...bound });
  }

  variable(name: string, type: Register, bound?: number): Expr {
    return this.make("variable", [], type, { name, ...(bound === undefined ? {} : { bound }) });
  }

  /** A dimension: a literal, or its polynomial over the symbols, read from the uniforms. */
  dim(dim: Dim): Expr {
    return typeof dim === "number" ? this.literal(dim, "i32") : this.make("dim", [], "i32", { name: dim });
  }

  load(buffer: { readonly name: string; readonly register: Register; readonly elements: Dim }, index: Expr): Expr {
    return this.make("load", [index], buffer.register, { name: buffer.name, elements: buffer.elements });
  }

  /**
   * A loop inside an expression: `step` from the variables `name` (0 to terms - 1) and `accumulatorOf(name)`, which
   * starts as `init`.
   */
  fold(name: string, terms: Dim, init: Expr, step: Expr): Expr {
    return this.make("fold", [init, step], step.type, { name, elements: terms });
  }

  readonly index: IntScalar<Expr> = {
    lit: (x) => this.literal(x, "i32"),
    dim: (d) => this.dim(d),
    add: (a, b) => this.#add(a, b),
    sub: (a, b) => {
      if (isLiteral(b, 0)) return a;
      if (a.value !== undefined && b.value !== undefined) return this.literal(a.value - b.value, "i32");
      return this.make("sub", [a, b], "i32");
    },
    mul: (a, b) => this.#mul(a, b),
    div: (a, b) => this.#div(a, b),
    mod: (a, b) => this.#mod(a, b),
    min: (a, b) => this.#fold("min", a, b, Math.min),
    max: (a, b) => (isLiteral(a, 0) && b.bound !== undefined ? b : this.#fold("max", a, b, Math.max)),
    abs: (a) => (a.bound !== undefined ? a : this.make("abs", [a], "i32")),
    less: (a, b) => this.#compare("less", a, b, (x, y) => x < y),
    lessEqual: (a, b) => this.#compare("lessEqual", a, b, (x, y) => x <= y),
    and: (a, b) => {
      if (a.op === "literal") return a.value === 0 ? a : b;
      if (b.op === "literal") return b.value === 0 ? b : a;
      return this.make("and", [a, b], "bool");
    },
  };

  #fold(op: "min" | "max", a: Expr, b: Expr, f: (x: number, y: number) => number): Expr {
    return a.value !== undefined && b.value !== undefined
      ? this.literal(f(a.value, b.value), "i32")
      : this.make(op, [a, b], "i32");
  }

  #compare(op: string, a: Expr, b: Expr, f: (x: number, y: number) => boolean): Expr {
    if (a.value !== undefined && b.value !== undefined) return this.literal(f(a.value, b.value) ? 1 : 0, "bool");
    if (a.bound !== undefined && b.value !== undefined && f(a.bound - 1, b.value)) return this.literal(1, "bool");
    if (a.value !== undefined && a.value <= 0 && b.bound !== undefined && op === "lessEqual")
      return this.literal(1, "bool");
    return this.make(op, [a, b], "bool");
  }

  #add(a: Expr, b: Expr): Expr {
    if (isLiteral(a, 0)) return b;
    if (isLiteral(b, 0)) return a;
    if (a.value !== undefined && b.value !== undefined) return this.literal(a.value + b.value, "i32");
    // (x / c) * c + x % c is x: an index taken apart and put together again, as reshapes do.
    if (a.op === "mul" && b.op === "mod" && a.args[1] === b.args[1]) {
      const [quotient, size] = a.args as readonly [Expr, Expr];
      const [x] = b.args as readonly [Expr];
      if (this.#div(x, size) === quotient) return x;
    }
    if (a.op === "add") {
      const last = this.#add(a.args[1] as Expr, b);
      if (last.op !== "add") return this.#add(a.args[0] as Expr, last);
    }
    const bound = a.bound !== undefined && b.bound !== undefined ? { bound: a.bound + b.bound - 1 } : {};
    return this.make("add", [a, b], "i32", bound);
  }

  #mul(a: Expr, b: Expr): Expr {
    if (isLiteral(a, 0) || isLiteral(b, 0)) return this.literal(0, "i32");
    if (isLiteral(a, 1)) return b;
    if (isLiteral(b, 1)) return a;
    if (a.value !== undefined && b.value !== undefined) return this.literal(a.value * b.value, "i32");
    if (a.value !== undefined) return this.#mul(b, a);
    if (b.value !== undefined && a.op === "mul" && a.args[1]?.value !== undefined)
      return this.#mul(a.args[0] as Expr, this.literal(a.args[1].value * b.value, "i32"));
    const bound = a.bound !== undefined && b.bound !== undefined ? { bound: (a.bound - 1) * (b.bound - 1) + 1 } : {};
    return this.make("mul", [a, b], "i32", bound);
  }

  /** Terms of a sum, left to right. */
  #terms(a: Expr): readonly Expr[] {
    return a.op === "add" ? a.args.flatMap((arg) => this.#terms(arg)) : [a];
  }

  #sum(terms: readonly Expr[]): Expr {
    return terms.reduce((sum, term) => this.#add(sum, term), this.literal(0, "i32"));
  }

  /** Splits a sum into multiples of k (divided by it) and a rest known to lie below k; undefined where it does not. */
  #split(a: Expr, k: number): { quotient: Expr; rest: Expr } | undefined {
    const quotients: Expr[] = [];
    const rests: Expr[] = [];
    for (const term of this.#terms(a)) {
      const factor = term.value ?? (term.op === "mul" ? term.args[1]?.value : undefined);
      if (factor !== undefined && factor % k === 0)
        quotients.push(
          term.value !== undefined
            ? this.literal(factor / k, "i32")
            : this.#mul(term.args[0] as Expr, this.literal(factor / k, "i32")),
        );
      else rests.push(term);
    }
    const rest = this.#sum(rests);
    if (rest.bound === undefined || rest.bound > k) return undefined;
    return { quotient: this.#sum(quotients), rest };
  }

  #div(a: Expr, b: Expr): Expr {
    if (isLiteral(b, 1)) return a;
    if (a.value !== undefined && b.value !== undefined) return this.literal(Math.floor(a.value / b.value), "i32");
    if (a === b) return this.literal(1, "i32");
    if (b.value !== undefined) {
      const split = this.#split(a, b.value);
      if (split !== undefined) return split.quotient;
      if (a.op === "div" && a.args[1]?.value !== undefined)
        return this.#div(a.args[0] as Expr, this.literal(a.args[1].value * b.value, "i32"));
    }
    const bound =
      a.bound !== undefined && b.value !== undefined ? { bound: Math.floor((a.bound - 1) / b.value) + 1 } : {};
    return this.make("div", [a, b], "i32", bound);
  }

  #mod(a: Expr, b: Expr): Expr {
    if (isLiteral(b, 1)) return this.literal(0, "i32");
    if (a.value !== undefined && b.value !== undefined) return this.literal(a.value % b.value, "i32");
    if (b.value !== undefined) {
      const split = this.#split(a, b.value);
      if (split !== undefined) return split.rest;
    }
    return this.make("mod", [a, b], "i32", b.value === undefined ? {} : { bound: b.value });
  }

  /** Arithmetic on registers for one op, whose own operand type is `own` (that of untyped numbers). */
  scalar(own: Register): Scalar<Expr> {
    const typed = (x: Expr, type: Expr["type"]): Expr =>
      x.type === "number" ? this.literal(x.value as number, type === "number" ? own : type) : x;
    const pair = (op: string, type?: Register) => (a: Expr, b: Expr) => {
      const common = a.type === "number" ? b.type : a.type;
      const [x, y] = [typed(a, common), typed(b, common)];
      const result = type ?? (x.type as Register);
      // Marked, because numbers of a tensor may be negative or wrap, and so never fold as an index does.
      return this.make(op, [x, y], result, result === "i32" ? { name: ofTensor } : {});
    };
    const one = (op: string, type?: Register) => (a: Expr) => {
      const x = typed(a, own);
      return this.make(op, [x], type ?? (x.type as Register));
    };
    return {
      lit: (x) => this.literal(x),
      add: pair("add"),
      sub: pair("sub"),
      mul: pair("mul"),
      div: pair("div"),
      intDiv: pair("div"),
      mod: pair("floorMod"),
      pow: pair("pow"),
      min: pair("min"),
      max: pair("max"),
      neg: one("neg"),
      abs: one("abs"),
      sign: one("sign"),
      exp: one("exp"),
      log: one("log"),
      log1p: one("log1p"),
      expm1: one("expm1"),
      sqrt: one("sqrt"),
      rsqrt: one("rsqrt"),
      sin: one("sin"),
      cos: one("cos"),
      tanh: one("tanh"),
      erf: one("erf"),
      floor: one("floor"),
      ceil: one("ceil"),
      trunc: one("trunc"),
      round: one("round"),
      equal: pair("equal", "bool"),
      less: pair("less", "bool"),
      lessEqual: pair("lessEqual", "bool"),
      isNan: one("isNan", "bool"),
      isInf: one("isInf", "bool"),
      and: pair("and", "bool"),
      or: pair("or", "bool"),
      xor: pair("xor", "bool"),
      not: one("not", "bool"),
      bitAnd: pair("bitAnd"),
      bitOr: pair("bitOr"),
      bitXor: pair("bitXor"),
      bitNot: one("bitNot"),
      shiftLeft: pair("shiftLeft"),
      shiftRight: pair("shiftRight"),
      select: (condition, yes, no) => {
        const common = yes.type === "number" ? no.type : yes.type;
        const [y, n] = [typed(yes, common), typed(no, common)];
        return this.make("select", [condition, y, n], y.type as Register);
      },
      cast: (a, from, to) => this.cast(typed(a, registerOf(from) ?? own), to),
    };
  }

  cast(x: Expr, to: DType): Expr {
    const register = registerOf(to) as Register;
    const moved = x.type === register ? x : this.make(`to-${register}`, [x], register);
    return this.narrow(moved, to);
  }

  /** Wraps a 32-bit result to the range of a narrower integer kind. */
  narrow(x: Expr, dtype: DType): Expr {
    const { kind, bits } = dtypes[dtype];
    if (bits >= 32 || (kind !== "signed" && kind !== "unsigned")) return x;
    return this.make(kind === "signed" ? "wrapSigned" : "wrapUnsigned", [x], x.type, { value: bits });
  }
}

const ofTensor = "tensor";
const isLiteral = (x: Expr, value: number): boolean => x.op === "literal" && x.value === value;

/** Every symbol whose value an expression needs. */
export function symbolsIn(roots: readonly Expr[]): ReadonlySet<string> {
  const out = new Set<string>();
  walk(roots, (e) => {
    if (e.op === "dim") for (const symbol of symbolsOf(e.name as string)) out.add(symbol);
  });
  return out;
}

export const accumulatorOf = (fold: string): string => `${fold}acc`;

const everything = (): boolean => true;

/** Visits each expression below the roots once, operands first; below an expression only where `into` says so. */
export function walk(roots: readonly Expr[], visit: (e: Expr) => void, into: (e: Expr) => boolean = everything): void {
  const seen = new Set<Expr>();
  const stack: { e: Expr; next: number }[] = [];
  for (const root of roots) {
    if (seen.has(root)) continue;
    stack.push({ e: root, next: 0 });
    seen.add(root);
    while (stack.length > 0) {
      const top = stack.at(-1) as { e: Expr; next: number };
      const arg = into(top.e) ? top.e.args[top.next++] : undefined;
      if (arg === undefined) {
        visit(top.e);
        stack.pop();
      } else if (!seen.has(arg)) {
        seen.add(arg);
        stack.push({ e: arg, next: 0 });
      }
    }
  }
}

/**
 * An expression made anew in a pool, so that index arithmetic folds again: variables replaced by name, loads by what
 * `loads` gives for them and their new index.
 */
export function rebuild(
  pool: ExprPool,
  root: Expr,
  replace: ReadonlyMap<string, Expr>,
  loads: (load: Expr, index: Expr) => Expr | undefined,
): Expr {
  const made = new Map<Expr, Expr>();
  walk([root], (e) => {
    const args = e.args.map((arg) => made.get(arg) as Expr);
    made.set(e, remake(pool, e, args, replace, loads));
  });
  return made.get(root) as Expr;
}

const indexOps: ReadonlySet<string> = new Set(["add", "sub", "mul", "div", "mod", "min", "max"]);

/** Whether an expression is arithmetic on indices, not on integers of a tensor. */
export const isIndexArithmetic = ({ op, type, name }: Expr): boolean =>
  type === "i32" && indexOps.has(op) && name !== ofTensor;

function remake(
  pool: ExprPool,
  e: Expr,
  args: readonly Expr[],
  replace: ReadonlyMap<string, Expr>,
  loads: (load: Expr, index: Expr) => Expr | undefined,
): Expr {
  const { op, type, name, value, bound, elements } = e;
  const rest = {
    ...(name !== undefined && { name }),
    ...(value !== undefined && { value }),
    ...(bound !== undefined && { bound }),
    ...(elements !== undefined && { elements }),
  };
  const [a, b] = args as readonly [Expr, Expr];
  if (op === "variable") return replace.get(name as string) ?? pool.make(op, [], type, rest);
  if (op === "load") return loads(e, a) ?? pool.make(op, args, type, rest);
  if (isIndexArithmetic(e)) return pool.index[op as "add" | "sub" | "mul" | "div" | "mod" | "min" | "max"](a, b);
  return pool.make(op, args, type, rest);
}
