// What all ways of computing a product share: how operands are read, and the block of the result that a thread owns.
import { divideDims } from "../../../ir/dim.ts";
import type { Expr } from "../expr.ts";
import type { GemmKernel } from "../kernel.ts";
import type { GemmTile } from "../tuning.ts";
import { lanes, Vectoriser } from "../vector.ts";
import type { ShaderWriter } from "./shader.ts";

export const each = (count: number): readonly number[] => Array.from({ length: count }, (_, k) => k);
export const components = ["x", "y", "z", "w"] as const;

/** Along which index four elements of an operand lie together in memory. */
type Layout = "inner" | "outer" | "none";

function layoutOf(e: Expr, outer: string, wholeInner: boolean): Layout {
  // The main load decides: the one whose place depends on the inner index.
  const inner = new Vectoriser("k");
  const across = new Vectoriser(outer);
  const loads = loadsOf(e);
  if (wholeInner && loads.some((load) => inner.contiguous(load.args[0] as Expr))) return "inner";
  return loads.some((load) => across.contiguous(load.args[0] as Expr)) ? "outer" : "none";
}

function loadsOf(root: Expr): readonly Expr[] {
  const found: Expr[] = [];
  const seen = new Set<Expr>();
  const stack = [root];
  for (let e = stack.pop(); e !== undefined; e = stack.pop()) {
    if (seen.has(e)) continue;
    seen.add(e);
    if (e.op === "load") found.push(e);
    stack.push(...e.args);
  }
  return found;
}

/** What a product does with its operands, whatever the tile: how many terms a step takes and how reads are spelt. */
export interface Operands {
  /** Terms of the sum per step: 4 where the inner size allows it. */
  readonly terms: 1 | 4;
  readonly a: Layout;
  readonly b: Layout;
}

export function defineOperands(w: ShaderWriter, kernel: GemmKernel, rows: number): Operands {
  const { register } = kernel;
  const terms = divideDims(kernel.k, lanes) === undefined ? 1 : lanes;
  const a = rows % lanes === 0 || terms === lanes ? layoutOf(kernel.a, "m", terms === lanes) : "none";
  const layoutA = a === "outer" && (rows % lanes !== 0 || divideDims(kernel.m, lanes) === undefined) ? "none" : a;
  const layoutB = terms === lanes ? layoutOf(kernel.b, "n", true) : "outer";
  if (terms === lanes && layoutA !== "outer")
    w.define4("readA", ["b", "m", "k"], register, kernel.a, { variable: "k" });
  else if (layoutA === "outer") w.define4("readA", ["b", "m", "k"], register, kernel.a, { variable: "m" });
  else w.define("readA", ["b", "m", "k"], register, kernel.a);
  if (layoutB === "inner") w.define4("readB", ["b", "k", "n"], register, kernel.b, { variable: "k" });
  else w.define4("readB", ["b", "k", "n"], register, kernel.b, { variable: "n" });
  return { terms, a: layoutA, b: layoutB };
}

/** Blocks of four columns that one thread computes: twice as many where its rows are few, so that it has work. */
export const blocksOf = (kernel: GemmKernel, tile: GemmTile, mostRows: number): number => {
  const most = (tile.columns / lanes) * (2 * tile.rows <= mostRows ? 2 : 1);
  return typeof kernel.n === "number" ? Math.max(1, Math.min(most, Math.ceil(kernel.n / lanes))) : most;
};

/** Accumulators s0_0, s0_1, ...: a row and a block of four columns each. */
export function declare(w: ShaderWriter, register: string, rows: number, blocks: number): void {
  for (const r of each(rows)) for (const c of each(blocks)) w.line(`var s${r}_${c}: vec4<${register}>;`);
}

/** The first column of a block, kept inside the operand. */
export function columnPlace(kernel: GemmKernel, place: string, n: string): string {
  const whole = divideDims(kernel.n, lanes) !== undefined;
  return whole ? `min(${place}, ${n} - ${lanes})` : place;
}

/** How one row's terms are spelt, and what has to be written before. */
export interface RowTerms {
  readonly lines: readonly string[];
  readonly term: (q: number) => string;
}

export function accumulate(
  w: ShaderWriter,
  rows: number,
  blocks: number,
  terms: number,
  at: (r: number) => RowTerms,
): void {
  for (const r of each(rows)) {
    const { lines, term } = at(r);
    w.line("  {", ...lines);
    for (const c of each(blocks)) for (const q of each(terms)) w.line(`    s${r}_${c} += ${term(q)} * b${q}_${c};`);
    w.line("  }");
  }
}

/** Whether four columns of the result lie together in its memory. */
export const inRow = (kernel: GemmKernel): boolean =>
  divideDims(kernel.n, lanes) !== undefined && new Vectoriser("n").contiguous(kernel.at);

export function defineResults(w: ShaderWriter, kernel: GemmKernel): void {
  w.define("place", ["b", "m", "n"], "i32", kernel.at);
  if (inRow(kernel)) w.defineStore4("store", "i", kernel.results, kernel.register);
  else w.defineStore("store", "i", kernel.results, kernel.register);
}

/** Stored in a loop: the epilogue is compiled once, not once per row. */
export function storeBlock(
  w: ShaderWriter,
  kernel: GemmKernel,
  { rows, blocks, guard, m, n }: { rows: number; blocks: number; guard: string | undefined; m: string; n: string },
): void {
  const count = rows * blocks;
  const names = each(rows).flatMap((r) => each(blocks).map((c) => `s${r}_${c}`));
  w.line(`var block = array<vec4<${kernel.register}>, ${count}>(${names.join(", ")});`);
  const inside = guard === undefined ? "" : `${guard} && `;
  w.line(
    `for (var e = 0; e < ${count}; e++) {`,
    `  let m = m0 + e / ${blocks};`,
    `  let n = n0 + (e % ${blocks}) * ${lanes};`,
  );
  if (inRow(kernel)) w.line(`  if (${inside}m < ${m} && n < ${n}) { store(place(b, m, n), block[e]); }`);
  else
    w.line(
      `  for (var c = 0; c < ${lanes}; c++) {`,
      `    if (${inside}m < ${m} && n + c < ${n}) { store(place(b, m, n + c), block[e][c]); }`,
      "  }",
    );
  w.line("}");
}

/** Values b0_c, b1_c, ...: for each of the step's terms, block c of four columns. */
export function loadColumns(w: ShaderWriter, { terms, b }: Operands, blocks: number): void {
  for (const c of each(blocks)) {
    if (b !== "inner") {
      for (const q of each(terms)) w.line(`  let b${q}_${c} = readB(b, k + ${q}, column${c});`);
      continue;
    }
    // Stored with the summed index innermost: four terms of four columns, then transposed.
    for (const j of each(lanes)) w.line(`  let y${j}_${c} = readB(b, k, column${c} + ${j});`);
    for (const q of each(terms)) {
      const part = components[q] as string;
      w.line(
        `  let b${q}_${c} = vec4(${each(lanes)
          .map((j) => `y${j}_${c}.${part}`)
          .join(", ")});`,
      );
    }
  }
}
