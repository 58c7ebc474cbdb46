// Expressions as WGSL. Shared ones become `let`s; nothing here decides what is computed.
import { InternalError } from "../../ir/diagnostic.ts";
import { divideDims } from "../../ir/dim.ts";
import type { Dim } from "../../ir/type.ts";
import { accumulatorOf, type Expr, walk } from "./expr.ts";
import { definitions, inLibrary, wideName } from "./library.ts";
import { lanes, Vectoriser } from "./vector.ts";

/** How loads and sizes are spelt in the kernel at hand. */
export interface Names {
  /** A size: a number or a polynomial in the symbols. */
  size(dim: number | string): string;
  load(load: Expr, index: string): string;
}

const infix: Readonly<Record<string, string>> = {
  add: "+", sub: "-", mul: "*", div: "/", mod: "%", less: "<", lessEqual: "<=", equal: "==", and: "&&", or: "||", xor: "!=",
  bitAnd: "&", bitOr: "|", bitXor: "^",
}; // biome-ignore format: a table
const calls: Readonly<Record<string, string>> = {
  min: "min", max: "max", abs: "abs", sign: "sign", exp: "exp", log: "log", sqrt: "sqrt", rsqrt: "inverseSqrt", sin: "sin_",
  cos: "cos_", floor: "floor", ceil: "ceil", trunc: "trunc", round: "round", tanh: "tanh_", erf: "erf_", log1p: "log1p_",
  expm1: "expm1_", pow: "pow_", isNan: "isNan_", isInf: "isInf_",
}; // biome-ignore format: a table

/** Loads that print their index more than once. */
const repeatsIndex: ReadonlySet<string> = new Set(["load4", "gather4"]);

/** Prints statements and remembers which library functions they called. */
export class Printer {
  readonly #names: Names;
  readonly #used = new Set<string>();
  readonly #lets = new Map<Expr, string>();
  readonly #folds = new Map<Expr, string>();
  readonly #renamed = new Map<string, string>();
  readonly #functions: string[] = [];
  #count = 0;

  constructor(names: Names) {
    this.#names = names;
  }

