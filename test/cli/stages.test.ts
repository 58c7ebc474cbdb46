// IR text and folders of every stage, taken up by every command. No .ts file is loaded, so all runs in this process.
import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { lower, parametersOf, printGraph, sourceName, tensorData, type Value } from "../../src/index.ts";
import { fashionVit, vit } from "../../src/models/index.ts";
import { writeSafetensors } from "../../src/runtime/node/index.ts";
import { drawn } from "../models/plain.ts";
import { type Ended, sharedFolder, tamisHere } from "./command.ts";

const small = vit({ ...fashionVit.options, depth: 2, dim: 16, heads: 2 }, { name: "small" });
const passes = ["simplify", "mergeTokens:r=4", "foldConstants"];
const asPasses = (texts: readonly string[]): readonly string[] => texts.flatMap((text) => ["--pass", text]);

const path = sharedFolder(async (path) => {
  const graph = lower(small).source;
  await writeFile(path("small.ir"), printGraph(graph, { locations: true }));
  const weights = parametersOf(graph).map((node, seed) => {
    const shape = (node.results[0] as Value).type.shape as readonly number[];
    const count = shape.reduce((product, size) => product * size, 1);
    return { name: sourceName(node), source: tensorData("f32", shape, drawn(seed, count)) };
  });
  await writeSafetensors(path("small.safetensors"), weights);
});
const weights = () => ["--weights", path("small.safetensors")];

async function fine(...args: readonly string[]): Promise<Ended> {
  const ended = await tamisHere(args);
  expect(ended.status, ended.stderr).toBe(0);
  return ended;
}

interface Written {
  readonly passes: readonly string[];
  readonly files: Readonly<Record<string, { readonly sha256: string }>>;
}
const compile = async (...args: readonly string[]): Promise<Written> =>
  JSON.parse((await fine("compile", ...args, "--json")).stdout) as Written;

describe.each(["onnx", "webgpu"])("compilation for %s that stops and is taken up again", (target) => {
  const to = (name: string) => ["--target", target, "-o", path(`${target}-${name}`)];
  let direct: Written | undefined;
  const directly = async () =>
    (direct ??= await compile(path("small.ir"), ...weights(), ...asPasses(passes), ...to("direct")));

  test.each([
    ["trace", 0],
    ["simplify", 1],
    ["mergeTokens", 2],
    ["foldConstants", 3],
  ])("after %s gives the same artefact, byte for byte, from the folder", async (stage, done) => {
    const stopped = await compile(
      path("small.ir"),
      ...weights(),
      ...asPasses(passes),
      "--stop-after",
      stage,
      ...to(stage),
    );
    expect(stopped.passes).toEqual(passes.slice(0, done));
    const rest = asPasses(passes.slice(done));
    const resumed = await compile(path(`${target}-${stage}`), ...rest, ...to("resumed"));
    expect(resumed).toEqual({ ...(await directly()), output: path(`${target}-resumed`) });
    const manifests = [`${target}-direct`, `${target}-resumed`].map((name) => readFile(path(`${name}/manifest.json`)));
    const [one, other] = await Promise.all(manifests);
    expect(other).toEqual(one);
  });

  test.each([
    ["trace", 0],
    ["mergeTokens", 2],
  ])("after %s gives the same artefact, byte for byte, from the printed text", async (stage, done) => {
    const printed = await fine("compile", path("small.ir"), ...weights(), ...asPasses(passes), "--stop-after", stage);
    expect(printed.stderr).toBe("");
    await writeFile(path(`${stage}.ir`), printed.stdout);
    const rest = asPasses(passes.slice(done));
    const { files } = await compile(path(`${stage}.ir`), ...weights(), ...rest, ...to("from-text"));
    expect(files).toEqual((await directly()).files);
  });

  test("after legalize gives the same files of the target", async () => {
    const all = [...weights(), ...asPasses(passes)];
    await compile(path("small.ir"), ...all, "--stop-after", "legalize", ...to("legalize"));
    const { files } = await compile(path(`${target}-legalize`), ...to("from-legalize"));
    const { "model.ir": legal, ...others } = files;
    const { "model.ir": before, ...wanted } = (await directly()).files;
    expect(others).toEqual(wanted);
    expect(legal).not.toEqual(before);
  });
});

