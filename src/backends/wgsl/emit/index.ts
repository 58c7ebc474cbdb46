// Kernels as WGSL, one function per kind.
import type { Kernel } from "../kernel.ts";
import { kernelKey } from "../kernelKey.ts";
import type { Tuning } from "../tuning.ts";
import { emitAttention } from "./attention.ts";
import { emitGemm } from "./gemm.ts";
import { emitMap } from "./map.ts";
import { emitRows } from "./rows.ts";
import { emitRank, emitScan } from "./sequence.ts";
import type { Shader, ShaderWriter } from "./shader.ts";
import { emitWindow } from "./window.ts";

export type { Binding, Groups, Shader } from "./shader.ts";

/** First as if all memory could be read in fours; then with the buffers that could not be declared by the element. */
export function emitKernel(kernel: Kernel, tuning: Tuning): Shader {
  const first = emit(kernel, tuning, new Set());
  return first.writer.singles.size === 0 ? first.shader : emit(kernel, tuning, first.writer.singles).shader;
}

function emit(
  kernel: Kernel,
  tuning: Tuning,
  singles: ReadonlySet<string>,
): { readonly shader: Shader; readonly writer: ShaderWriter } {
  switch (kernel.kind) {
    case "map":
      return emitMap(kernel, singles);
    case "rows":
      return emitRows(kernel, singles, tuning.rowThreads);
    case "gemm":
      return emitGemm(kernel, singles, tuning.choices?.gemm.get(kernelKey(kernel)) ?? tuning.gemm);
    case "attention":
      return emitAttention(kernel, singles, tuning.choices?.attention.get(kernelKey(kernel)) ?? tuning.attention);
    case "window":
      return emitWindow(kernel, singles);
    case "scan":
      return emitScan(kernel, singles);
    case "rank":
      return emitRank(kernel, singles);
    default:
      return kernel satisfies never;
  }
}
