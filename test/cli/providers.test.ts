// ONNX Runtime's providers on the command line, each in a process of its own.
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { tolerance } from "../../src/conform/tolerance.ts";
import { type Ended, sharedFolder, tamis } from "./command.ts";

const path = sharedFolder(async (path) => {
  await writeFile(
    path("block.ir"),
    `graph @block(%x: f32[batch,40,8], %g: f32[8], %b: f32[8]) {
  %0 = layerNorm(%x, %g, %b) {epsilon=0.00001} : f32[batch,40,8]
  %1 = reshape(%0) {shape=["batch",40,2,4]} : f32[batch,40,2,4]
  %2 = transpose(%1) {perm=[0,2,1,3]} : f32[batch,2,40,4]
  %3 = attention(%2, %2, %2) {scale=0.5} : f32[batch,2,40,4]
  return y: %3
}
`,
  );
  await writeFile(path("rounded.ir"), "graph @rounded(%x: f32[4]) {\n  %0 = round(%x) : f32[4]\n  return y: %0\n}\n");
  await writeFile(
    path("pick.ir"),
    "graph @pick(%t: f32[3,2], %i: i32[2]) {\n  %0 = embedding(%t, %i) : f32[2,2]\n  return y: %0\n}\n",
  );
  await writeFile(path("i.json"), "[1, 7]");
});

const run = (...args: string[]): Promise<Ended> => tamis(path(), ["run", ...args]);
const inputs = ["x", "g", "b"].flatMap((name) => ["--input", `${name}=random:1`]);

interface Document {
  readonly adapter: string;
  readonly outputs: { readonly y: { readonly data: readonly number[] } };
}

test("--provider webgpu writes the model for it and gives what the CPU gives", async () => {
  const [there, here] = await Promise.all(
    ["webgpu", "cpu"].map(async (provider) => {
      const ended = await run("block.ir", "--provider", provider, ...inputs, "--bind", "batch=2", "--json");
      expect(ended.stderr).toBe("");
      return JSON.parse(ended.stdout) as Document;
    }),
  );
  expect(there?.adapter).toMatch(/^ONNX Runtime [\d.]+ webgpu$/);
  const differences = there?.outputs.y.data.map((value, i) => Math.abs(value - (here?.outputs.y.data[i] ?? Infinity)));
  expect(differences?.length).toBe(2 * 2 * 40 * 4);
  expect(Math.max(...(differences ?? [Infinity]))).toBeLessThan(tolerance("f32", { target: "onnx" }).error);
});

test("an operator that the provider lacks is an error at its line, and nothing runs on the CPU instead", async () => {
  const { status, stderr, stdout } = await run("rounded.ir", "--provider", "webgpu", "--input", "x=random:1");
  expect(status).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toMatch(
    /rounded\.ir:2:\d+ error\[unsupported-op\]: .* webgpu provider does not take Round \(round\/Round\)/,
  );
});

test("numbers that a kernel refuses are the user's to mend", async () => {
  const { status, stderr } = await run("pick.ir", "--input", "t=random:1", "--input", "i=i.json");
  expect(status).toBe(1);
  expect(stderr).toMatch(/^error\[onnx-run\]: ONNX Runtime cannot run Gather \(embedding\/Gather\): .*idx=7/);
});

test("a provider that is not there is told with how to get it", async () => {
  const { status, stderr } = await run("rounded.ir", "--provider", "cuda", "--input", "x=random:1");
  if (status === 0) return; // a machine with CUDA
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /^error\[provider-unavailable\]: ONNX Runtime has no cuda provider here: .*\n {2}help: .*CUDA/,
  );
});

test("devices reports what was tried on each provider", async () => {
  const { onnx } = JSON.parse((await tamis(path(), ["devices", "--json"])).stdout) as {
    readonly onnx: readonly { readonly name: string; readonly available: boolean; readonly reason?: string }[];
  };
  expect(onnx.find(({ name }) => name === "cpu")?.available).toBe(true);
  expect(onnx.find(({ name }) => name === "webgpu")).toMatchObject({
    available: true,
    reason: expect.stringMatching(/^ran a model on \S/),
  });
  for (const { available, reason } of onnx) if (!available) expect(reason).toMatch(/\w/);
});

test("compile says where files of a profile are tested", async () => {
  const compile = (profile: string) =>
    tamis(path(), ["compile", "rounded.ir", "--target", "onnx", "--profile", profile, "-o", `out-${profile}`]);
  expect((await compile("ort-cuda")).stderr).toMatch(/profile ort-cuda are tested on the cpu provider, not on cuda/);
  expect((await compile("ort-webgpu")).stderr).toBe("");
});
