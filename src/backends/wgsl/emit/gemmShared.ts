// Products whose operands pass through shared memory, for devices on which barriers are cheap.
import type { GemmKernel } from "../kernel.ts";
import type { GemmTile } from "../tuning.ts";
import { lanes } from "../vector.ts";
import {
  accumulate,
  blocksOf,
  columnPlace,
  components,
  declare,
  defineOperands,
  defineResults,
  each,
  loadColumns,
  type Operands,
  storeBlock,
} from "./gemmBlock.ts";
import type { Shader, ShaderWriter } from "./shader.ts";

/** Tiles of both operands in shared memory, filled by all threads of the workgroup. */
export function emitShared(w: ShaderWriter, kernel: GemmKernel, tile: GemmTile): Shader {
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

const vectorThreads = 256;
const quads = 8; // groups of four columns that a workgroup computes

/** One to four rows times a matrix: the threads of a workgroup share the terms of the sums of its 32 columns. */
export function emitFewRows(w: ShaderWriter, kernel: GemmKernel, rows: number): Shader {
  const { register } = kernel;
  const operands = defineOperands(w, kernel, 1); // one row at a time
  const { terms, b } = operands;
  defineResults(w, kernel);
  const [m, n, k, batch] = [w.size(kernel.m), w.size(kernel.n), w.size(kernel.k), w.size(kernel.batch)];
  const parts = vectorThreads / quads;
  const vector = `vec4<${register}>`;
  w.functions.push(`var<workgroup> sums: array<${vector}, ${vectorThreads * rows}>;`);
  // Neighbouring threads read neighbouring memory: terms where those lie together, else columns.
  const [quad, part] = b === "inner" ? [`lane / ${parts}`, `lane % ${parts}`] : [`lane % ${quads}`, `lane / ${quads}`];
  w.line(
    `let across = (${n} + ${quads * lanes - 1}) / ${quads * lanes};`,
    `let live = team < ${batch} * across;`,
    `let b = min(team / across, ${batch} - 1);`,
    `let quad = ${quad};`,
    `let part = ${part};`,
    "let m0 = 0;",
    `let n0 = (team % across) * ${quads * lanes} + quad * ${lanes};`,
  );
  declare(w, register, rows, 1);
  w.line(`let column0 = ${columnPlace(kernel, "n0", n)};`);
  w.line(`for (var k = part * ${terms}; k < ${k}; k += ${parts * terms}) {`);
  loadColumns(w, operands, 1);
  const term = (q: number) => (terms === 1 ? "x" : `x.${components[q]}`);
  accumulate(w, rows, 1, terms, (r) => ({ lines: [`    let x = readA(b, ${r}, k);`], term }));
  w.line("}");
  for (const r of each(rows)) w.line(`sums[lane * ${rows} + ${r}] = s${r}_0;`);
  // Halved until one part is left.
  const stride = b === "inner" ? 1 : quads;
  w.line(
    "workgroupBarrier();",
    `for (var half = ${parts / 2}; half > 0; half = half / 2) {`,
    "  if (part < half) {",
    ...each(rows).map((r) => `    sums[lane * ${rows} + ${r}] += sums[(lane + half * ${stride}) * ${rows} + ${r}];`),
    "  }",
    "  workgroupBarrier();",
    "}",
    ...each(rows).map((r) => `s${r}_0 = sums[lane * ${rows} + ${r}];`),
  );
  storeBlock(w, kernel, { rows, blocks: 1, guard: "live && part == 0", m, n });
  const groups = [
    { dim: kernel.batch, per: 1 },
    { dim: kernel.n, per: quads * lanes },
  ];
  return w.finish(groups, { threads: vectorThreads, perGroup: 1 });
}
