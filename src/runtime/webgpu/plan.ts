// A program made ready for one set of sizes and terms: everything that does not change from run to run.
import type { Dispatch, WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError, InternalError } from "../../ir/diagnostic.ts";
import { evaluateDim } from "../../ir/dim.ts";
import type { DType } from "../../ir/type.ts";
import { type Course, chartCourse, type Slot, type Step, type Terms } from "./course.ts";
import { type Ledger, usage } from "./ledger.ts";
import { type MemoryPlan, planMemory } from "./memory.ts";
import { bytesPerWord } from "./words.ts";

/** Where a value lies: in the arena, in a slot, or in a buffer of its own (parameters and constants). */
export interface Place {
  readonly in: "arena" | Slot | GPUBuffer;
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

export type Move =
  | { readonly kind: "dispatch"; readonly dispatch: Dispatch; readonly kernel: BoundKernel; readonly groups: XY }
  | { readonly kind: "copy"; readonly from: Place; readonly to: Place; readonly bytes: number };
type XY = readonly [x: number, y: number];

export interface ProgramPlan {
  readonly memory: MemoryPlan;
  readonly moves: readonly Move[];
  /** Inputs that come from host memory, and where to. */
  readonly uploads: readonly { readonly name: string; readonly place: Place }[];
  readonly outputs: readonly PlannedOutput[];
  /** Sizes that dispatches read; undefined where none does. */
  readonly uniforms: GPUBuffer | undefined;
  /** Bytes of `uniforms`. */
  readonly uniformBytes: number;
}

export interface PlannedOutput {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly place: Place;
  readonly bytes: number;
  readonly kept: boolean;
}

/** The buffers of one run: the arena, and memory by slot. */
export type Buffers = ReadonlyMap<"arena" | Slot, GPUBuffer>;

const keptGroups = 8; // bind groups of a kernel over different memory, before the oldest go
const mostGroups = 65_535; // workgroups along one dispatch axis; WebGPU's maxComputeWorkgroupsPerDimension

/** A pipeline and where its bindings lie. Bind groups are made once per memory they are over. */
export class BoundKernel {
  readonly pipeline: GPUComputePipeline;
  readonly #device: GPUDevice;
  readonly #entries: readonly { readonly binding: number; readonly place: Place }[];
  readonly #moving: readonly ("arena" | Slot)[];
  readonly #groups = new Map<string, GPUBindGroup>();

  constructor(device: GPUDevice, pipeline: GPUComputePipeline, places: ReadonlyMap<number, Place>) {
    this.#device = device;
    this.pipeline = pipeline;
    this.#entries = [...places].map(([binding, place]) => ({ binding, place }));
    this.#moving = [...new Set(this.#entries.flatMap(({ place }) => (typeof place.in === "string" ? [place.in] : [])))];
  }

  group(buffers: Buffers): GPUBindGroup {
    const key = this.#moving.map((where) => serialOf(bufferAt(where, buffers))).join();
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    if (this.#groups.size >= keptGroups) this.#groups.clear();
    const made = this.#device.createBindGroup({
      layout: this.pipeline.getBindGroupLayout(0),
      entries: this.#entries.map(({ binding, place }) => {
        const { offset, size } = place;
        return { binding, resource: { buffer: bufferAt(place.in, buffers), offset, size } };
      }),
    });
    this.#groups.set(key, made);
    return made;
  }
}

export function bufferAt(where: Place["in"], buffers: Buffers): GPUBuffer {
  if (typeof where !== "string") return where;
  const buffer = buffers.get(where);
  if (buffer === undefined) throw new InternalError(`a run has no memory for ${where}`);
  return buffer;
}

const serials = new WeakMap<GPUBuffer, number>();
let lastSerial = 0;

/** A number of a buffer's own. */
function serialOf(buffer: GPUBuffer): number {
  let serial = serials.get(buffer);
  if (serial === undefined) {
    serial = ++lastSerial;
    serials.set(buffer, serial);
  }
  return serial;
}

