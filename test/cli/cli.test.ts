import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { tensorData } from "../../src/index.ts";
import { writeSafetensors } from "../../src/runtime/node/index.ts";
import { type Ended, sharedFolder, tamis, tamisHere, writeModels } from "./command.ts";

const fashionVit = fileURLToPath(new URL("../../examples/01-fashion-vit.ts", import.meta.url));
const shapes = { "fc1.weight": [8, 4], "fc1.bias": [8], "fc2.weight": [3, 8], "fc2.bias": [3] } as const;

const weights = (given: Readonly<Record<string, readonly number[]>>) =>
  Object.entries(given).map(([name, shape]) => {
    const count = shape.reduce((size, dim) => size * dim, 1);
    return {
      name,
      source: tensorData(
        "f32",
        shape,
        Array.from({ length: count }, (_, i) => Math.sin(i)),
      ),
    };
  });

const defect = `import { InternalError, defineModel } from "tamis";
export const deep = defineModel({ name: "deep", build() { throw new InternalError("an invariant broke"); } });
`;

const path = sharedFolder(async (path) => {
  await writeModels(path);
  await writeSafetensors(path("mlp.safetensors"), weights(shapes));
  await writeSafetensors(path("bad.safetensors"), weights({ "fc1.bias": [9], extra: [1] }));
  await writeFile(path("cut.safetensors"), (await readFile(path("mlp.safetensors"))).subarray(0, -20));
  await writeFile(path("broken.png"), "\x89PNG\r\n\x1a\nand then nothing");
  await writeFile(path("defect.ts"), defect);
});

const run = (...args: string[]): Promise<Ended> => tamis(path(), args);

/** The same in this process; files of the folder are named by their whole path. */
async function refusesHere(args: readonly string[], ...says: readonly string[]): Promise<void> {
  const { status, stdout, stderr } = await tamisHere(args.map((arg) => (arg.endsWith(".ir") ? path(arg) : arg)));
  for (const text of says) expect(stderr).toContain(text);
  expect([status, stdout]).toEqual([1, ""]);
}

/** What a user meets who made a mistake: status 1, the places and words asked for, no stack trace. */
async function refuses(args: readonly string[], ...says: readonly string[]): Promise<void> {
  const { status, stdout, stderr } = await run(...args);
  expect(stderr).not.toMatch(/^\s+at /m);
  for (const text of says) expect(stderr).toContain(text);
  expect([status, stdout]).toEqual([1, ""]);
}

describe("exit status", () => {
  test("2 for usage, with the nearest command", async () => {
    const { status, stderr } = await run("inspekt", "mlp.ts");
    expect(stderr).toContain("Did you mean inspect?");
    expect(status).toBe(2);
    expect((await tamisHere(["compile", path("mlp.ir")])).status).toBe(2);
    expect((await tamisHere(["inspect", path("mlp.ir"), "--pas", "x"])).stderr).toContain("Did you mean --pass?");
  });
  test("0 for help", async () => {
    const { status, stdout } = await tamisHere(["run", "--help"]);
    expect([status, stdout.includes("Examples:")]).toEqual([0, true]);
  });
  test("3 for a defect of ours, with what to send", async () => {
    const { status, stderr } = await run("inspect", "defect.ts");
    for (const text of ["command: tamis inspect defect.ts", "version: ", "node: v", "an invariant broke", "    at "])
      expect(stderr).toContain(text);
    expect(status).toBe(3);
  });
});

describe.concurrent("a mistake in the model's file is shown at its line", () => {
  test("a wrong shape", () =>
    refuses(
      ["inspect", "wrong.ts"],
      "wrong.ts:7:17 error[shape-mismatch]: matmul: lhs has 4 columns but rhs has 5 rows",
      "  7 |     return { y: matmul(x, weight) };\n    |                 ^",
      "note: wrong.ts:6:20",
    ));
  test("what the build function throws", () => refuses(["inspect", "throws.ts"], "throws.ts:6:32 error[model-error]"));
  test("syntax", () => refuses(["inspect", "syntax.ts"], "syntax.ts:2:18 error[model-import]", "export const x = ;"));
  test("a module that is not there", () =>
    refuses(["inspect", "absent.ts"], "absent.ts:1:", "error[model-import]: there is no module nowhere.ts"));
  test("no model", () => refuses(["inspect", "empty.ts"], "error[no-model]"));
  test("several models", () => refuses(["inspect", "two.ts"], "first, second", "help: name one, such as two.ts#first"));
  test("a model it does not export", () => refuses(["inspect", "two.ts#secnd"], "help: did you mean second?"));
});

