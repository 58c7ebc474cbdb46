import { describe, expect, test } from "vitest";
import { sharedFolder, tamisHere, writeModels } from "./command.ts";

const path = sharedFolder(writeModels);

const run = (...args: readonly string[]) =>
  tamisHere(["run", path("mlp.ir"), "--weights", "random:1", "--input", "x=random:1", "--bind", "batch=3", ...args]);

describe("tamis run --profile-kernels", () => {
  test("prints a row for each kernel with its place in the model, its time and its share", async () => {
    const { status, stdout } = await run("--target", "webgpu", "--profile-kernels", "--repeat", "3");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^kernel +ms +share$/m);
    expect(stdout).toMatch(/^\w+ in fc1 +\d+\.\d{3} +100\.0 %$/m);
    expect(stdout).toMatch(/^1 in all +\d+\.\d{3}$/m);
  });

  test("puts the same into the document of --json", async () => {
    const { stdout } = await run("--target", "webgpu", "--profile-kernels", "--json");
    const { kernels } = JSON.parse(stdout) as { kernels: unknown };
    const fc1 = { label: expect.any(String), scope: "fc1", ops: expect.any(Array), share: 1 };
    expect(kernels).toEqual([{ ...fc1, timeMs: expect.any(Number) }]);
  });

  test("is refused where a target does not time its kernels", async () => {
    const { status, stderr } = await run("--target", "onnx", "--profile-kernels");
    expect(status).toBe(1);
    expect(stderr).toMatch(/not-available.*onnx target/);
  });
});
