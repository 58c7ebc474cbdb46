// Choices of how a kernel is written, none of which changes what it computes.

/** How the threads of a matrix product share its work. */
export interface GemmTile {
  /**
   * `thread`: every thread reads its rows and columns straight from memory. `subgroup`: four neighbouring threads share
   * their rows (subgroups of exactly four, as software adapters have them). `workgroup`: tiles in shared memory.
   */
  readonly by: "thread" | "subgroup" | "workgroup";
  /** Rows of the result that one thread computes. */
  readonly rows: number;
  /** Columns of the result that one thread computes, a multiple of four. */
  readonly columns: number;
  /** Threads of a workgroup down and across, for `workgroup`; their product for the others. */
  readonly threads: readonly [down: number, across: number];
  /** Terms of the sum in shared memory at a time, a multiple of four. */
  readonly depth: number;
}

/** How the threads of an attention kernel share its work. */
export interface AttentionTile {
  /** Keys whose scores are found together before the running sum is scaled. */
  readonly keys: number;
  /** Whether four neighbouring queries share what they read (subgroups of exactly four). */
  readonly subgroup: boolean;
  /** Keys and values that a workgroup of 64 queries stages in shared memory at a time, a multiple of `keys`; 0: none. */
  readonly staged: number;
}

/** Tiles measured to be quicker than the default ones, by the key of the kernels they are for (kernelKey.ts). */
export interface TuningChoices {
  readonly gemm: ReadonlyMap<string, GemmTile>;
  readonly attention: ReadonlyMap<string, AttentionTile>;
}

/** How kernels are written for a device. */
export interface Tuning {
  /** Threads that share a row; 1 where barriers are dear (software adapters). */
  readonly rowThreads: number;
  readonly gemm: GemmTile;
  readonly attention: AttentionTile;
  /** Kernels that have a tile of their own. */
  readonly choices?: TuningChoices;
}

const subgroupTile: GemmTile = { by: "subgroup", rows: 16, columns: 4, threads: [4, 4], depth: 4 };
const threadTile: GemmTile = { by: "thread", rows: 8, columns: 4, threads: [8, 8], depth: 4 };
const workgroupTile: GemmTile = { by: "workgroup", rows: 4, columns: 4, threads: [16, 16], depth: 16 };

/** A software adapter's winners are not a GPU's: barriers are dear there, registers are memory. Measured on SwiftShader. */
export const softwareTuning: Tuning = {
  rowThreads: 1,
  gemm: threadTile,
  attention: { keys: 4, subgroup: false, staged: 0 },
};
export const softwareSubgroupTuning: Tuning = {
  rowThreads: 1,
  gemm: subgroupTile,
  attention: { keys: 4, subgroup: true, staged: 0 },
};
export const hardwareTuning: Tuning = {
  rowThreads: 64,
  gemm: workgroupTile,
  attention: { keys: 4, subgroup: false, staged: 16 },
};