describe("names that are not there", () => {
  test.each([
    [["inspect", "typo.ir"], "typo.ir:2:8 error[unknown-op]", "help: did you mean relu"],
    [["inspect", "mlp.ir", "--pass", "mergTokens:r=8"], "error[unknown-pass]", "did you mean mergeTokens?"],
    [["inspect", "mlp.ir", "--pass", "mergeTokens:protekt=8"], "error[unknown-option]", "did you mean protect?"],
    [["inspect", "mlp.ir", "--set", "width=3"], "error[bad-option]", "mlp.ir is a graph"],
    [["compile", "mlp.ir", "--profile", "portabel", "-o", "x"], "error[unknown-profile]", "did you mean portable?"],
    [["compile", "mlp.ir", "--target", "onxn", "-o", "x"], "error[unknown-target]", "did you mean onnx?"],
    [
      ["compile", "mlp.ir", "--target", "webgpu", "--profile", "softwear", "-o", "x"],
      "error[unknown-profile]",
      "did you mean software?",
    ],
    [
      ["compile", "mlp.ir", "--target", "webgpu", "--external-data", "always", "-o", "x"],
      "error[bad-option]",
      "--target onnx",
    ],
    [["inspect", "mlp.ir", "--stop-after", "legalise"], "error[unknown-stage]", "did you mean legalize?"],
    [["run", "mlp.ir", "--weights", "random:1", "--input", "z=random:1"], "error[bad-input]", "did you mean x?"],
    [["run", "mlp.ir", "--input", "x=random:1"], "error[missing-weights]", "give --weights FILE"],
    [["explain", "shape-mismach"], "error[unknown-code]", "did you mean shape-mismatch"],
  ])("%j", (args, ...says) => refusesHere(args, ...says));
});

describe("files that are not what they should be", () => {
  test("missing, extra and misshapen weights are named at once, and nothing is written", async () => {
    await refusesHere(
      ["compile", "mlp.ir", "--weights", path("bad.safetensors"), "-o", path("half")],
      "error[weights-missing]: weight fc1.weight",
      "error[weights-extra]: weight extra",
      "error[weights-shape]: weight fc1.bias is f32[9]",
    );
    expect((await readdir(path())).filter((name) => name.includes("half"))).toEqual([]);
  });
  test("truncated weights", () =>
    refusesHere(["inspect", "mlp.ir", "--weights", path("cut.safetensors")], "error[weights-truncated]"));
  test("a broken picture", () =>
    refuses(["run", fashionVit, "--input", "image=broken.png"], "broken.png:1:1 error[not-a-picture]"));
});

