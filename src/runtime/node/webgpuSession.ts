import type { WgslProgram } from "../../backends/wgsl/index.ts";
import type { Weights } from "../webgpu/parameters.ts";
import { createProgramSession, type ProgramOptions, type ProgramSession } from "../webgpu/program.ts";
import { type NodeDevice, openWebGpu } from "./webgpuDevice.ts";

/**
 * Runs a WebGPU program on the best adapter of this machine; weights are read and uploaded chunk by chunk, and again on
 * another device if the first is lost. Without a device of the caller's it opens one and closes it when disposed of.
 * Fails with `no-adapter`, and as `createProgramSession` does.
 */
export async function createWebGpuSession(
  program: WgslProgram,
  weights: Weights,
  given?: NodeDevice,
  options: Pick<ProgramOptions, "donate" | "onProgress"> = {},
): Promise<ProgramSession> {
  const opened = given ?? (await openWebGpu());
  const close = given === undefined ? () => opened.close() : undefined;
  try {
    return await createProgramSession(opened.device, program, weights, {
      ...options,
      reopen: async () => ({ device: await opened.reopen() }),
      ...(close && { close }),
    });
  } catch (error) {
    close?.();
    throw error;
  }
}

/** What the scheduler has to know about a device. */
export const deviceProfile = ({ device, adapter }: NodeDevice) => ({
  storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
  software: adapter.software,
  subgroupsOfFour:
    device.features.has("subgroups") &&
    device.adapterInfo.subgroupMinSize === 4 &&
    device.adapterInfo.subgroupMaxSize === 4,
  workgroupBytes: device.limits.maxComputeWorkgroupStorageSize,
});
