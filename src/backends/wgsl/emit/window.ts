import type { WindowKernel } from "../kernel.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

/** A thread a result element: taps of a window, one after another. */
export function emitWindow(
  kernel: WindowKernel,
  singles: ReadonlySet<string>,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  w.define("inside", ["o", "c", "p", "q"], "bool", kernel.inside);
  w.define("readX", ["o", "c", "p", "q"], "f32", kernel.x);
  if (kernel.reduce === "dot") w.define("readW", ["o", "c", "p", "q"], "f32", kernel.weight);
  w.defineStore("store", "i", kernel.results, "f32");
  const [rows, columns] = kernel.kernel as readonly [number, number];
  const step = { dot: "acc += x * readW(o, c, p, q);", sum: "acc += x;", max: "acc = max(acc, x);" }[kernel.reduce];
  w.line(
    `if (id >= ${w.size(kernel.count)}) { return; }`,
    "let o = id;",
    `var acc = ${kernel.reduce === "max" ? "-bitcast<f32>(inf_bits)" : "0.0"};`,
    `for (var c = 0; c < ${w.size(kernel.channels)}; c++) { for (var p = 0; p < ${rows}; p++) { for (var q = 0; q < ${columns}; q++) {`,
    `  if (inside(o, c, p, q)) { let x = readX(o, c, p, q); ${step} }`,
    "} } }",
    "store(o, acc);",
  );
  return { shader: w.finish([{ dim: kernel.count, per: 1 }]), writer: w };
}
