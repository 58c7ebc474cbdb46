// Where tiles that were measured on an adapter are kept for later runs. What they mean is the compiler's to check.
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";
import { compileError } from "../../ir/diagnostic.ts";
import { readBytes, startOf } from "./files.ts";
import type { NodeDevice } from "./webgpuDevice.ts";

/** What an adapter's measurements hold for: another driver is another adapter. */
export interface TunedAdapter {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** Of the driver, by its own words. */
  readonly description: string;
}

/** What tells an open adapter from others. */
export function tunedAdapter({ adapter: { name, vendor }, device: { adapterInfo } }: NodeDevice): TunedAdapter {
  const { architecture, description } = adapterInfo;
  return { name, vendor, architecture, description };
}

const shownLength = 40; // characters of an adapter's name in that of its file
const hashLength = 16; // hexadecimal digits

/** `$XDG_CACHE_HOME/tamis/tuning/NAME-HASH.json`, whatever characters the adapter's name has. */
export function tuningPath(adapter: TunedAdapter): string {
  const { name, vendor, architecture, description } = adapter;
  const identity = JSON.stringify([name, vendor, architecture, description]);
  const hash = createHash("sha256").update(identity).digest("hex").slice(0, hashLength);
  const shown = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, shownLength);
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return join(cache, "tamis", "tuning", `${shown}${shown === "" ? "" : "-"}${hash}.json`);
}

const mostBytes = 2 ** 22; // of a tuning file

/** The parsed JSON of a tuning file. Fails as `readBytes` does, and with `bad-tuning`. */
export async function readTuningFile(path: string): Promise<unknown> {
  const text = (await readBytes(path, mostBytes)).toString("utf8");
  try {
    return JSON.parse(text);
  } catch {
    throw compileError("bad-tuning", `${path} is not JSON`, { loc: startOf(path) });
  }
}
