// `tamis bench peers`: the same inputs through each framework on one adapter, results checked, then timed in turns.
//   npm ci --prefix bench
//   npx tamis bench peers [--only gemm,attention] [--peers ours,jax,tfjs,ort] [--rounds 15] [--budget 900]
//     [--markdown docs/results/webgpu.md] [--json]
// What a change did: git worktree add /tmp/base HEAD && ln -s $PWD/node_modules /tmp/base, then
//   npm run bench:peers -- --peers ours --base /tmp/base
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { print, printJson, say, table } from "../../src/cli/terminal.ts";
import { openWebGpu } from "../../src/runtime/node/webgpuDevice.ts";
import { selectCases } from "./cases.ts";
import { measureCase, type PeerName, peerNames, scriptOf, startWorker, type Worker } from "./measure.ts";
import { cellsOf, geometricMean, headOf, markdown, type Row, remarksOf, rowOf, type Setting } from "./report.ts";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    peers: { type: "string", default: peerNames.join() },
    rounds: { type: "string", default: "15" },
    base: { type: "string" },
    budget: { type: "string", default: "900" },
    markdown: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

const chosen = flags.peers.split(",").map((name) => {
  const known = peerNames.find((peer) => peer === name.trim());
  if (known === undefined) fail(`no peer ${name}; there are ${peerNames.join(", ")}`);
  return known as (typeof peerNames)[number];
});
const [rounds, budgetMs] = [flags.rounds, flags.budget].map(Number) as [number, number];
if (!(Number.isInteger(rounds) && rounds > 0 && budgetMs > 0)) fail("--rounds and --budget are positive numbers");
const selected = selectCases(flags.only);
if (selected.length === 0) fail(`--only ${flags.only} names no case`);

const { adapter, environment } = await adapterOfAll();
const workers: Worker[] = [];
const scripts: (readonly [PeerName, string])[] = chosen.map((name) => [name, scriptOf(name)]);
if (flags.base !== undefined) scripts.push(["base", join(resolve(flags.base), "bench/peers/ours.ts")]);
for (const [name, script] of scripts)
  try {
    workers.push(await startWorker(name, script, environment));
  } catch (error) {
    say(`${name} is left out: ${error instanceof Error ? error.message : String(error)}`);
  }
const rows: Row[] = [];
try {
  for (const wanted of selected) {
    const row = rowOf(await measureCase(wanted, workers, { rounds, budgetMs }));
    rows.push(row);
    if (!flags.json) say(cellsOf(row, namesOf(workers)).join("  "));
  }
} finally {
  await Promise.all(workers.map((worker) => worker.end()));
}

const setting: Setting = {
  command: ["npx tamis bench peers", ...process.argv.slice(2)].join(" "),
  adapter,
  machine: `${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown"}, Node ${process.version}`,
  commit: commitOf(dirname(fileURLToPath(import.meta.url))),
  date: new Date().toISOString().slice(0, 10),
  peers: workers.map(({ name, peer, version }) => ({ name, peer, version })),
  rounds,
};
if (flags.markdown !== undefined) writeBetweenMarkers(flags.markdown, markdown(setting, rows));
const mean = geometricMean(rows.map(({ speed }) => speed));
const meanOverBase = geometricMean(rows.map(({ overBase }) => overBase));
if (flags.json) printJson({ ...setting, rows, geometricMean: mean ?? null });
else {
  print(
    table(
      headOf(namesOf(workers)),
      rows.map((row) => cellsOf(row, namesOf(workers))),
    ),
  );
  if (mean !== undefined) print(`geometric mean of best peer / ours: ${mean.toFixed(2)}`);
  if (meanOverBase !== undefined) print(`geometric mean of base / ours: ${meanOverBase.toFixed(2)}`);
  for (const remark of remarksOf(rows)) print(remark);
  print(`${adapter}; ${setting.peers.map(({ peer, version }) => `${peer} ${version}`).join(", ")}`);
}

function namesOf(list: readonly Worker[]): readonly PeerName[] {
  return list.map(({ name }) => name);
}

/** The adapter that we would use, and what makes every other process find the same one. */
async function adapterOfAll(): Promise<{ adapter: string; environment: Readonly<Record<string, string>> }> {
  const opened = await openWebGpu();
  const { name, software } = opened.adapter;
  opened.close();
  const driver = process.env["VK_DRIVER_FILES"];
  const folder = driver === undefined ? undefined : dirname(driver);
  if (!software || folder === undefined || !existsSync(join(folder, "libvulkan.so.1")))
    return { adapter: name, environment: {} };
  return { adapter: name, environment: { LD_LIBRARY_PATH: folder } };
}

/** Of the sources that folder lies among. */
function commitOf(folder: string): string {
  const git = (...args: readonly string[]): string =>
    spawnSync("git", ["-C", folder, ...args], { encoding: "utf8" }).stdout?.trim() ?? "";
  const changed = git("status", "--porcelain", "--untracked-files=no", ":/src") !== "";
  return `${git("rev-parse", "--short", "HEAD") || "unknown"}${changed ? "+" : ""}`;
}

function writeBetweenMarkers(path: string, text: string): void {
  const [start, end] = ["<!-- bench peers -->", "<!-- end of bench peers -->"];
  const page = existsSync(path) ? readFileSync(path, "utf8") : `${start}\n${end}\n`;
  const [from, to] = [page.indexOf(start), page.indexOf(end)];
  if (from < 0 || to < from) fail(`${path} has no lines ${start} and ${end}`);
  writeFileSync(path, `${page.slice(0, from + start.length)}\n${text}${page.slice(to)}`);
}

function fail(message: string): never {
  say(message);
  process.exit(2);
}
