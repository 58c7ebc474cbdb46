import { type Builder, createBuilder, ownOpsHelp } from "./builder.ts";
import { CompileError, compileError, didYouMean, type Loc, OpError, unknownLoc } from "./diagnostic.ts";
import { parseDim } from "./dim.ts";
import type { Attr, Graph, Output, Value } from "./graph.ts";
import type { Registry } from "./op.ts";
import { builtinOps } from "./ops/index.ts";
import { word } from "./print.ts";
import {
  allocate,
  type Dim,
  type DType,
  elementsOf,
  formatType,
  isDType,
  isNumberOf,
  type TensorData,
  type TensorType,
} from "./type.ts";

/** What `parseGraph` is told beside the text. */
export interface ParseOptions {
  readonly registry?: Registry;
  /** Named in diagnostics. */
  readonly file?: string;
  /** Contents of constants printed by reference. */
  readonly constants?: ReadonlyMap<string, TensorData>;
  /** A printed node without loc() gets the place of its own text as location; off by default. */
  readonly locateByText?: boolean;
}

/** Reads IR text. Throws CompileError only, whatever the text. */
export function parseGraph(text: string, options: ParseOptions = {}): Graph {
  return new Parser(text, options).graph();
}

const token =
  /[ \t\r\n]+|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|[%@]?[A-Za-z_][\w.-]*|%\d+|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-[A-Za-z]+|./gsuy;
const maxNesting = 8; // lists within lists, in attributes and made-from locations

interface Token {
  readonly text: string;
  readonly at: number;
}

/** A value's name in the text; `key` tells a numbered %0 from a quoted %"0". */
interface ValueName {
  readonly at: Token;
  readonly bare: string;
  readonly key: string;
}

/** What a constant states: its numbers, or the name of contents that the reader is given. */
type Contents = readonly Token[] | string;

const notDigits: Readonly<Record<string, number>> = { inf: Infinity, "-inf": -Infinity, nan: NaN };

class Parser {
  readonly #text: string;
  readonly #options: ParseOptions;
  readonly #registry: Registry;
  readonly #file: string;
  readonly #lineStarts: number[] = [0];
  readonly #values = new Map<string, Value>();
  readonly #b: Builder;
  #next: Token;

