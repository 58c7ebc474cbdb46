// Matrix products: a thread computes a block of rows and of four-wide columns; what differs is how operands reach it.
import { divideDims } from "../../../ir/dim.ts";
import type { Dim } from "../../../ir/type.ts";
import type { Expr } from "../expr.ts";
import type { GemmKernel } from "../kernel.ts";
import type { GemmTile } from "../tuning.ts";
import { lanes, Vectoriser } from "../vector.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

export const each = (count: number): readonly number[] => Array.from({ length: count }, (_, k) => k);
const components = ["x", "y", "z", "w"] as const;

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
interface Operands {
  /** Terms of the sum per step: 4 where the inner size allows it. */
  readonly terms: 1 | 4;
  readonly a: Layout;
  readonly b: Layout;
}

function defineOperands(w: ShaderWriter, kernel: GemmKernel, rows: number): Operands {
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

export function emitGemm(
  kernel: GemmKernel,
  singles: ReadonlySet<string>,
  tile: GemmTile,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const least = (dim: Dim, most: number) => (typeof dim === "number" ? Math.max(1, Math.min(most, dim)) : most);
  const rows = least(kernel.m, tile.rows);
  if (tile.by === "workgroup") return { shader: emitShared(w, kernel, { ...tile, rows }), writer: w };
  const bySubgroup = tile.by === "subgroup" && rows % lanes === 0;
  return { shader: emitDirect(w, kernel, { ...tile, rows }, { bySubgroup, mostRows: tile.rows }), writer: w };
}

/** Blocks of four columns that one thread computes: more where it has few rows, so that its registers are used. */
const blocksOf = (kernel: GemmKernel, tile: GemmTile, mostRows: number): number => {
  const most = Math.floor((tile.columns / lanes) * (mostRows / tile.rows));
  return typeof kernel.n === "number" ? Math.max(1, Math.min(most, Math.ceil(kernel.n / lanes))) : most;
};

function emitDirect(
  w: ShaderWriter,
  kernel: GemmKernel,
  tile: GemmTile,
  { bySubgroup, mostRows }: { bySubgroup: boolean; mostRows: number },
): Shader {
  const { rows } = tile;
  const blocks = blocksOf(kernel, tile, mostRows);
  const { register } = kernel;
  const operands = defineOperands(w, kernel, rows);
  const { terms } = operands;
  defineResults(w, kernel);
  const threads = tile.threads[0] * tile.threads[1];
  const [m, n, k, batch] = [w.size(kernel.m), w.size(kernel.n), w.size(kernel.k), w.size(kernel.batch)];
  const width = blocks * lanes * (bySubgroup ? lanes : 1);
  if (bySubgroup) w.enable("subgroups");
  w.line(
    `let down = (${m} + ${rows - 1}) / ${rows};`,
    `let across = (${n} + ${width - 1}) / ${width};`,
    `let tile = id${bySubgroup ? " / 4" : ""};`,
    // No early return: what subgroups share must be reached by all of them.
    `let b = min(tile / (across * down), ${batch} - 1);`,
    `let m0 = ((tile / across) % down) * ${rows};`,
    bySubgroup
      ? `let n0 = (tile % across) * ${width} + (lane & 3) * ${blocks * lanes};`
      : `let n0 = (tile % across) * ${width};`,
  );
  if (!bySubgroup) w.line(`if (tile >= ${batch} * down * across) { return; }`);
  declare(w, register, rows, blocks);
  for (const c of each(blocks)) w.line(`let column${c} = ${columnPlace(kernel, `n0 + ${c * lanes}`, n)};`);
  const rowPlace = (r: string): string =>
    operands.a === "outer" ? `min(m0 + ${r}, ${m} - ${lanes})` : `min(m0 + ${r}, ${m} - 1)`;
  if (operands.a === "outer")
    for (const g of each(rows / lanes)) w.line(`let row${g} = ${rowPlace(String(g * lanes))};`);
  else if (bySubgroup)
    for (const g of each(rows / lanes)) w.line(`let row${g} = ${rowPlace(`${g * lanes} + (lane & 3)`)};`);
  else for (const r of each(rows)) w.line(`let row${r} = ${rowPlace(String(r))};`);
  w.line(`for (var k = 0; k < ${k}; k += ${terms}) {`);
  loadColumns(w, operands, blocks);
  const at = loadRows(w, operands, rows, bySubgroup);
  accumulate(w, rows, blocks, terms, at);
  w.line("}");
  storeBlock(w, kernel, { rows, blocks, guard: bySubgroup ? `tile < ${batch} * down * across` : undefined, m, n });
  const parts = [
    { dim: kernel.batch, per: 1 },
    { dim: kernel.m, per: rows },
    { dim: kernel.n, per: width },
  ];
  return w.finish(parts, { threads, perGroup: bySubgroup ? threads / lanes : threads });
}

/** Accumulators s0_0, s0_1, ...: a row and a block of four columns each. */
function declare(w: ShaderWriter, register: string, rows: number, blocks: number): void {
  for (const r of each(rows)) for (const c of each(blocks)) w.line(`var s${r}_${c}: vec4<${register}>;`);
}

/** The first column of a block, kept inside the operand. */
function columnPlace(kernel: GemmKernel, place: string, n: string): string {
  const whole = divideDims(kernel.n, lanes) !== undefined;
  return whole ? `min(${place}, ${n} - ${lanes})` : place;
}

/** Values b0_c, b1_c, ...: for each of the step's terms, block c of four columns. */
function loadColumns(w: ShaderWriter, { terms, b }: Operands, blocks: number): void {
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

/** How row r's term q is spelt once the rows of a step are loaded. */
function loadRows(
  w: ShaderWriter,
  { terms, a }: Operands,
  rows: number,
  bySubgroup: boolean,
): (r: number) => { lines: readonly string[]; term: (q: number) => string } {
  if (a === "outer") {
    for (const g of each(rows / lanes))
      for (const q of each(terms)) w.line(`  let a${g}_${q} = readA(b, row${g}, k + ${q});`);
    return (r) => ({ lines: [], term: (q) => `a${Math.floor(r / lanes)}_${q}.${components[r % lanes]}` });
  }
  const parts = (q: number): string => (terms === 1 ? "" : `.${components[q]}`);
  if (!bySubgroup) return (r) => ({ lines: [`    let x = readA(b, row${r}, k);`], term: (q) => `x${parts(q)}` });
  for (const g of each(rows / lanes)) w.line(`  let a${g} = readA(b, row${g}, k);`);
  return (r) => ({
    lines: [`    let x = subgroupBroadcast(a${Math.floor(r / lanes)}, ${r % lanes}u);`],
    term: (q) => `x${parts(q)}`,
  });
}

function accumulate(
  w: ShaderWriter,
  rows: number,
  blocks: number,
  terms: number,
  at: ReturnType<typeof loadRows>,
): void {
  for (const r of each(rows)) {
    const { lines, term } = at(r);
    w.line("  {", ...lines);
    for (const c of each(blocks))
      w.line(
        `    s${r}_${c} += ${each(terms)
          .map((q) => `${term(q)} * b${q}_${c}`)
          .join(" + ")};`,
      );
    w.line("  }");
  }
}

/** Whether four columns of the result lie together in its memory. */
const inRow = (kernel: GemmKernel): boolean =>
  divideDims(kernel.n, lanes) !== undefined && new Vectoriser("n").contiguous(kernel.at);

function defineResults(w: ShaderWriter, kernel: GemmKernel): void {
  w.define("place", ["b", "m", "n"], "i32", kernel.at);
  if (inRow(kernel)) w.defineStore4("store", "i", kernel.results, kernel.register);
  else w.defineStore("store", "i", kernel.results, kernel.register);
}

/** Stored in a loop: the epilogue is compiled once, not once per row. */
function storeBlock(
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

/** Tiles of both operands in shared memory, filled by all threads of the workgroup. */
function emitShared(w: ShaderWriter, kernel: GemmKernel, tile: GemmTile): Shader {
  const { rows, depth, register } = { ...tile, register: kernel.register };
  const blocks = blocksOf(kernel, tile, tile.rows);
  const [down, across] = tile.threads;
  const threads = down * across;
  const operands = defineOperands(w, kernel, rows);
  defineResults(w, kernel);
  const [m, n, k, batch] = [w.size(kernel.m), w.size(kernel.n), w.size(kernel.k), w.size(kernel.batch)];
  const [tall, wide] = [down * rows, across * blocks * lanes];
  const vector = `vec4<${register}>`;
  const steps = depth / lanes;
  // a by row and four terms; b by term and four columns.
  w.functions.push(
    `var<workgroup> tileA: array<${vector}, ${tall * steps}>;`,
    `var<workgroup> tileB: array<${vector}, ${(wide * depth) / lanes}>;`,
  );
  w.line(
    `let downs = (${m} + ${tall - 1}) / ${tall};`,
    `let acrosses = (${n} + ${wide - 1}) / ${wide};`,
    `let live = team < ${batch} * downs * acrosses;`,
    `let b = min(team / (acrosses * downs), ${batch} - 1);`,
    `let firstRow = ((team / acrosses) % downs) * ${tall};`,
    `let firstColumn = (team % acrosses) * ${wide};`,
    `let m0 = firstRow + (lane / ${across}) * ${rows};`,
    `let n0 = firstColumn + (lane % ${across}) * ${blocks * lanes};`,
  );
  declare(w, register, rows, blocks);
  w.line(`for (var start = 0; start < ${k}; start += ${depth}) {`);
  fillRows(w, operands, { tall, steps, threads, vector, m, k });
  fillColumns(w, operands, { wide, depth, threads, vector, n, k, column: (at) => columnPlace(kernel, at, n) });
  w.line(
    "  workgroupBarrier();",
    `  let rowAt = (lane / ${across}) * ${rows};`,
    `  let columnAt = (lane % ${across}) * ${blocks};`,
    `  for (var q = 0; q < ${steps}; q++) {`,
  );
  for (const c of each(blocks))
    for (const q of each(lanes))
      w.line(`    let b${q}_${c} = tileB[(q * ${lanes} + ${q}) * ${wide / lanes} + columnAt + ${c}];`);
  accumulate(w, rows, blocks, lanes, (r) => ({
    lines: [`    let x = tileA[(rowAt + ${r}) * ${steps} + q];`],
    term: (q) => `x.${components[q]}`,
  }));
  w.line("  }", "  workgroupBarrier();", "}");
  storeBlock(w, kernel, { rows, blocks, guard: "live", m, n });
  const parts = [
    { dim: kernel.batch, per: 1 },
    { dim: kernel.m, per: tall },
    { dim: kernel.n, per: wide },
  ];
  return w.finish(parts, { threads, perGroup: 1 });
}

/** Rows of operand a: an entry of the tile holds four terms of a row and is written by one thread. */
function fillRows(
  w: ShaderWriter,
  { terms, a }: Operands,
  {
    tall,
    steps,
    threads,
    vector,
    m,
    k,
  }: Record<"tall" | "steps" | "threads", number> & Record<"vector" | "m" | "k", string>,
): void {
  const zero = `${vector}()`;
  if (a === "outer") {
    // Read four rows of a term at a time, so a thread fills a block of four rows and four terms.
    w.line(
      `  for (var e = lane; e < ${(tall / lanes) * steps}; e += ${threads}) {`,
      `    let group = e / ${steps};`,
      `    let term = (e % ${steps}) * ${lanes};`,
      `    let row = min(firstRow + group * ${lanes}, ${m} - ${lanes});`,
    );
    for (const q of each(lanes))
      w.line(
        `    var x${q} = ${zero};`,
        `    if (start + term + ${q} < ${k}) { x${q} = readA(b, row, start + term + ${q}); }`,
      );
    for (const r of each(lanes)) {
      const part = components[r] as string;
      w.line(`    tileA[(group * ${lanes} + ${r}) * ${steps} + e % ${steps}] = ${vector}(${transposed("x", part)});`);
    }
  } else {
    w.line(
      `  for (var e = lane; e < ${tall * steps}; e += ${threads}) {`,
      `    let row = min(firstRow + e / ${steps}, ${m} - 1);`,
      `    let term = start + (e % ${steps}) * ${lanes};`,
      `    var value = ${zero};`,
    );
    if (terms === lanes) w.line(`    if (term < ${k}) { value = readA(b, row, term); }`);
    else
      for (const q of each(lanes))
        w.line(`    if (term + ${q} < ${k}) { value.${components[q]} = readA(b, row, term + ${q}); }`);
    w.line("    tileA[e] = value;");
  }
  w.line("  }");
}

const transposed = (name: string, part: string): string =>
  each(lanes)
    .map((j) => `${name}${j}.${part}`)
    .join(", ");

/** Columns of operand b: an entry of the tile holds four columns of a term and is written by one thread. */
function fillColumns(
  w: ShaderWriter,
  { b }: Operands,
  {
    wide,
    depth,
    threads,
    vector,
    n,
    k,
    column,
  }: Record<"wide" | "depth" | "threads", number> &
    Record<"vector" | "n" | "k", string> & { column: (at: string) => string },
): void {
  const zero = `${vector}()`;
  const groups = wide / lanes;
  if (b === "inner") {
    const steps = depth / lanes;
    w.line(
      `  for (var e = lane; e < ${groups * steps}; e += ${threads}) {`,
      `    let group = e / ${steps};`,
      `    let term = (e % ${steps}) * ${lanes};`,
    );
    for (const j of each(lanes))
      w.line(
        `    var y${j} = ${zero};`,
        `    if (start + term < ${k}) { y${j} = readB(b, start + term, min(firstColumn + group * ${lanes} + ${j}, ${n} - 1)); }`,
      );
    for (const q of each(lanes)) {
      const part = components[q] as string;
      w.line(`    tileB[(term + ${q}) * ${groups} + group] = ${vector}(${transposed("y", part)});`);
    }
  } else
    w.line(
      `  for (var e = lane; e < ${groups * depth}; e += ${threads}) {`,
      `    let term = start + e / ${groups};`,
      `    let column = ${column(`firstColumn + (e % ${groups}) * ${lanes}`)};`,
      `    var value = ${zero};`,
      `    if (term < ${k}) { value = readB(b, term, column); }`,
      "    tileB[e] = value;",
    );
  w.line("  }");
}
