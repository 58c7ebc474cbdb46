// Workers as child processes, and rounds over them: one computes at a time, in turns, so that other load meets all.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { type Case, termsOf } from "./cases.ts";
import { operandsOf } from "./operands.ts";
import {
  decodeOutput,
  type Failure,
  type Introduction,
  type Reply,
  type Request,
  type Results,
  type Times,
} from "./protocol.ts";
import { referenceOf } from "./reference.ts";

export const peerNames = ["ours", "jax", "tfjs", "ort"] as const;
/** `base` is another checkout of ours, to see what a change did. */
export type PeerName = (typeof peerNames)[number] | "base";

export interface Worker extends Introduction {
  readonly name: PeerName;
  ask(request: Request): Promise<Reply>;
  end(): Promise<void>;
}

/** The script of a peer's worker in this checkout. */
export const scriptOf = (name: (typeof peerNames)[number]): string =>
  fileURLToPath(new URL(`./${name}.ts`, import.meta.url));

/** Starts a worker; fails with its reason where it cannot open a device or its package. */
export async function startWorker(
  name: PeerName,
  script: string,
  environment: Readonly<Record<string, string>>,
): Promise<Worker> {
  const child = spawn(process.execPath, ["--import", "tsx", script], {
    env: { ...process.env, ...environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const said: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => void said.push(text));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Reply> => {
    const { value, done } = await lines.next();
    if (done) return { error: `its process ended: ${lastWords(said.join(""))}` };
    return JSON.parse(value) as Reply;
  };
  const introduction = await next();
  if (!("peer" in introduction)) {
    child.kill();
    throw new Error("error" in introduction ? introduction.error : "it did not introduce itself");
  }
  return {
    ...introduction,
    name,
    ask(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return next();
    },
    end: () => ended(child),
  };
}

/** The line that names an error, or the last one. */
function lastWords(text: string): string {
  const lines = text.trim().split("\n");
  return lines.findLast((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1) ?? "";
}

const patienceMs = 3000; // for a process that was asked to end

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise<void>((resolve) => void child.once("exit", () => resolve()));
  child.stdin?.end(`${JSON.stringify({ ask: "end" } satisfies Request)}\n`);
  const impatience = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await gone;
  clearTimeout(impatience);
}

/** One form that a peer was asked for. */
export interface Trial {
  readonly form: string;
  readonly status: Outcome["status"];
  /** Absent where it was measured. */
  readonly reason: string | undefined;
}

/** What became of one peer in one case. */
export type Outcome = {
  /** Forms in the order asked for; the last one was measured. */
  readonly tried: readonly Trial[];
} & (
  | {
      readonly status: "measured";
      readonly medianMs: number;
      readonly leastMs: number;
      /** Median of each round. */
      readonly rounds: readonly number[];
    }
  /** Wrong: computed, but not the reference's result. Refused: cannot compute the case. */
  | { readonly status: "wrong" | "refused"; readonly reason: string }
);

export interface CaseResult {
  readonly case: Case;
  readonly outcomes: ReadonlyMap<PeerName, Outcome>;
}

export interface Effort {
  readonly rounds: number;
  /** Time of one peer in one case, over all rounds. */
  readonly budgetMs: number;
}

/** Checks every worker's results against the reference, then times those that are right, in turns. */
export async function measureCase(wanted: Case, workers: readonly Worker[], effort: Effort): Promise<CaseResult> {
  const reference = await referenceOf(wanted.task, await operandsOf(wanted));
  const outcomes = new Map<PeerName, Outcome>();
  const able: Contestant[] = [];
  for (const worker of workers) {
    const tried: Trial[] = [];
    for (const form of worker.forms) {
      const reply = (await worker.ask({ ask: "prepare", name: wanted.name, form })) as Results | Failure;
      const failed = "error" in reply;
      const reason = failed ? reply.error : faultOf(wanted, reply, reference);
      tried.push({ form, status: reason === undefined ? "measured" : failed ? "refused" : "wrong", reason });
      if (reason === undefined) break;
    }
    const last = tried.at(-1);
    if (last?.status !== "measured") {
      const { status, reason = "" } = tried.find((trial) => trial.status === "wrong") ?? tried[0] ?? nothing;
      outcomes.set(worker.name, { status: status === "wrong" ? "wrong" : "refused", reason, tried });
      continue;
    }
    const [first = 1] = await timesOf(worker, 1);
    able.push({ worker, tried, ...shareOf(first, effort), rounds: [], all: [] });
  }
  for (let round = 0; round < effort.rounds; round++)
    for (const { worker, times, turns, rounds, all } of able) {
      if (round >= turns) continue;
      const taken = await timesOf(worker, times);
      rounds.push(median(taken));
      all.push(...taken);
    }
  for (const { worker, tried, rounds, all } of able)
    outcomes.set(worker.name, {
      status: "measured",
      medianMs: median(rounds),
      leastMs: Math.min(...all),
      rounds,
      tried,
    });
  return { case: wanted, outcomes: new Map(workers.map(({ name }) => [name, outcomes.get(name) as Outcome])) };
}

const nothing: Trial = { form: "", status: "refused", reason: "it has no form for this case" };

interface Contestant {
  readonly worker: Worker;
  readonly tried: readonly Trial[];
  /** Runs of one round. */
  readonly times: number;
  /** Rounds that it takes part in, from the first on. */
  readonly turns: number;
  /** Median of each round, and every run. */
  readonly rounds: number[];
  readonly all: number[];
}

const mostTimes = 1000;
const fewestTurns = 5;

/** How a budget is spent by a peer whose run takes this long. */
export function shareOf(
  runMs: number,
  { rounds, budgetMs }: Effort,
): { readonly times: number; readonly turns: number } {
  const runs = budgetMs / Math.max(runMs, 0.001);
  return {
    times: Math.min(mostTimes, Math.max(1, Math.round(runs / rounds))),
    turns: Math.min(rounds, Math.max(fewestTurns, Math.ceil(runs))),
  };
}

async function timesOf(worker: Worker, times: number): Promise<readonly number[]> {
  const reply = (await worker.ask({ ask: "run", times })) as Times | Failure;
  if ("error" in reply) throw new Error(`${worker.name} stopped: ${reply.error}`);
  return reply.times;
}

/** Why results are not the reference's; undefined where they are. */
function faultOf(wanted: Case, { outputs }: Results, reference: readonly Float64Array[]): string | undefined {
  if (outputs.length !== reference.length) return `${outputs.length} results, wanted ${reference.length}`;
  const allowed = tolerance("f32", { target: "webgpu", terms: termsOf(wanted.task) });
  for (const [i, output] of outputs.entries()) {
    const values = decodeOutput(output);
    const expected = reference[i] as Float64Array;
    const shape = [expected.length];
    const { ok, message } = compareTensors(
      { dtype: "f32", shape: [values.length], values },
      { dtype: "f32", shape, values: expected },
      allowed,
    );
    if (!ok) return `result ${i}: ${message}`;
  }
  return undefined;
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
};