  constructor(text: string, options: ParseOptions) {
    this.#text = text;
    this.#options = options;
    this.#registry = options.registry ?? builtinOps;
    this.#file = options.file ?? "<text>";
    for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) this.#lineStarts.push(i + 1);
    this.#b = createBuilder(this.#registry);
    token.lastIndex = 0;
    this.#next = this.#scan(0);
  }

  graph(): Graph {
    this.#take("graph");
    const name = this.#name("@");
    this.#take("(");
    while (!this.#is(")")) {
      this.#inputNode();
      if (!this.#is(")")) this.#take(",");
    }
    this.#take(")");
    this.#take("{");
    while (!this.#is("return")) this.#node();
    this.#take("return");
    const outputs: Output[] = [];
    while (!this.#is("}")) {
      outputs.push(this.#output(outputs.length));
      if (!this.#is("}")) this.#take(",");
    }
    this.#take("}");
    if (!this.#is("")) throw this.#wrong(`expected the end, got ${shown(this.#next)}`);
    if (new Set(outputs.map((o) => o.name)).size !== outputs.length) throw this.#wrong("two outputs share a name");
    return this.#b.finish(name, outputs);
  }

  #output(index: number): Output {
    if (this.#next.text.startsWith("%")) return { name: `output${index}`, value: this.#value() };
    const name = this.#name("");
    this.#take(":");
    return { name, value: this.#value() };
  }

  #inputNode(): void {
    const name = this.#valueName();
    this.#take(":");
    const type = this.#type();
    const place = this.#place(name.at);
    const input = () => this.#b.at({ scope: place.scope, loc: place.locs[0] }, () => this.#b.input(name.bare, type));
    this.#define(name, this.#guard(name.at, input));
  }

  #node(): void {
    const at = this.#next;
    const names = [this.#valueName()];
    while (this.#accept(",")) names.push(this.#valueName());
    this.#take("=");
    const opToken = this.#next;
    const op = this.#name("");
    this.#take("(");
    const operands: Value[] = [];
    while (!this.#is(")")) {
      operands.push(this.#value());
      if (!this.#is(")")) this.#take(",");
    }
    this.#take(")");
    const contents = op === "constant" && this.#is("{") ? this.#contents() : undefined;
    const attrs = this.#is("{") ? this.#attrs() : {};
    this.#take(":");
    const types = [this.#type()];
    while (this.#accept(",")) types.push(this.#type());
    const place = this.#place(at);
    const make = this.#maker(opToken, op, operands, attrs, contents, types[0] as TensorType, names[0]?.bare ?? "");
    const results = this.#guard(opToken, () => this.#b.at({ scope: place.scope, loc: place.locs[0] }, make));
    for (const loc of place.locs.slice(1)) this.#b.at({ loc }, make); // interned: adds the place
    if (results.length !== names.length || results.length !== types.length)
      throw this.#wrong(
        `${op} has ${results.length} result(s), but ${names.length} name(s) and ${types.length} type(s) stand here`,
        at,
      );
    results.forEach((value, i) => {
      const declared = formatType(types[i] as TensorType);
      if (declared !== formatType(value.type))
        throw this.#wrong(`${op} gives ${formatType(value.type)}, but ${declared} stands here`, opToken);
      this.#define(names[i] as ValueName, value);
    });
  }

  /** Everything but the builder's own checks is checked here, at its place in the text. */
  #maker(
    at: Token,
    op: string,
    operands: readonly Value[],
    attrs: Readonly<Record<string, Attr>>,
    contents: Contents | undefined,
    type: TensorType,
    name: string,
  ): () => readonly Value[] {
    if (op === "parameter" || op === "constant") {
      if (operands.length > 0) throw this.#wrong(`${op} takes no operands`, at);
      const [extra] = Object.keys(attrs);
      if (extra !== undefined)
        throw this.#wrong(`${op} has no attribute ${extra.slice(0, 60)}`, at, "unknown-attribute");
      if (op === "parameter") return () => [this.#b.parameter(name, type)];
      const data = this.#constant(at, type, contents);
      return () => [this.#b.constant(data)];
    }
    if (!this.#registry.has(op))
      throw compileError("unknown-op", `there is no op named ${op.slice(0, 60)}`, {
        loc: this.#loc(at),
        help: didYouMean(op, this.#registry.keys()) ?? ownOpsHelp,
      });
    return () => this.#b.make(op, operands, attrs);
  }

  /** `{data=[1,2.5,nan]}` or `{ref="c0"}`: numbers stay text until their dtype is known. */
  #contents(): Contents {
    this.#take("{");
    const at = this.#next;
    const key = this.#name("");
    this.#take("=");
    if (key === "ref") {
      const ref = this.#string();
      this.#take("}");
      return ref;
    }
    if (key !== "data") throw this.#wrong(`constant has no attribute ${key.slice(0, 60)}`, at, "unknown-attribute");
    const numbers: Token[] = [];
    this.#take("[");
    while (!this.#is("]")) {
      if (!/^-?\d/.test(this.#next.text) && !Object.hasOwn(notDigits, this.#next.text))
        throw this.#wrong(`expected a number, got ${shown(this.#next)}`);
      numbers.push(this.#next);
      this.#advance();
      if (!this.#is("]")) this.#take(",");
    }
    this.#advance();
    this.#take("}");
    return numbers;
  }

  #constant(at: Token, type: TensorType, contents: Contents | undefined): TensorData {
    const count = elementsOf(type.shape);
    if (!Number.isSafeInteger(count)) throw this.#wrong("a constant needs a shape of sizes", at);
    if (typeof contents === "string") {
      const found = this.#options.constants?.get(contents);
      if (found === undefined)
        throw this.#wrong(`the contents of constant ${JSON.stringify(contents.slice(0, 40))} are not at hand`, at);
      if (formatType(found) !== formatType(type))
        throw this.#wrong(`constant ${contents} is ${formatType(found)}, not ${formatType(type)}`, at);
      return found;
    }
    if (contents?.length !== count) throw this.#wrong(`${formatType(type)} wants data=[...] of ${count} numbers`, at);
    const values = allocate(type.dtype, count);
    contents.forEach((number, i) => {
      if (values instanceof BigInt64Array) values[i] = this.#int64(number);
      else values[i] = this.#number(number, type.dtype);
    });
    return { dtype: type.dtype, shape: type.shape as readonly number[], values };
  }

  #number(token: Token, dtype: DType): number {
    const x = notDigits[token.text] ?? Number(token.text);
    const digits = !Object.hasOwn(notDigits, token.text);
    const overflows = digits && !Number.isFinite(dtype === "f64" ? x : Math.fround(x));
    if (overflows || !isNumberOf(x, dtype)) throw this.#wrong(`${token.text.slice(0, 40)} is no ${dtype}`, token);
    return x;
  }

  #int64(token: Token): bigint {
    const digits = /^-?\d{1,19}$/.test(token.text);
    const x = digits ? BigInt(token.text) : Number(token.text);
    if (typeof x === "number" ? !Number.isSafeInteger(x) : BigInt.asIntN(64, x) !== x)
      throw this.#wrong(`${token.text.slice(0, 40)} is no i64`, token);
    return BigInt(x);
  }

  #attrs(): Readonly<Record<string, Attr>> {
    this.#take("{");
    const attrs: Record<string, Attr> = Object.create(null) as Record<string, Attr>;
    while (!this.#is("}")) {
      const at = this.#next;
      const key = this.#name("");
      if (key in attrs) throw this.#wrong(`attribute ${key} stands twice`, at);
      this.#take("=");
      attrs[key] = this.#attr(0);
      if (!this.#is("}")) this.#take(",");
    }
    this.#take("}");
    return attrs;
  }

  #attr(depth: number): Attr {
    const { text } = this.#next;
    if (text === "[") {
      if (depth >= maxNesting) throw this.#wrong("lists are nested too deep");
      this.#advance();
      const items: Attr[] = [];
      while (!this.#is("]")) {
        items.push(this.#attr(depth + 1));
        if (!this.#is("]")) this.#take(",");
      }
      this.#advance();
      return items;
    }
    if (text.startsWith('"')) return this.#string();
    const words: Readonly<Record<string, Attr>> = { true: true, false: false, ...notDigits };
    const known = Object.hasOwn(words, text) ? words[text] : undefined;
    if (known === undefined && !/^-?\d/.test(text)) throw this.#wrong(`expected a value, got ${shown(this.#next)}`);
    this.#advance();
    return known ?? Number(text);
  }

  #type(): TensorType {
    const at = this.#next;
    const dtype = this.#name("");
    if (!isDType(dtype)) throw this.#wrong(`${shown(at)} is not a dtype`, at);
    const bracket = this.#next;
    this.#take("[");
    // Taken whole: in a dimension, // divides.
    const start = bracket.at + bracket.text.length;
    const end = this.#text.indexOf("]", start);
    if (end < 0) throw this.#wrong("the shape does not end", at);
    const inner = this.#text.slice(start, end);
    this.#next = this.#scan(end + 1);
    return { dtype: dtype as DType, shape: inner.trim() === "" ? [] : inner.split(",").map((d) => this.#dim(d, at)) };
  }

  #dim(text: string, at: Token): Dim {
    const trimmed = text.trim();
    let dim: Dim;
    try {
      dim = parseDim(trimmed);
    } catch (error) {
      if (error instanceof OpError) throw this.#wrong(error.message, at, error.code);
      throw error;
    }
    if (typeof dim === "number" && dim < 0) throw this.#wrong(`a dimension of ${dim}`, at);
    return dim;
  }

  /** The scope and every location stated after a node. */
  #place(at: Token): { scope: string; locs: readonly [Loc, ...Loc[]] } {
    let scope = "";
    if (this.#accept("in")) scope = this.#name("");
    if (!this.#accept("loc"))
      return { scope, locs: [this.#options.locateByText === true ? this.#loc(at) : unknownLoc] };
    this.#take("(");
    const locs: [Loc, ...Loc[]] = [this.#location(0)];
    while (this.#accept(",")) locs.push(this.#location(0));
    this.#take(")");
    return { scope, locs };
  }

  #location(depth: number): Loc {
    if (depth >= maxNesting * 4) throw this.#wrong("locations are nested too deep");
    if (this.#accept("unknown")) return unknownLoc;
    if (this.#accept("made")) {
      const by = this.#string();
      this.#take("from");
      this.#take("[");
      const from: Loc[] = [];
      while (!this.#is("]")) {
        from.push(this.#location(depth + 1));
        if (!this.#is("]")) this.#take(",");
      }
      this.#take("]");
      return { kind: "made", by, from };
    }
    const file = this.#string();
    this.#take(":");
    const line = this.#integer();
    this.#take(":");
    const column = this.#integer();
    return this.#accept("+")
      ? { kind: "file", file, line, column, length: this.#integer() }
      : { kind: "file", file, line, column };
  }

  #integer(): number {
    const { text } = this.#next;
    if (!/^\d{1,9}$/.test(text)) throw this.#wrong(`expected a whole number, got ${shown(this.#next)}`);
    this.#advance();
    return Number(text);
  }

  #string(): string {
    const { text } = this.#next;
    try {
      const read: unknown = text.startsWith('"') ? JSON.parse(text) : undefined;
      if (typeof read === "string") {
        this.#advance();
        return read;
      }
    } catch {
      throw this.#wrong(`${shown(this.#next)} has a bad escape`);
    }
    throw this.#wrong(`expected a quoted text, got ${shown(this.#next)}`);
  }

  /** A name behind `sigil`, plain or quoted. */
  #name(sigil: "" | "%" | "@"): string {
    const { text } = this.#next;
    if (
      text.startsWith(sigil) &&
      /^[A-Za-z_\d]/.test(text.slice(sigil.length)) &&
      (sigil !== "" || /^[A-Za-z_]/.test(text))
    ) {
      this.#advance();
      return text.slice(sigil.length);
    }
    if (sigil !== "" && text === sigil) {
      this.#advance();
      if (this.#next.text.startsWith('"')) return this.#string();
    } else if (sigil === "" && text.startsWith('"')) return this.#string();
    throw this.#wrong(`expected a ${sigil === "" ? "word" : `name after ${sigil}`}, got ${shown(this.#next)}`);
  }

  #valueName(): ValueName {
    const at = this.#next;
    const bare = this.#name("%");
    return { at, bare, key: /^%\d/.test(at.text) ? at.text : `%${word(bare)}` };
  }

  #value(): Value {
    const { at, key } = this.#valueName();
    const value = this.#values.get(key);
    if (value === undefined)
      throw compileError("unknown-value", `${key.slice(0, 60)} is not defined above`, {
        loc: this.#loc(at),
        help: didYouMean(key, this.#values.keys()),
      });
    return value;
  }

  #define({ at, key }: ValueName, value: Value): void {
    if (this.#values.has(key)) throw this.#wrong(`${key.slice(0, 60)} is defined twice`, at, "duplicate-name");
    this.#values.set(key, value);
  }

  /** Mistakes that the builder finds are mistakes of the text, and reported at its line. */
  #guard<T>(at: Token, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof CompileError)
        throw new CompileError(error.diagnostics.map((d) => ({ ...d, loc: this.#loc(at) })));
      throw error;
    }
  }

  #is(text: string): boolean {
    return this.#next.text === text;
  }

  #accept(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#advance();
    return true;
  }

  #take(text: string): void {
    if (!this.#accept(text)) throw this.#wrong(`expected ${text}, got ${shown(this.#next)}`);
  }

  #advance(): void {
    this.#next = this.#scan(this.#next.at + this.#next.text.length);
  }

  #scan(from: number): Token {
    let at = from;
    for (;;) {
      token.lastIndex = at;
      const text = token.exec(this.#text)?.[0] ?? "";
      if (text !== "" && (/^[ \t\r\n]/.test(text) || text.startsWith("//"))) at += text.length;
      else return { text, at };
    }
  }

  #loc(at: Token): Loc {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#lineStarts[middle] as number) <= at.at) low = middle;
      else high = middle - 1;
    }
    const column = at.at - (this.#lineStarts[low] as number) + 1;
    return { kind: "file", file: this.#file, line: low + 1, column, length: Math.max(1, at.text.length) };
  }

  #wrong(message: string, at: Token = this.#next, code = "ir-syntax"): CompileError {
    return compileError(code, message, { loc: this.#loc(at) });
  }
}

const shown = (token: Token): string =>
  token.text === "" ? "the end of the text" : JSON.stringify(token.text.slice(0, 40));
