// The kernels of a graph as plain data for people and tools: what each stands for, moves and computes, and why the
// values it writes have memory.
import { formatLoc, type Loc } from "../../ir/diagnostic.ts";
import { addDims, multiplyDims, substituteDim } from "../../ir/dim.ts";
import { type Graph, isSource, type Node, sourceName, type Value } from "../../ir/graph.ts";
import { builtinOps } from "../../ir/ops/index.ts";
import type { Dim } from "../../ir/type.ts";
import type { Cause } from "./causes.ts";
import { scheduleKernels, type WgslOptions } from "./index.ts";
import { type Kernel, spaceOf, writesOf } from "./kernel.ts";
import { formOf } from "./rowwise.ts";
import type { Schedule, Stored } from "./schedule.ts";
import { type KernelWork, workOf } from "./work.ts";

/** What `describeKernels` is told beside the graph. */
export interface DescribeOptions extends WgslOptions {
  /** Sizes of symbols; figures stay polynomials in the others. */
  readonly symbols?: ReadonlyMap<string, Dim>;
}

/** One op of the graph, composites that no kernel takes whole written out. */
export interface KernelOp {
  readonly op: string;
  readonly scope: string;
  /** `vit.ts:41:28`; empty where unknown. */
  readonly loc: string;
  /** Form of its arithmetic (`elementwise`, `view`, ...); `composite` or `routine` of those that a kernel takes whole. */
  readonly form: string;
  /** On operands, the loop itself, or on results. */
  readonly part: "before" | "loop" | "after";
  /** Other kernels that compute the same for themselves. */
  readonly again: readonly string[];
}

/** A buffer that a kernel reads. */
export interface KernelRead {
  /** Of an input, a parameter or an output its name in the graph, of all else that of its buffer. */
  readonly name: string;
  readonly of: "input" | "parameter" | "constant" | "kernel";
  /** The kernel that wrote it. */
  readonly from?: string;
  readonly bytes: Dim;
}

/** One rule of the scheduler that gave a value memory, with the ops that read it. */
export interface CauseReport {
  readonly rule: Cause["rule"];
  readonly readers: readonly { readonly op: string; readonly loc: string; readonly kernels: readonly string[] }[];
  readonly operations?: number;
  readonly calls?: string;
}

/** A buffer that a kernel writes. */
export interface KernelWrite {
  readonly name: string;
  readonly bytes: Dim;
  /** Why it has memory, instead of being computed where it is read. */
  readonly why: readonly CauseReport[];
}

/** One kernel: what it stands for, moves and computes. Bytes and operations are polynomials in symbols. */
export interface KernelReport {
  /** `k4`: its place in the order in which kernels run. */
  readonly name: string;
  readonly kind: Kernel["kind"];
  /** The sizes it runs over. */
  readonly space: Readonly<Record<string, Dim>>;
  readonly scope: string;
  readonly loc: string;
  readonly ops: readonly KernelOp[];
  readonly reads: readonly KernelRead[];
  readonly writes: readonly KernelWrite[];
  /** Kernels it would be one with if the device bound as many buffers. */
  readonly apart: readonly { readonly kernel: string; readonly binds: number }[];
  /** Scalar operations; an upper bound where a mask by position hides an unknown part of the loop. */
  readonly operations: Omit<KernelWork, "reads"> & { readonly total: Dim };
  /** Each buffer once. */
  readonly bytes: { readonly read: Dim; readonly written: Dim };
  /** Absent where symbols are open. */
  readonly operationsPerByte?: number;
}

const bytesPerElement = 4; // every register takes a word in memory

/** What each kernel of a graph does, in the order in which they run. */
export function kernelReports(graph: Graph, options: DescribeOptions = {}): readonly KernelReport[] {
  return new Description(scheduleKernels(graph, options), options).reports();
}

class Description {
  readonly #plan: Schedule & { readonly graph: Graph };
  readonly #options: DescribeOptions;
  readonly #stored: ReadonlyMap<string, Stored>;
  readonly #hasMemory: ReadonlySet<Value>;
  /** Places of the kernels that write each buffer and that compute each node. */
  readonly #writers = new Map<string, number>();
  readonly #computers = new Map<Node, number[]>();
  readonly #works: readonly KernelWork[];

