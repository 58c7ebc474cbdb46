// A program on one device: its pipelines, parameters and plans, and how a run is put together. One run at a time.
import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { bindSizes } from "../../ir/bindSizes.ts";
import { compileError, InternalError } from "../../ir/diagnostic.ts";
import { formatType, type TensorData } from "../../ir/type.ts";
import { arrivalsOf, type RunInputs } from "./arrivals.ts";
import type { Donations, Slot, Terms } from "./course.ts";
import { encodeRun, stagedBytes, watched } from "./encode.ts";
import { type Ledger, ledgerOf, storageUsage, usage } from "./ledger.ts";
import { type Uploaded, type UploadProgress, uploadParameters, type Weights } from "./parameters.ts";
import { pipelineOf } from "./pipelines.ts";
import { type Buffers, nameOf, type ProgramPlan, planRuns } from "./plan.ts";
import { Stopwatch } from "./stopwatch.ts";
import { DeviceTensor } from "./tensor.ts";
import { fromWords, toWords } from "./words.ts";

export interface RunRequest {
  readonly inputs: RunInputs;
  /** Outputs that stay on the device. */
  readonly kept: ReadonlySet<string>;
  /** Time each kernel. */
  readonly timed: boolean;
}

export interface RunResult {
  readonly outputs: Record<string, TensorData | DeviceTensor>;
  /** One per kernel, in order; empty unless asked for. */
  readonly kernels: readonly KernelTime[];
}

/** How long one kernel of a run took. */
export interface KernelTime {
  readonly label: string;
  /** Dotted name scope of the model, "" at the top. */
  readonly scope: string;
  readonly ops: readonly string[];
  readonly timeNs: number;
}

/** Bytes of GPU memory that a session holds, and what the plan of its last run needs. */
export interface SessionMemory {
  /** What the last run's plan needs of the arena. */
  readonly planned: number;
  /** What it would be if every intermediate had a place of its own. */
  readonly naive: number;
  /** The most bytes alive at once: no plan can need less. */
  readonly lowerBound: number;
  /** The arena itself: as large as the largest run so far. */
  readonly arena: number;
  readonly parameters: number;
  readonly constants: number;
  /** What results are read back through. */
  readonly staging: number;
  /** Sizes that kernels read. */
  readonly uniforms: number;
}

const keptPlans = 16; // sets of sizes and terms, before the one unused for longest goes
const submitsInFlight = 2; // runs that the queue may hold when nothing is read back

export class LoadedProgram {
  readonly ledger: Ledger;
  readonly #program: WgslProgram;
  readonly #donations: Donations;
  readonly #pipelines: readonly GPUComputePipeline[];
  readonly #uploaded: Uploaded;
  readonly #plans = new Map<string, ProgramPlan>();
  readonly #submitted: Promise<unknown>[] = [];
  #arena: GPUBuffer | undefined;
  #staging: GPUBuffer | undefined;
  #last: ProgramPlan | undefined;

  private constructor(
    ledger: Ledger,
    program: WgslProgram,
    donations: Donations,
    pipelines: readonly GPUComputePipeline[],
    uploaded: Uploaded,
  ) {
    this.ledger = ledger;
    this.#program = program;
    this.#donations = donations;
    this.#pipelines = pipelines;
    this.#uploaded = uploaded;
  }

  /** Pipelines are built while parameters are read. Fails as `uploadParameters` does. */
  static async load(
    device: GPUDevice,
    program: WgslProgram,
    weights: Weights,
    donations: Donations,
    progress: UploadProgress | undefined,
  ): Promise<LoadedProgram> {
    const ledger = ledgerOf(device);
    checkBindings(device, program);
    const building = Promise.all(program.shaders.map((code) => pipelineOf(device, code)));
    building.catch(() => undefined); // told below, once the parameters are there
    const uploaded = await uploadParameters(ledger, program, weights, progress);
    try {
      return new LoadedProgram(ledger, program, donations, await building, uploaded);
    } catch (error) {
      for (const buffer of uploaded.buffers.values()) ledger.destroy(buffer);
      throw error;
    }
  }

