// Kernels joined with their neighbours, as plain data: what is computed element by element moves into the kernel that
// reads it first, or into one that already runs over the same space; sorts of the same rows follow each other in one.
import { multiplyDims } from "../../ir/dim.ts";
import type { Dim } from "../../ir/type.ts";
import { type Expr, ExprPool, type Register, rebuild } from "./expr.ts";
import {
  type Buffer,
  buffersOf,
  type Fold,
  type Kernel,
  type MapKernel,
  type RankKernel,
  type Result,
  type RowsKernel,
  readsOf,
  writesOf,
} from "./kernel.ts";

/** Two kernels that stay apart because together they would bind too many buffers, each by a buffer that it writes. */
export interface Refusal {
  readonly from: string;
  readonly into: string;
  readonly binds: number;
}

/** Joins kernels as long as none binds more than `limit` buffers. Order and meaning of all buffers stay. */
export function fuseKernels(
  kernels: readonly Kernel[],
  limit: number,
): { readonly kernels: readonly Kernel[]; readonly refused: readonly Refusal[] } {
  const fusion = new Fusion(kernels, limit);
  return { kernels: fusion.run(), refused: fusion.refused };
}

class Fusion {
  readonly #kernels: (Kernel | undefined)[] = [];
  readonly #limit: number;
  /** Where each buffer is written, and where it is read. */
  readonly #writer = new Map<string, number>();
  readonly #readers = new Map<string, Set<number>>();
  readonly refused: Refusal[] = [];

  constructor(kernels: readonly Kernel[], limit: number) {
    this.#limit = limit;
    for (const kernel of kernels) this.#set(this.#kernels.length, kernel);
  }

  run(): readonly Kernel[] {
    const { length } = this.#kernels;
    for (let at = 0; at < length; at++) {
      this.#joinEarlier(at);
      this.#takeIn(at);
    }
    return this.#kernels.filter((kernel) => kernel !== undefined);
  }

