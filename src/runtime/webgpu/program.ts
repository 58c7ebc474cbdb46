// Runs a WebGPU program on a device: pipelines made once, bind groups and memory once per set of sizes, one submit a run.
import type { Dispatch, WgslProgram } from "../../backends/wgsl/index.ts";
import { bindSizes } from "../../ir/bindSizes.ts";
import { compileError, InternalError } from "../../ir/diagnostic.ts";
import { evaluateDim } from "../../ir/dim.ts";
import { allocate, type DType, type TensorData } from "../../ir/type.ts";
import type { Session, SessionValue } from "../session.ts";
import { type MemoryPlan, planMemory } from "./memory.ts";

export interface ProgramSession extends Session {
  /** Memory for the sizes of the last run. */
  readonly memory: MemoryPlan | undefined;
  readonly dispatches: number;
}

/** Everything prepared for one set of symbol values. */
interface Prepared {
  readonly memory: MemoryPlan;
  readonly arena: GPUBuffer;
  readonly uniforms: GPUBuffer | undefined;
  readonly steps: readonly {
    readonly pipeline: GPUComputePipeline;
    readonly group: GPUBindGroup;
    readonly x: number;
    readonly y: number;
  }[];
  readonly staging: GPUBuffer;
  readonly reads: readonly {
    readonly name: string;
    readonly dtype: DType;
    readonly shape: readonly number[];
    readonly from: number;
    readonly at: number;
    readonly bytes: number;
  }[];
}

const mostGroups = 65_535; // workgroups along one dispatch axis
const keptPlans = 4; // sets of sizes whose memory stays allocated

/** A session of a program whose parameters are all in `weights`. The device stays the caller's. */
export async function createProgramSession(
  device: GPUDevice,
  program: WgslProgram,
  weights: ReadonlyMap<string, TensorData>,
): Promise<ProgramSession> {
  const pipelines = await Promise.all(program.shaders.map((code) => makePipeline(device, code)));
  const fixed = new Map<string, GPUBuffer>();
  for (const { name, buffer, dtype, shape } of program.parameters) {
    const data = weights.get(name);
    if (data === undefined) throw compileError("missing-weights", `no contents for parameter ${name}`);
    if (data.dtype !== dtype || data.shape.join() !== shape.join())
      throw compileError(
        "weights-mismatch",
        `parameter ${name} is ${data.dtype}[${data.shape.join(",")}], the program wants ${dtype}[${shape.join(",")}]`,
      );
    fixed.set(buffer, upload(device, data));
  }
  for (const { buffer, data } of program.constants) fixed.set(buffer, upload(device, data));
  const plans = new Map<string, Prepared>();
  let last: MemoryPlan | undefined;

  const prepare = (symbols: ReadonlyMap<string, number>): Prepared => {
    const key = program.symbols.map((s) => symbols.get(s)).join();
    const known = plans.get(key);
    if (known !== undefined) return known;
    if (plans.size >= keptPlans) {
      const [oldest] = plans.keys();
      release(plans.get(oldest as string) as Prepared);
      plans.delete(oldest as string);
    }
    const made = prepareProgram(device, program, pipelines, fixed, symbols);
    plans.set(key, made);
    return made;
  };

  const values = (list: WgslProgram["inputs"]): readonly SessionValue[] =>
    list.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  const dispose = (): Promise<void> => {
    for (const prepared of plans.values()) release(prepared);
    plans.clear();
    for (const buffer of fixed.values()) buffer.destroy();
    fixed.clear();
    return Promise.resolve();
  };
  return {
    inputs: values(program.inputs),
    outputs: values(program.outputs),
    dispatches: program.dispatches.length,
    get memory() {
      return last;
    },
    async run(inputs) {
      const symbols = bindSizes(program.inputs, inputs);
      const prepared = prepare(symbols);
      last = prepared.memory;
      for (const { name, buffer } of program.inputs) {
        const { offset } = prepared.memory.placements.get(buffer) ?? { offset: 0 };
        const words = toWords(inputs[name] as TensorData);
        if (words.byteLength > 0) device.queue.writeBuffer(prepared.arena, offset, words);
      }
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const { pipeline, group, x, y } of prepared.steps) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y);
      }
      pass.end();
      for (const read of prepared.reads)
        if (read.bytes > 0) {
          const apart = fixed.get(program.outputs.find((o) => o.name === read.name)?.buffer ?? "");
          encoder.copyBufferToBuffer(
            apart ?? prepared.arena,
            apart === undefined ? read.from : 0,
            prepared.staging,
            read.at,
            read.bytes,
          );
        }
      device.queue.submit([encoder.finish()]);
      await prepared.staging.mapAsync(1 /* GPUMapMode.READ */);
      const bytes = prepared.staging.getMappedRange().slice(0);
      prepared.staging.unmap();
      return Object.fromEntries(
        prepared.reads.map(({ name, dtype, shape, at, bytes: size }) => [
          name,
          fromWords(dtype, shape, bytes.slice(at, at + size)),
        ]),
      );
    },
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
}

async function makePipeline(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
  const module = device.createShaderModule({ code });
  try {
    return await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } });
  } catch (error) {
    const { messages } = await module.getCompilationInfo();
    const lines = code.split("\n");
    const found = messages.map((m) => `${m.lineNum}: ${m.message}\n    ${lines[m.lineNum - 1] ?? ""}`).join("\n");
    throw new InternalError(`WGSL was refused: ${error instanceof Error ? error.message : String(error)}\n${found}`, {
      cause: error,
    });
  }
}

