// Sessions of WebGPU programs: runs take turns, tensors may stay on the device, and a lost device is opened again.
import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { CompileError, compileError, didYouMean } from "../../ir/diagnostic.ts";
import type { TensorData } from "../../ir/type.ts";
import type { Session, SessionValue } from "../session.ts";
import type { RunInputs } from "./arrivals.ts";
import { checkDonations, type Donations } from "./course.ts";
import { type Allocations, deviceLost } from "./ledger.ts";
import { type KernelTime, LoadedProgram, type RunRequest, type RunResult, type SessionMemory } from "./loaded.ts";
import type { UploadProgress, Weights } from "./parameters.ts";
import { DeviceTensor, uploadTensor } from "./tensor.ts";

/** A session of a WebGPU program: tensors may stay on the device between runs. */
export interface ProgramSession extends Session {
  /** Bytes of the last run; undefined before one. */
  readonly memory: SessionMemory | undefined;
  readonly dispatches: number;
  /** The device in use; another one after a loss. */
  readonly device: GPUDevice;
  /** Live GPU buffers of the device, whoever made them here. */
  readonly allocations: Allocations;
  /**
   * One result per output. Inputs may be tensors on the same device, which stay the caller's unless donated; outputs
   * that `keep` names, or all of them, stay on the device. Inputs may not change until the promise is settled. Fails
   * with `bad-input`, `device-limit`, `out-of-memory`, `device-lost` and `session-closed`.
   */
  run(inputs: RunInputs): Promise<Record<string, TensorData>>;
  run(inputs: RunInputs, options: { readonly keep: true }): Promise<Record<string, DeviceTensor>>;
  run<const Kept extends string>(
    inputs: RunInputs,
    options: { readonly keep: readonly Kept[] },
  ): Promise<{ readonly [name in Kept]: DeviceTensor } & Record<string, TensorData | DeviceTensor>>;
  /** A run that times each kernel on the device, in a pass of its own. Fails with `not-available` without a clock. */
  profile(inputs: RunInputs): Promise<Profile>;
  /** Puts a tensor on this session's device, for any number of runs. */
  upload(contents: TensorData): Promise<DeviceTensor>;
}

/** A run with the times of its kernels. */
export interface Profile {
  readonly outputs: Readonly<Record<string, TensorData>>;
  /** In the order they ran; the same kernel once per time that it ran. */
  readonly kernels: readonly KernelTime[];
}

/** How a session of a WebGPU program is opened. */
export interface ProgramOptions {
  /**
   * Outputs to the inputs whose memory they take, instead of what the program was compiled with: such an input's tensor
   * is over once a run has it.
   */
  readonly donate?: Donations;
  readonly onProgress?: UploadProgress;
  /** Opens another device in place of one that was lost. Without it, a loss ends the session. */
  readonly reopen?: () => Promise<Reopened>;
  /** Called when the session has been disposed of, to close what was opened for it alone. */
  readonly close?: () => void;
}

export interface Reopened {
  readonly device: GPUDevice;
  /** Fresh sources, where the first ones can be read only once. */
  readonly weights?: Weights;
}

/**
 * A session of a program. The device stays the caller's. Weights are read now, and again if the device is lost. Fails
 * with `missing-weights`, `weights-mismatch`, `bad-donation`, `device-limit` and `out-of-memory`.
 */
