// Compute pipelines by shader text, one per device however many sessions ask. Held weakly: a pipeline lives as long as
// a session that uses it, so that a device that runs thousands of programs does not collect theirs.
import { InternalError } from "../../ir/diagnostic.ts";

class PipelineCache {
  readonly #made = new Map<string, WeakRef<GPUComputePipeline>>();
  readonly #pending = new Map<string, Promise<GPUComputePipeline>>();
  readonly #collected = new FinalizationRegistry<string>((code) => {
    if (this.#made.get(code)?.deref() === undefined) this.#made.delete(code);
  });

  pipeline(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
    const made = this.#made.get(code)?.deref();
    if (made !== undefined) return Promise.resolve(made);
    const pending = this.#pending.get(code);
    if (pending !== undefined) return pending;
    const making = this.#make(device, code).finally(() => this.#pending.delete(code));
    this.#pending.set(code, making);
    return making;
  }

  async #make(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
    const pipeline = await makePipeline(device, code);
    this.#made.set(code, new WeakRef(pipeline));
    this.#collected.register(pipeline, code);
    return pipeline;
  }
}

const caches = new WeakMap<GPUDevice, PipelineCache>();

/** The pipeline of a shader, built in the background by the device; the same one for equal text. */
export function pipelineOf(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
  let cache = caches.get(device);
  if (cache === undefined) {
    cache = new PipelineCache();
    caches.set(device, cache);
  }
  return cache.pipeline(device, code);
}

async function makePipeline(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
  device.pushErrorScope("validation"); // the refusal of a pipeline says the same again
  const module = device.createShaderModule({ code });
  const scope = device.popErrorScope();
  try {
    return await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } });
  } catch (error) {
    const { messages } = await module.getCompilationInfo();
    const lines = code.split("\n");
    const found = messages.map((m) => `${m.lineNum}: ${m.message}\n    ${lines[m.lineNum - 1] ?? ""}`).join("\n");
    throw new InternalError(`WGSL was refused: ${error instanceof Error ? error.message : String(error)}\n${found}`, {
      cause: error,
    });
  } finally {
    await scope;
  }
}