/** Fails with `device-limit` where the sizes are too large for the device, and with `out-of-memory`. */
export async function planRuns(
  ledger: Ledger,
  program: WgslProgram,
  pipelines: readonly GPUComputePipeline[],
  fixed: ReadonlyMap<string, GPUBuffer>,
  symbols: ReadonlyMap<string, number>,
  terms: Terms,
): Promise<ProgramPlan> {
  const course = chartCourse(program, terms);
  const memory = planMemory(program, symbols, course);
  checkSizes(ledger, course, memory);
  const { slices, words } = packParams(program, symbols);
  const uniforms =
    words.length === 0
      ? undefined
      : await ledger.create(words.byteLength, usage.uniform | usage.copyTarget, "the sizes that kernels read");
  if (uniforms !== undefined) ledger.device.queue.writeBuffer(uniforms, 0, words);
  const placeOf = (name: string): Place => {
    const size = Math.max(1, evaluateDim(course.elements.get(name) ?? 0, symbols)) * bytesPerWord;
    const slot = course.slots.get(name);
    if (slot !== undefined) return { in: slot, offset: 0, size };
    const apart = fixed.get(name);
    if (apart !== undefined) return { in: apart, offset: 0, size };
    const placement = memory.placements.get(name);
    if (placement === undefined) throw new InternalError(`buffer ${name} has no place`);
    return { in: "arena", ...placement };
  };
  const moveOf = (step: Step): readonly Move[] => {
    if (step.kind === "copy") {
      const bytes = evaluateDim(course.elements.get(step.from) ?? 0, symbols) * bytesPerWord;
      return bytes === 0 ? [] : [{ kind: "copy", from: placeOf(step.from), to: placeOf(step.to), bytes }];
    }
    const { dispatch } = step;
    const groups = groupsOf(dispatch, symbols);
    if (groups === undefined) return [];
    const places = new Map(dispatch.buffers.map((name, k) => [k + 1, placeOf(name)]));
    const slice = slices.get(dispatch);
    if (slice !== undefined && uniforms !== undefined) places.set(0, { in: uniforms, ...slice });
    const pipeline = pipelines[dispatch.shader];
    if (pipeline === undefined) throw new InternalError(`kernel ${dispatch.label} has no shader ${dispatch.shader}`);
    return [{ kind: "dispatch", dispatch, kernel: new BoundKernel(ledger.device, pipeline, places), groups }];
  };
  return {
    memory,
    moves: course.steps.flatMap(moveOf),
    uploads: program.inputs.flatMap(({ name, buffer }) => {
      const arrival = terms.arrivals.get(name);
      if (arrival === "upload" && !memory.placements.has(buffer)) return []; // read by nothing
      return arrival === "upload" ? [{ name, place: placeOf(buffer) }] : [];
    }),
    outputs: course.outputs.map(({ value, buffer, kept }) => {
      const shape = value.shape.map((d) => evaluateDim(d, symbols));
      const bytes = shape.reduce((product, n) => product * n, 1) * bytesPerWord;
      return { name: value.name, dtype: value.dtype, shape, place: placeOf(buffer), bytes, kept };
    }),
    uniforms,
    uniformBytes: words.byteLength,
  };
}

/** Workgroups of a dispatch along both axes; undefined where there is nothing to compute. */
function groupsOf({ groups, label }: Dispatch, symbols: ReadonlyMap<string, number>): XY | undefined {
  const parts = groups.parts.map(({ dim, per }) => Math.ceil(evaluateDim(dim, symbols) / per));
  const total = Math.ceil(parts.reduce((product, n) => product * n, 1) / groups.threads);
  if (total === 0) return undefined;
  const x = Math.min(total, mostGroups);
  const y = Math.ceil(total / x);
  if (y > mostGroups)
    throw compileError("device-limit", `kernel ${label} needs ${total} workgroups, WebGPU allows ${mostGroups ** 2}`, {
      help: "run a smaller batch",
    });
  return [x, y];
}

function checkSizes(ledger: Ledger, { steps }: Course, { placements, planned, lowerBound }: MemoryPlan): void {
  for (const [name, { size }] of placements) {
    const step = steps.find((s) => s.writes.includes(name)) ?? steps.find((s) => s.touches.includes(name));
    ledger.checkBinding(size, step?.kind === "dispatch" ? `a value of ${nameOf(step.dispatch)}` : "a value");
  }
  const { maxBufferSize } = ledger.device.limits;
  if (planned > maxBufferSize)
    throw compileError(
      "device-limit",
      `what the program holds at once needs ${planned} bytes (no order of memory needs less than ${lowerBound}), the device allows ${maxBufferSize} in one buffer`,
      { help: "run a smaller batch" },
    );
}

/** A kernel as a person knows it: its ops, and the scope of the model they are in. */
export const nameOf = ({ label, scope }: Dispatch): string => `kernel ${label}${scope === "" ? "" : ` in ${scope}`}`;

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
