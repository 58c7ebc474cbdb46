import { divideDims } from "../../../ir/dim.ts";
import type { MapKernel } from "../kernel.ts";
import { lanes, Vectoriser } from "../vector.ts";
import { type Shader, ShaderWriter } from "./shader.ts";

/** A thread computes four neighbours where their number allows it, else one element. */
export function emitMap(kernel: MapKernel, singles: ReadonlySet<string>): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const fours = divideDims(kernel.count, lanes) !== undefined;
  w.line(fours ? `let i = id * ${lanes};` : "let i = id;", `if (i >= ${w.size(kernel.count)}) { return; }`);
  const values = kernel.results.map((r) => r.value);
  const { lines, texts } = fours
    ? w.statements4(values, new Vectoriser("i"), "  ")
    : w.printer.statements(values, "  ");
  w.body.push(...lines);
  w.line(
    ...w.stores(kernel.results, texts, (buffer, text) => (fours ? w.assign4 : w.assign).call(w, buffer, "i", text)),
  );
  return { shader: w.finish([{ dim: kernel.count, per: fours ? lanes : 1 }]), writer: w };
}
