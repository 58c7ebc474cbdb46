// Kernels that run along a row: running folds, and stable sorts.
import { divideDims, multiplyDims } from "../../../ir/dim.ts";
import type { RankKernel, RankStage, ScanKernel } from "../kernel.ts";
import { literalText } from "../print.ts";
import { lanes } from "../vector.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

/** A thread a row, element after element. */
export function emitScan(kernel: ScanKernel, singles: ReadonlySet<string>): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const { register } = kernel;
  w.define("step", [`acc: ${register}`, "i", "r"], register, kernel.step);
  w.define("place", ["i", "r"], "i32", kernel.at);
  w.defineStore("store", "o", kernel.results, register);
  w.line(
    `if (id >= ${w.size(kernel.rows)}) { return; }`,
    `let length = ${w.size(kernel.length)};`,
    `var acc: ${register} = ${literalText(kernel.init as never)};`,
    "for (var n = 0; n < length; n++) {",
    `  let r = ${kernel.reverse ? "length - 1 - n" : "n"};`,
    "  let next = step(acc, id, r);",
    `  store(place(id, r), ${kernel.exclusive ? "acc" : "next"});`,
    "  acc = next;",
    "}",
  );
  return { shader: w.finish([{ dim: kernel.rows, per: 1 }]), writer: w };
}

/** Threads of a workgroup that sorts a row in several stages. */
const rowThreads = 64;

/** A place of an element is the number of elements that come before it: better ones, and equal ones at lower places. */
export function emitRank(kernel: RankKernel, singles: ReadonlySet<string>): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  if (kernel.stages.some(({ register }) => register === "f32"))
    w.functions.push("fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }");
  kernel.stages.forEach((stage, s) => defineStage(w, stage, s));
  const [first, ...more] = kernel.stages as readonly [RankStage, ...RankStage[]];
  const { rows } = kernel;
  if (more.length === 0) {
    w.line(
      `let length = ${w.size(first.length)};`,
      `if (id < ${w.size(rows)} * length) { rank0(id / length, id % length); }`,
    );
    return { shader: w.finish([{ dim: multiplyDims(rows, first.length), per: 1 }]), writer: w };
  }
  // A workgroup a row: what one stage wrote is there for all threads of the next.
  kernel.stages.forEach((stage, s) => {
    if (s > 0) w.line("storageBarrier();");
    w.line(
      `for (var r = lane; r < ${w.size(stage.length)}; r += ${rowThreads}) {`,
      `  if (team < ${w.size(rows)}) { rank${s}(team, r); }`,
      "}",
    );
  });
  return { shader: w.finish([{ dim: rows, per: 1 }], { threads: rowThreads, perGroup: 1 }), writer: w };
}

/** rankN puts element r of row i in its place. */
function defineStage(w: ShaderWriter, stage: RankStage, s: number): void {
  const { values, indices, register, descending } = stage;
  const fours = divideDims(stage.length, lanes) !== undefined;
  const length = w.size(stage.length);
  const partial = stage.needed !== stage.length; // who has that many before it is not needed
  const needed = w.size(stage.needed);
  w.define(`read${s}`, ["i", "r"], register, stage.x);
  w.define(`place${s}`, ["i", "r"], "i32", stage.at);
  const better = descending ? ">" : "<";
  const words = (x: string) => (register === "bool" ? `select(0u, 1u, ${x})` : x);
  const wideWords = (x: string) => (register === "bool" ? `select(vec4<u32>(0u), vec4<u32>(1u), ${x})` : x);
  if (fours) w.define4(`readFour${s}`, ["i", "r"], register, stage.x, { variable: "r" });
  // Four at a time where the length allows it; ties go to the lower place.
  const count = fours
    ? [
        "  var ranks = vec4<i32>();",
        `  for (var n = 0; n < ${length}; n += ${lanes}) {`,
        `    let y = ${wideWords(`readFour${s}(i, n)`)};`,
        "    let before = (vec4<i32>(n) + vec4<i32>(0, 1, 2, 3)) < vec4<i32>(r);",
        `    ranks += select(vec4<i32>(0), vec4<i32>(1), (y ${better} vec4(x)) | ((y == vec4(x)) & before));`,
        ...(partial ? [`    if (ranks.x + ranks.y + ranks.z + ranks.w >= ${needed}) { break; }`] : []),
        "  }",
        "  var rank = ranks.x + ranks.y + ranks.z + ranks.w;",
      ]
    : [
        "  var rank = 0;",
        `  for (var n = 0; n < ${length}; n++) {`,
        `    let y = ${words(`read${s}(i, n)`)};`,
        `    if (y ${better} x || (y == x && n < r)) { rank++; }`,
        ...(partial ? [`    if (rank >= ${needed}) { break; }`] : []),
        "  }",
      ];
  // No comparison holds for NaN: it is never before a number, and its own place is found apart.
  const last = [
    "  if (isNan(x)) {",
    "    rank = 0;",
    `    for (var n = 0; n < ${length}; n++) { if (n < r || !isNan(read${s}(i, n))) { rank++; } }`,
    "  }",
  ];
  w.functions.push(
    `fn rank${s}(i: i32, r: i32) {`,
    `  let element = read${s}(i, r);`,
    `  let x = ${words("element")};`,
    ...count,
    ...(register === "f32" ? last : []),
    ...(partial ? [`  if (rank >= ${needed}) { return; }`] : []),
    `  let at = place${s}(i, rank);`,
    ...(values === undefined ? [] : [`  ${w.assign(values, "at", "element")}`]),
    ...(indices === undefined ? [] : [`  ${w.assign(indices, "at", "r")}`]),
    "}",
  );
}