  constructor(plan: Schedule & { readonly graph: Graph }, options: DescribeOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#stored = new Map(plan.stored.map((stored) => [stored.buffer.name, stored]));
    this.#hasMemory = new Set(plan.stored.map(({ value }) => value));
    this.#works = plan.kernels.map((kernel) => workOf(kernel, options.symbols));
    plan.kernels.forEach((kernel, at) => {
      for (const { name } of writesOf(kernel)) this.#writers.set(name, at);
      for (const node of this.#nodesOf(kernel)) this.#computers.set(node, [...(this.#computers.get(node) ?? []), at]);
    });
  }

  reports(): readonly KernelReport[] {
    return this.#plan.kernels.map((kernel, at) => this.#report(kernel, at));
  }

  #report(kernel: Kernel, at: number): KernelReport {
    const { reads: elements, ...work } = this.#works[at] as KernelWork;
    const ops = this.#opsOf(kernel, at);
    const reads = [...elements].map(([buffer, count]) => this.#read(buffer, this.#bytes(count)));
    const writes = writesOf(kernel).map(({ name, elements }) => this.#write(name, this.#bytes(elements)));
    const total = addDims(addDims(work.before, work.loop), work.after);
    const [read, written] = [reads, writes].map((list) => list.map(({ bytes }) => bytes).reduce(addDims, 0)) as [
      Dim,
      Dim,
    ];
    return {
      name: nameOf(at),
      kind: kernel.kind,
      space: Object.fromEntries(Object.entries(spaceOf(kernel)).map(([name, dim]) => [name, this.#bound(dim)])),
      scope: kernel.scope,
      loc: (ops.find(({ part }) => part === "loop") ?? ops.at(-1))?.loc ?? "",
      ops,
      reads,
      writes,
      apart: this.#apartFrom(kernel, at),
      operations: { ...work, total },
      bytes: { read, written },
      ...perByte(total, read, written),
    };
  }

  #bound(dim: Dim): Dim {
    return substituteDim(dim, this.#options.symbols ?? new Map());
  }

  #bytes(elements: Dim): Dim {
    return multiplyDims(this.#bound(elements), bytesPerElement);
  }

  /** What a kernel computes: from the values it writes back to those that have memory, in order. */
  #nodesOf(kernel: Kernel): readonly Node[] {
    const nodes = new Set<Node>();
    const open = writesOf(kernel).map(({ name }) => this.#storedAs(name).value.producer);
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (nodes.has(node)) continue;
      nodes.add(node);
      open.push(...this.#computedFor(node));
    }
    return [...nodes].sort((a, b) => a.id - b.id);
  }

  /** Producers of the operands that have no memory. */
  #computedFor(node: Node): readonly Node[] {
    return node.operands.filter((v) => !this.#hasMemory.has(v) && !isSource(v.producer)).map((v) => v.producer);
  }

  #storedAs(buffer: string): Stored {
    return this.#stored.get(buffer) as Stored;
  }

  #opsOf(kernel: Kernel, at: number): readonly KernelOp[] {
    const nodes = this.#nodesOf(kernel);
    const { loops } = this.#plan;
    const before = new Set<Node>();
    const open = nodes.filter((node) => loops.has(node)).flatMap((node) => this.#computedFor(node));
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (before.has(node)) continue;
      before.add(node);
      open.push(...this.#computedFor(node));
    }
    const registry = this.#options.registry ?? builtinOps;
    return nodes.map((node) => ({
      op: node.op,
      scope: node.scope,
      loc: formatLoc(node.locs[0] as Loc),
      form: formOf(node.op, registry)?.kind ?? registry.get(node.op)?.kind ?? "composite",
      part: loops.has(node) ? "loop" : before.has(node) ? "before" : "after",
      again: (this.#computers.get(node) ?? []).filter((other) => other !== at).map(nameOf),
    }));
  }

  #nameOf(buffer: string): string {
    const { value } = this.#storedAs(buffer);
    if (value.producer.op === "input" || value.producer.op === "parameter") return sourceName(value.producer);
    return this.#plan.outputs.find((output) => output.value === value)?.name ?? buffer;
  }

  #read(buffer: string, bytes: Dim): KernelRead {
    const { op } = this.#storedAs(buffer).value.producer;
    const name = this.#nameOf(buffer);
    if (op === "input" || op === "parameter" || op === "constant") return { name, of: op, bytes };
    return { name, of: "kernel", from: nameOf(this.#writers.get(buffer) as number), bytes };
  }

  #write(buffer: string, bytes: Dim): KernelWrite {
    const why = this.#storedAs(buffer).causes.map(({ readers, ...cause }) => ({
      ...cause,
      readers: readers.map((node) => ({
        op: node.op,
        loc: formatLoc(node.locs[0] as Loc),
        kernels: this.#kernelsOf(node, buffer).map(nameOf),
      })),
    }));
    return { name: this.#nameOf(buffer), bytes, why };
  }

  /** Kernels that compute an op from a buffer; all that compute it where none reads the buffer itself. */
  #kernelsOf(node: Node, buffer: string): readonly number[] {
    const all = this.#computers.get(node) ?? [];
    const readers = all.filter((at) => this.#works[at]?.reads.has(buffer));
    return readers.length > 0 ? readers : all;
  }

  #apartFrom(kernel: Kernel, at: number): KernelReport["apart"] {
    const own = new Set(writesOf(kernel).map(({ name }) => name));
    const found = new Map<number, number>();
    for (const { from, into, binds } of this.#plan.refused) {
      const [maker, reader] = [this.#writers.get(from), this.#writers.get(into)];
      if (own.has(from) && reader !== undefined && reader !== at) found.set(reader, binds);
      if (own.has(into) && maker !== undefined && maker !== at) found.set(maker, binds);
    }
    return [...found].sort(([a], [b]) => a - b).map(([other, binds]) => ({ kernel: nameOf(other), binds }));
  }
}

const nameOf = (at: number): string => `k${at}`;

function perByte(operations: Dim, read: Dim, written: Dim): { readonly operationsPerByte?: number } {
  const bytes = addDims(read, written);
  if (typeof operations !== "number" || typeof bytes !== "number" || bytes === 0) return {};
  return { operationsPerByte: Number((operations / bytes).toPrecision(3)) };
}

/** Sums over the kernels of a program. */
export interface KernelTotals {
  readonly kernels: number;
  /** In order of appearance. */
  readonly byKind: Readonly<Record<string, { readonly kernels: number; readonly operations: Dim }>>;
  /** Kernels by the first two parts of their scope (`blocks.3`), in order of appearance. */
  readonly byScope: Readonly<Record<string, number>>;
  readonly operations: Dim;
  readonly atMost: boolean;
  readonly bytes: { readonly read: Dim; readonly written: Dim };
  readonly operationsPerByte?: number;
}

const scopeDepth = 2;

/** Adds up what `describeKernels` reports. */
export function totalsOf(reports: readonly KernelReport[]): KernelTotals {
  const byKind = new Map<string, { readonly kernels: number; readonly operations: Dim }>();
  const byScope = new Map<string, number>();
  const sum = (of: (report: KernelReport) => Dim): Dim => reports.map(of).reduce(addDims, 0);
  for (const { kind, scope, operations } of reports) {
    const known = byKind.get(kind) ?? { kernels: 0, operations: 0 };
    byKind.set(kind, { kernels: known.kernels + 1, operations: addDims(known.operations, operations.total) });
    const key = scope.split(".").slice(0, scopeDepth).join(".");
    byScope.set(key, (byScope.get(key) ?? 0) + 1);
  }
  const [operations, read, written] = [
    sum((report) => report.operations.total),
    sum(({ bytes }) => bytes.read),
    sum(({ bytes }) => bytes.written),
  ];
  return {
    kernels: reports.length,
    byKind: Object.fromEntries(byKind),
    byScope: Object.fromEntries(byScope),
    operations,
    atMost: reports.some((report) => report.operations.atMost),
    bytes: { read, written },
    ...perByte(operations, read, written),
  };
}
