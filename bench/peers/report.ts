// Results as a table for people and as the figures behind it.
import { type Case, macsOf } from "./cases.ts";
import { type CaseResult, median, type Outcome, type PeerName, type Worker } from "./measure.ts";

export interface Row {
  readonly case: Case;
  readonly outcomes: Readonly<Partial<Record<PeerName, Outcome>>>;
  /** The quickest of the others, where one was measured. */
  readonly best: PeerName | undefined;
  /** Its time over ours, the median over rounds; above 1 we are quicker. */
  readonly speed: number | undefined;
  /** The same for another checkout of ours. */
  readonly overBase: number | undefined;
  /** Of ours; 10^9 multiplications and additions a second. */
  readonly gigaflops: number | undefined;
}

export function rowOf({ case: measured, outcomes }: CaseResult): Row {
  const ours = outcomes.get("ours");
  const others = [...outcomes].flatMap(([name, outcome]) =>
    name !== "ours" && name !== "base" && outcome.status === "measured" ? [{ name, ...outcome }] : [],
  );
  const best = others.toSorted((a, b) => a.medianMs - b.medianMs)[0];
  const right = ours?.status === "measured" ? ours : undefined;
  const base = outcomes.get("base");
  const macs = macsOf(measured.task);
  return {
    case: measured,
    outcomes: Object.fromEntries(outcomes),
    best: best?.name,
    // Rounds are taken side by side, so that load that comes and goes cancels in each ratio.
    speed: best && right && speedOf(best.rounds, right.rounds),
    overBase: base?.status === "measured" && right ? speedOf(base.rounds, right.rounds) : undefined,
    gigaflops: right && macs > 0 ? (2 * macs) / right.medianMs / 1e6 : undefined,
  };
}

/** A slow peer leaves after its first rounds. */
const speedOf = (peer: readonly number[], ours: readonly number[]): number =>
  median(peer.flatMap((ms, round) => (ours[round] === undefined ? [] : [ms / ours[round]])));

/** Of the ratios that there are. */
export function geometricMean(speeds: readonly (number | undefined)[]): number | undefined {
  const logarithms = speeds.flatMap((speed) => (speed === undefined ? [] : [Math.log(speed)]));
  return logarithms.length === 0 ? undefined : Math.exp(logarithms.reduce((sum, x) => sum + x, 0) / logarithms.length);
}

/** A time, or a mark where there is none. */
function cell(outcome: Outcome | undefined): string {
  if (outcome === undefined) return "";
  return outcome.status === "measured" ? digits(outcome.medianMs) : outcome.status;
}

const digits = (x: number): string => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));

export const headOf = (peers: readonly PeerName[]): readonly string[] => [
  "case",
  ...peers.map((peer) => `${peer} ms`),
  "best peer / ours",
  "GFLOP/s",
  ...(peers.includes("base") ? ["base / ours"] : []),
];

/** Cells under `headOf`, times as medians. */
export function cellsOf(row: Row, peers: readonly PeerName[]): readonly string[] {
  const { case: measured, outcomes, best, speed, gigaflops, overBase } = row;
  return [
    measured.name,
    ...peers.map((peer) => cell(outcomes[peer])),
    speed === undefined ? "" : `${speed.toFixed(2)} ${best}`,
    gigaflops === undefined ? "" : gigaflops.toFixed(2),
    ...(peers.includes("base") ? [overBase === undefined ? "" : overBase.toFixed(2)] : []),
  ];
}

/** Forms that gave no time, a line for each with its cases and the first one's reason. */
export function remarksOf(rows: readonly Row[]): readonly string[] {
  const remarks = new Map<string, { readonly cases: string[]; readonly reason: string }>();
  for (const { case: measured, outcomes } of rows)
    for (const [peer, { tried }] of Object.entries(outcomes))
      for (const { form, status, reason } of tried) {
        if (reason === undefined) continue;
        const key = `${peer} (${form}) ${status}`;
        const known = remarks.get(key) ?? { cases: [], reason: firstLine(reason) };
        known.cases.push(measured.name);
        remarks.set(key, known);
      }
  return [...remarks].map(([key, { cases, reason }]) => `${key}: ${cases.join(", ")}: ${reason}`);
}

const firstLine = (text: string): string => text.split("\n")[0]?.slice(0, 240) ?? "";

export interface Setting {
  readonly command: string;
  readonly adapter: string;
  readonly machine: string;
  readonly date: string;
  /** Of the checkout; with a plus where files differ from it. */
  readonly commit: string;
  readonly peers: readonly Pick<Worker, "name" | "peer" | "version">[];
  readonly rounds: number;
}

/** Licences of what is measured. */
export const licences: Readonly<Record<PeerName, string>> = {
  ours: "Apache-2.0",
  base: "Apache-2.0",
  jax: "MIT",
  tfjs: "Apache-2.0",
  ort: "MIT",
};

/** The page docs/results/webgpu.md between its markers. */
export function markdown(setting: Setting, rows: readonly Row[]): string {
  const peers = setting.peers.map(({ name }) => name);
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const mean = geometricMean(rows.map(({ speed }) => speed));
  const lost = rows.filter(({ speed }) => speed !== undefined && speed < 1);
  return [
    `\`${setting.command}\`, ${setting.date}, commit ${setting.commit}, ${setting.machine}; adapter ${setting.adapter}; medians of ${setting.rounds} rounds in turns.`,
    "",
    ...setting.peers.map(({ name, peer, version }) => `- ${name}: ${peer} ${version} (${licences[name]})`),
    "",
    line(headOf(peers)),
    line(headOf(peers).map((_, i) => (i === 0 ? "---" : "---:"))),
    ...rows.map((row) => line(cellsOf(row, peers))),
    "",
    ...(mean === undefined
      ? []
      : [
          `Geometric mean of best peer / ours: ${mean.toFixed(2)} over ${rows.filter(({ speed }) => speed !== undefined).length} cases.`,
        ]),
    lost.length === 0
      ? "No case is lost."
      : `Lost: ${lost.map(({ case: { name }, speed }) => `${name} (${speed?.toFixed(2)})`).join(", ")}.`,
    ...remarksOf(rows).map((remark) => `- ${remark}`),
    "",
  ].join("\n");
}
