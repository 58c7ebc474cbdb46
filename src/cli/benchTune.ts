import { candidateTiles, lower, type Model, type TuningChoices } from "../index.ts";
import { deitTiny, fashionVit } from "../models/index.ts";
import { deviceProfile, openWebGpu, tunedAdapter, tuningPath } from "../runtime/node/index.ts";
import { readBindings, readCount, readDevice } from "./choice.ts";
import { usageError } from "./failure.ts";
import { readPasses } from "./passSpecs.ts";
import { prepare } from "./prepare.ts";
import { registry } from "./registry.ts";
import { out, print, printJson, say, table } from "./terminal.ts";
import type { Tile, TunedModel } from "./tuneChoices.ts";
import { tuneModel } from "./tuneKernels.ts";
import { cachedChoices, writeChoices } from "./tuning.ts";

export interface TuneOptions {
  readonly pass?: readonly string[];
  readonly set?: readonly string[];
  readonly bind?: readonly string[];
  readonly profile?: string;
  readonly rounds?: string;
  readonly output?: string;
  readonly json?: boolean;
}

/** `tamis bench tune [MODEL ...]`: the quickest tile for each of the models' kernels, kept for `tamis run`. */
export async function benchTune(texts: readonly string[], options: TuneOptions): Promise<void> {
  const rounds = options.rounds === undefined ? undefined : readCount("rounds", options.rounds, 1);
  const sizes = readBindings(options.bind);
  if (options.profile !== undefined && options.output === undefined)
    throw usageError("--profile tunes for compiled folders, not for this adapter: give -o FILE");
  if (texts.length === 0 && options.set !== undefined) throw usageError("--set needs a MODEL");
  const asked = options.profile === undefined ? undefined : readDevice(options.profile).device;
  const opened = await openWebGpu();
  try {
    const device = asked ?? deviceProfile(opened);
    const adapter = tunedAdapter(opened);
    const path = options.output ?? tuningPath(adapter);
    let choices = (options.output === undefined ? await cachedChoices(opened, device) : undefined) ?? none;
    const rows: TunedRow[] = [];
    for await (const { name, model } of modelsOf(texts, options)) {
      const title = `bench tune ${name}`;
      const settings = { device, candidates: candidateTiles(device), sizes, rounds, title };
      const tuned = await tuneModel(model, opened, settings);
      choices = merged(choices, tuned);
      await writeChoices(path, choices, adapter); // after each, so that what is measured is kept
      rows.push({ model: name, ...tuned });
      if (options.json !== true) print(modelTable(name, tuned));
      for (const { tiles, reason } of tuned.refused)
        say(`tamis: not offered: ${tiles.map(tileText).join(", ")}: ${reason}`);
    }
    const held = choices.gemm.size + choices.attention.size;
    if (options.json === true) {
      const models = rows.map(({ choices: _choices, ...row }) => row);
      return printJson({ adapter, file: path, choices: held, models });
    }
    print(out.dim(`on ${adapter.name}; ${held} choices in ${path}`));
  } finally {
    opened.close();
  }
}

type TunedRow = TunedModel & { readonly model: string };

const none: TuningChoices = { gemm: new Map(), attention: new Map() };

async function* modelsOf(
  texts: readonly string[],
  { pass = [], set, profile }: TuneOptions,
): AsyncGenerator<{ readonly name: string; readonly model: Model }> {
  if (texts.length === 0)
    for (const definition of [fashionVit, deitTiny])
      yield {
        name: definition.name,
        model: lower(definition, { passes: await readPasses(pass), registry }).model,
      };
  for (const text of texts) {
    const given = { pass, target: "webgpu", ...(set && { set }), ...(profile !== undefined && { profile }) };
    await using prepared = await prepare(text, given, { target: "webgpu", weightsOptional: true });
    yield { name: prepared.loaded.name, model: prepared.model };
  }
}

/** What was known before of other kernels, and what was found now. */
function merged(before: TuningChoices, { keys, choices }: TunedModel): TuningChoices {
  const tuned = new Set(keys.map(({ kernel }) => kernel));
  const join = <T>(old: ReadonlyMap<string, T>, found: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
    new Map([...[...old].filter(([key]) => !tuned.has(key)), ...found]);
  return { gemm: join(before.gemm, choices.gemm), attention: join(before.attention, choices.attention) };
}

function modelTable(name: string, { keys, rounds, defaultMs, bestMs, speed }: TunedModel): string {
  const rows = keys.map((key) => [
    key.count === 1 ? key.kernel : `${key.kernel}, ${key.count} times`,
    key.defaultMs.toFixed(3),
    key.bestMs.toFixed(3),
    `${key.speed.toFixed(2)} x`,
    key.tile === undefined ? "default" : tileText(key.tile),
  ]);
  const whole = ["all kernels", defaultMs.toFixed(3), bestMs.toFixed(3), `${speed.toFixed(2)} x`, ""];
  return table([`${name}, ${rounds} rounds in turns`, "default ms", "best ms", "speed", "tile"].map(out.bold), [
    ...rows,
    whole.map(out.dim),
  ]);
}

/** `workgroup 64 x 64, 16 deep`, `subgroup 16 x 4`, `8 keys`. */
export function tileText(tile: Tile): string {
  if ("staged" in tile) {
    const staged = tile.staged > 0 ? `, ${tile.staged} staged` : "";
    return `${tile.keys} keys${tile.subgroup ? ", subgroup" : ""}${staged}`;
  }
  const { by, rows, columns, threads, depth } = tile;
  if (by !== "workgroup") return `${by} ${rows} x ${columns}`;
  return `${by} ${rows * threads[0]} x ${columns * threads[1]} (${rows} x ${columns} a thread), ${depth} deep`;
}
