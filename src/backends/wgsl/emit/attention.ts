// Attention by an online softmax: keys in small groups, a running peak and sum, no scores in memory.
import { multiplyDims } from "../../../ir/dim.ts";
import { walk } from "../expr.ts";
import type { AttentionKernel } from "../kernel.ts";
import { literalText } from "../print.ts";
import type { AttentionTile } from "../tuning.ts";
import { lanes } from "../vector.ts";
import { each } from "./gemmBlock.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

/** How the threads of a row's neighbours read keys and values. */
type Sharing = "none" | "subgroup" | "workgroup";

interface Plan {
  readonly kernel: AttentionKernel;
  readonly sharing: Sharing;
  /** Channels at once. */
  readonly width: 1 | 4;
  /** Registers that hold the channels of a query or key, and of a value. */
  readonly parts: number;
  readonly valueParts: number;
  readonly keys: readonly number[];
  /** Keys in shared memory. */
  readonly staged: number;
}

const workgroupRows = 64;
const sharedBytes = 16_384; // what every WebGPU device has for a workgroup

function planOf(kernel: AttentionKernel, tile: AttentionTile): Plan {
  const { channels, valueChannels } = kernel;
  const width = channels % lanes === 0 && valueChannels % lanes === 0 ? lanes : 1;
  const quarters = channels % (lanes * lanes) === 0 && valueChannels % (lanes * lanes) === 0;
  const fits = tile.staged * (channels + valueChannels) * 4 <= sharedBytes;
  const staged = tile.staged > 0 && width === lanes && fits && tile.staged % tile.keys === 0;
  const subgroup = tile.subgroup && quarters && !rangesDiffer(kernel);
  return {
    kernel,
    sharing: staged ? "workgroup" : subgroup ? "subgroup" : "none",
    width,
    parts: channels / width,
    valueParts: valueChannels / width,
    keys: each(tile.keys),
    staged: staged ? tile.staged : 0,
  };
}

/** A thread a query row; neighbouring rows of a head may read keys and values together. */
export function emitAttention(
  kernel: AttentionKernel,
  singles: ReadonlySet<string>,
  tile: AttentionTile,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const plan = planOf(kernel, tile);
  const { sharing, width, parts, valueParts, keys, staged } = plan;
  const { valueChannels, heads } = kernel;
  const vector = width === lanes ? "vec4<f32>" : "f32";
  defineReads(w, plan);
  const [queries, batch] = [w.size(kernel.queries), w.size(kernel.batch)];
  // Rows that share their reads belong to one head: they are counted in groups there.
  const group = { none: 1, subgroup: lanes, workgroup: workgroupRows }[sharing];
  const rows = group === 1 ? queries : `((${queries} + ${group - 1}) / ${group} * ${group})`;
  if (sharing === "subgroup") w.enable("subgroups");
  if (sharing === "workgroup")
    w.functions.push(
      `var<workgroup> tileK: array<vec4<f32>, ${staged * parts}>;`,
      `var<workgroup> tileV: array<vec4<f32>, ${staged * valueParts}>;`,
    );
  w.line(
    `let rows = ${rows};`,
    `let live = id < ${batch} * ${heads} * rows && id % rows < ${queries};`,
    ...(sharing === "none" ? ["if (!live) { return; }"] : []),
    `let i = min(id % rows, ${queries} - 1);`,
    // A workgroup's rows are of one head, and the device must be able to see that they are.
    `let block = ${sharing === "workgroup" ? `team * ${workgroupRows}` : "id"};`,
    `let h = (block / rows) % ${heads};`,
    `let b = min(block / (rows * ${heads}), ${batch} - 1);`,
    ...each(parts).map(
      (c) => `let q${c} = readQ(b, h, i, ${c * width}) * ${literalText({ value: kernel.scale, type: "f32" })};`,
    ),
    // Channels are written out one by one: registers indexed by a variable would live in memory.
    ...each(valueParts).map((c) => `var acc${c} = ${vector}();`),
    `var peak = ${lowest};`,
    "var sum = 0.0;",
  );
  if (sharing === "workgroup") loopOverTiles(w, plan, queries);
  else {
    const range = sharing === "subgroup" ? "0" : "i"; // the same for all rows where a subgroup shares its reads
    w.line(`let end = endKey(${range});`, `for (var j = firstKey(${range}); j < end; j += ${keys.length}) {`);
    for (const n of keys) w.line(`  let j${n} = min(j + ${n}, end - 1);`);
    foldKeys(w, plan, (n) => `j + ${n} < end`);
    w.line("}");
  }
  w.line(
    `let row = (b * ${heads} + h) * ${queries} + i;`,
    `var values = array<${vector}, ${valueParts}>(${each(valueParts)
      .map((c) => `acc${c}`)
      .join(", ")});`,
    `if (live) { for (var c = 0; c < ${valueParts}; c++) { store(row * ${valueChannels} + c * ${width}, values[c] / sum); } }`,
  );
  const [lse] = kernel.logSumExp;
  if (lse !== undefined) w.line(`if (live) { ${w.assign(lse.buffer, "row", "peak + log(sum)")} }`);
  const parallel = multiplyDims(kernel.batch, heads);
  const groups =
    sharing === "none"
      ? [{ dim: multiplyDims(parallel, kernel.queries), per: 1 }]
      : [
          { dim: kernel.queries, per: group },
          { dim: parallel, per: 1 },
          { dim: group, per: 1 },
        ];
  return { shader: w.finish(groups), writer: w };
}

