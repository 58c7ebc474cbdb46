// Times the kernels of a model in every tile that is offered, and keeps those that win twice.
import { compareTensors, tolerance } from "../conform/tolerance.ts";
import {
  type Candidates,
  CompileError,
  compileError,
  type DeviceProfile,
  defaultTuning,
  didYouMean,
  emitWgsl,
  evaluateDim,
  InternalError,
  isTunable,
  kernelKey,
  type Model,
  scheduleKernels,
  type TensorData,
  type Tuning,
  type TuningChoices,
  type WgslProgram,
} from "../index.ts";
import {
  createWebGpuSession,
  type DeviceTensor,
  type NodeDevice,
  type ProgramSession,
  randomSource,
  randomTensor,
  uploadTensor,
} from "../runtime/node/index.ts";
import { registry } from "./registry.ts";
import { type Progress, progress } from "./terminal.ts";
import { choose, report, type Tile, type TunedModel, type Variant } from "./tuneChoices.ts";
import type { Round } from "./tuneTimes.ts";

export interface TuneSettings {
  readonly device: DeviceProfile;
  readonly candidates: Candidates;
  /** Of symbols; 1 for the others. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Turns of each tile; by default enough for a second of kernels. */
  readonly rounds?: number | undefined;
  /** For the progress bar. */
  readonly title: string;
}

const leastRounds = 7;
const mostRounds = 40;
const measuredNs = 1e9;

const roundsFor = ({ nanoseconds }: Round): number =>
  Math.min(mostRounds, Math.max(leastRounds, Math.ceil(measuredNs / nanoseconds.reduce((sum, ns) => sum + ns, 1))));

interface OpenVariant extends Variant {
  readonly session: ProgramSession;
}

/**
 * A model runs whole in each candidate, in turns with the default, each kernel timed by the device; a tile that wins for
 * a key must win again beside the default in the program that has all winners. Fails with `not-available` without
 * timestamps, and as `createWebGpuSession` does.
 */
export async function tuneModel(model: Model, opened: NodeDevice, settings: TuneSettings): Promise<TunedModel> {
  const { device } = settings;
  const base = defaultTuning(device);
  const emit = (tuning: Tuning): WgslProgram => resident(emitWgsl(model, { device, tuning, registry }));
  const { kernels } = scheduleKernels(model.graph, { device, registry });
  const keys = kernels.map((kernel) => (isTunable(kernel) ? kernelKey(kernel) : ""));
  const standard = emit(base);
  if (standard.dispatches.length !== keys.length)
    throw new InternalError(`${keys.length} kernels became ${standard.dispatches.length} dispatches`);
  const tunings = withCandidates(base, settings.candidates);
  const inputs = await uploadInputs(standard, model, opened, settings.sizes);
  const opens: ProgramSession[] = [];
  let steps: Progress | undefined;
  const open = async (tuning: Tuning, program: WgslProgram): Promise<OpenVariant> => {
    const session = await createWebGpuSession(program, new Map(), opened);
    opens.push(session);
    return { tuning, program, session, rounds: [] };
  };
  const once = async ({ session }: OpenVariant) => {
    const { outputs, kernels: timed } = await session.profile(inputs);
    steps?.advance();
    if (timed.length !== keys.length)
      throw compileError("not-available", "a model with kernels that compute nothing at these sizes cannot be tuned", {
        help: "give its symbols other sizes, such as --bind batch=1",
      });
    return { outputs, round: { nanoseconds: timed.map(({ timeNs }) => timeNs) } };
  };
  const race = async (variants: readonly OpenVariant[], rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round++)
      for (const variant of variants) variant.rounds.push((await once(variant)).round);
  };
  try {
    const first = await open(base, standard);
    await once(first); // warms up
    const { outputs: wanted, round } = await once(first);
    const rounds = settings.rounds ?? roundsFor(round);
    steps = progress(settings.title, (tunings.length + 1) * (rounds + 1) + 2 * rounds);
    const { variants, refused } = await openEqual(tunings, wanted, async (tuning) => {
      const variant = await open(tuning, emit(tuning));
      return { variant, outputs: (await once(variant)).outputs };
    });
    await race([first, ...variants], rounds);
    const { found, tried } = choose(keys, first, variants);
    const told = (second: Variant, best: Variant) => ({ rounds, ...report(keys, second, best, { found, tried }) });
    if (found.gemm.size + found.attention.size === 0) return { ...told(first, first), refused };
    const tuning = { ...base, choices: found };
    const second = await open(base, standard);
    const best = await open(tuning, emit(tuning));
    const reason = difference((await once(best)).outputs, wanted);
    if (reason !== undefined)
      return { ...told(first, first), refused: [...refused, { tiles: tilesOf(found), reason }] };
    await race([second, best], rounds);
    return { ...told(second, best), refused };
  } finally {
    steps?.stop();
    for (const session of opens) await session.dispose();
    for (const tensor of Object.values(inputs)) tensor.dispose();
  }
}

