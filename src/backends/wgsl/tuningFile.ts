// Choices of tiles as JSON. What is read may be anything: nothing of it reaches a shader unchecked.
import { compileError, type Loc } from "../../ir/diagnostic.ts";
import { attentionObstacle, gemmObstacle } from "./candidates.ts";
import type { DeviceProfile } from "./index.ts";
import type { AttentionTile, GemmTile, TuningChoices } from "./tuning.ts";

/** Raised whenever an older reader would take a newer file wrongly. */
const format = 1;

/** Choices of tiles as JSON, what `bench tune -o` writes and `compile --tuning` reads. */
export interface TuningFile {
  readonly format: typeof format;
  readonly choices: readonly { readonly kernel: string; readonly tile: GemmTile | AttentionTile }[];
}

/** In the order of the keys, whatever they were found in. */
export function formatTuning({ gemm, attention }: TuningChoices): TuningFile {
  const entries = [...gemm, ...attention].map(([kernel, tile]) => ({ kernel, tile }));
  return { format, choices: entries.toSorted((a, b) => (a.kernel < b.kernel ? -1 : 1)) };
}

const mostChoices = 10_000;
const mostThreads = 256; // of a workgroup; WebGPU's least maxComputeInvocationsPerWorkgroup
const mostSide = 32; // rows or columns of a thread
const mostAccumulators = 512; // of a thread, which WGSL keeps twice in at most 8,192 bytes
const mostDepth = 64;
const mostKeys = 16;
const mostStaged = 256;

const gemmKey = /^gemm batch=[^\s=]{1,200} m=[^\s=]{1,200} n=[^\s=]{1,200} k=[^\s=]{1,200} (?:f32|i32|u32|bool)$/;
const attentionKey =
  /^attention heads=\d{1,9} queries=[^\s=]{1,200} keys=[^\s=]{1,200} channels=(\d{1,9}) values=(\d{1,9})$/;

/**
 * Choices for a device from parsed JSON, checked field by field; fields that are not known pass. Fails with
 * `bad-tuning`, at `loc`, also where the device cannot run a choice.
 */
export function parseTuning(json: unknown, device: DeviceProfile, loc?: Loc): TuningChoices {
  const reader = new Reader(loc);
  const file = reader.record(json, "the file");
  const found = field(file, "format");
  if (found !== format)
    throw reader.wrong(`format is ${shown(found)}, this version reads ${format}`, "tamis bench tune -o FILE");
  const listed = field(file, "choices");
  if (!Array.isArray(listed) || listed.length > mostChoices)
    throw reader.wrong(`choices is not a list of at most ${mostChoices}`);
  const gemm = new Map<string, GemmTile>();
  const attention = new Map<string, AttentionTile>();
  listed.forEach((entry: unknown, at) => {
    const path = `choices[${at}]`;
    const choice = reader.record(entry, path);
    const kernel = field(choice, "kernel");
    const tile = reader.record(field(choice, "tile"), `${path}.tile`);
    if (typeof kernel !== "string") throw reader.wrong(`${path}.kernel is not a text`);
    if (gemm.has(kernel) || attention.has(kernel)) throw reader.wrong(`${path}: ${kernel} has a tile before`);
    const sizes = attentionKey.exec(kernel);
    let obstacle: string | undefined;
    if (sizes !== null) {
      const read = reader.attentionTile(tile, `${path}.tile`);
      attention.set(kernel, read);
      obstacle = attentionObstacle(read, device, Number(sizes[1]) + Number(sizes[2]));
    } else if (gemmKey.test(kernel)) {
      const read = reader.gemmTile(tile, `${path}.tile`);
      gemm.set(kernel, read);
      obstacle = gemmObstacle(read, device);
    } else throw reader.wrong(`${path}.kernel is ${shown(kernel)}, which names no kernel`);
    if (obstacle !== undefined)
      throw reader.wrong(`the tile of ${kernel} cannot be used: ${obstacle}`, "tune for this device or profile");
  });
  return { gemm, attention };
}

type Fields = Readonly<Record<string, unknown>>;

/** An own field: what a prototype holds was not in the file. */
const field = (fields: Fields, name: string): unknown => (Object.hasOwn(fields, name) ? fields[name] : undefined);

const shown = (value: unknown): string => (JSON.stringify(value) ?? "nothing").slice(0, 80);

class Reader {
  readonly #loc: Loc | undefined;

  constructor(loc: Loc | undefined) {
    this.#loc = loc;
  }

  wrong(message: string, help?: string): Error {
    return compileError("bad-tuning", message, { ...(this.#loc && { loc: this.#loc }), ...(help && { help }) });
  }

  record(value: unknown, path: string): Fields {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    throw this.wrong(`${path} is not an object`);
  }

  gemmTile(tile: Fields, path: string): GemmTile {
    const by = field(tile, "by");
    if (by !== "thread" && by !== "subgroup" && by !== "workgroup")
      throw this.wrong(`${path}.by is ${shown(by)}, wanted thread, subgroup or workgroup`);
    const together = by === "subgroup" ? 4 : 1; // rows that four threads read for each other
    const rows = this.#count(tile, path, "rows", { least: 1, most: mostSide, of: together });
    const columns = this.#count(tile, path, "columns", { least: 4, most: mostSide, of: 4 });
    if (rows * columns > mostAccumulators)
      throw this.wrong(`${path} has ${rows * columns} results a thread, the limit is ${mostAccumulators}`);
    const depth = this.#count(tile, path, "depth", { least: 4, most: mostDepth, of: 4 });
    const sides = field(tile, "threads");
    if (!Array.isArray(sides) || sides.length !== 2) throw this.wrong(`${path}.threads is not a pair`);
    const pair: Fields = { "threads[0]": sides[0], "threads[1]": sides[1] };
    const down = this.#count(pair, path, "threads[0]", { least: 1, most: mostThreads, of: 1 });
    const across = this.#count(pair, path, "threads[1]", { least: 1, most: mostThreads, of: 1 });
    if (down * across > mostThreads || (down * across) % together !== 0)
      throw this.wrong(
        `${path}.threads are ${down * across}, wanted at most ${mostThreads}${by === "subgroup" ? ", in fours" : ""}`,
      );
    return { by, rows, columns, threads: [down, across], depth };
  }

  attentionTile(tile: Fields, path: string): AttentionTile {
    const keys = this.#count(tile, path, "keys", { least: 1, most: mostKeys, of: 1 });
    const subgroup = field(tile, "subgroup");
    if (typeof subgroup !== "boolean") throw this.wrong(`${path}.subgroup is ${shown(subgroup)}, wanted true or false`);
    const staged = this.#count(tile, path, "staged", { least: 0, most: mostStaged, of: keys });
    return { keys, subgroup, staged };
  }

  /** A whole number within bounds, a multiple of `of`. */
  #count(
    fields: Fields,
    path: string,
    name: string,
    { least, most, of }: { readonly least: number; readonly most: number; readonly of: number },
  ): number {
    const value = field(fields, name);
    if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most && value % of === 0)
      return value;
    const multiple = of === 1 ? "a whole number" : `a multiple of ${of}`;
    throw this.wrong(`${path}.${name} is ${shown(value)}, wanted ${multiple} from ${least} to ${most}`);
  }
}
