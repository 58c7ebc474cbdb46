// What all kernels' shaders share: bindings, uniforms, thread numbering.
import { symbolsOf } from "../../../ir/dim.ts";
import type { Dim } from "../../../ir/type.ts";
import { type Expr, symbolsIn, walk } from "../expr.ts";
import { type Buffer, expressionsOf, type Kernel, type Result, spaceOf, writesOf } from "../kernel.ts";
import { Printer } from "../print.ts";

export interface Binding {
  readonly buffer: string;
  readonly access: "read" | "write";
}

/** Workgroups to run: the product over parts of ceil(dim / per). */
export interface Groups {
  readonly parts: readonly { readonly dim: Dim; readonly per: number }[];
  /** Threads of a workgroup share one part's remainder: ceil(product / threads) instead of the product. */
  readonly threads: number;
}

export interface Shader {
  readonly wgsl: string;
  readonly bindings: readonly Binding[];
  /** Whether the shader reads the uniform buffer of symbols. */
  readonly uniforms: boolean;
  readonly groups: Groups;
}

/** Choices of how a kernel is written, none of which changes what it computes. */
export interface Tuning {
  /** Threads that share a row; 1 where barriers are dear (software adapters). */
  readonly rowThreads: number;
  /** Rows and columns of a matrix product that one thread computes. */
  readonly tile: readonly [rows: number, columns: number];
}

const workgroupThreads = 64;

export class ShaderWriter {
  readonly printer: Printer;
  readonly #symbols: readonly string[];
  readonly #buffers = new Map<string, { register: string; access: "read" | "write" }>();
  readonly functions: string[] = [];
  readonly body: string[] = [];

  /** `symbols`: every symbol of the program, in the order of its uniform buffer. */
  constructor(kernel: Kernel, symbols: readonly string[]) {
    const expressions = expressionsOf(kernel);
    const used = new Set(symbolsIn(expressions));
    for (const dim of [...spaceOf(kernel), ...writesOf(kernel).map((b) => b.elements)])
      for (const symbol of symbolsOf(dim)) used.add(symbol);
    this.#symbols = used.size === 0 ? [] : symbols;
    walk(expressions, (e) => {
      if (e.op === "load") this.#buffers.set(e.name as string, { register: storedAs(e.type), access: "read" });
    });
    for (const { name, register } of writesOf(kernel))
      this.#buffers.set(name, { register: storedAs(register), access: "write" });
    this.printer = new Printer({
      dim: (text) => this.dim(text),
      load: (buffer, index, type) =>
        type === "bool" ? `(${this.local(buffer)}[${index}] != 0u)` : `${this.local(buffer)}[${index}]`,
    });
  }

  /** The name of a buffer in this shader: by binding, so that equal kernels have equal text. */
  local(buffer: string): string {
    return `m${[...this.#buffers.keys()].indexOf(buffer)}`;
  }

  /** A dimension as WGSL over the uniforms. */
  dim(dim: Dim): string {
    if (typeof dim === "number") return String(dim);
    const text = dim.replaceAll("//", "/").replace(/[A-Za-z_]\w*/g, (name) => `dims.d${this.#symbols.indexOf(name)}`);
    return `(${text})`;
  }

  /** A function of i32 arguments that evaluates an expression in which they are variables. */
  define(name: string, args: readonly string[], type: string, value: Expr): void {
    const { lines, texts } = this.printer.block(() => this.printer.statements([value], "  "));
    const list = args.map((arg) => (arg.includes(":") ? arg : `${arg}: i32`)).join(", ");
    this.functions.push(`fn ${name}(${list}) -> ${type} {`, ...lines, `  return ${texts[0]};`, "}");
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
      results.forEach(({ buffer }, k) => this.functions.push(`  ${this.assign(buffer, index, texts[k] as string)}`));
    });
    this.functions.push("}");
  }

  assign({ name, register }: Buffer, at: string, value: string): string {
    return `${this.local(name)}[${at}] = ${register === "bool" ? `select(0u, 1u, ${value})` : value};`;
  }

  line(...lines: readonly string[]): void {
    this.body.push(...lines.map((text) => `  ${text}`));
  }

  finish(parts: Groups["parts"], threads = workgroupThreads): Shader {
    const bindings = [...this.#buffers].map(([buffer, { access }]) => ({ buffer, access }));
    const declared = [...this.#buffers].map(
      ([name, { register }], k) =>
        `@group(0) @binding(${k + 1}) var<storage, read_write> ${this.local(name)}: array<${register}>;`,
    );
    const uniforms =
      this.#symbols.length === 0
        ? []
        : [
            `struct Dims { ${this.#symbols.map((_, k) => `d${k}: i32`).join(", ")} }`,
            "@group(0) @binding(0) var<uniform> dims: Dims;",
          ];
    const shared = threads === 1 ? workgroupThreads : threads;
    const wgsl = [
      ...uniforms,
      ...declared,
      this.printer.prelude(),
      ...this.functions,
      `@compute @workgroup_size(${shared})`,
      "fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {",
      "  let team = i32(group.y * groups.x + group.x);",
      `  let id = team * ${shared} + i32(lane);`,
      ...this.body,
      "}",
      "",
    ].join("\n");
    return {
      wgsl,
      bindings,
      uniforms: this.#symbols.length > 0,
      groups: { parts, threads: threads === 1 || threads === workgroupThreads ? workgroupThreads : 1 },
    };
  }
}

export const storedAs = (register: Expr["type"]): string => (register === "bool" ? "u32" : register);
export const perThread = workgroupThreads;