  /** `let`s for what the roots share, then a text for each root. Scopes nest: what was bound before stays bound. */
  statements(roots: readonly Expr[], indent: string): { lines: readonly string[]; texts: readonly string[] } {
    const uses = new Map<Expr, number>();
    const order: Expr[] = [];
    const outsideFolds = (e: Expr): boolean => e.op !== "fold";
    const count = (e: Expr): void => {
      order.push(e);
      if (outsideFolds(e))
        for (const arg of e.args) uses.set(arg, (uses.get(arg) ?? 0) + (repeatsIndex.has(e.op) ? 2 : 1));
    };
    walk(roots, count, outsideFolds);
    const lines: string[] = [];
    for (const e of order) {
      if (e.args.length === 0 || this.#lets.has(e) || (uses.get(e) ?? 0) < 2) continue;
      const text = this.#text(e);
      const name = `t${this.#count++}`;
      lines.push(`${indent}let ${name} = ${text};`);
      this.#lets.set(e, name);
    }
    return { lines, texts: roots.map((root) => this.text(root)) };
  }

  /** A `let` for each of the roots, whether it is shared or not. */
  bind(roots: readonly Expr[], indent: string): readonly string[] {
    const lines = [...this.statements(roots, indent).lines];
    for (const root of roots) {
      if (this.#lets.has(root)) continue;
      const name = `t${this.#count++}`;
      lines.push(`${indent}let ${name} = ${this.#text(root)};`);
      this.#lets.set(root, name);
    }
    return lines;
  }

  /** Forgets the `let`s of a block that has closed. */
  block<T>(body: () => T): T {
    const before = new Map(this.#lets);
    const result = body();
    this.#lets.clear();
    for (const [e, name] of before) this.#lets.set(e, name);
    return result;
  }

  text(e: Expr): string {
    return this.#lets.get(e) ?? this.#text(e);
  }

  /** As wide as four lanes, whether the expression is or not. */
  wideText(e: Expr): string {
    return e.width === 4 ? this.text(e) : `vec4<${e.type}>(${this.text(e)})`;
  }

  #text(e: Expr): string {
    const wide = e.width === 4;
    if (e.op === "fold") return this.#fold(e);
    const args = e.args.map((arg) => (wide && arg.width === undefined ? this.wideText(arg) : this.text(arg)));
    const [a, b, c] = args as [string, string, string];
    switch (e.op) {
      case "literal":
        return e.type === "i32" && (e.value as number) > 1 ? this.#names.size(e.value as number) : literalText(e);
      case "variable":
        return this.#renamed.get(e.name as string) ?? (e.name as string);
      case "lanes": {
        const name = e.args[0]?.name as string;
        return `(vec4<i32>(${this.#renamed.get(name) ?? name}) + vec4<i32>(0, 1, 2, 3))`;
      }
      case "dim":
        return this.#names.size(e.name as string);
      case "load":
      case "gather4":
        return this.#names.load(e, a);
      case "load4":
        return this.#names.load(e, this.text(e.args[0] as Expr));
      case "neg":
        return `(-${a})`;
      case "not":
        return `(!${a})`;
      case "bitNot":
        return `(~${a})`;
      case "select":
        return `select(${c}, ${b}, ${a})`;
      case "shiftLeft":
      case "shiftRight":
        return `(${a} ${e.op === "shiftLeft" ? "<<" : ">>"} ${wide ? "vec4<u32>" : "u32"}(${b}))`;
      case "floorMod":
        if (e.type === "u32") return `(${a} % ${b})`;
        return this.#call(e, e.type === "f32" ? "floorModF" : "floorModI", args);
      case "wrapSigned": {
        const shift = `${wide ? "vec4<u32>" : ""}(${32 - (e.value as number)}u)`;
        return `((${a} << ${shift}) >> ${shift})`;
      }
      case "wrapUnsigned":
        return `(${a} & ${wide ? "vec4<u32>" : ""}(${2 ** (e.value as number) - 1}u))`;
      case "to-f32":
      case "to-i32":
      case "to-u32": {
        const type = e.op.slice(3);
        if (e.args[0]?.type !== "bool") return `${wide ? `vec4<${type}>` : type}(${a})`;
        return `select(${this.#constant(e, 0)}, ${this.#constant(e, 1)}, ${a})`;
      }
      case "to-bool":
        return `(${a} != ${this.#constant({ ...(e.args[0] as Expr), ...(wide && { width: 4 }) }, 0)})`;
      default: {
        if (e.op === "equal" && e.args[0]?.type === "bool") return `(${a} == ${b})`;
        if (wide && (e.op === "and" || e.op === "or")) return `(${a} ${e.op === "and" ? "&" : "|"} ${b})`;
        const sign = infix[e.op];
        if (sign !== undefined) return `(${a} ${sign} ${b})`;
        const name = calls[e.op];
        if (name === undefined) throw new InternalError(`no WGSL for ${e.op}`);
        if (e.op === "abs" && e.type === "u32") return a;
        return this.#call(e, name, args);
      }
    }
  }

  #constant(e: Expr, value: number): string {
    const text = literalText({ value, type: e.type });
    return e.width === 4 ? `vec4<${e.type}>(${text})` : text;
  }

  #call(e: Expr, name: string, args: readonly string[]): string {
    const called = e.width === 4 && inLibrary(name) ? wideName(name) : name;
    this.#used.add(called);
    return `${called}(${args.join(", ")})`;
  }

