import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const repository = fileURLToPath(new URL("../../../", import.meta.url));

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tamis-exit-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs a program against the sources in a process of its own, which is ended if it does not end by itself. */
async function ends(body: string, environment: Readonly<Record<string, string>> = {}) {
  const path = join(folder, "program.mts");
  await writeFile(
    path,
    `import { openWebGpu } from "${repository}src/runtime/node/webgpuDevice.ts";
import { createWebGpuSession, deviceProfile } from "${repository}src/runtime/node/webgpuSession.ts";
import { emitWgsl } from "${repository}src/backends/wgsl/index.ts";
import { parseGraph } from "${repository}src/ir/parse.ts";
import { tensorData } from "${repository}src/ir/type.ts";
${body}`,
  );
  return new Promise<{ readonly stdout: string; readonly killed: boolean; readonly status: unknown }>((resolve) => {
    execFile(
      process.execPath,
      ["--import", "tsx", path],
      { cwd: repository, timeout: 30_000, killSignal: "SIGKILL", env: { ...process.env, ...environment } },
      (error, stdout, stderr) =>
        resolve({
          stdout: error === null ? stdout : `${stdout}${stderr}`,
          killed: error?.killed === true,
          status: error?.code ?? 0,
        }),
    );
  });
}

const use = `
const opened = await openWebGpu();
const graph = parseGraph("graph @g(%x: f32[n]) { %0 = mul(%x, %x) : f32[n] return y: %0 }");
const program = emitWgsl({ graph, weights: new Map() }, { device: deviceProfile(opened) });`;

describe("a process", () => {
  test("ends by itself once a session that opened its own device is disposed of", async () => {
    const ended = await ends(`${use}
opened.close();
const session = await createWebGpuSession(program, new Map());
console.log((await session.run({ x: tensorData("f32", [2], [3, 4]) })).y.values.join());
await session.dispose();`);
    expect(ended).toEqual({ stdout: "9,16\n", killed: false, status: 0 });
  });

  test("ends after a loss, and with tensors that nobody disposed of", async () => {
    const ended = await ends(`${use}
const session = await createWebGpuSession(program, new Map(), opened);
const x = tensorData("f32", [2], [3, 4]);
await session.run({ x }, { keep: true });
opened.device.destroy();
const { y } = await session.run({ x }, { keep: ["y"] });
console.log((await y.read()).values.join());
opened.close();`);
    expect(ended).toEqual({ stdout: "9,16\n", killed: false, status: 0 });
  });

  test("does not hang where the cache folder can never be made", async () => {
    const ended = await ends(
      `console.log(await openWebGpu().then((opened) => (opened.close(), "opened"), (error) => error.code));`,
      { XDG_CACHE_HOME: "/proc/tamis/nowhere" },
    );
    expect(ended.killed).toBe(false);
    expect(ended.stdout).toMatch(/^(opened|no-adapter)\n$/);
  });
});
