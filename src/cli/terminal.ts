import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Presets, SingleBar } from "cli-progress";
import Table from "cli-table3";
import pc from "picocolors";
import { type Diagnostic, formatDiagnostic } from "../index.ts";
import { sourceRoot } from "./sourceRoot.ts";

const coloured = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";

/** Colours of standard output and of standard error; none without a terminal. */
export const out = pc.createColors(coloured(process.stdout));
export const err = pc.createColors(coloured(process.stderr));

export const print = (text: string): void => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
export const say = (text: string): void => void process.stderr.write(text.endsWith("\n") ? text : `${text}\n`);

/** The one document of `--json`. */
export const printJson = (value: unknown): void => print(JSON.stringify(value, jsonNumber, 2));

/** JSON has no NaN, no infinities and no 64-bit integers. */
function jsonNumber(_key: string, value: unknown): unknown {
  if (typeof value === "bigint")
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

const sourceFile = /\.(?:[cm]?[jt]s|ir)$/; // what a code frame can be shown of; weights and pictures are not text

/** Source text for code frames. */
export function readSource(file: string): string | undefined {
  if (!sourceFile.test(file)) return undefined;
  try {
    const folders = file.endsWith(".ir") ? [process.cwd(), sourceRoot()] : [sourceRoot(), process.cwd()];
    const path = folders.map((folder) => resolve(folder, file)).find(existsSync);
    return path === undefined ? undefined : readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

export function formatForTerminal(d: Diagnostic): string {
  const [head = "", ...rest] = formatDiagnostic(d, readSource).split("\n");
  const colour = d.severity === "error" ? err.red : d.severity === "warning" ? err.yellow : err.cyan;
  const tag = `${d.severity}[${d.code}]`;
  const at = head.indexOf(tag);
  const titled = `${head.slice(0, at)}${err.bold(colour(tag))}${err.bold(head.slice(at + tag.length))}`;
  const body = rest.map((line) =>
    /^ +\| +\^/.test(line) ? colour(line) : line.replace(/^( {2}(?:note|help):)/, (label) => err.bold(label)),
  );
  return [titled, ...body].join("\n");
}

const noLines = Object.fromEntries(
  ["top", "bottom", "left", "right", "mid"]
    .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .map((name) => [name, ""]),
);

/** A table without lines; the first column is text, the others numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = new Table({
    head: [...head],
    chars: { ...noLines, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colAligns: head.map((_, i) => (i === 0 ? "left" : "right")),
  });
  lines.push(...rows.map((row) => [...row]));
  return lines
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

const quietMs = 1000; // a step that ends within this shows no bar

export interface Progress {
  advance(by?: number): void;
  stop(): void;
}

/** A bar on standard error once a step has taken a second, a number where the end is not known; nothing without a terminal. */
export function progress(title: string, total: number | undefined): Progress {
  if (process.stderr.isTTY !== true || (total !== undefined && total <= 0))
    return { advance: () => undefined, stop: () => undefined };
  const start = performance.now();
  let done = 0;
  let bar: SingleBar | undefined;
  return {
    advance(by = 1) {
      done += by;
      if (bar === undefined && performance.now() - start > quietMs) {
        const format = total === undefined ? `${title} {value}` : `${title} {bar} {percentage}% | {eta_formatted}`;
        bar = new SingleBar({ format, clearOnComplete: true, hideCursor: true, fps: 4 }, Presets.shades_classic);
        bar.start(total ?? 0, done);
      }
      bar?.update(Math.min(done, total ?? done)); // draws by itself, even where no timer gets its turn
    },
    stop: () => bar?.stop(),
  };
}

/** `22,050,664`; a polynomial in symbols stays as it is. */
export const count = (x: number | string): string => (typeof x === "number" ? x.toLocaleString("en-US") : x);

/** `4.61 G`, for sizes where the order matters. */
export function scaled(x: number | string, unit = ""): string {
  if (typeof x !== "number") return `${x}${unit === "" ? "" : ` ${unit}`}`;
  const [, prefix, size] = (
    [
      [1e12, "T"],
      [1e9, "G"],
      [1e6, "M"],
      [1e3, "k"],
    ] as const
  ).flatMap(([size, prefix]) => (Math.abs(x) >= size ? [[0, prefix, size] as const] : []))[0] ?? [0, "", 1];
  const digits = size === 1 ? String(x) : (x / size).toPrecision(3);
  return `${digits} ${prefix}${unit}`.trimEnd();
}
