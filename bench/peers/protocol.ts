// What parent and worker say to each other: a JSON document a line, on the worker's standard input and output.
import { createInterface } from "node:readline";
import { type Case, cases } from "./cases.ts";
import { type Operands, operandsOf } from "./operands.ts";

export type Request =
  /** Builds a case in one of the forms that the framework offers for it, runs it once and gives its results. */
  | { readonly ask: "prepare"; readonly name: string; readonly form: string }
  /** Runs the case that was prepared last this often. */
  | { readonly ask: "run"; readonly times: number }
  /** Ends the worker. */
  | { readonly ask: "end" };

export interface Introduction {
  readonly peer: string;
  readonly version: string;
  /** What the framework calls the device that it computes on, as far as it says. */
  readonly adapter: string;
  /** Ways in which it may compute a case, the one that should be quickest first. */
  readonly forms: readonly string[];
}
export interface Results {
  /** Elements of each output, f32 little end first, in base64; indices as their numbers. */
  readonly outputs: readonly string[];
}
export interface Times {
  /** Milliseconds of each run, from the call to the device being done. */
  readonly times: readonly number[];
}
export interface Failure {
  readonly error: string;
}
export type Reply = Introduction | Results | Times | Failure;

/** A case ready to run: everything compiled, operands on the device wherever the framework can keep them there. */
export interface Prepared {
  /** Once; resolves when the device is done. Results stay on the device, or one element is read. */
  run(): Promise<void>;
  /** Results of one more run, in the reference's order. */
  outputs(): Promise<readonly ArrayLike<number>[]>;
  release(): Promise<void>;
}

/** A framework in a worker. */
export interface Peer extends Introduction {
  /** Throws with a reason where the framework cannot compute the case. */
  prepare(wanted: Case, operands: Operands, form: string): Promise<Prepared>;
  close(): Promise<void>;
}

const warmUps = 2; // besides the run whose results are judged
const warmAfterMs = 500; // of warming

/** Answers requests on standard input until the end. Everything that the framework prints goes to standard error. */
export async function serve(open: () => Promise<Peer>): Promise<void> {
  console.log = console.info = console.warn = console.error;
  const say = (reply: Reply): void => void process.stdout.write(`${JSON.stringify(reply)}\n`);
  let peer: Peer;
  try {
    peer = await open();
  } catch (error) {
    return say({ error: reasonOf(error) });
  }
  const { version, adapter, forms } = peer;
  say({ peer: peer.peer, version, adapter, forms });
  let prepared: Prepared | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    if (request.ask === "end") break;
    try {
      if (request.ask === "prepare") {
        await prepared?.release();
        prepared = undefined;
        const wanted = cases.find(({ name }) => name === request.name);
        if (wanted === undefined) throw new Error(`no case ${request.name}`);
        prepared = await peer.prepare(wanted, await operandsOf(wanted), request.form);
        const outputs = await prepared.outputs();
        const start = performance.now();
        for (let i = 0; i < warmUps && performance.now() - start < warmAfterMs; i++) await prepared.run();
        say({ outputs: outputs.map((values) => Buffer.from(Float32Array.from(values).buffer).toString("base64")) });
      } else say({ times: await timesOf(prepared, request.times) });
    } catch (error) {
      say({ error: reasonOf(error) });
    }
  }
  await prepared?.release();
  await peer.close();
}

async function timesOf(prepared: Prepared | undefined, count: number): Promise<readonly number[]> {
  if (prepared === undefined) throw new Error("nothing is prepared");
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await prepared.run();
    times.push(performance.now() - start);
  }
  return times;
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).trim();

/** Elements that a worker sent. */
export const decodeOutput = (base64: string): Float32Array => {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return new Float32Array(bytes.buffer);
};