  #set(at: number, kernel: Kernel | undefined): void {
    const old = this.#kernels[at];
    if (old !== undefined) for (const name of readsOf(old)) this.#readers.get(name)?.delete(at);
    this.#kernels[at] = kernel;
    if (kernel === undefined) return;
    for (const buffer of writesOf(kernel)) this.#writer.set(buffer.name, at);
    for (const name of readsOf(kernel)) this.#readers.set(name, (this.#readers.get(name) ?? new Set()).add(at));
  }

  /** Whether the device binds all buffers of a kernel joined from two. */
  #fits(joined: Kernel, maker: Kernel, reader: Kernel): boolean {
    const binds = buffersOf(joined).size;
    if (binds <= this.#limit) return true;
    const [from, into] = [writesOf(maker)[0]?.name, writesOf(reader)[0]?.name];
    if (from !== undefined && into !== undefined) this.refused.push({ from, into, binds });
    return false;
  }

  /** Elements that a kernel reads first, and only its own, are computed in it. */
  #takeIn(at: number): void {
    for (const name of readsOf(this.#kernels[at] ?? nothing)) {
      const kernel = this.#kernels[at];
      const from = this.#writer.get(name);
      if (kernel?.kind !== "rows" || from === undefined || from >= at) continue;
      const maker = this.#kernels[from];
      if (maker?.kind !== "map" || maker.results.some(({ buffer }) => this.#readBefore(buffer, at))) continue;
      const joined = mapIntoRows(maker, kernel);
      if (joined === undefined || !this.#fits(joined, maker, kernel)) continue;
      this.#set(from, undefined);
      this.#set(at, joined);
      this.#takeIn(at); // what the new part reads may come in as well
      return;
    }
  }

  #readBefore({ name }: Buffer, at: number): boolean {
    return [...(this.#readers.get(name) ?? [])].some((reader) => reader < at);
  }

  /** A kernel that could already run where an earlier one does, over the same space, joins it there. */
  #joinEarlier(at: number): void {
    const kernel = this.#kernels[at];
    if (kernel === undefined) return;
    // What stands right before, what writes an operand and, for folds, what reads the same memory.
    const candidates = new Set(kernel.kind === "map" ? [this.#lastBefore(at)] : []);
    for (const name of readsOf(kernel)) {
      const from = this.#writer.get(name);
      if (from !== undefined) candidates.add(from);
      if (kernel.kind === "rows") for (const reader of this.#readers.get(name) ?? []) candidates.add(reader);
    }
    for (const earlier of [...candidates].sort((a, b) => b - a)) {
      const host = this.#kernels[earlier];
      if (earlier >= at || host === undefined || !this.#readyAt(kernel, earlier)) continue;
      const joined = join(host, kernel);
      if (joined === undefined || !this.#fits(joined, host, kernel)) continue;
      this.#set(at, undefined);
      this.#set(earlier, joined);
      return;
    }
  }

  #lastBefore(at: number): number {
    let before = at - 1;
    while (before >= 0 && this.#kernels[before] === undefined) before--;
    return before;
  }

  /** Whether all that a kernel reads is written before a place, or by the kernel there. */
  #readyAt(kernel: Kernel, at: number): boolean {
    return [...readsOf(kernel)].every((name) => (this.#writer.get(name) ?? -1) <= at);
  }
}

const nothing: Kernel = { kind: "map", ops: [], scope: "", label: "", count: 0, results: [] };

/** Two kernels as one, the second after the first; undefined where they do not fit. */
function join(host: Kernel, kernel: Kernel): Kernel | undefined {
  if (host.kind === "map" && kernel.kind === "map") return mapIntoMap(host, kernel);
  if (host.kind === "rows" && kernel.kind === "map") return mapAfterRows(host, kernel);
  if (host.kind === "rows" && kernel.kind === "rows") return rowsBesideRows(host, kernel);
  if (host.kind === "rank" && kernel.kind === "rank") return rankAfterRank(host, kernel);
  return undefined;
}

const labels = (host: Kernel, kernel: Kernel) => ({ ops: [...host.ops, ...kernel.ops] });

/** Rewrites expressions into one pool, so that equal ones are one object. */
class Rewriter {
  readonly pool = new ExprPool();
  readonly #replace: ReadonlyMap<string, Expr>;
  readonly #loads: (load: Expr, index: Expr) => Expr | undefined;

  /** `replace`: variables by name. `loads`: what stands for a load, given its rewritten index. */
  constructor(
    replace: (pool: ExprPool) => ReadonlyMap<string, Expr> = () => new Map(),
    loads: (load: Expr, index: Expr) => Expr | undefined = () => undefined,
    pool?: ExprPool,
  ) {
    if (pool !== undefined) this.pool = pool;
    this.#replace = replace(this.pool);
    this.#loads = loads;
  }

  of(e: Expr): Expr {
    return rebuild(this.pool, e, this.#replace, this.#loads);
  }
}

/** A map over the elements or the rows of a row kernel, computed at its start. */
function mapIntoRows(maker: MapKernel, kernel: RowsKernel): RowsKernel | undefined {
  const perElement = maker.count === multiplyDims(kernel.rows, kernel.length);
  if (!perElement && maker.count !== kernel.rows) return undefined;
  const made = new Map(maker.results.map(({ buffer }, k) => [buffer.name, k]));
  const pool = new ExprPool();
  const place = new Rewriter(undefined, undefined, pool).of(kernel.place);
  const row = variableOf(pool, "i", kernel.rows);
  const names = maker.results.map((_, k) => `w${kernel.first.length + k}`);
  let own = true;
  const inside = new Rewriter(
    undefined,
    (load, index) => {
      const k = made.get(load.name as string);
      if (k === undefined) return undefined;
      own &&= index === (perElement ? place : row);
      return perElement ? undefined : pool.variable(names[k] as string, load.type as Register);
    },
    pool,
  );
  const rewritten = rewriteRows(kernel, inside);
  if (!own) return undefined;
  const at = perElement ? place : row;
  const outside = new Rewriter(() => new Map([["i", at]]), undefined, pool);
  const results = maker.results.map(({ buffer, value }) => ({ buffer, value: outside.of(value) }));
  const merged = { ...rewritten, ...labels(maker, kernel) };
  return perElement
    ? { ...merged, before: [...results, ...rewritten.before] }
    : { ...merged, first: [...results.map((r, k) => ({ ...r, name: names[k] as string })), ...rewritten.first] };
}

const variableOf = (pool: ExprPool, name: string, below: Dim): Expr =>
  pool.variable(name, "i32", typeof below === "number" ? below : undefined);

function rewriteRows(kernel: RowsKernel, rewriter: Rewriter): RowsKernel {
  const of = (e: Expr) => rewriter.of(e);
  const result = <R extends Result>(r: R): R => ({ ...r, value: of(r.value) });
  return {
    ...kernel,
    place: of(kernel.place),
    first: kernel.first.map(result),
    before: kernel.before.map(result),
    folds: kernel.folds.map(
      (fold): Fold => ({
        registers: fold.registers,
        init: fold.init.map(of),
        step: fold.step.map(of),
        merge: fold.merge.map(of),
        finish: of(fold.finish),
      }),
    ),
    perRow: kernel.perRow.map(result),
    perElement: kernel.perElement.map((r) => ({ ...result(r), at: of(r.at) })),
  };
}

/** A map over the rows of a row kernel, which reads of its results only those of its own row. */
function mapAfterRows(host: RowsKernel, kernel: MapKernel): RowsKernel | undefined {
  if (kernel.count !== host.rows) return undefined;
  const pool = new ExprPool();
  const row = variableOf(pool, "i", host.rows);
  const kept = rewriteRows(host, new Rewriter(undefined, undefined, pool));
  const known = new Map([...kept.first, ...kept.perRow].map((r) => [r.buffer.name, r]));
  const written = new Set(writesOf(host).map((b) => b.name));
  let own = true;
  const inside = new Rewriter(
    undefined,
    (load, index) => {
      const name = load.name as string;
      if (!written.has(name)) return undefined;
      const from = known.get(name);
      own &&= from !== undefined && index === row;
      if (from === undefined) return undefined;
      return "name" in from ? pool.variable(from.name as string, load.type as Register) : from.value;
    },
    pool,
  );
  const results = kernel.results.map(({ buffer, value }) => ({ buffer, value: inside.of(value) }));
  return own ? { ...kept, ...labels(host, kernel), perRow: [...kept.perRow, ...results] } : undefined;
}

/** Two maps over the same space, where the second reads of the first only its own place. */
function mapIntoMap(host: MapKernel, kernel: MapKernel): MapKernel | undefined {
  if (host.count !== kernel.count) return undefined;
  const pool = new ExprPool();
  const place = variableOf(pool, "i", host.count);
  const keep = new Rewriter(undefined, undefined, pool);
  const kept = host.results.map(({ buffer, value }) => ({ buffer, value: keep.of(value) }));
  let own = true;
  const inside = new Rewriter(
    undefined,
    (load, index) => {
      const from = kept.find(({ buffer }) => buffer.name === load.name);
      if (from === undefined) return undefined;
      own &&= index === place;
      return from.value;
    },
    pool,
  );
  const results = kernel.results.map(({ buffer, value }) => ({ buffer, value: inside.of(value) }));
  return own ? { ...host, ...labels(host, kernel), results: [...kept, ...results] } : undefined;
}

/** Two sets of folds over the same rows that read the same memory: one pass serves both. */
function rowsBesideRows(host: RowsKernel, kernel: RowsKernel): RowsKernel | undefined {
  const written = new Set(writesOf(host).map((b) => b.name));
  const reads = readsOf(kernel);
  if (host.rows !== kernel.rows || host.length !== kernel.length || [...reads].some((name) => written.has(name)))
    return undefined;
  if (kernel.first.length + kernel.before.length > 0 || host.perElement.length + kernel.perElement.length > 0)
    return undefined;
  const shared = readsOf(host);
  if (![...reads].some((name) => shared.has(name))) return undefined;
  const pool = new ExprPool();
  const kept = rewriteRows(host, new Rewriter(undefined, undefined, pool));
  const shift = host.folds.length;
  const renamed = new Map<string, Expr>();
  kernel.folds.forEach((fold, f) => renamed.set(`s${f}`, pool.variable(`s${f + shift}`, fold.finish.type as Register)));
  const added = rewriteRows(kernel, new Rewriter(() => renamed, undefined, pool));
  return {
    ...kept,
    ...labels(host, kernel),
    folds: [...kept.folds, ...added.folds],
    perRow: [...kept.perRow, ...added.perRow],
  };
}

/** A sort of the rows that an earlier sort made, row by row. */
function rankAfterRank(host: RankKernel, kernel: RankKernel): RankKernel | undefined {
  if (host.rows !== kernel.rows) return undefined;
  const pool = new ExprPool();
  const strides = new Map<string, Expr>();
  for (const { length, values, indices } of host.stages)
    for (const buffer of [values, indices]) if (buffer !== undefined) strides.set(buffer.name, pool.dim(length));
  const row = variableOf(pool, "i", host.rows);
  let own = true;
  for (const { x, length } of kernel.stages) {
    const place = new Rewriter(
      (p) => new Map([["r", variableOf(p, "r", length)]]),
      (load, index) => {
        const stride = strides.get(load.name as string);
        if (stride !== undefined) own &&= pool.index.div(index, stride) === row;
        return undefined;
      },
      pool,
    );
    place.of(x);
  }
  return own ? { ...host, ...labels(host, kernel), stages: [...host.stages, ...kernel.stages] } : undefined;
}
