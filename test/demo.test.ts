import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { answer, expectedRight, readPictures } from "../examples/demo/shrink.ts";
import { compareTensors, tolerance } from "../src/conform/tolerance.ts";
import type { TensorData } from "../src/ir/type.ts";
import { createOrtSession } from "../src/runtime/node/ort.ts";
import { openSafetensors } from "../src/runtime/node/safetensors.ts";

const run = promisify(execFile);
let out = "";
let stdout = "";

beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), "tamis-demo-"));
  ({ stdout } = await run("npm", ["run", "-s", "demo", "--", out]));
});
afterAll(() => rm(out, { recursive: true, force: true }));

test("the demo prints the counts of right answers that the authors' merge code gives", () => {
  const right = stdout
    .split("\n")
    .filter((line) => /^│ [02468] /.test(line))
    .map((line) => Number(line.split("│")[6]));
  expect(right).toEqual([...expectedRight]);
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
});

test.each([0, 2, 4, 6, 8])("the demo's file for r = %i gives the logits of the authors' code", async (r) => {
  const expected = await openSafetensors("examples/data/fashion-vit-expected.safetensors");
  const wanted = (await expected.tensors.get(`out.logits_r${r}`)?.read()) as TensorData;
  await expected.close();
  const pictures = await readPictures();
  const [count, classes] = wanted.shape as readonly [number, number];
  const values = Float32Array.from(pictures.pixels.subarray(0, count * 784), (pixel) => (pixel / 255 - 0.286) / 0.353);
  await using session = await createOrtSession(join(out, `fashion-vit-r${r}.onnx`));
  const { logits } = await session.run({ image: { dtype: "f32", shape: [count, 1, 28, 28], values } });
  expect(compareTensors(logits as TensorData, wanted, tolerance("f32", { target: "onnx" })).message).toBe("");
  expect(answer(logits?.values as Float32Array, 0).label).toBeLessThan(classes);
});
