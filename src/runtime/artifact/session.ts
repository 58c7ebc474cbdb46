import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError } from "../../ir/diagnostic.ts";
import type { TensorData } from "../../ir/type.ts";
import { createProgramSession, type ProgramSession } from "../webgpu/program.ts";
import { checkRequirements } from "./requirements.ts";
import type { TensorStream } from "./tensors.ts";

/** A session whose weights go to the device one by one as they arrive. Fails with `device-limit` and `missing-weights`. */
export async function openSession(
  device: GPUDevice,
  program: WgslProgram,
  weights: TensorStream | undefined,
): Promise<ProgramSession> {
  checkRequirements(program, device);
  const contents = new Map<string, TensorData>();
  for (const { name } of program.parameters) {
    if (weights === undefined) throw compileError("missing-weights", `no contents for parameter ${name}`);
    contents.set(name, await weights.read(name));
  }
  return createProgramSession(device, program, contents);
}
