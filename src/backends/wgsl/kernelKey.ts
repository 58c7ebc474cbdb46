import type { AttentionKernel, GemmKernel, Kernel } from "./kernel.ts";

/** Kinds of kernels that are written in one of several tiles. */
export type TunableKernel = GemmKernel | AttentionKernel;

/** Whether a kernel may be written in one of several tiles. */
export const isTunable = (kernel: Kernel): kernel is TunableKernel =>
  kernel.kind === "gemm" || kernel.kind === "attention";

/**
 * What kernels have in common that share a tile: kind, sizes and register, such as
 * `gemm batch=1 m=50*batch n=192 k=64 f32` or `attention heads=4 queries=50 keys=50 channels=16 values=16`.
 */
export function kernelKey(kernel: TunableKernel): string {
  if (kernel.kind === "gemm") {
    const { batch, m, n, k, register } = kernel;
    return `gemm batch=${batch} m=${m} n=${n} k=${k} ${register}`;
  }
  const { heads, queries, keys, channels, valueChannels } = kernel;
  return `attention heads=${heads} queries=${queries} keys=${keys} channels=${channels} values=${valueChannels}`;
}