function defineReads(w: ShaderWriter, { kernel, width }: Plan): void {
  const define = (name: string, args: readonly string[], value: AttentionKernel["query"]): void => {
    if (width === lanes) w.define4(name, args, "f32", value, { variable: "c" });
    else w.define(name, args, "f32", value);
  };
  define("readQ", ["b", "h", "i", "c"], kernel.query);
  define("readK", ["b", "h", "j", "c"], kernel.key);
  define("readV", ["b", "h", "j", "c"], kernel.value);
  w.define("adjust", ["b", "h", "i", "j", "score: f32"], "f32", kernel.score);
  w.define("firstKey", ["i"], "i32", kernel.first);
  w.define("endKey", ["i"], "i32", kernel.end);
  if (width === lanes) w.defineStore4("store", "o", kernel.results, "f32");
  else w.defineStore("store", "o", kernel.results, "f32");
}

/** The keys that any row of the workgroup sees, a tile at a time; first and end of a row never fall from row to row. */
function loopOverTiles(w: ShaderWriter, plan: Plan, queries: string): void {
  const { parts, valueParts, keys, staged } = plan;
  const fill = (name: string, read: string, count: number): readonly string[] => [
    `  for (var e = lane; e < ${staged * count}; e += ${workgroupRows}) {`,
    `    ${name}[e] = ${read}(b, h, min(start + e / ${count}, last - 1), (e % ${count}) * ${lanes});`,
    "  }",
  ];
  w.line(
    "let firstRow = block % rows;",
    `let last = endKey(min(firstRow + ${workgroupRows - 1}, ${queries} - 1));`,
    "let begin = firstKey(i);",
    "let end = endKey(i);",
    `for (var start = firstKey(firstRow); start < last; start += ${staged}) {`,
    ...fill("tileK", "readK", parts),
    ...fill("tileV", "readV", valueParts),
    "  workgroupBarrier();",
    `  for (var t = 0; t < ${staged}; t += ${keys.length}) {`,
    "  let j = start + t;",
  );
  for (const n of keys) w.line(`  let j${n} = min(j + ${n}, last - 1);`);
  foldKeys(w, plan, (n) => `j + ${n} < end && j + ${n} >= begin`);
  w.line("  }", "  workgroupBarrier();", "}");
}

/** One group of keys into peak, sum and accumulators; `seen` tells whether the row sees key n of the group. */
function foldKeys(w: ShaderWriter, plan: Plan, seen: (n: number) => string): void {
  const { width, parts, valueParts, keys } = plan;
  for (const n of keys) {
    w.line(`  var s${n} = 0.0;`);
    readKey(w, plan, { name: `k${n}`, n, read: "readK", tile: "tileK", parts });
    for (const c of each(parts)) {
      const key = `k${n}_${c}`;
      w.line(width === lanes ? `  s${n} += dot(q${c}, ${key});` : `  s${n} += q${c} * ${key};`);
    }
    w.line(`  s${n} = select(${lowest}, max(adjust(b, h, i, j${n}, s${n}), ${lowest}), ${seen(n)});`);
  }
  w.line(
    `  let top = ${keys.reduce((text, n) => `max(${text}, s${n})`, "peak")};`,
    "  let shrink = exp(peak - top);",
    "  peak = top;",
    ...keys.map((n) => `  let w${n} = select(0.0, exp(s${n} - top), s${n} > ${lowest});`),
    `  sum = sum * shrink + ${keys.map((n) => `w${n}`).join(" + ")};`,
  );
  for (const n of keys) readKey(w, plan, { name: `v${n}`, n, read: "readV", tile: "tileV", parts: valueParts });
  for (const c of each(valueParts))
    w.line(`  acc${c} = acc${c} * shrink + ${keys.map((n) => `w${n} * v${n}_${c}`).join(" + ")};`);
}

/** Channels of one key or value in registers NAME_0, NAME_1, ... */
function readKey(
  w: ShaderWriter,
  { sharing, width }: Plan,
  r: { name: string; n: number; read: string; tile: string; parts: number },
): void {
  if (sharing === "workgroup") {
    for (const c of each(r.parts)) w.line(`  let ${r.name}_${c} = ${r.tile}[(t + ${r.n}) * ${r.parts} + ${c}];`);
    return;
  }
  if (sharing === "none") {
    for (const c of each(r.parts)) w.line(`  let ${r.name}_${c} = ${r.read}(b, h, j${r.n}, ${c * width});`);
    return;
  }
  for (const g of each(r.parts / lanes))
    w.line(`  let ${r.name}g${g} = ${r.read}(b, h, j${r.n}, (${g * lanes} + (lane & 3)) * ${lanes});`);
  for (const c of each(r.parts))
    w.line(`  let ${r.name}_${c} = subgroupBroadcast(${r.name}g${Math.floor(c / lanes)}, ${c % lanes}u);`);
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
