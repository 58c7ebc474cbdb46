// Kernels as WGSL, one function per kind.
import { multiplyDims } from "../../../ir/dim.ts";
import type { Dim } from "../../../ir/type.ts";
import type {
  AttentionKernel,
  Fold,
  GemmKernel,
  Kernel,
  MapKernel,
  RankKernel,
  RowsKernel,
  ScanKernel,
  WindowKernel,
} from "../kernel.ts";
import { literalText } from "../print.ts";
import { type Shader, ShaderWriter, storedAs, type Tuning } from "./shader.ts";

export type { Binding, Groups, Shader, Tuning } from "./shader.ts";

export function emitKernel(kernel: Kernel, symbols: readonly string[], tuning: Tuning): Shader {
  switch (kernel.kind) {
    case "map":
      return emitMap(kernel, symbols);
    case "rows":
      return tuning.rowThreads > 1 ? emitSharedRows(kernel, symbols, tuning.rowThreads) : emitRows(kernel, symbols);
    case "gemm":
      return emitGemm(kernel, symbols, tuning);
    case "attention":
      return emitAttention(kernel, symbols);
    case "window":
      return emitWindow(kernel, symbols);
    case "scan":
      return emitScan(kernel, symbols);
    case "rank":
      return emitRank(kernel, symbols);
    default:
      return kernel satisfies never;
  }
}

const each = (count: number): readonly number[] => Array.from({ length: count }, (_, k) => k);
const total = (...dims: readonly Dim[]): Dim => dims.reduce(multiplyDims, 1);

function emitMap(kernel: MapKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  const { lines, texts } = w.printer.statements(
    kernel.results.map((r) => r.value),
    "  ",
  );
  w.line(`if (id >= ${w.dim(kernel.count)}) { return; }`, "let i = id;");
  w.body.push(...lines);
  kernel.results.forEach(({ buffer }, k) => w.line(w.assign(buffer, "i", texts[k] as string)));
  return w.finish([{ dim: kernel.count, per: 1 }]);
}

function emitRows(kernel: RowsKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  w.line(`if (id >= ${w.dim(kernel.rows)}) { return; }`, "let i = id;", `let length = ${w.dim(kernel.length)};`);
  kernel.folds.forEach((fold, f) => {
    foldAlong(w, fold, f, "0", "1");
    finishFold(w, fold, f, (k) => `f${f}_${k}`);
  });
  kernel.perRow.forEach(({ buffer, value }) => w.line(w.assign(buffer, "i", w.printer.text(value))));
  storeElements(w, kernel, "0", "1");
  return w.finish([{ dim: kernel.rows, per: 1 }]);
}

/** Accumulators f0_0, f0_1, ... of fold 0, from every step-th element of the row on. */
function foldAlong(w: ShaderWriter, fold: Fold, f: number, first: string, step: string): void {
  fold.registers.forEach((register, k) => {
    w.line(`var f${f}_${k}: ${register} = ${literalText(fold.init[k] as never)};`);
  });
  w.line(`for (var r = ${first}; r < length; r += ${step}) {`);
  w.printer.block(() => {
    fold.registers.forEach((_, k) => w.line(`  let a${k} = f${f}_${k};`));
    const { lines, texts } = w.printer.statements(fold.step, "    ");
    w.body.push(...lines);
    texts.forEach((text, k) => w.line(`  f${f}_${k} = ${text};`));
  });
  w.line("}");
}

/** The finished fold s0, from where its accumulators lie. */
function finishFold(w: ShaderWriter, fold: Fold, f: number, accumulator: (k: number) => string): void {
  w.line(`var s${f}: ${fold.finish.type};`, "{");
  w.printer.block(() => {
    fold.registers.forEach((_, k) => w.line(`  let a${k} = ${accumulator(k)};`));
    w.line(`  s${f} = ${w.printer.text(fold.finish)};`);
  });
  w.line("}");
}

