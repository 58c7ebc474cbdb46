// The tiles worth timing on a device, and what keeps a device from running one.
import type { DeviceProfile } from "./index.ts";
import type { AttentionTile, GemmTile } from "./tuning.ts";

/** Tiles by kind of kernel. */
export interface Candidates {
  readonly gemm: readonly GemmTile[];
  readonly attention: readonly AttentionTile[];
}

const guaranteedBytes = 16_384; // of shared memory; WebGPU's least maxComputeWorkgroupStorageSize
const bytesPerElement = 4; // of every register

/** A handful per kind of kernel; none that the device cannot run. */
export function candidateTiles(device: DeviceProfile): Candidates {
  const { gemm, attention } = device.software ? software : hardware;
  return {
    gemm: gemm.filter((tile) => gemmObstacle(tile, device) === undefined),
    attention: attention.filter((tile) => attentionObstacle(tile, device) === undefined),
  };
}

/** Why the device cannot run a product in this tile; undefined where it can. */
export function gemmObstacle(tile: GemmTile, device: DeviceProfile): string | undefined {
  if (tile.by === "subgroup") return subgroupObstacle(device);
  if (tile.by === "thread") return undefined;
  const [down, across] = tile.threads;
  const { workgroupBytes = guaranteedBytes } = device;
  return memoryObstacle(tile.depth * (down * tile.rows + across * tile.columns), workgroupBytes);
}

/** The same of attention; `width` is the number of channels of a key and a value together, 0 where it is not known. */
export function attentionObstacle(tile: AttentionTile, device: DeviceProfile, width = 0): string | undefined {
  if (tile.subgroup) return subgroupObstacle(device);
  return memoryObstacle(tile.staged * width, guaranteedBytes); // more is never staged
}

const subgroupObstacle = ({ subgroupsOfFour = false }: DeviceProfile): string | undefined =>
  subgroupsOfFour ? undefined : "it shares by subgroups of four threads, which the device has not";

function memoryObstacle(elements: number, limit: number): string | undefined {
  const bytes = elements * bytesPerElement;
  return bytes <= limit ? undefined : `it takes ${bytes} bytes of a workgroup's memory, the limit is ${limit}`;
}

const direct = (by: "thread" | "subgroup", rows: number, columns: number): GemmTile => ({
  by,
  rows,
  columns,
  threads: by === "thread" ? [8, 8] : [4, 4],
  depth: 4,
});

/** `rows` by `columns` a thread, so that the workgroup's tile is as large as its name in the table below says. */
const shared = (rows: number, columns: number, threads: GemmTile["threads"], depth: number): GemmTile => ({
  by: "workgroup",
  rows,
  columns,
  threads,
  depth,
});

/** Barriers are dear: threads read memory themselves, or four share a row. */
const software: Candidates = {
  gemm: [
    ...[4, 8, 16].map((rows) => direct("subgroup", rows, 4)),
    ...[4, 8, 12, 16, 20, 24, 32].map((rows) => direct("subgroup", rows, 8)),
    direct("subgroup", 16, 16),
    ...[4, 8, 16].map((rows) => direct("thread", rows, 4)),
    direct("thread", 8, 8),
  ],
  attention: [
    { keys: 2, subgroup: true, staged: 0 },
    { keys: 4, subgroup: true, staged: 0 },
    { keys: 8, subgroup: true, staged: 0 },
    { keys: 2, subgroup: false, staged: 0 },
    { keys: 4, subgroup: false, staged: 0 },
    { keys: 8, subgroup: false, staged: 0 },
  ],
};

/** Register tiles of 4 x 4 in small workgroups win on most cards (llama.cpp, pull request 22241); large ones on large sizes. */
const hardware: Candidates = {
  gemm: [
    shared(2, 4, [8, 4], 32), // 16 x 16
    shared(4, 4, [8, 8], 16), // 32 x 32
    shared(4, 4, [8, 8], 32),
    shared(4, 4, [16, 8], 16), // 64 x 32
    shared(4, 4, [16, 16], 16), // 64 x 64
    shared(8, 8, [8, 8], 8),
    shared(8, 4, [16, 16], 16), // 128 x 64
    direct("thread", 4, 4),
    direct("thread", 2, 8),
  ],
  attention: [
    { keys: 4, subgroup: false, staged: 0 },
    { keys: 4, subgroup: false, staged: 16 },
    { keys: 4, subgroup: false, staged: 32 },
    { keys: 8, subgroup: false, staged: 16 },
  ],
};