describe.concurrent("--json is one document and nothing else", () => {
  test("inspect", async () => {
    const { status, stdout, stderr } = await run("inspect", "mlp.ts", "--pass", "./passes.ts:never", "--json");
    expect(status).toBe(0);
    expect(stderr).toContain("a model may print"); // where it does not stand in the document
    const document = JSON.parse(stdout) as Record<string, unknown>;
    expect(document).toEqual({
      graph: expect.stringContaining("graph @mlp("),
      inputs: [{ name: "x", shape: ["batch", 4], dtype: "f32" }],
      outputs: [{ name: "y", shape: ["batch", 3], dtype: "f32" }],
      parameters: Object.entries(shapes).map(([name, shape]) => ({ name, shape, dtype: "f32" })),
      nodes: 14,
      macs: 4 * 8 + 8 * 3,
      parameterCount: 4 * 8 + 8 + 8 * 3 + 3,
      passes: [
        {
          name: "never",
          changed: false,
          timeMs: expect.any(Number),
          fired: 0,
          refused: [{ rule: "never", reason: "not today", loc: "mlp.ts:10:34" }],
        },
      ],
    });
  });
  test("run", async () => {
    const { stdout } = await run(
      "run",
      "mlp.ts",
      "--input",
      "x=random:1",
      "--bind",
      "batch=2",
      "--repeat",
      "3",
      "--json",
    );
    const document = JSON.parse(stdout) as { timesMs: number[]; outputs: { y: { data: number[] } } };
    expect(document).toEqual({
      target: "onnx",
      adapter: expect.stringMatching(/^ONNX Runtime \d.* cpu$/),
      outputs: { y: { shape: [2, 3], dtype: "f32", data: expect.any(Array) } },
      timesMs: expect.any(Array),
    });
    expect([document.timesMs.length, document.outputs.y.data.length]).toEqual([3, 6]);
  });
  test("devices", async () => {
    const document = JSON.parse((await run("devices", "--json")).stdout) as { webgpu: unknown[]; onnx: unknown[] };
    expect(Object.keys(document)).toEqual(["webgpu", "onnx"]);
    expect(document.onnx).toContainEqual({ name: "cpu", available: true, version: expect.any(String) });
  });
  test("a mistake, and usage", async () => {
    const wrong = await run("inspect", "wrong.ts", "--json");
    expect(wrong.status).toBe(1);
    const { error } = JSON.parse(wrong.stdout) as { error: { diagnostics: unknown[] } };
    expect(error.diagnostics).toEqual([
      expect.objectContaining({ code: "shape-mismatch", loc: "wrong.ts:7:17", file: "wrong.ts", line: 7, column: 17 }),
    ]);
    const usage = await run("inspect", "--json");
    expect([usage.status, Object.keys(JSON.parse(usage.stdout) as object)]).toEqual([2, ["error"]]);
  });
});

describe.concurrent("inspect", () => {
  test("prints the graph after the passes, those of a user's file too, and goes through a pipe alone", async () => {
    const { stdout } = await run("inspect", "two.ts#first", "--pass", "./passes.ts:tanhForRelu");
    expect(stdout).toBe("graph @first(%x: f32[3]) {\n  %0 = tanh(%x) : f32[3]\n  return y: %0\n}\n");
  });
  test("--print-after-all, --trace-rules and --diff stand in one answer", async () => {
    const asked = ["--print-after-all", "--trace-rules", "--diff"];
    const { stdout } = await run("inspect", "mlp.ts", "--pass", "./passes.ts:tanhForRelu", ...asked);
    for (const text of ["// trace: 14 nodes", "// after tanhForRelu (approximate): 14 -> 14 nodes"])
      expect(stdout).toContain(text);
    expect(stdout).toContain("  fired   mlp.ts:10:34 tanhForRelu");
    expect(stdout).toContain("- %old0 = relu(%3) : f32[batch,8]\n+ %4 = tanh(%3) : f32[batch,8]");
  });
  test("a pass of the user's that throws is the user's mistake", () =>
    refuses(
      ["inspect", "two.ts#first", "--pass", "./passes.ts:broken"],
      "passes.ts:15:",
      "error[model-error]: a pass fails: oops",
    ));
  test("--html writes a page that needs nothing else", async () => {
    await run("inspect", fashionVit, "--pass", "mergeTokens:r=4", "--html", "page.html");
    const page = await readFile(path("page.html"), "utf8");
    expect(page).toContain("<details><summary>blocks");
    expect(page).not.toMatch(/(?:src|href)=/);
  });
});

