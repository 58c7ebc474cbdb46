// Where each intermediate of a program lies: one arena, places shared by values that never live at once.

import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { evaluateDim } from "../../ir/dim.ts";
import { type Course, chartCourse, plainTerms } from "./course.ts";
import { bytesPerWord } from "./words.ts";

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

interface Block {
  readonly name: string;
  readonly size: number;
  readonly padded: number;
  /** Steps at which it is alive, both included; -1 before the first. */
  readonly first: number;
  readonly last: number;
}

const alignment = 256; // bytes; WebGPU's minStorageBufferOffsetAlignment

/**
 * Places what lives in the arena for given symbol values: intermediates, and inputs and outputs that come from and go to
 * host memory. Parameters, constants and the course's slots lie elsewhere.
 */
export function planMemory(
  program: WgslProgram,
  symbols: ReadonlyMap<string, number>,
  course: Course = chartCourse(program, plainTerms(program)),
): MemoryPlan {
  const blocks = blocksOf(program, symbols, course);
  const lowerBound = mostAlive(blocks, course.steps.length);
  // Largest first, each at the lowest place that no block alive at the same time holds.
  const placed: (Block & { readonly offset: number })[] = [];
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
    planned: placed.reduce((most, p) => Math.max(most, p.offset + p.padded), 0),
    naive: blocks.reduce((sum, b) => sum + b.padded, 0),
    lowerBound,
  };
}

function blocksOf(program: WgslProgram, symbols: ReadonlyMap<string, number>, course: Course): readonly Block[] {
  const elsewhere = new Set([...program.parameters, ...program.constants].map((v) => v.buffer));
  for (const name of course.slots.keys()) elsewhere.add(name);
  const life = new Map<string, { readonly first: number; readonly last: number }>();
  const live = (name: string, at: number) => {
    if (elsewhere.has(name)) return;
    const known = life.get(name);
    life.set(name, { first: Math.min(known?.first ?? at, at), last: Math.max(known?.last ?? at, at) });
  };
  const end = course.steps.length;
  course.steps.forEach(({ touches }, at) => {
    for (const name of touches) live(name, at);
  });
  for (const { buffer } of course.outputs) live(buffer, end);
  // An input is there from the start; one that nothing reads needs no place.
  for (const { buffer } of program.inputs) if (life.has(buffer)) live(buffer, -1);
  return [...life].map(([name, span]) => {
    const size = Math.max(1, evaluateDim(course.elements.get(name) ?? 0, symbols)) * bytesPerWord;
    return { name, size, padded: Math.ceil(size / alignment) * alignment, ...span };
  });
}

/** Bytes alive at the fullest step. */
function mostAlive(blocks: readonly Block[], steps: number): number {
  const change = new Array<number>(steps + 3).fill(0); // by step, from -1 on
  for (const { padded, first, last } of blocks) {
    change[first + 1] = (change[first + 1] as number) + padded;
    change[last + 2] = (change[last + 2] as number) - padded;
  }
  let alive = 0;
  let most = 0;
  for (const bytes of change) {
    alive += bytes;
    most = Math.max(most, alive);
  }
  return most;
}
