// What a run does in order, and which values have memory of their own: the dispatches of a program, and the copies that
// bring an output to where the caller wants it.
import type { Dispatch, ProgramValue, WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError, didYouMean } from "../../ir/diagnostic.ts";
import { sameShape } from "../../ir/dim.ts";
import { type Dim, formatType } from "../../ir/type.ts";

/** One step, over buffers by name. A buffer it writes is among those it touches. */
export type Step =
  | { readonly kind: "dispatch"; readonly dispatch: Dispatch; readonly touches: Names; readonly writes: Names }
  | {
      readonly kind: "copy";
      readonly from: string;
      readonly to: string;
      readonly touches: Names;
      readonly writes: Names;
    };
type Names = readonly string[];

/**
 * How an input comes: `upload` from host memory into the arena, `bind` as the memory of a tensor that nothing writes,
 * `copy` from such a tensor into the arena, `donate` as memory that an output takes over.
 */
export type Arrival = "upload" | "bind" | "copy" | "donate";

/** Outputs to inputs whose memory they take, by name. */
export type Donations = Readonly<Record<string, string>>;

/** What differs between runs of one program, besides sizes. */
export interface Terms {
  readonly arrivals: ReadonlyMap<string, Arrival>;
  /** Outputs that stay on the device. */
  readonly kept: ReadonlySet<string>;
  readonly donations: Donations;
}

/** Memory outside the arena that a run brings along: that of an input's tensor, or of a kept output. */
export type Slot = `input ${string}` | `output ${string}`;

export interface Course {
  readonly steps: readonly Step[];
  /** Elements of every buffer that a step touches, parameters and constants included. */
  readonly elements: ReadonlyMap<string, Dim>;
  /** Buffers that lie outside the arena, and where. */
  readonly slots: ReadonlyMap<string, Slot>;
  /** Where each output is found after the last step. */
  readonly outputs: readonly { readonly value: ProgramValue; readonly buffer: string; readonly kept: boolean }[];
}

/** Everything from host memory and back. */
export const plainTerms = (program: WgslProgram): Terms => ({
  arrivals: new Map(program.inputs.map(({ name }) => [name, "upload"])),
  kept: new Set(),
  donations: {},
});

/** Fails with `bad-donation` unless each pair is an output and an input of one type, no input being given twice. */
export function checkDonations({ inputs, outputs }: WgslProgram, donations: Donations): void {
  const taken = new Map<string, string>();
  for (const [outputName, inputName] of Object.entries(donations)) {
    const output = find(outputs, outputName, "output");
    const input = find(inputs, inputName, "input");
    if (input.dtype !== output.dtype || !sameShape(input.shape, output.shape))
      throw compileError(
        "bad-donation",
        `output ${outputName} is ${formatType(output)}, input ${inputName} is ${formatType(input)}`,
        { help: "an output takes the memory of an input of its own type" },
      );
    const other = taken.get(inputName);
    if (other !== undefined)
      throw compileError("bad-donation", `input ${inputName} is donated to ${other} and to ${outputName}`);
    taken.set(inputName, outputName);
  }
}

function find(values: readonly ProgramValue[], name: string, kind: string): ProgramValue {
  const value = values.find((v) => v.name === name);
  if (value !== undefined) return value;
  const names = values.map((v) => v.name);
  throw compileError("bad-donation", `the program has no ${kind} ${name}`, {
    help: didYouMean(name, names) ?? `${kind}s are ${names.join(", ")}`,
  });
}

/**
 * A donated input's memory becomes the output's: at once where every step that reads the input comes before the step
 * that writes the output, else by a copy as soon as both are done, so that two copies never last.
 */
export function chartCourse(program: WgslProgram, { arrivals, kept, donations }: Terms): Course {
  const written = new Set(program.dispatches.flatMap((d) => d.writes));
  const inputOf = new Map(program.inputs.map((input) => [input.name, input]));
  const elements = new Map(program.buffers.map(({ name, elements }) => [name, elements]));
  const slots = new Map<string, Slot>();
  const steps: Step[] = [];
  for (const { name, buffer } of program.inputs) {
    const arrival = arrivals.get(name);
    if (arrival === "bind" || arrival === "donate") slots.set(buffer, `input ${name}`);
    if (arrival !== "copy") continue;
    const given = `${buffer} as given`;
    slots.set(given, `input ${name}`);
    elements.set(given, elements.get(buffer) ?? 0);
    steps.push(copyStep(given, buffer));
  }
  for (const dispatch of program.dispatches)
    steps.push({ kind: "dispatch", dispatch, touches: dispatch.buffers, writes: dispatch.writes });

  const staying = (name: string): boolean => kept.has(name) || Object.hasOwn(donations, name);
  // A staying output needs a buffer that it shares with nothing. Copies of donated inputs come first, before their
  // memory is taken; what they copy into may be read by none of the copies behind them.
  const donated = new Set(Object.values(donations).map((name) => inputOf.get(name)?.buffer));
  const owners = new Set<string>();
  const early: Step[] = [];
  const late: Step[] = [];
  const outputs = program.outputs.map((value) => {
    const { name, buffer } = value;
    if (!staying(name)) return { value, buffer, kept: false };
    const inPlace = buffer === inputOf.get(donations[name] ?? "")?.buffer;
    const own = inPlace || (written.has(buffer) && !program.inputs.some((input) => input.buffer === buffer));
    if (own && !owners.has(buffer)) {
      owners.add(buffer);
      return { value, buffer, kept: kept.has(name) };
    }
    const apart = `${buffer} as ${name}`;
    elements.set(apart, elements.get(buffer) ?? 0);
    (donated.has(buffer) ? early : late).push(copyStep(buffer, apart));
    return { value, buffer: apart, kept: kept.has(name) };
  });
  steps.push(...early, ...late);

  const behind = new Map<number, Step[]>();
  for (const { value, buffer } of outputs) {
    if (!staying(value.name)) continue;
    const input = inputOf.get(donations[value.name] ?? "");
    if (input === undefined) {
      slots.set(buffer, `output ${value.name}`);
      continue;
    }
    if (buffer === input.buffer) continue;
    const lastRead = steps.findLastIndex((s) => s.touches.includes(input.buffer));
    const firstWrite = steps.findIndex((s) => s.writes.includes(buffer));
    if (lastRead < firstWrite) {
      slots.set(buffer, `input ${input.name}`);
      continue;
    }
    const at = Math.max(
      lastRead,
      steps.findLastIndex((s) => s.writes.includes(buffer)),
    );
    behind.set(at, [...(behind.get(at) ?? []), copyStep(buffer, input.buffer)]);
  }
  return {
    steps: steps.flatMap((step, at) => [step, ...(behind.get(at) ?? [])]),
    elements,
    slots,
    outputs: outputs.map((output) => {
      const input = inputOf.get(donations[output.value.name] ?? "");
      return input === undefined || slots.has(output.buffer) ? output : { ...output, buffer: input.buffer };
    }),
  };
}

const copyStep = (from: string, to: string): Step => ({ kind: "copy", from, to, touches: [from, to], writes: [to] });
