import { OpError } from "./diagnostic.ts";

/**
 * A dimension: a size, or a polynomial in named symbols as canonical text: `batch`, `n-8`, `197*batch`, `(n-1)//2`.
 * Symbols stand for positive integers. Equal polynomials have equal text, so `===` compares dimensions.
 */
export type Dim = number | string;

/** Monomial key ("batch", "batch*n", "" for the constant) to integer coefficient. */
type Polynomial = ReadonlyMap<string, number>;

/** Polynomials by text, of what was read or printed: two generations, the older one dropped when the newer is full. */
let [parsed, parsedBefore] = [new Map<string, Polynomial>(), new Map<string, Polynomial>()];
const cacheLimit = 4096; // texts in a generation

function remember(text: string, p: Polynomial): Polynomial {
  if (parsed.size >= cacheLimit) [parsed, parsedBefore] = [new Map(), parsed];
  parsed.set(text, p);
  return p;
}

function recall(text: string): Polynomial | undefined {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const older = parsedBefore.get(text);
  return older === undefined ? undefined : remember(text, older);
}

/** Reads dimension text into its canonical form; `bad-dimension` on anything else. */
export function parseDim(text: string): Dim {
  return print(polynomialOf(text));
}

export function isStatic(dim: Dim): dim is number {
  return typeof dim === "number";
}

export const addDims = (a: Dim, b: Dim): Dim =>
  typeof a === "number" && typeof b === "number" ? a + b : print(sum(polynomialOf(a), polynomialOf(b), 1));

export const subtractDims = (a: Dim, b: Dim): Dim =>
  typeof a === "number" && typeof b === "number" ? a - b : print(sum(polynomialOf(a), polynomialOf(b), -1));

export const multiplyDims = (a: Dim, b: Dim): Dim =>
  typeof a === "number" && typeof b === "number" ? a * b : print(product(polynomialOf(a), polynomialOf(b)));

export const productOfDims = (dims: readonly Dim[]): Dim => dims.reduce(multiplyDims, 1);

/** Exact quotient a / b, or undefined where it is not a polynomial with integer coefficients. */
export function divideDims(a: Dim, b: Dim): Dim | undefined {
  if (typeof a === "number" && typeof b === "number") return b !== 0 && a % b === 0 ? a / b : undefined;
  const divisor = polynomialOf(b);
  if (divisor.size !== 1) {
    // The one case met beyond monomials: p / p, and multiples c*p / p.
    const dividend = polynomialOf(a);
    const [key, coefficient] = divisor.entries().next().value ?? ["", 0];
    const ratio = (dividend.get(key) ?? 0) / coefficient;
    if (!Number.isInteger(ratio) || ratio === 0) return undefined;
    return multiplyDims(ratio, b) === a ? ratio : undefined;
  }
  const [divisorKey, divisorCoefficient] = divisor.entries().next().value as [string, number];
  const out = new Map<string, number>();
  for (const [key, coefficient] of polynomialOf(a)) {
    if (coefficient % divisorCoefficient !== 0) return undefined;
    const atoms = [...atomsOf(key)];
    for (const atom of atomsOf(divisorKey)) {
      const at = atoms.indexOf(atom);
      if (at < 0) return undefined;
      atoms.splice(at, 1);
    }
    out.set(atoms.join("*"), coefficient / divisorCoefficient);
  }
  return print(out);
}

/** floor(a / k) for a positive integer k; exact where k divides every coefficient, else with a `(a)//k` atom. */
export const floorDivide = (a: Dim, k: number): Dim =>
  typeof a === "number" ? Math.floor(a / k) : print(floorQuotient(polynomialOf(a), k));

/** floor((floor(p / j) + c) / k) = floor((p + c j) / (j k)), so that a chain of divisions is one. */
function floorQuotient(a: Polynomial, k: number): Polynomial {
  const constant = a.get("") ?? 0;
  const terms = [...a].filter(([key]) => key !== "");
  const [key, coefficient] = terms[0] ?? ["", 0];
  const inner = terms.length === 1 && coefficient === 1 ? divisionOf(key) : undefined;
  if (inner !== undefined) {
    const shifted = sum(polynomialOf(inner.dividend), polynomialOf(constant * inner.divisor), 1);
    return floorQuotient(shifted, exact(inner.divisor * k));
  }
  const whole = new Map<string, number>();
  const rest = new Map<string, number>();
  for (const [key, coefficient] of a) {
    const quotient = Math.floor(coefficient / k);
    if (quotient !== 0) whole.set(key, quotient);
    const remainder = coefficient - quotient * k;
    if (remainder !== 0) rest.set(key, remainder);
  }
  if (whole.size > 0 && rest.size > 0) return sum(whole, floorQuotient(rest, k), 1); // the rest may be one division
  const left = print(rest);
  if (typeof left === "number") return whole; // a constant remainder below k adds nothing
  const atom = `${/^[A-Za-z_]\w*$/.test(left) ? left : `(${left})`}//${k}`;
  if (nesting(atom) > maxDepth) throw new OpError("bad-dimension", `a division within ${maxDepth} others`);
  return sum(whole, new Map([[atom, 1]]), 1);
}

