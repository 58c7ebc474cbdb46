// Expressions as WGSL. Shared ones become `let`s; nothing here decides what is computed.
import type { Expr } from "./expr.ts";
import { walk } from "./expr.ts";

/** How loads and dimensions are spelt in the kernel at hand. */
export interface Names {
  dim(text: string): string;
  load(buffer: string, index: string, type: Expr["type"]): string;
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

/** Functions that WGSL lacks, or whose built-in leaves edge cases open. Printed only where used. */
const library: Readonly<Record<string, string>> = {
  tanh_: "fn tanh_(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }", // overflows in some drivers beyond
  erf_: `fn erf_(x: f32) -> f32 {
  // Near 0 the Maclaurin series; beyond it a Chebyshev fit of erfc with a relative error of 1.2e-7.
  let a = abs(x);
  if (a < 1.0) {
    let t = x * x;
    return x * (1.1283791671 + t * (-0.37612638903 + t * (0.11283791671 + t * (-0.026866170645 + t * (0.0052239776254 + t * (-0.00085483270234 + t * (0.00012055332982 + t * (-0.0000149256503 + t * 0.0000016462113))))))));
  }
  let z = 1.0 / (1.0 + 0.5 * a);
  let y = z * exp(-a * a - 1.26551223 + z * (1.00002368 + z * (0.37409196 + z * (0.09678418 + z * (-0.18628806 + z * (0.27886807 + z * (-1.13520398 + z * (1.48851587 + z * (-0.82215223 + z * 0.17087277)))))))));
  return sign(x) * (1.0 - y);
}`,
  // WGSL allows errors of 2^-11; quadrants of pi/2 taken off in three parts (Cody and Waite), then Taylor polynomials.
  quadrant_: `fn quadrant_(x: f32, shift: i32) -> f32 {
  let turns = round(x * 0.63661977);
  let r = ((x - turns * 1.5707855) - turns * 0.000010804334) - turns * 6.077094e-11;
  let t = r * r;
  let s = r + r * t * (-0.16666667 + t * (0.008333333 + t * (-0.00019841270 + t * 0.0000027557319)));
  let c = 1.0 - 0.5 * t + t * t * (0.041666668 + t * (-0.0013888889 + t * (0.000024801587 - t * 2.755732e-7)));
  let quarter = (i32(turns) + shift) & 3;
  let size = select(s, c, (quarter & 1) == 1);
  return select(size, -size, quarter >= 2);
}`,
  sin_: "fn sin_(x: f32) -> f32 { return quadrant_(x, 0); }",
  cos_: "fn cos_(x: f32) -> f32 { return quadrant_(x, 1); }",
  log1p_: "fn log1p_(x: f32) -> f32 { let u = 1.0 + x; if (u == 1.0) { return x; } return log(u) * (x / (u - 1.0)); }",
  expm1_: `fn expm1_(x: f32) -> f32 {
  if (abs(x) < 0.25) { return x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.0083333333 + x * 0.0013888889))))); }
  return exp(x) - 1.0;
}`,
  pow_: `fn pow_(a: f32, b: f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (a >= 0.0) { return pow(a, b); }
  let whole = floor(b) == b;
  let size = pow(-a, b);
  if (!whole) { return bitcast<f32>(nan_bits); }
  return select(size, -size, floor(b * 0.5) * 2.0 != b);
}`,
  isNan_: "fn isNan_(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }",
  isInf_: "fn isInf_(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }",
  floorModF: "fn floorModF(a: f32, b: f32) -> f32 { return a - b * floor(a / b); }",
  floorModI:
    "fn floorModI(a: i32, b: i32) -> i32 { let r = a % b; return select(r, r + b, r != 0 && ((r < 0) != (b < 0))); }",
};
/** Infinities are no literals of WGSL, and folding them at compile time is an error: they are read from variables. */
const bits = "var<private> inf_bits: u32 = 0x7f800000u;\nvar<private> nan_bits: u32 = 0x7fc00000u;";

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
      for (const arg of e.args) uses.set(arg, (uses.get(arg) ?? 0) + 1);
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

  #text(e: Expr): string {
    const [a, b, c] = e.args.map((arg) => this.text(arg)) as [string, string, string];
    switch (e.op) {
      case "literal":
        return literalText(e);
      case "variable":
        return e.name as string;
      case "dim":
        return this.#names.dim(e.name as string);
      case "load":
        return this.#names.load(e.name as string, a, e.type);
      case "neg":
        return `(-${a})`;
      case "not":
        return `(!${a})`;
      case "bitNot":
        return `(~${a})`;
      case "select":
        return `select(${c}, ${b}, ${a})`;
      case "shiftLeft":
        return `(${a} << u32(${b}))`;
      case "shiftRight":
        return `(${a} >> u32(${b}))`;
      case "floorMod":
        return this.#call(e.type === "f32" ? "floorModF" : e.type === "i32" ? "floorModI" : "%", a, b);
      case "wrapSigned":
        return `((${a} << ${32 - (e.value as number)}u) >> ${32 - (e.value as number)}u)`;
      case "wrapUnsigned":
        return `(${a} & ${2 ** (e.value as number) - 1}u)`;
      case "to-f32":
      case "to-i32":
      case "to-u32":
        return e.args[0]?.type === "bool" ? `select(${zero(e)}, ${oneOf(e)}, ${a})` : `${e.type}(${a})`;
      case "to-bool":
        return `(${a} != ${e.args[0]?.type === "f32" ? "0.0" : e.args[0]?.type === "u32" ? "0u" : "0"})`;
      default: {
        if (e.op === "equal" && e.args[0]?.type === "bool") return `(${a} == ${b})`;
        const sign = infix[e.op];
        if (sign !== undefined) return `(${a} ${sign} ${b})`;
        const name = calls[e.op];
        if (name === undefined) throw new TypeError(`no WGSL for ${e.op}`);
        if (e.op === "abs" && e.type === "u32") return a;
        return this.#call(name, ...e.args.map((arg) => this.text(arg)));
      }
    }
  }

  #call(name: string, ...args: readonly string[]): string {
    if (name === "%") return `(${args[0]} % ${args[1]})`;
    this.#used.add(name);
    for (const needed of library[name]?.match(/\b\w+_(?=\()/g) ?? []) this.#used.add(needed);
    return `${name}(${args.join(", ")})`;
  }

  /** Definitions that the printed text needs. */
  prelude(): string {
    return [
      bits,
      ...Object.entries(library)
        .filter(([name]) => this.#used.has(name))
        .map(([, text]) => text),
    ].join("\n");
  }
}

const zero = (e: Expr) => (e.type === "f32" ? "0.0" : e.type === "u32" ? "0u" : "0");
const oneOf = (e: Expr) => (e.type === "f32" ? "1.0" : e.type === "u32" ? "1u" : "1");

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