// GPUBufferUsage: the constants are globals of a browser but not of Node.
const usage = { mapRead: 1, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 } as const;

function upload(device: GPUDevice, data: TensorData): GPUBuffer {
  const words = toWords(data);
  const buffer = device.createBuffer({
    size: Math.max(4, words.byteLength),
    usage: usage.storage | usage.copyTarget | usage.copySource,
  });
  if (words.byteLength > 0) device.queue.writeBuffer(buffer, 0, words);
  return buffer;
}

function release({ arena, uniforms, staging }: Prepared): void {
  arena.destroy();
  uniforms?.destroy();
  staging.destroy();
}

function prepareProgram(
  device: GPUDevice,
  program: WgslProgram,
  pipelines: readonly GPUComputePipeline[],
  fixed: ReadonlyMap<string, GPUBuffer>,
  symbols: ReadonlyMap<string, number>,
): Prepared {
  const memory = planMemory(program, symbols);
  const limit = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
  if (memory.planned > limit)
    throw compileError(
      "device-limit",
      `the program needs ${memory.planned} bytes of memory at once, the device allows ${limit}`,
      {
        help: "run a smaller batch",
      },
    );
  const arena = device.createBuffer({
    size: memory.planned,
    usage: usage.storage | usage.copyTarget | usage.copySource,
  });
  const { slices, words } = packParams(program, symbols);
  let uniforms: GPUBuffer | undefined;
  if (words.length > 0) {
    uniforms = device.createBuffer({ size: words.byteLength, usage: usage.uniform | usage.copyTarget });
    device.queue.writeBuffer(uniforms, 0, words);
  }
  const steps = program.dispatches.flatMap((dispatch) => {
    const parts = dispatch.groups.parts.map(({ dim, per }) => Math.ceil(evaluateDim(dim, symbols) / per));
    const groups = Math.ceil(parts.reduce((product, n) => product * n, 1) / dispatch.groups.threads);
    if (groups === 0) return [];
    const pipeline = pipelines[dispatch.shader] as GPUComputePipeline;
    const entries: GPUBindGroupEntry[] = dispatch.buffers.map((name, k) => {
      const apart = fixed.get(name);
      if (apart !== undefined) return { binding: k + 1, resource: { buffer: apart } };
      const { offset, size } = memory.placements.get(name) as { offset: number; size: number };
      return { binding: k + 1, resource: { buffer: arena, offset, size } };
    });
    const slice = slices.get(dispatch);
    if (slice !== undefined && uniforms !== undefined)
      entries.push({ binding: 0, resource: { buffer: uniforms, ...slice } });
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    const x = Math.min(groups, mostGroups);
    return [{ pipeline, group, x, y: Math.ceil(groups / x) }];
  });
  let at = 0;
  const reads = program.outputs.map(({ name, dtype, shape, buffer }) => {
    const sizes = shape.map((d) => evaluateDim(d, symbols));
    const bytes = sizes.reduce((product, n) => product * n, 1) * 4;
    const read = { name, dtype, shape: sizes, from: memory.placements.get(buffer)?.offset ?? 0, at, bytes };
    at += Math.ceil(bytes / 16) * 16;
    return read;
  });
  const staging = device.createBuffer({ size: Math.max(16, at), usage: usage.mapRead | usage.copyTarget });
  return { memory, arena, uniforms, steps, staging, reads };
}

const uniformAlignment = 256; // bytes; WebGPU's minUniformBufferOffsetAlignment

/** The sizes that each dispatch reads, in one buffer; equal ones share a place. */
function packParams(
  program: WgslProgram,
  symbols: ReadonlyMap<string, number>,
): { slices: ReadonlyMap<Dispatch, { offset: number; size: number }>; words: Int32Array<ArrayBuffer> } {
  const known = new Map<string, { offset: number; size: number }>();
  const slices = new Map<Dispatch, { offset: number; size: number }>();
  const words: number[] = [];
  for (const dispatch of program.dispatches) {
    if (dispatch.params.length === 0) continue;
    const values = dispatch.params.map((dim) => evaluateDim(dim, symbols));
    const key = values.join();
    let slice = known.get(key);
    if (slice === undefined) {
      slice = { offset: words.length * 4, size: Math.ceil(values.length / 4) * 16 };
      known.set(key, slice);
      words.push(...values);
      while ((words.length * 4) % uniformAlignment !== 0) words.push(0);
    }
    slices.set(dispatch, slice);
  }
  return { slices, words: Int32Array.from(words) };
}

/** Tensor elements as the 32-bit words that kernels read. */
function toWords(data: TensorData): ArrayBufferView<ArrayBuffer> {
  const { values } = data;
  if (values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint32Array)
    return values as ArrayBufferView<ArrayBuffer>;
  if (values instanceof Int8Array || values instanceof Int16Array) return Int32Array.from(values);
  if (values instanceof Uint8Array || values instanceof Uint16Array) return Uint32Array.from(values);
  throw compileError("unsupported-dtype", `${data.dtype} cannot be uploaded to WebGPU`);
}

function fromWords(dtype: DType, shape: readonly number[], bytes: ArrayBuffer): TensorData {
  const values = allocate(dtype, bytes.byteLength / 4);
  if (values instanceof BigInt64Array) throw compileError("unsupported-dtype", `${dtype} cannot be read from WebGPU`);
  const words =
    values instanceof Float32Array || values instanceof Float64Array
      ? new Float32Array(bytes)
      : values instanceof Int32Array || values instanceof Int16Array || values instanceof Int8Array
        ? new Int32Array(bytes)
        : new Uint32Array(bytes);
  values.set(words);
  return { dtype, shape, values };
}