test("text that names tensors which stand in no file says so", async () => {
  const args = ["compile", path("small.ir"), ...weights(), "--pass", "foldConstants:views=true"];
  const { stderr, stdout } = await fine(...args, "--stop-after", "foldConstants");
  expect(stdout).toMatch(/^graph @small/);
  expect(stderr).toMatch(/^tamis: the text names \d+ tensors that stand in no file; -o DIR writes them beside it\n$/);
});

test("an artefact keeps the profile that it was compiled for", async () => {
  const args = [...weights(), "--target", "onnx", "--profile", "ort-cuda"];
  const { files } = await compile(path("small.ir"), ...args, "-o", path("cuda"));
  const again = await compile(path("cuda"), "-o", path("cuda-again"));
  expect(again).toMatchObject({ profile: "ort-cuda", files });
});

test("the text of a folder, edited, keeps the folder's weights", async () => {
  await compile(path("small.ir"), ...weights(), "--target", "onnx", "-o", path("edited"));
  const file = path("edited/model.ir");
  await writeFile(file, (await readFile(file, "utf8")).replaceAll("epsilon=0.000001", "epsilon=0.0001"));
  const whole = await tamisHere(["inspect", path("edited")]);
  expect([whole.status, whole.stderr.includes("error[artifact-damaged]: model.ir")]).toEqual([1, true]);
  const { stdout } = await fine("run", file, "--input", "image=random:1");
  expect(stdout).toMatch(/^logits: f32\[1,10\] = /m);
});

describe("every command takes every form of model", () => {
  const logits = async (...args: readonly string[]): Promise<readonly number[]> => {
    const { stdout } = await fine("run", ...args, "--input", "image=random:1", "--target", "reference", "--json");
    return (JSON.parse(stdout) as { outputs: { logits: { data: readonly number[] } } }).outputs.logits.data;
  };
  test.each(["onnx-direct", "webgpu-direct", "onnx-mergeTokens", "onnx-legalize", "webgpu-legalize"])(
    "%s",
    async (folder) => {
      const { stdout } = await fine("inspect", path(folder), "--stats");
      expect(stdout).toMatch(/^MACs +\d/m);
      const wanted = await logits(path("small.ir"), ...weights(), ...asPasses(passes));
      for (const form of [folder, `${folder}/model.ir`]) {
        const found = await logits(path(form));
        found.forEach((value, i) => expect(value).toBeCloseTo(wanted[i] as number, 5));
        expect(found).toHaveLength(10);
      }
    },
  );

  test("bench compile, with a row for each step", async () => {
    const rows = async (...args: readonly string[]) =>
      (JSON.parse((await fine("bench", "compile", ...args, "--json")).stdout) as { rows: { step: string }[] }).rows;
    const steps = (of: readonly { readonly step: string }[]) => of.map(({ step }) => step);
    expect(steps(await rows(path("small.ir"), "--pass", "simplify"))).toEqual(["parse", "simplify", "to onnx"]);
    expect(steps(await rows(path("webgpu-direct")))).toEqual(["parse", "to webgpu"]);
  });

  test("bench run, with its passes in turns with the model as it is", async () => {
    const { stdout } = await fine("bench", "run", path("onnx-direct"), "--json");
    const { target, rows } = JSON.parse(stdout) as { target: string; rows: { file: string; medianMs: number }[] };
    expect([target, rows.map(({ file }) => file)]).toEqual(["onnx", ["as it is"]]);
    const raced = await fine(
      "bench",
      "run",
      path("small.ir"),
      ...weights(),
      "--pass",
      "mergeTokens:r=4",
      "--bind",
      "batch=2",
    );
    expect(raced.stdout).toMatch(/^small: as it is .*\nsmall: mergeTokens:r=4 /m);
  });

  test("bench without a model takes no options of one", async () => {
    const { status, stderr } = await tamisHere(["bench", "run", "--target", "onnx"]);
    expect([status, stderr]).toEqual([
      2,
      "error: --target is an option of a model: tamis bench compile|run MODEL --target ...\n",
    ]);
    expect((await tamisHere(["bench", "peers", path("small.ir")])).status).toBe(2);
  });
});
