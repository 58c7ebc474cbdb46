import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fashionVit } from "../examples/01-fashion-vit.ts";
import { allowedDifference, failuresOf } from "../examples/demo/judge.ts";
import { answer, expectedRight, type Outcome, readPictures } from "../examples/demo/shrink.ts";
import { compareTensors, tolerance } from "../src/conform/tolerance.ts";
import { emitWgsl, lower, mergeTokens, parametersOf, sourceName, type TensorData, type Value } from "../src/index.ts";
import {
  bindWeights,
  createOrtSession,
  createWebGpuSession,
  deviceProfile,
  loadWeights,
  openSafetensors,
  openWebGpu,
} from "../src/runtime/node/index.ts";

const run = promisify(execFile);
let out = "";
let stdout = "";

beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), "tamis-demo-"));
  ({ stdout } = await run("npm", ["run", "-s", "demo", "--", out]));
});
afterAll(() => rm(out, { recursive: true, force: true }));

/** Cells of the table, a row per degree. */
const rows = (): readonly (readonly string[])[] =>
  stdout
    .split("\n")
    .filter((line) => /^│ [02468] /.test(line))
    .map((line) => line.split("│").slice(1, -1));

test("the demo prints the counts of right answers that the authors' merge code gives", () => {
  expect(rows().map((cells) => Number(cells[4]))).toEqual([...expectedRight]);
});

test("the demo runs WebGPU beside it, says on how many pictures, and finds equal logits", () => {
  expect(stdout).toMatch(/^ {2}WebGPU, \S+/m);
  const asked = Number(/right of \d+ .* right of (\d+)/.exec(stdout)?.[1]);
  if (asked < 500) expect(stdout).toContain(`WebGPU ran ${asked} of the 500 pictures`);
  for (const cells of rows()) {
    expect(Number(cells[6])).toBeGreaterThan(10); // dispatches
    expect(Number(cells[7]) / asked).toBeGreaterThan(0.85);
    expect(Number(cells[9])).toBeLessThan(1e-4); // of logits up to 7
  }
});

const agreeing = { right: 453, msPerPicture: 1, count: 500, logits: new Float32Array() };
const outcome: Outcome = {
  r: 0,
  tokens: [50],
  macs: 1,
  irNodes: 1,
  onnx: { ...agreeing, nodes: 1 },
  webgpu: { ...agreeing, dispatches: 1 },
  difference: { absolute: 1e-6, relative: 1e-6 },
  groups: [],
  files: [],
};

test.each<[string, Partial<Outcome>, readonly RegExp[]]>([
  ["nothing to say where all is well", {}, []],
  [
    "targets that differ",
    { difference: { absolute: 1e-3, relative: 2e-4 } },
    [/^r = 0: the targets differ by 2\.0e-4/],
  ],
  [
    "logits that are no numbers",
    { difference: { absolute: NaN, relative: NaN } },
    [/^r = 0: the targets differ by NaN/],
  ],
  ["a wrong count", { onnx: { ...outcome.onnx, right: 452 } }, [/452 right answers, but the authors' code gives 453/]],
])("the demo's judge has %s", (_, change, wanted) => {
  const failures = failuresOf([{ ...outcome, ...change }]);
  expect(failures).toHaveLength(wanted.length);
  wanted.forEach((pattern, i) => expect(failures[i]).toMatch(pattern));
});

test("the demo allows twice what the table of tolerances allows one target", () => {
  expect(allowedDifference).toBe(2 * tolerance("f32", { target: "webgpu" }).error);
});

test("the demo names a label with its confidence for a dozen pictures", () => {
  expect(stdout.match(/^ {2}picture +\d+ .* \d+\.\d %/gm)).toHaveLength(12);
});

test("the demo writes an ONNX file and IR text for each degree, and one page that needs nothing else", async () => {
  const files = await readdir(out);
  expect(files.toSorted()).toEqual(
    [...[0, 2, 4, 6, 8].flatMap((r) => [`fashion-vit-r${r}.ir`, `fashion-vit-r${r}.onnx`]), "report.html"].toSorted(),
  );
  const page = await readFile(join(out, "report.html"), "utf8");
  expect(page).not.toMatch(/(src|href)="https?:/);
  expect(page).toContain('"right":449');
  expect(page).toContain("dispatches");
});

/** Normalised pictures and what the authors' code says about them: as many as asked for, or all that there are. */
async function expectation(r: number, most = Infinity): Promise<{ image: TensorData; wanted: TensorData }> {
  const expected = await openSafetensors("examples/data/fashion-vit-expected.safetensors");
  const all = (await expected.tensors.get(`out.logits_r${r}`)?.read()) as TensorData;
  await expected.close();
  const [known, classes] = all.shape as readonly [number, number];
  const count = Math.min(known, most);
  const pixels = (await readPictures()).pixels.subarray(0, count * 784);
  const values = Float32Array.from(pixels, (pixel) => (pixel / 255 - 0.286) / 0.353);
  return {
    image: { dtype: "f32", shape: [count, 1, 28, 28], values },
    wanted: { dtype: "f32", shape: [count, classes], values: all.values.subarray(0, count * classes) },
  };
}

test.each([0, 2, 4, 6, 8])("the demo's file for r = %i gives the logits of the authors' code", async (r) => {
  const { image, wanted } = await expectation(r);
  await using session = await createOrtSession(join(out, `fashion-vit-r${r}.onnx`));
  const { logits } = await session.run({ image });
  expect(compareTensors(logits as TensorData, wanted, tolerance("f32", { target: "onnx" })).message).toBe("");
  expect(answer(logits?.values as Float32Array, 0).label).toBeLessThan(10);
});

test("WebGPU merging 4 tokens a block gives the logits of the authors' code", async () => {
  const { image, wanted } = await expectation(4, 6);
  await using checkpoint = await loadWeights("examples/data/fashion-vit.safetensors");
  const { source, model } = lower(fashionVit, { passes: [mergeTokens({ r: 4 })] });
  const types = new Map(parametersOf(source).map((node) => [sourceName(node), (node.results[0] as Value).type]));
  const node = await openWebGpu();
  try {
    const program = emitWgsl(model, { device: deviceProfile(node) });
    await using session = await createWebGpuSession(program, bindWeights(types, checkpoint), node);
    const { logits } = await session.run({ image });
    expect(compareTensors(logits as TensorData, wanted, tolerance("f32", { target: "webgpu" })).message).toBe("");
  } finally {
    node.close();
  }
});
