// `tamis eval`: in a process of its own where a .ts file is loaded or a signal is sent, else in this one.
import { spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { tensorData } from "../../src/index.ts";
import { writeSafetensors } from "../../src/runtime/node/index.ts";
import { writePicture } from "../runtime/dataset/corner.ts";
import { type Ended, sharedFolder, tamis, tamisHere } from "./command.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const fashionVit = `${repository}examples/01-fashion-vit.ts`;
const fashionTest = `${repository}examples/data/fashion-test-500.safetensors`;

const corner = `import { defineModel, input, reshape } from "tamis";
export const corner = defineModel({
  name: "corner",
  pictures: { image: { mean: [0], std: [1] } },
  labels: ["top left", "top right", "bottom left", "bottom right"],
  build: () => ({ logits: reshape(input("image", "f32", ["batch", 1, 2, 2]), ["batch", 4]) }),
});
`;
const cornerIr = `graph @corner(%image: f32[batch,1,2,2]) {
  %0 = reshape(%image) {shape=["batch",4]} : f32[batch,4]
  return logits: %0
}
`;
const meanIr = `graph @mean(%image: f32[batch,1,2,2]) {
  %0 = reduceMean(%image) {axes=[1,2,3]} : f32[batch]
  return mean: %0
}
`;
const scaledIr = `graph @scaled(%image: f32[batch,1,2,2]) {
  %w = parameter() : f32[4,4]
  %0 = reshape(%image) {shape=["batch",4]} : f32[batch,4]
  %1 = matmul(%0, %w) : f32[batch,4]
  return logits: %1
}
`;
const examples = `export const count = 5;
console.log("an examples file may print");
export default async function* () {
  for (let i = 0; i < count; i++) {
    const corner = i % 4;
    const image = corner === 3 ? "pictures/bottom left/a.png" : [0, 1, 2, 3].map((at) => Number(at === corner));
    yield { inputs: { image: typeof image === "string" ? image : Float32Array.from(image) }, label: i === 4 ? "top left" : corner };
  }
}
export const nested = [{ inputs: { image: [[[0, 0], [9, 0]]] }, label: 2 }];
export function* endless() {
  for (;;) yield { inputs: { image: Float32Array.of(0, 1, 0, 0) }, label: 1 };
}
`;

const wrongExamples = `export const none = 7;
export const label = [{ inputs: {}, label: "middle" }];
export function* throws() {
  yield { inputs: { image: new Float32Array(4) }, label: 0 };
  throw new RangeError("the source ran dry");
}
`;

const path = sharedFolder(async (path) => {
  await writeFile(path("corner.ts"), corner);
  await writeFile(path("corner.ir"), cornerIr);
  await writeFile(path("mean.ir"), meanIr);
  await writeFile(path("scaled.ir"), scaledIr);
  await writeFile(path("examples.ts"), examples);
  await writeFile(path("wrong.mjs"), wrongExamples);
  for (const [at, name] of ["top left", "top right", "bottom left", "bottom right"].entries()) {
    await mkdir(path(`pictures/${name}`), { recursive: true });
    await writePicture(path(`pictures/${name}/a.png`), at);
  }
  await writePicture(path("pictures/top left/b.png"), 3);
  await writeSafetensors(path("examples.safetensors"), [
    { name: "image", source: tensorData("f32", [3, 1, 2, 2], [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0]) },
    { name: "labels", source: tensorData("i64", [3], [2, 1, 1]) },
  ]);
  for (const [model, target, folder] of [
    ["corner.ts", "onnx", "onnx"],
    ["corner.ts", "webgpu", "webgpu"],
    [fashionVit, "onnx", "vit"],
  ] as const)
    expect((await tamis(path(""), ["compile", model, "--target", target, "-o", folder])).status).toBe(0);
});

interface Document {
  readonly target: string;
  readonly count: number;
  readonly right: number;
  readonly accuracy: number;
  readonly interval: readonly [number, number];
  readonly batch: number;
  readonly confusion: readonly (readonly number[])[];
  readonly interrupted: boolean;
}

describe("the trained ViT on the first pictures of Fashion-MNIST", () => {
  const on = async (...args: readonly string[]): Promise<Document> => {
    const ended = await tamisHere(["eval", path("vit"), "--data", fashionTest, "--json", ...args]);
    expect([ended.status, ended.stderr]).toEqual([0, ""]);
    return JSON.parse(ended.stdout) as Document;
  };
  // 453 of all 500 are right, and 455 with r = 4: examples/demo/shrink.ts, from the authors' code in float64.
  test("is right as often as the authors' code says", async () => {
    const { right, count, accuracy, interval, confusion } = await on();
    expect([right, count, accuracy]).toEqual([453, 500, 453 / 500]);
    expect(interval[0]).toBeLessThan(accuracy);
    expect(interval[1]).toBeGreaterThan(accuracy);
    expect(confusion.flat().reduce((a, b) => a + b)).toBe(500);
    expect(confusion.reduce((sum, row, i) => sum + (row[i] ?? 0), 0)).toBe(453);
  });
  test("and with tokens merged, as README.md shows it", async () => {
    const args = ["eval", path("vit"), "--data", fashionTest, "--pass", "mergeTokens:r=4"];
    const { stdout } = await tamisHere(args);
    const shown = /^accuracy .*455 of 500.*$/m.exec(await readFile(`${repository}README.md`, "utf8"))?.[0];
    expect(stdout).toContain(`\n${shown}\n`);
  });
  test("answers alike on every target", async () => {
    const few = ["--limit", "10", "--batch", "4"];
    const onnx = await on(...few);
    expect([onnx.count, onnx.batch]).toEqual([10, 4]);
    for (const target of ["webgpu", "reference"]) {
      const other = await on(...few, "--target", target);
      expect(other.target).toBe(target);
      expect(other.confusion).toEqual(onnx.confusion);
    }
  });
});

describe.concurrent("what is evaluated", () => {
  const run = (...args: string[]): Promise<Ended> => tamis(path(), ["eval", ...args]);
  test("a folder of pictures, in words", async () => {
    const { stdout, status, stderr } = await run("corner.ts", "--data", "pictures", "--target", "reference");
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("accuracy  80.0 %  (4 of 5; 95 % interval 37.6 % to 96.4 %)");
    expect(stdout).toMatch(/^0 top left +2 +1 +50\.0 % +100\.0 %$/m);
    expect(stdout).toMatch(/^is, and was taken for +0 +1 +2 +3\n0 top left +1 +· +· +1\n/m);
  });
  test("a module's examples: typed arrays, nested numbers, paths of pictures", async () => {
    const { stdout, stderr } = await run("corner.ts", "--data", "examples.ts", "--json");
    expect(stderr).toContain("an examples file may print"); // where it does not stand in the document
    const { right, count } = JSON.parse(stdout) as Document;
    expect([right, count]).toEqual([4, 5]);
    expect(
      (JSON.parse((await run("corner.ir", "--data", "examples.ts#nested", "--json")).stdout) as Document).right,
    ).toBe(1);
  });
});

test.each(["onnx", "webgpu"])("an artefact for %s is evaluated as it was written", async (target) => {
  const { stdout, stderr } = await tamisHere(["eval", path(target), "--data", path("pictures"), "--json"]);
  const { right, target: ran } = JSON.parse(stdout) as Document;
  expect([right, ran, stderr]).toEqual([4, target, ""]);
});

test("an .ir file takes tensors, in batches of the size that it has", async () => {
  const data = ["--data", path("examples.safetensors"), "--json"];
  const { stdout } = await tamisHere(["eval", path("corner.ir"), ...data, "--pass", "bindSymbols:batch=2"]);
  const { right, count, batch } = JSON.parse(stdout) as Document;
  expect([right, count, batch]).toEqual([2, 3, 2]);
});

describe("mistakes", () => {
  test.each<[args: readonly string[], ...says: string[]]>([
    [["onnx", "--data", "pictres"], "error[file-not-found]: there is no data set", "did you mean pictures?"],
    [["onnx", "--data", "pictures", "--limit", "0"], "error[bad-option]: --limit wants a whole number from 1 on"],
    [["onnx", "--data", "pictures", "--provider", "cpux"], "error[bad-option]", "did you mean cpu?"],
    [["onnx", "--data", "wrong.mjs#none"], "error[data-format]", "wrong.mjs exports no examples as none"],
    [["onnx", "--data", "wrong.mjs#label"], "error[data-label]: the label of example 0 of", 'is "middle"'],
    [
      ["onnx", "--data", "wrong.mjs#throws", "--batch", "1"],
      "wrong.mjs:5:9 error[model-error]: throws of ",
      "fails: the source ran dry",
    ],
    [["corner.ir", "--data", "pictures"], "error[bad-input]: input image (f32[batch,1,2,2]) takes no pictures"],
    [["mean.ir", "--data", "examples.safetensors"], "error[no-classes]: the model has 0 outputs"],
    [["scaled.ir", "--data", "examples.safetensors"], "error[missing-weights]"],
  ])("%j", async ([model, option, data, ...others], ...says) => {
    const args = [path(model), option as string, path(data), ...others];
    const { status, stdout, stderr } = await tamisHere(["eval", ...args]);
    expect(stderr).not.toMatch(/^\s+at /m);
    for (const text of says) expect(stderr).toContain(text);
    expect([status, stdout]).toEqual([1, ""]);
  });

  test("no data is a matter of usage", async () => {
    expect((await tamisHere(["eval", path("corner.ir")])).status).toBe(2);
  });
});

test("Ctrl-C ends it with what was counted until then, and status 130", async () => {
  const child = spawn(
    process.execPath,
    [
      `${repository}bin/tamis.js`,
      "eval",
      "corner.ts",
      "--data",
      "examples.ts#endless",
      "--target",
      "reference",
      "--json",
    ],
    { cwd: path(), stdio: ["ignore", "pipe", "pipe"] },
  );
  let stdout = "";
  child.stdout.on("data", (text: Buffer) => (stdout += String(text)));
  // The module says that it is loaded, and then batches follow one another.
  await new Promise((resolve) => child.stderr.once("data", resolve));
  await new Promise((resolve) => setTimeout(resolve, 100));
  child.kill("SIGINT");
  const status = await new Promise((resolve) => child.once("close", resolve));
  const { count, right, interrupted } = JSON.parse(stdout) as Document;
  expect([status, interrupted]).toEqual([130, true]);
  expect(count).toBeGreaterThan(0);
  expect(right).toBe(count);
});