/** Values of the row's elements, once all folds are finished. */
function storeElements(w: ShaderWriter, { perElement }: RowsKernel, first: string, step: string): void {
  if (perElement.length === 0) return;
  w.line(`for (var r = ${first}; r < length; r += ${step}) {`);
  w.printer.block(() => {
    const roots = perElement.flatMap((r) => [r.at, r.value]);
    const { lines, texts } = w.printer.statements(roots, "    ");
    w.body.push(...lines);
    perElement.forEach(({ buffer }, k) => {
      w.line(`  ${w.assign(buffer, texts[2 * k] as string, texts[2 * k + 1] as string)}`);
    });
  });
  w.line("}");
}

/** One workgroup a row: partial folds by thread, then merged pairwise. */
function emitSharedRows(kernel: RowsKernel, symbols: readonly string[], threads: number): Shader {
  const w = new ShaderWriter(kernel, symbols);
  kernel.folds.forEach((fold, f) =>
    fold.registers.forEach((register, k) =>
      w.functions.push(`var<workgroup> w${f}_${k}: array<${storedAs(register)}, ${threads}>;`),
    ),
  );
  w.line(
    "let i = team;",
    "let t = i32(lane);",
    `let length = select(0, ${w.dim(kernel.length)}, i < ${w.dim(kernel.rows)});`,
  );
  kernel.folds.forEach((fold, f) => {
    foldAlong(w, fold, f, "t", String(threads));
    fold.registers.forEach((_, k) => w.line(`w${f}_${k}[t] = f${f}_${k};`));
    w.line("workgroupBarrier();", `for (var half = ${threads / 2}; half > 0; half = half / 2) {`, "  if (t < half) {");
    w.printer.block(() => {
      fold.registers.forEach((_, k) =>
        w.line(`    let x${k} = w${f}_${k}[t];`, `    let y${k} = w${f}_${k}[t + half];`),
      );
      const { lines, texts } = w.printer.statements(fold.merge, "      ");
      w.body.push(...lines);
      texts.forEach((text, k) => w.line(`    w${f}_${k}[t] = ${text};`));
    });
    w.line("  }", "  workgroupBarrier();", "}");
    finishFold(w, fold, f, (k) => `w${f}_${k}[0]`);
  });
  if (kernel.perRow.length > 0) {
    w.line("if (t == 0 && length > 0) {");
    w.printer.block(() =>
      kernel.perRow.forEach(({ buffer, value }) => w.line(`  ${w.assign(buffer, "i", w.printer.text(value))}`)),
    );
    w.line("}");
  }
  storeElements(w, kernel, "t", String(threads));
  const groups = { parts: [{ dim: kernel.rows, per: 1 }], threads: 1 };
  return { ...w.finish(groups.parts, threads), groups };
}

/** A thread computes a small tile of the product, reading its rows and columns straight from memory. */
function emitGemm(kernel: GemmKernel, symbols: readonly string[], tuning: Tuning): Shader {
  const w = new ShaderWriter(kernel, symbols);
  const least = (dim: Dim, most: number) => (typeof dim === "number" ? Math.max(1, Math.min(most, dim)) : most);
  const [rows, columns] = [least(kernel.m, tuning.tile[0]), least(kernel.n, tuning.tile[1])];
  const { register } = kernel;
  w.define("readA", ["b", "m", "k"], register, kernel.a);
  w.define("readB", ["b", "k", "n"], register, kernel.b);
  w.define("place", ["b", "m", "n"], "i32", kernel.at);
  w.defineStore("store", "i", kernel.results, register);
  const [m, n] = [w.dim(kernel.m), w.dim(kernel.n)];
  w.line(
    `let down = (${m} + ${rows - 1}) / ${rows};`,
    `let across = (${n} + ${columns - 1}) / ${columns};`,
    `if (id >= ${w.dim(kernel.batch)} * down * across) { return; }`,
    `let n0 = (id % across) * ${columns};`,
    `let m0 = ((id / across) % down) * ${rows};`,
    "let b = id / (across * down);",
  );
  for (const r of each(rows)) {
    w.line(`let row${r} = min(m0 + ${r}, ${m} - 1);`);
    for (const c of each(columns)) w.line(`var acc${r}_${c}: ${register};`);
  }
  for (const c of each(columns)) w.line(`let column${c} = min(n0 + ${c}, ${n} - 1);`);
  w.line(`for (var k = 0; k < ${w.dim(kernel.k)}; k++) {`);
  for (const r of each(rows)) w.line(`  let x${r} = readA(b, row${r}, k);`);
  for (const c of each(columns)) w.line(`  let y${c} = readB(b, k, column${c});`);
  for (const r of each(rows)) for (const c of each(columns)) w.line(`  acc${r}_${c} += x${r} * y${c};`);
  w.line("}");
  // Stored in a loop: the epilogue is compiled once, not once per element of the tile.
  const accumulators = each(rows).flatMap((r) => each(columns).map((c) => `acc${r}_${c}`));
  w.line(
    `var tile = array<${register}, ${rows * columns}>(${accumulators.join(", ")});`,
    `for (var e = 0; e < ${rows * columns}; e++) {`,
    `  let m = m0 + e / ${columns};`,
    `  let n = n0 + e % ${columns};`,
    `  if (m < ${m} && n < ${n}) { store(place(b, m, n), tile[e]); }`,
    "}",
  );
  return w.finish([
    { dim: kernel.batch, per: 1 },
    { dim: kernel.m, per: rows },
    { dim: kernel.n, per: columns },
  ]);
}

