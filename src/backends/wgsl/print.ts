// Expressions as WGSL. Shared ones become `let`s; nothing here decides what is computed.
import type { Expr } from "./expr.ts";
import { walk } from "./expr.ts";
import { definitions, inLibrary, wideName } from "./library.ts";

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
  #count = 0;

  constructor(names: Names) {
    this.#names = names;
  }

  /** `let`s for what the roots share, then a text for each root. Scopes nest: what was bound before stays bound. */
  statements(roots: readonly Expr[], indent: string): { lines: readonly string[]; texts: readonly string[] } {
    const uses = new Map<Expr, number>();
    const order: Expr[] = [];
    walk(roots, (e) => {
      order.push(e);
      for (const arg of e.args) uses.set(arg, (uses.get(arg) ?? 0) + (repeatsIndex.has(e.op) ? 2 : 1));
    });
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
    const args = e.args.map((arg) => (wide && arg.width === undefined ? this.wideText(arg) : this.text(arg)));
    const [a, b, c] = args as [string, string, string];
    switch (e.op) {
      case "literal":
        return e.type === "i32" && (e.value as number) > 1 ? this.#names.size(e.value as number) : literalText(e);
      case "variable":
        return e.name as string;
      case "lanes":
        return `(vec4<i32>(${e.args[0]?.name}) + vec4<i32>(0, 1, 2, 3))`;
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
        if (name === undefined) throw new TypeError(`no WGSL for ${e.op}`);
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

  /** Definitions that the printed text needs. */
  prelude(): string {
    return definitions(this.#used);
  }
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
