import { type Builder, createBuilder } from "./builder.ts";
import { CompileError, compileError, didYouMean, type Loc, OpError, unknownLoc } from "./diagnostic.ts";
import { parseDim } from "./dim.ts";
import type { Attr, Graph, Output, Value } from "./graph.ts";
import type { Registry } from "./op.ts";
import { builtinOps } from "./ops/index.ts";
import {
  allocate,
  type Dim,
  type DType,
  elementsOf,
  formatType,
  isDType,
  type TensorData,
  type TensorType,
} from "./type.ts";

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
    const at = this.#next;
    const name = this.#name("%");
    this.#take(":");
    const type = this.#type();
    const place = this.#place(at);
    this.#guard(at, () =>
      this.#define(
        at,
        `%${name}`,
        this.#b.at({ scope: place.scope, loc: place.locs[0] }, () => this.#b.input(name, type)),
      ),
    );
  }

  #node(): void {
    const at = this.#next;
    const names: { name: string; bare: string; at: Token }[] = [];
    do {
      const token = this.#next;
      const bare = this.#name("%");
      names.push({ name: `%${bare}`, bare, at: token });
    } while (this.#accept(","));
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
    const attrs = this.#is("{") ? this.#attrs() : {};
    this.#take(":");
    const types = [this.#type()];
    while (this.#accept(",")) types.push(this.#type());
    const place = this.#place(at);
    this.#guard(opToken, () => {
      const make = () => this.#make(opToken, op, operands, attrs, types, names[0]?.bare ?? "");
      const results = this.#b.at({ scope: place.scope, loc: place.locs[0] }, make);
      for (const loc of place.locs.slice(1)) this.#b.at({ loc }, make); // interned: adds the place
      if (results.length !== names.length || results.length !== types.length)
        throw this.#wrong(
          `${op} has ${results.length} result(s), but ${names.length} name(s) and ${types.length} type(s) stand here`,
          at,
        );
      results.forEach((value, i) => {
        const declared = formatType(types[i] as TensorType);
        if (declared !== formatType(value.type))
          throw this.#wrong(`${op} gives ${formatType(value.type)}, but ${declared} stands here`, at);
        this.#define(names[i]?.at ?? at, names[i]?.name ?? "", value);
      });
    });
  }

  #make(
    at: Token,
    op: string,
    operands: readonly Value[],
    attrs: Readonly<Record<string, Attr>>,
    types: readonly TensorType[],
    name: string,
  ): readonly Value[] {
    const type = types[0] as TensorType;
    if (op === "parameter" || op === "constant") {
      if (operands.length > 0) throw this.#wrong(`${op} takes no operands`, at);
      return [op === "parameter" ? this.#b.parameter(name, type) : this.#b.constant(this.#constant(at, type, attrs))];
    }
    if (!this.#registry.has(op))
      throw compileError("unknown-op", `there is no op named ${op.slice(0, 60)}`, {
        loc: this.#loc(at),
        help: didYouMean(op, this.#registry.keys()),
      });
    return this.#b.make(op, operands, attrs);
  }

  #constant(at: Token, type: TensorType, attrs: Readonly<Record<string, Attr>>): TensorData {
    const count = elementsOf(type.shape);
    if (!Number.isSafeInteger(count)) throw this.#wrong("a constant needs a shape of sizes", at);
    const { ref, data } = attrs;
    if (typeof ref === "string") {
      const found = this.#options.constants?.get(ref);
      if (found === undefined)
        throw this.#wrong(`the contents of constant ${JSON.stringify(ref.slice(0, 40))} are not at hand`, at);
      if (formatType(found) !== formatType(type))
        throw this.#wrong(`constant ${ref} is ${formatType(found)}, not ${formatType(type)}`, at);
      return found;
    }
    if (!Array.isArray(data) || data.length !== count || !data.every((x) => typeof x === "number"))
      throw this.#wrong(`${formatType(type)} wants data=[...] of ${count} numbers`, at);
    const values = allocate(type.dtype, count);
    data.forEach((x: number, i) => {
      if (values instanceof BigInt64Array) {
        if (!Number.isSafeInteger(x)) throw this.#wrong(`${x} is no integer that can be kept`, at);
        values[i] = BigInt(x);
      } else values[i] = x;
    });
    return { dtype: type.dtype, shape: type.shape as readonly number[], values };
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
    const words: Readonly<Record<string, Attr>> = {
      true: true,
      false: false,
      inf: Infinity,
      "-inf": -Infinity,
      nan: NaN,
    };
    const word = Object.hasOwn(words, text) ? words[text] : undefined;
    if (word === undefined && !/^-?\d/.test(text)) throw this.#wrong(`expected a value, got ${shown(this.#next)}`);
    this.#advance();
    return word ?? Number(text);
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

  #value(): Value {
    const at = this.#next;
    const name = `%${this.#name("%")}`;
    const value = this.#values.get(name);
    if (value === undefined)
      throw compileError("unknown-value", `${name.slice(0, 60)} is not defined above`, {
        loc: this.#loc(at),
        help: didYouMean(name, this.#values.keys()),
      });
    return value;
  }

  #define(at: Token, name: string, value: Value): void {
    if (this.#values.has(name)) throw this.#wrong(`${name.slice(0, 60)} is defined twice`, at, "duplicate-name");
    this.#values.set(name, value);
  }

  /** Mistakes that the builder finds are reported at the text's own line unless they know a better place. */
  #guard(at: Token, body: () => void): void {
    try {
      body();
    } catch (error) {
      if (error instanceof OpError) throw this.#wrong(error.message, at, error.code);
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