export async function createProgramSession(
  device: GPUDevice,
  program: WgslProgram,
  weights: Weights,
  options: ProgramOptions = {},
): Promise<ProgramSession> {
  const { donate = program.donate ?? {}, onProgress } = options;
  checkDonations(program, donate);
  const load = (on: GPUDevice, from: Weights) => LoadedProgram.load(on, program, from, donate, onProgress);
  const { reopen, close } = options;
  const again = reopen && (async () => reopen().then((opened) => load(opened.device, opened.weights ?? weights)));
  const runner = new Runner(program.name, await load(device, weights), again, close);
  const values = (list: WgslProgram["inputs"]): readonly SessionValue[] =>
    list.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  function run(inputs: RunInputs): Promise<Record<string, TensorData>>;
  function run(inputs: RunInputs, keeping: { readonly keep: true }): Promise<Record<string, DeviceTensor>>;
  function run<const Kept extends string>(
    inputs: RunInputs,
    keeping: { readonly keep: readonly Kept[] },
  ): Promise<{ readonly [name in Kept]: DeviceTensor } & Record<string, TensorData | DeviceTensor>>;
  async function run(
    inputs: RunInputs,
    { keep = [] }: { readonly keep?: true | readonly string[] } = {},
  ): Promise<Record<string, TensorData | DeviceTensor>> {
    const kept = keptOutputs(program, keep);
    return (await runner.run({ inputs: { ...inputs }, kept, timed: false })).outputs;
  }
  return {
    inputs: values(program.inputs),
    outputs: values(program.outputs),
    dispatches: program.dispatches.length,
    get memory() {
      return runner.loaded.memory;
    },
    get device() {
      return runner.loaded.ledger.device;
    },
    get allocations() {
      return runner.loaded.ledger.allocations;
    },
    run,
    async profile(inputs) {
      const { outputs, kernels } = await runner.run({ inputs: { ...inputs }, kept: new Set(), timed: true });
      return { outputs: outputs as Record<string, TensorData>, kernels };
    },
    upload: async (contents) => runner.inTurn(async () => uploadTensor((await runner.ready()).ledger.device, contents)),
    dispose: () => runner.dispose(),
    [Symbol.asyncDispose]: () => runner.dispose(),
  };
}

function keptOutputs({ outputs }: WgslProgram, keep: true | readonly string[]): ReadonlySet<string> {
  const names = outputs.map(({ name }) => name);
  if (keep === true) return new Set(names);
  const unknown = keep.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw compileError("bad-input", `there is no output ${unknown} to keep`, {
      help: didYouMean(unknown, names) ?? `outputs are ${names.join(", ")}`,
    });
  return new Set(keep);
}

/** Runs in turn, on another device where the one in use was lost. */
class Runner {
  loaded: LoadedProgram;
  readonly #name: string;
  readonly #reload: (() => Promise<LoadedProgram>) | undefined;
  readonly #close: (() => void) | undefined;
  /** Settles when everything asked for so far is done. */
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(
    name: string,
    loaded: LoadedProgram,
    reload: (() => Promise<LoadedProgram>) | undefined,
    close: (() => void) | undefined,
  ) {
    this.#name = name;
    this.loaded = loaded;
    this.#reload = reload;
    this.#close = close;
  }

  run(request: RunRequest): Promise<RunResult> {
    return this.inTurn(() => this.#run(request));
  }

  /** Does work once all that was asked for before is done. Fails with `session-closed`. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined)
      throw compileError("session-closed", `the session of ${this.#name} was disposed of`);
    const turn = this.#turn.then(work);
    const over = (): void => undefined; // holds no result, which may be a tensor
    this.#turn = turn.then(over, over);
    return turn;
  }

  /** The program on a device that is there. Fails with `device-lost` where none can be had. */
  async ready(): Promise<LoadedProgram> {
    const { loss } = this.loaded.ledger;
    if (loss === undefined) return this.loaded;
    if (this.#reload === undefined)
      throw deviceLost(`the session of ${this.#name}`, loss, "open a device again and make a new session on it");
    this.loaded.dispose();
    this.loaded = await this.#reload();
    return this.loaded;
  }

  dispose(): Promise<void> {
    this.#closing ??= this.#turn.then(() => {
      this.loaded.dispose();
      this.#close?.();
    });
    return this.#closing;
  }

  /** A loss in the middle of a run is one more reason to begin again, unless tensors went with the device. */
  async #run(request: RunRequest): Promise<RunResult> {
    const loaded = await this.ready();
    try {
      return await loaded.run(request);
    } catch (error) {
      if (error instanceof CompileError) throw error;
      const loss = await loaded.ledger.lossSoon();
      if (loss === undefined) throw error;
      const gone = Object.entries(request.inputs).find(([, given]) => given instanceof DeviceTensor);
      if (gone !== undefined)
        throw deviceLost(`input ${gone[0]}`, loss, "upload it again, or run again what computed it");
      return (await this.ready()).run(request);
    }
  }
}