/** Parentheses within parentheses, as the reader counts them. */
function nesting(text: string): number {
  let depth = 0;
  let most = 0;
  for (const char of text) {
    if (char === "(") most = Math.max(most, ++depth);
    else if (char === ")") depth--;
  }
  return most;
}

/** The parts of a `(p)//k` atom; undefined for a symbol or a product of atoms. */
function divisionOf(key: string): { dividend: string; divisor: number } | undefined {
  if (splitAtoms(key).length !== 1) return undefined;
  const match = /^(.*)\/\/(\d+)$/.exec(key);
  return match === null ? undefined : { dividend: stripParentheses(match[1] as string), divisor: Number(match[2]) };
}

/** The value of a dimension once symbols are bound; `unbound-symbol` where one is missing. */
export function evaluateDim(dim: Dim, symbols: ReadonlyMap<string, number>): number {
  if (typeof dim === "number") return dim;
  const missing = symbolsOf(dim).filter((s) => !symbols.has(s));
  if (missing.length > 0)
    throw new OpError("unbound-symbol", `dimension ${dim} needs a value for ${missing.join(", ")}`);
  const valueOf = (p: Polynomial): number => {
    let total = 0;
    for (const [key, coefficient] of p) {
      let term = coefficient;
      for (const atom of atomsOf(key)) {
        const division = divisionOf(atom);
        term *= division
          ? Math.floor(valueOf(polynomialOf(division.dividend)) / division.divisor)
          : (symbols.get(atom) as number);
      }
      total += term;
    }
    return total;
  };
  return valueOf(polynomialOf(dim));
}

/** Replaces symbols by sizes or other dimensions. */
export const substituteDim = (dim: Dim, symbols: ReadonlyMap<string, Dim>): Dim =>
  typeof dim === "number" ? dim : print(substituted(polynomialOf(dim), symbols));

function substituted(p: Polynomial, symbols: ReadonlyMap<string, Dim>): Polynomial {
  let total: Polynomial = new Map();
  for (const [key, coefficient] of p) {
    let term: Polynomial = new Map([["", coefficient]]);
    for (const atom of atomsOf(key)) {
      const division = divisionOf(atom);
      const factor = division
        ? floorQuotient(substituted(polynomialOf(division.dividend), symbols), division.divisor)
        : polynomialOf(symbols.get(atom) ?? atom);
      term = product(term, factor);
    }
    total = sum(total, term, 1);
  }
  return total;
}

/** Names of the symbols in a dimension, each once, in order of appearance. */
export function symbolsOf(dim: Dim): string[] {
  return typeof dim === "number" ? [] : [...new Set(dim.match(/[A-Za-z_]\w*/g) ?? [])];
}

export const sameShape = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((dim, axis) => dim === b[axis]);

// Grammar: sum = ["-"] term { ("+" | "-") term }; term = factor { "*" factor };
//          factor = (integer | symbol | "(" sum ")") [ "//" integer ]
// The limits hold for what is read and for what arithmetic gives, so that every canonical text can be read again.
const maxDimText = 4000; // characters, of a text and of a polynomial's monomials together
const maxTerms = 512;
const maxDegree = 64; // factors of a monomial
const maxDepth = 16; // nested parentheses