/** A thread a query row; the scores are never stored. */
function emitAttention(kernel: AttentionKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  // Channels are written out one by one: registers indexed by a variable would live in memory.
  const { channels, valueChannels } = kernel;
  const scale = literalText({ value: kernel.scale, type: "f32" });
  w.define("readQ", ["b", "h", "i", "c"], "f32", kernel.query);
  w.define("readK", ["b", "h", "j", "c"], "f32", kernel.key);
  w.define("readV", ["b", "h", "j", "c"], "f32", kernel.value);
  w.define("adjust", ["b", "h", "i", "j", "score: f32"], "f32", kernel.score);
  w.define("firstKey", ["i"], "i32", kernel.first);
  w.define("endKey", ["i"], "i32", kernel.end);
  w.defineStore("store", "o", kernel.results, "f32");
  const [lse] = kernel.logSumExp;
  w.line(
    `let queries = ${w.dim(kernel.queries)};`,
    `if (id >= ${w.dim(kernel.batch)} * ${kernel.heads} * queries) { return; }`,
    "let i = id % queries;",
    `let h = (id / queries) % ${kernel.heads};`,
    `let b = id / (queries * ${kernel.heads});`,
    ...each(channels).map((c) => `let q${c} = readQ(b, h, i, ${c}) * ${scale};`),
    ...each(valueChannels).map((c) => `var acc${c} = 0.0;`),
    "var peak = -bitcast<f32>(inf_bits);",
    "var sum = 0.0;",
    "let end = endKey(i);",
    "for (var j = firstKey(i); j < end; j++) {",
    "  var dot = 0.0;",
    ...each(channels).map((c) => `  dot += q${c} * readK(b, h, j, ${c});`),
    "  let score = adjust(b, h, i, j, dot);",
    "  if (score == -bitcast<f32>(inf_bits)) { continue; }",
    "  if (score > peak) {",
    "    let shrink = exp(peak - score);",
    "    sum *= shrink;",
    ...each(valueChannels).map((c) => `    acc${c} *= shrink;`),
    "    peak = score;",
    "  }",
    "  let weight = exp(score - peak);",
    "  sum += weight;",
    ...each(valueChannels).map((c) => `  acc${c} += weight * readV(b, h, j, ${c});`),
    "}",
    `var row = array<f32, ${valueChannels}>(${each(valueChannels)
      .map((c) => `acc${c}`)
      .join(", ")});`,
    `for (var c = 0; c < ${valueChannels}; c++) { store(id * ${valueChannels} + c, row[c] / sum); }`,
  );
  if (lse !== undefined) w.line(w.assign(lse.buffer, "id", "peak + log(sum)"));
  const rows = total(kernel.batch, kernel.heads, kernel.queries);
  return w.finish([{ dim: rows, per: 1 }]);
}