  get memory(): SessionMemory | undefined {
    if (this.#last === undefined) return undefined;
    const { planned, naive, lowerBound } = this.#last.memory;
    const { parameterBytes: parameters, constantBytes: constants } = this.#uploaded;
    let uniforms = 0;
    for (const plan of this.#plans.values()) uniforms += plan.uniforms?.size ?? 0;
    const [arena, staging] = [this.#arena?.size ?? 0, this.#staging?.size ?? 0];
    return { planned, naive, lowerBound, arena, parameters, constants, staging, uniforms };
  }

  /** Fails with `bad-input`, `device-limit`, `out-of-memory` and `device-lost`; inputs are then as they were before. */
  async run({ inputs, kept, timed }: RunRequest): Promise<RunResult> {
    const { ledger } = this;
    const symbols = bindSizes(this.#program.inputs, inputs);
    const plan = await this.#planFor(symbols, {
      arrivals: arrivalsOf(this.#program, inputs, this.#donations, ledger),
      kept,
      donations: this.#donations,
    });
    this.#last = plan;
    const readBytes = plan.outputs.reduce((sum, output) => sum + (output.kept ? 0 : stagedBytes(output.bytes)), 0);
    const arena = await this.#arenaOf(plan.memory);
    const staging = readBytes === 0 ? undefined : await this.#stagingOf(readBytes);
    const stopwatch = timed ? await Stopwatch.start(ledger, countDispatches(plan)) : undefined;
    const taken = new Map<Slot, GPUBuffer>(); // ours until the run has succeeded
    let mapped: Promise<void> | undefined;
    try {
      await this.#takeSlots(plan, inputs, taken);
      while (this.#submitted.length >= submitsInFlight) await this.#submitted.shift();
      const { device } = ledger;
      const buffers = new Map<"arena" | Slot, GPUBuffer>([["arena", arena]]);
      const failure = watched(device, () => {
        this.#bindInputs(inputs, taken, buffers);
        for (const { name, place } of plan.uploads) {
          const words = toWords(inputs[name] as TensorData);
          if (words.byteLength > 0) device.queue.writeBuffer(arena, place.offset, words);
        }
        encodeRun(device, plan, buffers, staging, stopwatch);
      });
      if (staging === undefined) this.#submitted.push(device.queue.onSubmittedWorkDone().catch(() => undefined)); // a loss is told by the next run
      mapped = staging?.mapAsync(1 /* GPUMapMode.READ */);
      mapped?.catch(() => undefined); // the failure behind it is told first
      const error = await failure;
      if (error !== null) throw refusal(error, plan);
      await mapped;
      const kernels = stopwatch === undefined ? [] : kernelTimes(plan, await stopwatch.read());
      return { outputs: this.#collect(plan, buffers, staging, taken), kernels };
    } catch (error) {
      await mapped?.catch(() => undefined);
      if (staging?.mapState === "mapped") staging.unmap();
      throw error;
    } finally {
      for (const buffer of taken.values()) ledger.give(buffer);
      stopwatch?.destroy();
    }
  }

  /** Frees everything but the tensors that runs gave. */
  dispose(): void {
    for (const plan of this.#plans.values()) this.#forget(plan);
    this.#plans.clear();
    for (const buffer of [this.#arena, this.#staging, ...this.#uploaded.buffers.values()])
      if (buffer !== undefined) this.ledger.destroy(buffer);
    this.#arena = undefined;
    this.#staging = undefined;
  }

  async #planFor(symbols: ReadonlyMap<string, number>, terms: Terms): Promise<ProgramPlan> {
    const { symbols: names, inputs, outputs } = this.#program;
    const key = [
      names.map((s) => symbols.get(s)),
      inputs.map(({ name }) => terms.arrivals.get(name)),
      outputs.map(({ name }) => terms.kept.has(name)),
    ].join(";");
    const known = this.#plans.get(key);
    const plan =
      known ?? (await planRuns(this.ledger, this.#program, this.#pipelines, this.#uploaded.buffers, symbols, terms));
    this.#plans.delete(key);
    this.#plans.set(key, plan);
    for (const [oldest, unused] of this.#plans) {
      if (this.#plans.size <= keptPlans) break;
      this.#forget(unused);
      this.#plans.delete(oldest);
    }
    return plan;
  }

  #forget({ uniforms }: ProgramPlan): void {
    if (uniforms !== undefined) this.ledger.destroy(uniforms);
  }

  /** One arena for all plans, since runs take turns; it only grows. */
  async #arenaOf({ planned, lowerBound }: ProgramPlan["memory"]): Promise<GPUBuffer> {
    if (this.#arena !== undefined && this.#arena.size >= planned) return this.#arena;
    if (this.#arena !== undefined) this.ledger.destroy(this.#arena);
    this.#arena = undefined;
    const purpose = `the values of a run (at least ${lowerBound} are alive at once)`;
    this.#arena = await this.ledger.create(planned, storageUsage, purpose);
    return this.#arena;
  }

  async #stagingOf(bytes: number): Promise<GPUBuffer> {
    if (this.#staging !== undefined && this.#staging.size >= bytes) return this.#staging;
    if (this.#staging !== undefined) this.ledger.destroy(this.#staging);
    this.#staging = undefined;
    this.#staging = await this.ledger.create(bytes, usage.mapRead | usage.copyTarget, "reading results back");
    return this.#staging;
  }

  /** Memory for outputs that stay, and for donated inputs that come from host memory. */
  async #takeSlots(plan: ProgramPlan, inputs: RunInputs, taken: Map<Slot, GPUBuffer>): Promise<void> {
    for (const [outputName, inputName] of Object.entries(this.#donations)) {
      const given = inputs[inputName];
      if (given === undefined || given instanceof DeviceTensor) continue;
      const words = toWords(given);
      const buffer = await this.ledger.take(words.byteLength, `output ${outputName} (${formatType(given)})`);
      taken.set(`input ${inputName}`, buffer);
      if (words.byteLength > 0) this.ledger.device.queue.writeBuffer(buffer, 0, words);
    }
    for (const { name, dtype, shape, bytes, place } of plan.outputs) {
      const slot: Slot = `output ${name}`;
      if (place.in === slot)
        taken.set(slot, await this.ledger.take(bytes, `${slot} (${formatType({ dtype, shape })})`));
    }
  }

  /** The memory of this run's slots. From here on donated tensors are ours. */
  #bindInputs(inputs: RunInputs, taken: Map<Slot, GPUBuffer>, buffers: Map<"arena" | Slot, GPUBuffer>): void {
    const donated = new Set(Object.values(this.#donations));
    const tensors = this.#program.inputs.flatMap(({ name }) => {
      const given = inputs[name];
      return given instanceof DeviceTensor ? [{ name, given }] : [];
    });
    for (const { name, given } of tensors) buffers.set(`input ${name}`, given.lend(this.ledger, name));
    for (const { name, given } of tensors)
      if (donated.has(name)) taken.set(`input ${name}`, given.surrender(this.ledger, name));
    for (const [slot, buffer] of taken) buffers.set(slot, buffer);
  }

  /** Results of a run that has ended; those kept take their memory out of `taken`. */
  #collect(
    { outputs }: ProgramPlan,
    buffers: Buffers,
    staging: GPUBuffer | undefined,
    taken: Map<Slot, GPUBuffer>,
  ): RunResult["outputs"] {
    const results: (readonly [name: string, DeviceTensor | TensorData])[] = [];
    const bytes = staging?.getMappedRange();
    let at = 0;
    for (const output of outputs) {
      const { name, dtype, shape, place } = output;
      if (!output.kept) {
        const words = bytes?.slice(at, at + output.bytes) ?? new ArrayBuffer(0);
        results.push([name, fromWords(dtype, shape, words)]);
        at += stagedBytes(output.bytes);
        continue;
      }
      const slot = place.in as Slot;
      taken.delete(slot);
      results.push([name, new DeviceTensor(this.ledger, buffers.get(slot) as GPUBuffer, dtype, shape)]);
    }
    staging?.unmap();
    return Object.fromEntries(results); // of own properties, "__proto__" too
  }
}

const countDispatches = ({ moves }: ProgramPlan): number => moves.filter((m) => m.kind === "dispatch").length;

const kernelTimes = ({ moves }: ProgramPlan, timesNs: readonly number[]): readonly KernelTime[] =>
  moves
    .flatMap((move) => (move.kind === "dispatch" ? [move.dispatch] : []))
    .map(({ label, scope, ops }, k) => ({ label, scope, ops, timeNs: timesNs[k] ?? 0 }));

function refusal(error: GPUError, { memory }: ProgramPlan): Error {
  if (error.constructor.name === "GPUOutOfMemoryError")
    return compileError("out-of-memory", `the device ran out of memory in a run planned at ${memory.planned} bytes`, {
      help: "run a smaller batch, or dispose of tensors and sessions that are done with",
    });
  return new InternalError(`WebGPU refused a run: ${error.message}`);
}

function checkBindings({ limits }: GPUDevice, { dispatches }: WgslProgram): void {
  const most = limits.maxStorageBuffersPerShaderStage;
  const wide = dispatches.find(({ buffers }) => buffers.length > most);
  if (wide !== undefined)
    throw compileError(
      "device-limit",
      `${nameOf(wide)} binds ${wide.buffers.length} buffers, the device allows ${most} in one kernel`,
      { help: "compile for this device's limits, or open the device with those of its adapter" },
    );
}
