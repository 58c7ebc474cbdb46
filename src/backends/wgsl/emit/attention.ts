// Attention by an online softmax: keys in small groups, a running peak and sum, no scores in memory.
import { multiplyDims } from "../../../ir/dim.ts";
import type { Dim } from "../../../ir/type.ts";
import { walk } from "../expr.ts";
import type { AttentionKernel } from "../kernel.ts";
import { literalText } from "../print.ts";
import type { AttentionTile } from "../tuning.ts";
import { lanes } from "../vector.ts";
import { each } from "./gemm.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

/** A thread a query row; with `subgroup`, four neighbouring rows read each key and value together. */
export function emitAttention(
  kernel: AttentionKernel,
  singles: ReadonlySet<string>,
  tile: AttentionTile,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const { channels, valueChannels } = kernel;
  const wide = channels % lanes === 0 && valueChannels % lanes === 0;
  const shared =
    tile.subgroup && channels % (lanes * lanes) === 0 && valueChannels % (lanes * lanes) === 0 && !rangesDiffer(kernel);
  const width = wide ? lanes : 1;
  const vector = wide ? "vec4<f32>" : "f32";
  const [parts, valueParts] = [channels / width, valueChannels / width];
  const define = (name: string, args: readonly string[], value: AttentionKernel["query"]): void => {
    if (wide) w.define4(name, args, "f32", value, { variable: "c" });
    else w.define(name, args, "f32", value);
  };
  define("readQ", ["b", "h", "i", "c"], kernel.query);
  define("readK", ["b", "h", "j", "c"], kernel.key);
  define("readV", ["b", "h", "j", "c"], kernel.value);
  w.define("adjust", ["b", "h", "i", "j", "score: f32"], "f32", kernel.score);
  w.define("firstKey", ["i"], "i32", kernel.first);
  w.define("endKey", ["i"], "i32", kernel.end);
  if (wide) w.defineStore4("store", "o", kernel.results, "f32");
  else w.defineStore("store", "o", kernel.results, "f32");
  const [lse] = kernel.logSumExp;
  const [queries, batch] = [w.size(kernel.queries), w.size(kernel.batch)];
  // Four rows that share their reads belong to one head: rows are counted in groups of four there.
  const padded = shared ? `((${queries} + 3) / 4 * 4)` : queries;
  if (shared) w.enable("subgroups");
  w.line(
    `let rows = ${padded};`,
    `let live = id < ${batch} * ${kernel.heads} * rows && id % rows < ${queries};`,
    ...(shared ? [] : ["if (!live) { return; }"]),
    `let i = min(id % rows, ${queries} - 1);`,
    `let h = (id / rows) % ${kernel.heads};`,
    `let b = min(id / (rows * ${kernel.heads}), ${batch} - 1);`,
    ...each(parts).map(
      (c) => `let q${c} = readQ(b, h, i, ${c * width}) * ${literalText({ value: kernel.scale, type: "f32" })};`,
    ),
    // Channels are written out one by one: registers indexed by a variable would live in memory.
    ...each(valueParts).map((c) => `var acc${c} = ${vector}();`),
    `var peak = ${lowest};`,
    "var sum = 0.0;",
    `let end = ${shared ? "endKey(0)" : "endKey(i)"};`,
    `for (var j = ${shared ? "firstKey(0)" : "firstKey(i)"}; j < end; j += ${tile.keys}) {`,
  );
  const keys = each(tile.keys);
  for (const n of keys) {
    w.line(`  let j${n} = min(j + ${n}, end - 1);`, `  var s${n} = 0.0;`);
    readTogether(w, { name: `k${n}`, read: "readK", at: `j${n}`, parts, width, shared });
    for (const c of each(parts)) {
      const key = `k${n}_${c}`;
      w.line(wide ? `  s${n} += dot(q${c}, ${key});` : `  s${n} += q${c} * ${key};`);
    }
    const masked = `select(${lowest}, max(adjust(b, h, i, j${n}, s${n}), ${lowest}), j + ${n} < end)`;
    w.line(`  s${n} = ${masked};`);
  }
  w.line(
    `  let top = ${keys.reduce((text, n) => `max(${text}, s${n})`, "peak")};`,
    "  let shrink = exp(peak - top);",
    "  peak = top;",
    ...keys.map((n) => `  let w${n} = select(0.0, exp(s${n} - top), s${n} > ${lowest});`),
    `  sum = sum * shrink + ${keys.map((n) => `w${n}`).join(" + ")};`,
  );
  for (const n of keys)
    readTogether(w, { name: `v${n}`, read: "readV", at: `j${n}`, parts: valueParts, width, shared });
  for (const c of each(valueParts))
    w.line(`  acc${c} = acc${c} * shrink + ${keys.map((n) => `w${n} * v${n}_${c}`).join(" + ")};`);
  w.line(
    "}",
    `let row = (b * ${kernel.heads} + h) * ${queries} + i;`,
    `var values = array<${vector}, ${valueParts}>(${each(valueParts)
      .map((c) => `acc${c}`)
      .join(", ")});`,
    `if (live) { for (var c = 0; c < ${valueParts}; c++) { store(row * ${valueChannels} + c * ${width}, values[c] / sum); } }`,
  );
  if (lse !== undefined) w.line(`if (live) { ${w.assign(lse.buffer, "row", "peak + log(sum)")} }`);
  const rows = multiplyDims(multiplyDims(kernel.batch, kernel.heads), shared ? 1 : kernel.queries);
  const groups = shared
    ? [
        { dim: kernel.queries, per: lanes },
        { dim: rows, per: 1 },
        { dim: lanes, per: 1 },
      ]
    : [{ dim: rows, per: 1 }];
  return { shader: w.finish(groups), writer: w };
}

// Stands for minus infinity, which a device may assume never to meet.
const lowest = "-3.4028234e38";

/** Whether the keys that a row sees depend on the row. */
function rangesDiffer(kernel: AttentionKernel): boolean {
  let differ = false;
  walk([kernel.first, kernel.end], (e) => {
    differ ||= e.op === "variable";
  });
  return differ;
}

/** Channels of one key or value in registers NAME_0, NAME_1, ...; a quarter read by each of four threads if shared. */
function readTogether(
  w: ShaderWriter,
  r: { name: string; read: string; at: string; parts: number; width: number; shared: boolean },
): void {
  if (!r.shared) {
    for (const c of each(r.parts)) w.line(`  let ${r.name}_${c} = ${r.read}(b, h, ${r.at}, ${c * r.width});`);
    return;
  }
  for (const g of each(r.parts / lanes))
    w.line(`  let ${r.name}g${g} = ${r.read}(b, h, ${r.at}, (${g * lanes} + (lane & 3)) * ${lanes});`);
  for (const c of each(r.parts))
    w.line(`  let ${r.name}_${c} = subgroupBroadcast(${r.name}g${Math.floor(c / lanes)}, ${c % lanes}u);`);
}

export const total = (...dims: readonly Dim[]): Dim => dims.reduce(multiplyDims, 1);
