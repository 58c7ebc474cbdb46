// Kernels that run along a row: running folds, and stable sorts.
import { multiplyDims } from "../../../ir/dim.ts";
import type { RankKernel, ScanKernel } from "../kernel.ts";
import { literalText } from "../print.ts";
import { type Shader, ShaderWriter, storedAs } from "./shader.ts";

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

/** A place of an element is the number of elements that come before it: better ones, and equal ones at lower places. */
export function emitRank(kernel: RankKernel, singles: ReadonlySet<string>): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const stored = storedAs(kernel.register);
  w.define("read", ["i", "r"], kernel.register, kernel.x);
  w.define("place", ["i", "r"], "i32", kernel.at);
  const number = (x: string) => (kernel.register === "bool" ? `select(0u, 1u, ${x})` : x);
  const nan = (x: string) => (kernel.register === "f32" ? `isNan(${x})` : "false");
  if (kernel.register === "f32")
    w.functions.push("fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }");
  w.line(
    `let length = ${w.size(kernel.length)};`,
    `if (id >= ${w.size(kernel.rows)} * length) { return; }`,
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
  const words = kernel.register === "bool" ? "(x != 0u)" : "x";
  if (values !== undefined) w.line(w.assign(values, "at", words));
  if (indices !== undefined) w.line(w.assign(indices, "at", "r"));
  return { shader: w.finish([{ dim: multiplyDims(kernel.rows, kernel.length), per: 1 }]), writer: w };
}
