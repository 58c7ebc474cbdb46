import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compileError } from "../index.ts";
import type { ExitCode } from "./failure.ts";

export interface PeersOptions {
  /** Families or parts of names of cases, separated by commas. */
  readonly only?: string;
  /** Of ours, jax, tfjs and ort, separated by commas. */
  readonly peers?: string;
  readonly rounds?: string;
  /** Another checkout of ours. */
  readonly base?: string;
  /** Milliseconds of one peer in one case. */
  readonly budget?: string;
  /** A page whose marked part is written anew. */
  readonly markdown?: string;
  readonly json?: boolean;
}

const benchFolder = fileURLToPath(new URL("../../bench/", import.meta.url));

/**
 * `tamis bench peers`: other frameworks on the same adapter. They are installed apart from us, in bench/ of the
 * checkout. Fails with `not-available` without a checkout and with `missing-dependency` without them.
 */
export async function benchPeers(options: PeersOptions, bench = benchFolder): Promise<ExitCode> {
  const script = `${bench}peers/main.ts`;
  if (!existsSync(script))
    throw compileError("not-available", "bench peers runs in a checkout of tamis, this is an installed package");
  const installed = existsSync(`${bench}node_modules/@jax-js/jax`);
  const wanted = (options.peers ?? "jax").split(",").some((peer) => /^ *(jax|tfjs) *$/.test(peer));
  if (wanted && !installed)
    throw compileError("missing-dependency", "jax-js and TensorFlow.js are not installed", {
      help: "npm ci --prefix bench",
    });
  const { only, peers, rounds, base, budget, markdown, json } = options;
  const flags = Object.entries({ only, peers, rounds, base, budget, markdown }).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, value],
  );
  const child = spawn(process.execPath, ["--import", "tsx", script, ...flags, ...(json === true ? ["--json"] : [])], {
    stdio: "inherit",
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code === 0 || code === 1 || code === 2 ? code : 3));
  });
}
