// Which tile wins for which kernels, from the times of a program in each of them.
import type { AttentionTile, GemmTile, Tuning, TuningChoices, WgslProgram } from "../index.ts";
import { type KeyTimes, median, quickest, type Round, ratioOf } from "./tuneTimes.ts";

export type Tile = GemmTile | AttentionTile;

/** The kernels of one key together; times are medians over rounds. */
export interface TunedKey {
  readonly kernel: string;
  /** How many kernels of the model have the key. */
  readonly count: number;
  readonly defaultMs: number;
  readonly bestMs: number;
  /** Median over rounds of the default's time over the best one's. */
  readonly speed: number;
  /** None where the default stays. */
  readonly tile?: Tile;
  /** Speed of every tile that the kernels were timed in before the winner was timed again. */
  readonly tried: readonly { readonly tile: Tile; readonly speed: number }[];
}

export interface TunedModel {
  readonly rounds: number;
  readonly keys: readonly TunedKey[];
  /** All kernels of the model, those without tiles among them. */
  readonly defaultMs: number;
  readonly bestMs: number;
  readonly speed: number;
  readonly choices: TuningChoices;
  /** Tiles that the device would not run, or whose results are not the default's. */
  readonly refused: readonly { readonly tiles: readonly Tile[]; readonly reason: string }[];
}

/** A program in one tuning, and its times. */
export interface Variant {
  readonly tuning: Tuning;
  readonly program: WgslProgram;
  readonly rounds: Round[];
}

/** Rounds of the kernels that have this key. */
const timesOf = (keys: readonly string[], key: string, { rounds }: Variant): KeyTimes =>
  rounds.map(({ nanoseconds }) => nanoseconds.reduce((sum, ns, k) => (keys[k] === key ? sum + ns : sum), 0));

/** Whether a variant writes any kernel of the key in another way. */
const differs = (keys: readonly string[], key: string, { program }: Variant, first: Variant): boolean =>
  program.dispatches.some((dispatch, k) => {
    const usual = first.program.dispatches[k];
    if (keys[k] !== key || usual === undefined) return false;
    return program.shaders[dispatch.shader] !== first.program.shaders[usual.shader];
  });

const kindOf = (key: string): "gemm" | "attention" => (key.startsWith("gemm ") ? "gemm" : "attention");

export interface Found {
  readonly found: TuningChoices;
  /** By key. */
  readonly tried: ReadonlyMap<string, TunedKey["tried"]>;
}

export function choose(keys: readonly string[], first: Variant, variants: readonly Variant[]): Found {
  const tried = new Map<string, TunedKey["tried"]>();
  const gemm = new Map<string, GemmTile>();
  const attention = new Map<string, AttentionTile>();
  for (const key of new Set(keys)) {
    if (key === "") continue;
    const rivals = variants.filter((variant) => differs(keys, key, variant, first));
    const usual = timesOf(keys, key, first);
    const times = rivals.map((variant) => timesOf(keys, key, variant));
    tried.set(
      key,
      rivals.map(({ tuning }, k) => ({ tile: tuning[kindOf(key)], speed: ratioOf(usual, times[k] as KeyTimes) })),
    );
    const winner = quickest(usual, times);
    const tuning = winner === undefined ? undefined : rivals[winner]?.tuning;
    if (tuning === undefined) continue;
    if (kindOf(key) === "gemm") gemm.set(key, tuning.gemm);
    else attention.set(key, tuning.attention);
  }
  return { found: { gemm, attention }, tried };
}

/** Times of the default and of the program with the choices; a choice that does not win here as well is dropped. */
export function report(
  keys: readonly string[],
  first: Variant,
  best: Variant,
  { found, tried: allTried }: Found,
): Omit<TunedModel, "refused" | "rounds"> {
  const tileOf = (key: string): Tile | undefined => found.gemm.get(key) ?? found.attention.get(key);
  const kept = new Map<string, Tile>();
  const tuned = [...new Set(keys)].flatMap((kernel): readonly TunedKey[] => {
    if (kernel === "") return [];
    const usual = timesOf(keys, kernel, first);
    const times = timesOf(keys, kernel, best);
    const tile = quickest(usual, [times]) === undefined ? undefined : tileOf(kernel);
    if (tile !== undefined) kept.set(kernel, tile);
    const count = keys.filter((key) => key === kernel).length;
    const defaultMs = median(usual) / 1e6;
    const tried = allTried.get(kernel) ?? [];
    if (tile === undefined) return [{ kernel, count, defaultMs, bestMs: defaultMs, speed: 1, tried }];
    return [{ kernel, count, defaultMs, bestMs: median(times) / 1e6, speed: ratioOf(usual, times), tile, tried }];
  });
  const total = (take: (key: string) => Variant): KeyTimes =>
    first.rounds.map((_, round) =>
      keys.reduce((sum, key, k) => sum + (take(key).rounds[round]?.nanoseconds[k] ?? 0), 0),
    );
  const [before, after] = [total(() => first), total((key) => (kept.has(key) ? best : first))];
  const choices: TuningChoices = {
    gemm: new Map([...found.gemm].filter(([key]) => kept.has(key))),
    attention: new Map([...found.attention].filter(([key]) => kept.has(key))),
  };
  const [defaultMs, bestMs] = [median(before) / 1e6, median(after) / 1e6];
  return { keys: tuned, defaultMs, bestMs, speed: ratioOf(before, after), choices };
}