/** Parameters given as inputs, so that all variants read the same memory. */
const resident = (program: WgslProgram): WgslProgram => ({
  ...program,
  inputs: [...program.inputs, ...program.parameters],
  parameters: [],
});

/** One candidate for products and one for attention at a time, since their kernels are not the same ones. */
function withCandidates(base: Tuning, { gemm, attention }: Candidates): readonly Tuning[] {
  const others = <T extends Tile>(tiles: readonly T[], own: T): readonly T[] =>
    tiles.filter((tile) => JSON.stringify(tile) !== JSON.stringify(own));
  const [products, attentions] = [others(gemm, base.gemm), others(attention, base.attention)];
  return Array.from({ length: Math.max(products.length, attentions.length) }, (_, k) => ({
    ...base,
    gemm: products[k] ?? base.gemm,
    attention: attentions[k] ?? base.attention,
  }));
}

/** Random inputs, and weights where the model has none; on the device. */
async function uploadInputs(
  program: WgslProgram,
  { weights }: Model,
  { device }: NodeDevice,
  sizes: ReadonlyMap<string, number>,
): Promise<Readonly<Record<string, DeviceTensor>>> {
  const { symbols: known } = program;
  const unknown = [...sizes.keys()].find((symbol) => !known.includes(symbol));
  if (unknown !== undefined)
    throw compileError("unknown-symbol", `--bind ${unknown}: the model has no symbol of that name`, {
      help: didYouMean(unknown, known) ?? `its symbols: ${known.join(", ") || "none"}`,
    });
  const symbols = new Map(known.map((symbol) => [symbol, sizes.get(symbol) ?? 1]));
  const contentsOf = ({ name, dtype, shape }: WgslProgram["inputs"][number]): TensorData | Promise<TensorData> => {
    const type = { dtype, shape: shape.map((dim) => evaluateDim(dim, symbols)) };
    if (given.has(name)) return randomTensor(type, 1);
    return (weights.get(name) ?? randomSource(name, type, 1)).read();
  };
  const parameters = new Set(weights.keys());
  const given = new Set(program.inputs.map(({ name }) => name).filter((name) => !parameters.has(name)));
  const tensors: Record<string, DeviceTensor> = {};
  for (const value of program.inputs) tensors[value.name] = await uploadTensor(device, await contentsOf(value));
  return tensors;
}

/** The variants that run and give what the default gives. */
async function openEqual(
  tunings: readonly Tuning[],
  wanted: Outputs,
  open: (tuning: Tuning) => Promise<{ readonly variant: OpenVariant; readonly outputs: Outputs }>,
): Promise<{ readonly variants: readonly OpenVariant[]; readonly refused: TunedModel["refused"] }> {
  const variants: OpenVariant[] = [];
  const refused: { tiles: readonly Tile[]; reason: string }[] = [];
  for (const tuning of tunings) {
    const tiles = [tuning.gemm, tuning.attention];
    try {
      const { variant, outputs } = await open(tuning);
      const reason = difference(outputs, wanted);
      if (reason === undefined) variants.push(variant);
      else refused.push({ tiles, reason });
    } catch (error) {
      if (error instanceof CompileError && error.code !== "device-limit") throw error;
      refused.push({ tiles, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { variants, refused };
}

const tilesOf = ({ gemm, attention }: TuningChoices): readonly Tile[] => [...gemm.values(), ...attention.values()];

type Outputs = Readonly<Record<string, TensorData>>;

/** Where outputs differ by more than their sums in another order may. */
function difference(outputs: Outputs, wanted: Outputs): string | undefined {
  for (const [name, tensor] of Object.entries(wanted)) {
    const got = outputs[name] as TensorData;
    const { ok, message } = compareTensors(got, tensor, tolerance(tensor.dtype, { target: "webgpu" }));
    if (!ok) return `output ${name}, ${message}`;
  }
  return undefined;
}
