import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError } from "../../ir/diagnostic.ts";

const bytesPerWord = 4; // what an element takes on a device

/** Fails with `device-limit` where a device cannot run a program, before anything is allocated. */
export function checkRequirements(program: WgslProgram, { limits, features }: GPUDevice): void {
  const most = program.dispatches.reduce((count, { buffers }) => Math.max(count, buffers.length), 0);
  if (most > limits.maxStorageBuffersPerShaderStage)
    throw compileError(
      "device-limit",
      `a kernel binds ${most} buffers, the device allows ${limits.maxStorageBuffersPerShaderStage}`,
    );
  const elements = program.buffers.reduce((a, b) => Math.max(a, typeof b.elements === "number" ? b.elements : 0), 0);
  const limit = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  if (elements * bytesPerWord > limit)
    throw compileError(
      "device-limit",
      `a buffer of ${elements * bytesPerWord} bytes is needed, the device allows ${limit}`,
    );
  const absent = enabledFeatures(program).find((feature) => !features.has(feature));
  if (absent !== undefined)
    throw compileError("device-limit", `the program needs ${absent}, which the device does not have`, {
      help: "compile the model for devices without it",
    });
}

/** WGSL's `enable f16;` wants the feature `shader-f16`. Source: WGSL, section 4.1.1. */
function enabledFeatures({ shaders }: WgslProgram): readonly string[] {
  const lists = shaders.flatMap((shader) => [...shader.matchAll(/^enable\s+([\w\s,]+);/gm)].map((m) => m[1] ?? ""));
  const names = new Set(lists.flatMap((list) => list.split(",").map((name) => name.trim())));
  return [...names].map((name) => (name === "f16" ? "shader-f16" : name));
}