function polynomialOf(dim: Dim): Polynomial {
  if (typeof dim === "number") return new Map(dim === 0 ? [] : [["", dim]]);
  const known = recall(dim);
  if (known !== undefined) return known;
  const bad = () => new OpError("bad-dimension", `${JSON.stringify(dim.slice(0, 60))} is not a dimension`);
  if (dim.length > maxDimText) throw bad();
  const tokens = dim.match(/\s+|\/\/|[()*+-]|\d+|[A-Za-z_]\w*|./gsu)?.filter((t) => t.trim() !== "") ?? [];
  let at = 0;
  const readSum = (depth: number): Polynomial => {
    if (depth > maxDepth) throw bad();
    let total: Polynomial = new Map();
    let sign = 1;
    if (tokens[at] === "-") {
      sign = -1;
      at++;
    }
    for (;;) {
      total = sum(total, readTerm(depth), sign);
      const next = tokens[at];
      if (next !== "+" && next !== "-") return total;
      sign = next === "+" ? 1 : -1;
      at++;
    }
  };
  const readTerm = (depth: number): Polynomial => {
    let total = readFactor(depth);
    while (tokens[at] === "*") {
      at++;
      total = product(total, readFactor(depth));
    }
    return total;
  };
  const readFactor = (depth: number): Polynomial => {
    const token = tokens[at++];
    if (token === undefined) throw bad();
    let base: Polynomial;
    if (token === "(") {
      base = readSum(depth + 1);
      if (tokens[at++] !== ")") throw bad();
    } else if (/^\d+$/.test(token)) {
      if (!Number.isSafeInteger(Number(token))) throw bad();
      base = polynomialOf(Number(token));
    } else if (/^[A-Za-z_]/.test(token)) base = new Map([[token, 1]]);
    else throw bad();
    if (tokens[at] !== "//") return base;
    const divisor = Number(tokens[at + 1]);
    if (!Number.isSafeInteger(divisor) || divisor <= 0) throw bad();
    at += 2;
    return floorQuotient(base, divisor);
  };
  const result = readSum(0);
  if (at !== tokens.length) throw bad();
  return remember(dim, result);
}

/** A coefficient that arithmetic kept exact. */
function exact(coefficient: number): number {
  if (Number.isSafeInteger(coefficient)) return coefficient;
  throw new OpError("bad-dimension", "a dimension grew beyond exact integers");
}

function sum(a: Polynomial, b: Polynomial, sign: number): Polynomial {
  const out = new Map(a);
  for (const [key, coefficient] of b) {
    const total = exact((out.get(key) ?? 0) + sign * coefficient);
    if (total === 0) out.delete(key);
    else out.set(key, total);
  }
  return bounded(out);
}

function product(a: Polynomial, b: Polynomial): Polynomial {
  if (a.size * b.size > maxTerms * 4) throw new OpError("bad-dimension", `a product of ${a.size} by ${b.size} terms`);
  const out = new Map<string, number>();
  for (const [ka, ca] of a)
    for (const [kb, cb] of b) {
      const key = ka === "" ? kb : kb === "" ? ka : joined(ka, kb);
      const total = exact((out.get(key) ?? 0) + exact(ca * cb));
      if (total === 0) out.delete(key);
      else out.set(key, total);
    }
  return bounded(out);
}

function joined(ka: string, kb: string): string {
  const atoms = [...splitAtoms(ka), ...splitAtoms(kb)];
  if (atoms.length > maxDegree) throw new OpError("bad-dimension", `a product of more than ${maxDegree} factors`);
  return atoms.sort().join("*");
}

function bounded(p: Polynomial): Polynomial {
  let length = 0;
  for (const key of p.keys()) length += key.length + 1; // with the sign before it
  if (p.size > maxTerms || length > maxDimText)
    throw new OpError("bad-dimension", `a dimension of ${p.size} terms grew too long`);
  return p;
}

const atomsOf = (key: string): readonly string[] => (key === "" ? [] : splitAtoms(key));

/** Splits "a*(b*c)//2" at the stars outside parentheses. */
function splitAtoms(key: string): string[] {
  if (!key.includes("(")) return key.split("*");
  const atoms: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < key.length; i++) {
    if (key[i] === "(") depth++;
    else if (key[i] === ")") depth--;
    else if (key[i] === "*" && depth === 0) {
      atoms.push(key.slice(start, i));
      start = i + 1;
    }
  }
  atoms.push(key.slice(start));
  return atoms;
}

const stripParentheses = (text: string): string =>
  text.startsWith("(") && text.endsWith(")") ? text.slice(1, -1) : text;

/** Terms by falling degree then name, the constant last; a constant alone is a number. */
function print(p: Polynomial): Dim {
  if (p.size === 0) return 0;
  const constant = p.size === 1 ? p.get("") : undefined;
  if (constant !== undefined) return constant;
  const terms = Array.from(p, ([key, coefficient]) => ({ key, coefficient, degree: atomsOf(key).length }));
  terms.sort((a, b) => b.degree - a.degree || (a.key < b.key ? -1 : 1));
  let text = "";
  for (const { key, coefficient } of terms) {
    const sign = coefficient < 0 ? "-" : text === "" ? "" : "+";
    const size = Math.abs(coefficient);
    text += `${sign}${key === "" ? size : size === 1 ? key : `${size}*${key}`}`;
  }
  if (text.length > maxDimText)
    throw new OpError("bad-dimension", `a dimension of ${p.size} terms and ${text.length} characters`);
  if (recall(text) === undefined) remember(text, p);
  return text;
}
