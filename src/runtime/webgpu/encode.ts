// One run as commands for the device's queue.
import { type Buffers, bufferAt, type ProgramPlan } from "./plan.ts";
import type { Stopwatch } from "./stopwatch.ts";

/**
 * Submits a run: dispatches in one pass where no copy stands between them, in one each under a stopwatch, and copies of
 * what is read back at the end of `staging`'s place for it.
 */
export function encodeRun(
  device: GPUDevice,
  { moves, outputs }: ProgramPlan,
  buffers: Buffers,
  staging: GPUBuffer | undefined,
  stopwatch: Stopwatch | undefined,
): void {
  const encoder = device.createCommandEncoder();
  let pass: GPUComputePassEncoder | undefined;
  let pipeline: GPUComputePipeline | undefined;
  let dispatched = 0;
  const close = (): void => {
    pass?.end();
    pass = undefined;
    pipeline = undefined;
  };
  for (const move of moves) {
    if (move.kind === "copy") {
      close();
      const { from, to, bytes } = move;
      encoder.copyBufferToBuffer(bufferAt(from.in, buffers), from.offset, bufferAt(to.in, buffers), to.offset, bytes);
      continue;
    }
    const { kernel, groups } = move;
    if (stopwatch !== undefined) close();
    pass ??= encoder.beginComputePass(
      stopwatch === undefined ? {} : { timestampWrites: stopwatch.stamps(dispatched), label: move.dispatch.label },
    );
    dispatched++;
    if (pipeline !== kernel.pipeline) pass.setPipeline(kernel.pipeline);
    pipeline = kernel.pipeline;
    pass.setBindGroup(0, kernel.group(buffers));
    pass.dispatchWorkgroups(...groups);
  }
  close();
  let at = 0;
  for (const { place, bytes, kept } of outputs) {
    if (kept || staging === undefined) continue;
    if (bytes > 0) encoder.copyBufferToBuffer(bufferAt(place.in, buffers), place.offset, staging, at, bytes);
    at += stagedBytes(bytes);
  }
  stopwatch?.resolve(encoder);
  device.queue.submit([encoder.finish()]);
}

/** Bytes of the staging buffer that an output takes; a multiple of what a copy may start at. */
export const stagedBytes = (bytes: number): number => Math.ceil(bytes / 16) * 16;

const scopes = ["validation", "out-of-memory", "internal"] as const;

/** Does work on a device; gives the error that the device found in it, which would otherwise be printed and forgotten. */
export async function watched(device: GPUDevice, work: () => void): Promise<GPUError | null> {
  for (const scope of scopes) device.pushErrorScope(scope);
  let errors: readonly Promise<GPUError | null>[] = [];
  try {
    work();
  } finally {
    errors = scopes.map(() => device.popErrorScope());
  }
  return (await Promise.all(errors)).find((error) => error !== null) ?? null;
}