  /** A call of the function that runs a loop; its variables are handed over by name. */
  #fold(e: Expr): string {
    const name = this.#folds.get(e) ?? this.#defineFold(e);
    const args = freeVariables(e).map((v) => this.text(v));
    return `${name}(${args.join(", ")})`;
  }

  #defineFold(e: Expr): string {
    const index = this.#folds.size;
    const name = `fold${index}`;
    this.#folds.set(e, name);
    const variable = e.name as string;
    const accumulator = accumulatorOf(variable);
    const free = freeVariables(e);
    const along = e.width === undefined ? foldedTogether(e) : undefined;
    const [init, step] = [e.args[0] as Expr, along ?? (e.args[1] as Expr)];
    const width = e.width === 4 || along !== undefined ? 4 : 1;
    const before = new Map(this.#renamed);
    const args = free.map((v) => `${this.text(v)}: ${v.width === 4 ? `vec4<${v.type}>` : v.type}`);
    this.#renamed.set(variable, `u${index}`);
    this.#renamed.set(accumulator, `a${index}_`);
    const lines = this.#apart(() => {
      const { lines, texts } = this.statements([step], "    ");
      const type = width === 4 ? `vec4<${e.type}>` : e.type;
      const first = along === undefined && width === 4 ? this.wideText(init) : along ? `${type}()` : this.text(init);
      const result = width === 4 && along === undefined ? this.wideText(step) : (texts[0] as string);
      const sum = `a${index}_.x + a${index}_.y + a${index}_.z + a${index}_.w + ${along ? this.text(init) : ""}`;
      return [
        `fn ${name}(${args.join(", ")}) -> ${e.width === 4 ? type : e.type} {`,
        `  var a${index}_ = ${first};`,
        `  for (var u${index} = 0; u${index} < ${this.#names.size(e.elements as Dim)}; u${index} += ${along ? 4 : 1}) {`,
        ...lines,
        `    a${index}_ = ${along ? this.wideText(step) : result};`,
        "  }",
        `  return ${along ? sum : `a${index}_`};`,
        "}",
      ];
    });
    this.#renamed.clear();
    for (const [from, to] of before) this.#renamed.set(from, to);
    this.#functions.push(...lines);
    return name;
  }

  /** Prints inside a function of its own, where no `let` of the caller is known. */
  #apart<T>(body: () => T): T {
    return this.block(() => {
      this.#lets.clear();
      return body();
    });
  }

  /** Definitions that the printed text needs. */
  prelude(): string {
    return [definitions(this.#used), ...this.#functions].join("\n");
  }
}

/** Variables that a loop reads but does not bind, each once. */
function freeVariables(fold: Expr): readonly Expr[] {
  const bound = new Set<string>();
  const found = new Map<string, Expr>();
  walk([fold], (e) => {
    if (e.op === "fold") for (const name of [e.name as string, accumulatorOf(e.name as string)]) bound.add(name);
    if (e.op === "variable") found.set(e.name as string, e);
  });
  return [...found].filter(([name]) => !bound.has(name)).map(([, v]) => v);
}

/** The step of a sum with four terms at once, where that reads memory in fours; undefined elsewhere. */
function foldedTogether(fold: Expr): Expr | undefined {
  const [, step] = fold.args as readonly [Expr, Expr];
  const accumulator = accumulatorOf(fold.name as string);
  const [acc, term] = step.args as readonly [Expr, Expr | undefined];
  if (step.op !== "add" || acc?.op !== "variable" || acc.name !== accumulator || term === undefined) return undefined;
  if (divideDims(fold.elements as Dim, lanes) === undefined) return undefined;
  const wide = new Vectoriser(fold.name as string, { wide: [accumulator] }).of(step);
  let together = false;
  walk([wide], (e) => {
    together ||= e.op === "load4";
  });
  return together ? wide : undefined;
}

export function literalText({ value, type }: { readonly value?: number; readonly type: Expr["type"] }): string {
  const x = value as number;
  if (type === "bool") return x !== 0 ? "true" : "false";
  if (type === "i32") return x === -2147483648 ? "i32(-2147483647 - 1)" : String(x);
  if (type === "u32") return `${x}u`;
  if (Number.isNaN(x)) return "bitcast<f32>(nan_bits)";
  if (x === Infinity) return "bitcast<f32>(inf_bits)";
  if (x === -Infinity) return "(-bitcast<f32>(inf_bits))";
  const rounded = Math.fround(x);
  if (!Number.isFinite(rounded)) return x > 0 ? "bitcast<f32>(inf_bits)" : "(-bitcast<f32>(inf_bits))";
  const text = String(rounded);
  return `${/[.e]/.test(text) ? text : `${text}.0`}${/e/.test(text) ? "f" : ""}`;
}
