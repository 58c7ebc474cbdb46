// What all kernels' shaders share: bindings, sizes, thread numbering.
import { divideDims } from "../../../ir/dim.ts";
import type { Dim } from "../../../ir/type.ts";
import { type Expr, walk } from "../expr.ts";
import { type Buffer, expressionsOf, type Kernel, type Result, writesOf } from "../kernel.ts";
import { Printer } from "../print.ts";
import { lanes, Vectoriser } from "../vector.ts";
import { Slots, type Template } from "./template.ts";

export interface Binding {
  readonly buffer: string;
  readonly access: "read" | "write";
}

/** Workgroups to run: the product over parts of ceil(dim / per), shared by `threads`: ceil(product / threads). */
export interface Groups {
  readonly parts: readonly { readonly dim: Dim; readonly per: number }[];
  readonly threads: number;
}

export interface Shader {
  readonly template: Template;
  readonly bindings: readonly Binding[];
  readonly groups: Groups;
}

/** Threads of a workgroup where nothing asks for another number; each does a part of its own. */
const workgroup = { threads: 64, perGroup: 64 } as const;

interface Bound extends Binding {
  readonly register: Expr["type"];
  readonly elements: Dim;
}

/** Moving variable of a vectorised expression, and what else is known about its variables. */
export interface Along {
  readonly variable: string;
  readonly fours?: readonly string[];
  readonly wide?: readonly string[];
}

export class ShaderWriter {
  readonly printer: Printer;
  readonly #buffers = new Map<string, Bound>();
  readonly #slots = new Slots();
  readonly #directives: string[] = [];
  readonly functions: string[] = [];
  readonly body: string[] = [];
  /** Buffers of which single elements were read or written, so that they cannot be arrays of vectors. */
  readonly singles: Set<string>;

  /** `singles`: buffers known to be accessed by the element, from an earlier try. */
  constructor(kernel: Kernel, singles: ReadonlySet<string>) {
    this.singles = new Set(singles);
    walk(expressionsOf(kernel), (e) => {
      if (e.op !== "load") return;
      const [buffer, elements] = [e.name as string, e.elements as Dim];
      this.#buffers.set(buffer, { buffer, elements, register: e.type, access: "read" });
    });
    for (const { name, register, elements } of writesOf(kernel))
      this.#buffers.set(name, { buffer: name, elements, register, access: "write" });
    for (const { buffer, elements } of this.#buffers.values())
      if (elements === 0 || divideDims(elements, lanes) === undefined) this.singles.add(buffer);
    this.printer = new Printer({
      size: (dim) => this.size(dim),
      load: (e, index) => {
        const memory = this.local(e.name as string);
        const words = this.#words(e, memory, index);
        if (e.type !== "bool") return words;
        return `(${words} != ${e.width === 4 ? "vec4<u32>(0u)" : "0u"})`;
      },
    });
  }

  #words(e: Expr, memory: string, index: string): string {
    const name = e.name as string;
    if (e.op === "load4" && !this.singles.has(name)) return `${memory}[${index} >> 2u]`;
    this.singles.add(name);
    if (e.op === "load") return `${memory}[${index}]`;
    const places =
      e.op === "load4" ? ["", " + 1", " + 2", " + 3"].map((k) => index + k) : [..."xyzw"].map((k) => `${index}.${k}`);
    return `vec4<${storedAs(e.type)}>(${places.map((at) => `${memory}[${at}]`).join(", ")})`;
  }

  /** The name of a buffer in this shader: by binding, so that equal kernels have equal text. */
  local(buffer: string): string {
    return `m${[...this.#buffers.keys()].indexOf(buffer)}`;
  }

  /** A size as WGSL: settled once all kernels of a program are known (template.ts). */
  size(dim: Dim): string {
    return this.#slots.text("number", dim);
  }

  enable(extension: string): void {
    this.#directives.push(`enable ${extension};`);
  }

  /** A function of i32 arguments that evaluates an expression in which they are variables. */
  define(name: string, args: readonly string[], type: string, value: Expr): void {
    this.#function(name, args, type, value, (texts) => texts);
  }

  /** The same for four places along one of the arguments, a multiple of four. */
  define4(name: string, args: readonly string[], type: string, value: Expr, along: Along): void {
    const wide = new Vectoriser(along.variable, along).of(value);
    this.#function(name, args, `vec4<${type}>`, wide, (text) => (wide.width === 4 ? text : `vec4<${type}>(${text})`));
  }

