import type { KernelTime, ProgramSession } from "../runtime/node/index.ts";
import type { readInputs } from "./inputs.ts";
import { out, table } from "./terminal.ts";

/** One kernel of a run; `share` is its part of all kernels' time, 0 to 1. */
export interface TimedKernel {
  readonly label: string;
  readonly scope: string;
  readonly ops: readonly string[];
  readonly timeMs: number;
  readonly share: number;
}

/** Medians over `repeat` runs, in the order the kernels run. */
export async function timeKernels(
  session: Pick<ProgramSession, "profile">,
  inputs: Awaited<ReturnType<typeof readInputs>>,
  repeat: number,
): Promise<readonly TimedKernel[]> {
  const runs: (readonly KernelTime[])[] = [];
  for (let i = 0; i < repeat; i++) runs.push((await session.profile(inputs)).kernels);
  const timed = (runs[0] ?? []).map(({ label, scope, ops }, k) => {
    const times = runs.map((kernels) => kernels[k]?.timeNs ?? 0).sort((a, b) => a - b);
    return { label, scope, ops, timeMs: (times[times.length >> 1] ?? 0) / 1e6 };
  });
  const total = timed.reduce((sum, { timeMs }) => sum + timeMs, 0);
  return timed.map((kernel) => ({ ...kernel, share: total === 0 ? 0 : kernel.timeMs / total }));
}

const shownKernels = 40;

/** The slowest kernels first. */
export function kernelTable(kernels: readonly TimedKernel[]): string {
  const rows = kernels.toSorted((a, b) => b.timeMs - a.timeMs);
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const row = ({ label, scope, timeMs, share }: TimedKernel) => [
    scope === "" ? label : `${label} in ${scope}`,
    timeMs.toFixed(3),
    percent(share),
  ];
  const rest = rows.slice(shownKernels);
  const sum = (of: readonly TimedKernel[], what: "timeMs" | "share"): number => of.reduce((s, k) => s + k[what], 0);
  return table(["kernel", "ms", "share"].map(out.bold), [
    ...rows.slice(0, shownKernels).map(row),
    ...(rest.length === 0
      ? []
      : [[`${rest.length} more`, sum(rest, "timeMs").toFixed(3), percent(sum(rest, "share"))]]),
    [out.dim(`${rows.length} in all`), out.dim(sum(rows, "timeMs").toFixed(3)), ""],
  ]);
}