function emitWindow(kernel: WindowKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  w.define("inside", ["o", "c", "p", "q"], "bool", kernel.inside);
  w.define("readX", ["o", "c", "p", "q"], "f32", kernel.x);
  if (kernel.reduce === "dot") w.define("readW", ["o", "c", "p", "q"], "f32", kernel.weight);
  w.defineStore("store", "i", kernel.results, "f32");
  const [rows, columns] = kernel.kernel as readonly [number, number];
  const step = { dot: "acc += x * readW(o, c, p, q);", sum: "acc += x;", max: "acc = max(acc, x);" }[kernel.reduce];
  w.line(
    `if (id >= ${w.dim(kernel.count)}) { return; }`,
    "let o = id;",
    `var acc = ${kernel.reduce === "max" ? "-bitcast<f32>(inf_bits)" : "0.0"};`,
    `for (var c = 0; c < ${w.dim(kernel.channels)}; c++) { for (var p = 0; p < ${rows}; p++) { for (var q = 0; q < ${columns}; q++) {`,
    `  if (inside(o, c, p, q)) { let x = readX(o, c, p, q); ${step} }`,
    "} } }",
    "store(o, acc);",
  );
  return w.finish([{ dim: kernel.count, per: 1 }]);
}

function emitScan(kernel: ScanKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  const { register } = kernel;
  w.define("step", [`acc: ${register}`, "i", "r"], register, kernel.step);
  w.define("place", ["i", "r"], "i32", kernel.at);
  w.defineStore("store", "o", kernel.results, register);
  w.line(
    `if (id >= ${w.dim(kernel.rows)}) { return; }`,
    `let length = ${w.dim(kernel.length)};`,
    `var acc: ${register} = ${literalText(kernel.init as never)};`,
    "for (var n = 0; n < length; n++) {",
    `  let r = ${kernel.reverse ? "length - 1 - n" : "n"};`,
    "  let next = step(acc, id, r);",
    `  store(place(id, r), ${kernel.exclusive ? "acc" : "next"});`,
    "  acc = next;",
    "}",
  );
  return w.finish([{ dim: kernel.rows, per: 1 }]);
}

/** A place of an element is the number of elements that come before it: better ones, and equal ones at lower places. */
function emitRank(kernel: RankKernel, symbols: readonly string[]): Shader {
  const w = new ShaderWriter(kernel, symbols);
  const stored = storedAs(kernel.register);
  w.define("read", ["i", "r"], kernel.register, kernel.x);
  w.define("place", ["i", "r"], "i32", kernel.at);
  const number = (x: string) => (kernel.register === "bool" ? `select(0u, 1u, ${x})` : x);
  const nan = (x: string) => (kernel.register === "f32" ? `isNan(${x})` : "false");
  if (kernel.register === "f32")
    w.functions.push("fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }");
  w.line(
    `let length = ${w.dim(kernel.length)};`,
    `if (id >= ${w.dim(kernel.rows)} * length) { return; }`,
    "let i = id / length;",
    "let r = id % length;",
    `let x: ${stored} = ${number("read(i, r)")};`,
    "var rank = 0;",
    "for (var n = 0; n < length; n++) {",
    `  let y: ${stored} = ${number("read(i, n)")};`,
    `  let nanX = ${nan("x")};`,
    `  let nanY = ${nan("y")};`,
    `  let better = (nanX && !nanY) || (!nanX && !nanY && ${kernel.descending ? "y > x" : "y < x"});`,
    "  let same = (nanX && nanY) || y == x;",
    "  if (better || (same && n < r)) { rank++; }",
    "}",
    "let at = place(i, rank);",
  );
  const { values, indices } = kernel;
  if (values !== undefined) w.line(`${w.local(values.name)}[at] = x;`);
  if (indices !== undefined) w.line(`${w.local(indices.name)}[at] = r;`);
  return w.finish([{ dim: total(kernel.rows, kernel.length), per: 1 }]);
}
