// Matrix products: a thread computes a block of rows and of four-wide columns; what differs is how operands reach it.
import type { Dim } from "../../../ir/type.ts";
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
  type RowTerms,
  storeBlock,
} from "./gemmBlock.ts";
import { emitFewRows, emitShared } from "./gemmShared.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

const mostFewRows = 4; // that a workgroup computes by sharing the terms of their sums

export function emitGemm(
  kernel: GemmKernel,
  singles: ReadonlySet<string>,
  tile: GemmTile,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const least = (dim: Dim, most: number) => (typeof dim === "number" ? Math.max(1, Math.min(most, dim)) : most);
  const rows = least(kernel.m, tile.rows);
  if (tile.by === "workgroup" && typeof kernel.m === "number" && kernel.m <= mostFewRows)
    return { shader: emitFewRows(w, kernel, kernel.m), writer: w };
  if (tile.by === "workgroup") return { shader: emitShared(w, kernel, { ...tile, rows }), writer: w };
  const bySubgroup = tile.by === "subgroup" && rows % lanes === 0;
  return { shader: emitDirect(w, kernel, { ...tile, rows }, { bySubgroup, mostRows: tile.rows }), writer: w };
}

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

/** How row r's term q is spelt once the rows of a step are loaded. */
function loadRows(w: ShaderWriter, { terms, a }: Operands, rows: number, bySubgroup: boolean): (r: number) => RowTerms {
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
