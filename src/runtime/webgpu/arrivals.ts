// How the inputs of one run come: from host memory, or as tensors that are already there.
import type { WgslProgram } from "../../backends/wgsl/index.ts";
import { compileError } from "../../ir/diagnostic.ts";
import { elementsOf, formatType, type TensorData } from "../../ir/type.ts";
import type { Arrival, Donations } from "./course.ts";
import type { Ledger } from "./ledger.ts";
import { DeviceTensor } from "./tensor.ts";

export type RunInputs = Readonly<Record<string, TensorData | DeviceTensor>>;

/**
 * By input. Types must have been compared before. Fails with `bad-input` where contents do not fill their shape, or a
 * tensor is over, elsewhere, or donated and given twice; and with `device-lost`.
 */
export function arrivalsOf(
  { inputs: wanted, dispatches }: WgslProgram,
  inputs: RunInputs,
  donations: Donations,
  ledger: Ledger,
): ReadonlyMap<string, Arrival> {
  const donated = new Set(Object.values(donations));
  const written = new Set(dispatches.flatMap((d) => d.writes));
  const users = new Map<DeviceTensor, string>();
  const arrivals = new Map<string, Arrival>();
  // Donated ones first, so that it is theirs that is bound.
  for (const { name, buffer } of wanted.toSorted((a, b) => Number(donated.has(b.name)) - Number(donated.has(a.name)))) {
    const given = inputs[name] as TensorData | DeviceTensor;
    if (!(given instanceof DeviceTensor)) {
      if (given.values.length !== elementsOf(given.shape))
        throw compileError("bad-input", `input ${name} is ${formatType(given)} with ${given.values.length} elements`);
      arrivals.set(name, donated.has(name) ? "donate" : "upload");
      continue;
    }
    given.lend(ledger, name);
    const other = users.get(given);
    if (other !== undefined && donated.has(other))
      throw compileError("bad-input", `input ${other} is donated, so its tensor cannot be input ${name} as well`);
    users.set(given, name);
    // A kernel may bind the same memory once only, and may write to no tensor but a donated one.
    const apart = other !== undefined || written.has(buffer);
    arrivals.set(name, donated.has(name) ? "donate" : apart ? "copy" : "bind");
  }
  return arrivals;
}
