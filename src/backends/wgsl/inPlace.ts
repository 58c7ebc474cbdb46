// State that a kernel rewrites where it lies: a donated input and the output that takes its memory become one buffer.
import { type Expr, walk } from "./expr.ts";
import { type Buffer, expressionsOf, type Kernel, writesOf } from "./kernel.ts";
import type { Schedule } from "./schedule.ts";

/** Outputs to the inputs whose memory they take, by name. */
export type Donations = Readonly<Record<string, string>>;

export interface InPlace {
  readonly kernels: readonly Kernel[];
  /** Buffers that are no more, and the ones that hold their values now. */
  readonly became: ReadonlyMap<string, string>;
}

/**
 * Joins each donated pair whose output is written by a kernel that reads the input only at the element it writes, and
 * after which nothing reads the input. The others stay apart; what runs the program copies them.
 */
export function writeInPlace({ kernels, inputs, outputs }: Schedule, donate: Donations): InPlace {
  const joined = [...kernels];
  const became = new Map<string, string>();
  const reads = kernels.map(loadsOf);
  for (const [outputName, inputName] of Object.entries(donate)) {
    const from = inputs.find(({ name }) => name === inputName)?.buffer;
    const to = outputs.find(({ name }) => name === outputName)?.buffer;
    if (from === undefined || to === undefined || from.elements !== to.elements || from.register !== to.register)
      continue;
    if (outputs.some(({ buffer }) => buffer.name === from.name)) continue;
    const at = joined.findIndex((kernel) => writesOf(kernel).some(({ name }) => name === to.name));
    const kernel = joined[at];
    if (kernel === undefined || reads.findLastIndex((names) => names.has(from.name)) !== at) continue;
    if (!readsAsItWrites(kernel, from.name)) continue;
    joined[at] = {
      ...kernel,
      results: kernel.results.map((result) => (result.buffer.name === to.name ? { ...result, buffer: from } : result)),
    };
    became.set(to.name, from.name);
  }
  return { kernels: joined, became };
}

function loadsOf(kernel: Kernel): ReadonlySet<string> {
  const names = new Set<string>();
  walk(expressionsOf(kernel), (e) => {
    if (e.op === "load") names.add(e.name as string);
  });
  return names;
}

/** Kinds whose threads compute every result at i before they write one there. */
type Pointwise = Extract<Kernel, { readonly kind: "map" | "gemm" }>;

function readsAsItWrites(kernel: Kernel, buffer: Buffer["name"]): kernel is Pointwise {
  if (kernel.kind !== "map" && kernel.kind !== "gemm") return false;
  const elsewhere = (e: Expr): boolean => {
    const [index] = e.args;
    return e.op === "load" && e.name === buffer && !(index?.op === "variable" && index.name === "i");
  };
  let safe = true;
  walk(
    kernel.results.map(({ value }) => value),
    (e) => {
      if (elsewhere(e)) safe = false;
    },
  );
  if (kernel.kind === "gemm")
    walk([kernel.a, kernel.b, kernel.at], (e) => {
      if (e.op === "load" && e.name === buffer) safe = false;
    });
  return safe;
}