test("an artefact runs as it was written, is inspected, compiled again and told from a damaged one", async () => {
  const first = await run("compile", "mlp.ts", "--target", "onnx", "-o", "out/mlp", "--json");
  expect(first.status).toBe(0);
  const files = (JSON.parse(first.stdout) as { files: object }).files;
  expect(Object.keys(files)).toEqual(["mlp.d.ts", "mlp.js", "model.ir", "model.onnx", "package.json"]);
  const y = (ended: Ended): unknown =>
    (JSON.parse(ended.stdout) as { outputs: { y: { data: number[] } } }).outputs.y.data;
  const [artefact, model, reference, stats] = await Promise.all([
    run("run", "out/mlp", "--input", "x=random:1", "--json"),
    run("run", "mlp.ts", "--input", "x=random:1", "--json"),
    run("run", "out/mlp", "--target", "reference", "--input", "x=random:1", "--save", "y.safetensors"),
    run("inspect", "out/mlp", "--stats"),
  ]);
  expect(y(artefact)).toEqual(y(model));
  expect(reference.stdout).toMatch(/y: f32\[1,3\].*\n +\d+\.\d %  (?:ant|bee|cat)\n/);
  expect(stats.stdout).toMatch(/parameters +67\n/);
  const again = await run("compile", "mlp.ts", "-o", "out/mlp", "--json");
  expect(JSON.parse(again.stdout)).toEqual(JSON.parse(first.stdout));
  await writeFile(path("out/mlp/model.onnx"), "cut");
  await refuses(["run", "out/mlp", "--input", "x=random:1"], "error[artifact-damaged]: model.onnx");
});

test("an artefact for webgpu runs as it was written, is inspected, compiled again and told from a damaged one", async () => {
  const first = await run(
    "compile",
    "mlp.ts",
    "--target",
    "webgpu",
    "--profile",
    "software",
    "-o",
    "gpu/mlp",
    "--json",
  );
  expect(first.status).toBe(0);
  const { files, target, profile } = JSON.parse(first.stdout) as { files: object; target: string; profile: string };
  expect([target, profile]).toEqual(["webgpu", "software"]);
  expect(Object.keys(files)).toEqual(
    ["mlp.d.ts", "mlp.js", "mlp.node.d.ts", "mlp.node.js", "package.json"]
      .concat(["kernels.wgsl", "model.ir", "plan.json", "weights.safetensors"])
      .sort(),
  );
  const y = (ended: Ended): readonly number[] =>
    (JSON.parse(ended.stdout) as { outputs: { y: { data: number[] } } }).outputs.y.data;
  const given = ["--input", "x=random:1", "--bind", "batch=3", "--json"];
  const [artefact, reference, stats, again] = await Promise.all([
    run("run", "gpu/mlp", ...given),
    run("run", "gpu/mlp", "--target", "reference", ...given),
    run("inspect", "gpu/mlp", "--stats"),
    run("compile", "mlp.ts", "--target", "webgpu", "--profile", "software", "-o", "gpu/again", "--json"),
  ]);
  expect((JSON.parse(artefact.stdout) as { target: string }).target).toBe("webgpu");
  expect(y(artefact)).toHaveLength(9);
  y(artefact).forEach((value, i) => expect(value).toBeCloseTo(y(reference)[i] as number, 5));
  expect(stats.stdout).toMatch(/parameters +67\n/);
  expect((JSON.parse(again.stdout) as { files: object }).files).toEqual(files);
  const weights = await readFile(path("gpu/mlp/weights.safetensors"));
  weights[weights.length - 1] = (weights.at(-1) as number) ^ 1;
  await writeFile(path("gpu/mlp/weights.safetensors"), weights);
  await refuses(["run", "gpu/mlp", "--input", "x=random:1"], "error[artifact-damaged]: weights.safetensors of gpu/mlp");
});

test("--stop-after ends in IR that another command takes up", async () => {
  const traced = await run("compile", "mlp.ts", "--stop-after", "trace", "-o", "traced");
  expect(traced.status).toBe(0);
  expect(await readdir(path("traced"))).toEqual(["manifest.json", "model.ir", "weights.safetensors"]);
  const printed = await run("compile", "mlp.ts", "--stop-after", "legalize");
  await writeFile(path("legalized.ir"), printed.stdout);
  const runs = await Promise.all(
    [["traced"], ["legalized.ir", "--weights", "mlp.safetensors"], ["mlp.ts", "--target", "reference"]].map((args) =>
      run("run", ...args, "--input", "x=random:5"),
    ),
  );
  const lines = runs.map(({ stdout }) => stdout.split("\n")[1]);
  expect(lines[0]).toMatch(/^y: f32\[1,3\] = /);
  expect(new Set(lines).size).toBe(1);
});
