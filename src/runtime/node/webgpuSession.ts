import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import type { TensorData } from "../../ir/type.ts";
import { createProgramSession, type ProgramSession } from "../webgpu/program.ts";
import { type NodeDevice, openWebGpu } from "./webgpuDevice.ts";

/**
 * Runs a WebGPU program on the best adapter of this machine; reads every weight and uploads it. Without a device of the
 * caller's it opens one and closes it when disposed of. Fails with `no-adapter` and `missing-weights`.
 */
export async function createWebGpuSession(
  program: WgslProgram,
  weights: ReadonlyMap<string, WeightSource>,
  given?: NodeDevice,
): Promise<ProgramSession> {
  const opened = given ?? (await openWebGpu());
  try {
    const contents = new Map<string, TensorData>();
    for (const { name } of program.parameters) {
      const source = weights.get(name);
      if (source === undefined) throw compileError("missing-weights", `no contents for parameter ${name}`);
      contents.set(name, { ...(await source.read()), shape: source.type.shape });
    }
    const session = await createProgramSession(opened.device, program, contents);
    if (given !== undefined) return session;
    const dispose = async (): Promise<void> => {
      await session.dispose();
      opened.close();
    };
    return {
      ...session,
      get memory() {
        return session.memory;
      },
      dispose,
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    if (given === undefined) opened.close();
    throw error;
  }
}

/** What the scheduler has to know about a device. */
export const deviceProfile = ({ device, adapter }: NodeDevice) => ({
  storageBuffers: device.limits.maxStorageBuffersPerShaderStage,
  software: adapter.software,
});