  #function(name: string, args: readonly string[], type: string, value: Expr, finish: (text: string) => string): void {
    const { lines, texts } = this.printer.block(() => this.printer.statements([value], "  "));
    const list = args.map((arg) => (arg.includes(":") ? arg : `${arg}: i32`)).join(", ");
    this.functions.push(`fn ${name}(${list}) -> ${type} {`, ...lines, `  return ${finish(texts[0] as string)};`, "}");
  }

  /** A function that writes results at linear index `at`, given the value `acc`. */
  defineStore(name: string, index: string, results: readonly Result[], accType: string): void {
    this.functions.push(`fn ${name}(${index}: i32, acc: ${accType}) {`);
    this.printer.block(() => {
      const { lines, texts } = this.printer.statements(
        results.map((r) => r.value),
        "  ",
      );
      this.functions.push(...lines);
      const stores = this.stores(results, texts, (buffer, text) => this.assign(buffer, index, text));
      this.functions.push(...stores.map((store) => `  ${store}`));
    });
    this.functions.push("}");
  }

  /** A function that writes results at four linear indices from `index` on, a multiple of four. */
  defineStore4(name: string, index: string, results: readonly Result[], accType: string): void {
    const vectors = new Vectoriser(index, { wide: ["acc"] });
    this.functions.push(`fn ${name}(${index}: i32, acc: vec4<${accType}>) {`);
    this.printer.block(() => {
      const { lines, texts } = this.statements4(
        results.map((r) => r.value),
        vectors,
        "  ",
      );
      this.functions.push(...lines);
      const stores = this.stores(results, texts, (buffer, text) => this.assign4(buffer, index, text));
      this.functions.push(...stores.map((store) => `  ${store}`));
    });
    this.functions.push("}");
  }

  /** Statements and texts, all of them four lanes wide. */
  statements4(values: readonly Expr[], vectors: Vectoriser, indent: string): ReturnType<Printer["statements"]> {
    const wide = values.map((value) => vectors.of(value));
    const { lines } = this.printer.statements(wide, indent);
    return { lines, texts: wide.map((value) => this.printer.wideText(value)) };
  }

  /** Statements that write results: all are computed before one is stored, since a result may lie where an operand was. */
  stores(
    results: readonly Result[],
    texts: readonly string[],
    store: (buffer: Buffer, text: string) => string,
  ): readonly string[] {
    const several = results.length > 1;
    return [
      ...(several ? texts.map((text, k) => `let v${k} = ${text};`) : []),
      ...results.map(({ buffer }, k) => store(buffer, several ? `v${k}` : (texts[k] as string))),
    ];
  }

  assign({ name, register }: Buffer, at: string, value: string): string {
    this.singles.add(name);
    return `${this.local(name)}[${at}] = ${register === "bool" ? `select(0u, 1u, ${value})` : value};`;
  }

  /** Writes four elements from `at` on, a multiple of four. */
  assign4({ name, register }: Buffer, at: string, value: string): string {
    const words = register === "bool" ? `select(vec4<u32>(0u), vec4<u32>(1u), ${value})` : value;
    if (!this.singles.has(name)) return `${this.local(name)}[${at} >> 2u] = ${words};`;
    const each = ["x", "y", "z", "w"].map((lane, k) => `${this.local(name)}[${at} + ${k}] = words.${lane};`);
    return `{ let words = ${words}; ${each.join(" ")} }`;
  }

  line(...lines: readonly string[]): void {
    this.body.push(...lines.map((text) => `  ${text}`));
  }

  /** `perGroup`: what one workgroup does of the product of parts; its threads are numbered by `id` in that case. */
  finish(parts: Groups["parts"], { threads, perGroup }: { threads: number; perGroup: number } = workgroup): Shader {
    const bindings = [...this.#buffers.values()].map(({ buffer, access }) => ({ buffer, access }));
    const declared = [...this.#buffers.values()].map(({ buffer, register, elements }, k) => {
      const single = this.singles.has(buffer);
      const type = single ? storedAs(register) : `vec4<${storedAs(register)}>`;
      const length = single ? elements : (divideDims(elements, lanes) as Dim);
      return `@group(0) @binding(${k + 1}) var<storage, read_write> m${k}: array<${type}${this.#slots.text("length", length)}>;`;
    });
    const text = [
      ...this.#directives,
      ...declared,
      this.printer.prelude(),
      ...this.functions,
      `@compute @workgroup_size(${threads})`,
      "fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {",
      "  let team = i32(group.y * groups.x + group.x);",
      "  let lane = i32(local);",
      `  let id = team * ${threads} + lane;`,
      ...this.body,
      "}",
      "",
    ].join("\n");
    return { template: this.#slots.template(text), bindings, groups: { parts, threads: perGroup } };
  }
}

export const storedAs = (register: Expr["type"]): string => (register === "bool" ? "u32" : register);
