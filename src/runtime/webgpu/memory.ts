// Where each intermediate of a program lies: one arena, places shared by values that never live at once.

import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { evaluateDim } from "../../ir/dim.ts";

export interface Placement {
  readonly offset: number;
  /** In bytes, a multiple of 4; what a binding covers. */
  readonly size: number;
}

export interface MemoryPlan {
  readonly placements: ReadonlyMap<string, Placement>;
  /** Bytes of the arena. */
  readonly planned: number;
  /** Bytes if every intermediate had a place of its own. */
  readonly naive: number;
  /** The most bytes alive at once: no plan can need less. */
  readonly lowerBound: number;
}

const alignment = 256; // bytes; WebGPU's minStorageBufferOffsetAlignment
const bytesPerElement = 4;

/** Places inputs, outputs and intermediates for given symbol values; parameters and constants lie elsewhere. */
export function planMemory(program: WgslProgram, symbols: ReadonlyMap<string, number>): MemoryPlan {
  const apart = new Set([...program.parameters, ...program.constants].map((v) => v.buffer));
  const end = program.dispatches.length;
  const life = new Map<string, { first: number; last: number }>();
  const live = (name: string, from: number, to: number) => {
    const known = life.get(name);
    life.set(name, { first: Math.min(known?.first ?? from, from), last: Math.max(known?.last ?? to, to) });
  };
  for (const { buffer } of program.inputs) live(buffer, -1, 0);
  program.dispatches.forEach(({ buffers }, at) => {
    for (const name of buffers) if (!apart.has(name)) live(name, at, at);
  });
  for (const { buffer } of program.outputs) if (!apart.has(buffer)) live(buffer, end, end);
  const blocks = program.buffers
    .filter(({ name }) => life.has(name))
    .map(({ name, elements }) => {
      const size = Math.max(1, evaluateDim(elements, symbols)) * bytesPerElement;
      return {
        name,
        size,
        padded: Math.ceil(size / alignment) * alignment,
        ...(life.get(name) as { first: number; last: number }),
      };
    });
  let lowerBound = 0;
  for (let at = -1; at <= end; at++)
    lowerBound = Math.max(
      lowerBound,
      blocks.reduce((sum, b) => sum + (b.first <= at && at <= b.last ? b.padded : 0), 0),
    );
  // Largest first, each at the lowest place that no block alive at the same time holds.
  const placed: ((typeof blocks)[number] & { offset: number })[] = [];
  for (const block of blocks.toSorted((a, b) => b.padded - a.padded || a.first - b.first)) {
    const rivals = placed
      .filter((p) => p.first <= block.last && block.first <= p.last)
      .sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const rival of rivals) {
      if (offset + block.padded <= rival.offset) break;
      offset = Math.max(offset, rival.offset + rival.padded);
    }
    placed.push({ ...block, offset });
  }
  return {
    placements: new Map(placed.map(({ name, offset, size }) => [name, { offset, size }])),
    planned: placed.reduce((most, p) => Math.max(most, p.offset + p.padded), alignment),
    naive: blocks.reduce((sum, b) => sum + b.padded, 0),
    lowerBound,
  };
}
