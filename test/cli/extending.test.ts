import { mkdir, readFile, writeFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { tensorData } from "../../src/index.ts";
import { writeSafetensors } from "../../src/runtime/node/index.ts";
import { blocksOf, readPage } from "../docs/blocks.ts";
import { type Ended, sharedFolder, tamis, tamisInTurn } from "./command.ts";
import { configs, refusals } from "./extendingMistakes.ts";
import { compiler, installPacked } from "./packed.ts";

// The project that docs/extending.md makes, in a folder where nothing but the packed package is installed.
const blocks = blocksOf(readPage("docs/extending.md"));
const files = blocks.flatMap(({ text }) => {
  const [, name] = /^\/\/ ([\w.]+)\n/.exec(text) ?? [];
  return name === undefined ? [] : [[name, text.slice(text.indexOf("\n") + 1)] as const];
});
const commands = blocks.filter(({ language }) => language === "sh").flatMap(({ text }) => text.split("\n"));

const path = sharedFolder(async (path) => {
  await installPacked(path(""), { name: "app", version: "1.0.0", type: "module" });
  for (const [name, text] of files) if (name !== "tamis.config.ts") await writeFile(path(name), `${text}\n`);
});

/** Runs commands one after the other in one process, each in a folder below the project's. */
const inTurn = (...lines: readonly (readonly [folder: string, command: string])[]): Promise<readonly Ended[]> =>
  tamisInTurn(
    path("node_modules/tamis/dist/cli/main.js"),
    lines.map(([folder, command]) => ({ folder: path(folder), args: command.split(" ") })),
  );
const shown = (command: string): string =>
  commands.find((line) => line.includes(command))?.slice("npx tamis ".length) as string;
const outputs = ({ stdout }: Ended) =>
  (JSON.parse(stdout) as { outputs: Record<string, { data: readonly number[] }> }).outputs;

test("the files are well typed in a project of the user's", async () => {
  await writeFile(path("tamis.config.ts"), files.find(([name]) => name === "tamis.config.ts")?.[1] as string);
  const { status, stdout } = await tamis(path(), ["-p", path("tsconfig.json")], compiler);
  expect(stdout).toBe("");
  expect(status).toBe(0);
});

describe("without a config", () => {
  let ended: readonly Ended[] = [];
  beforeAll(async () => {
    await writeFile(path("tamis.config.ts"), "export default {};");
    const text = (await readFile(path("model.ts"), "utf8")).replace('"up", x, { out: width }', '"up", x, { out: 9 }');
    await writeFile(path("wrong.ts"), text);
    const targets = ["reference", "webgpu", "onnx"].map((target) => `${shown(`--target ${target}`)} --json`);
    const passes = ["--diff", "--trace-rules"].map((option) => shown(`${option}`));
    const given = "--weights random:1 --input x=random:2 --input cot.y=random:3 --target reference --json";
    const gradients = ["--pass differentiate", "--pass decompose"].map((pass) => {
      const options = shown(`inspect model.ts ${pass}`).replace("inspect model.ts ", "");
      return `run model.ts ${options} ${given}`;
    });
    const others = ["inspect model.ts", ...targets, ...passes, shown("compile model.ts"), "inspect wrong.ts"].concat(
      gradients,
    );
    ended = await inTurn(...others.map((command) => ["", command] as const));
  });

  test("a composite is one node of the model that calls it, printed as the page says", () => {
    const [inspected] = ended;
    expect(inspected?.stdout.trim()).toBe(blocks.find(({ language }) => language === "text")?.text.trim());
    expect(inspected?.stdout).toContain("= siluGate(%3, %8) {scale=2} : f32[batch,8]");
  });

  test("it runs on every target, and they agree", () => {
    const [wanted, ...others] = ended.slice(1, 4).map((one) => outputs(one)["y"]?.data);
    expect(wanted).toHaveLength(4);
    expect(others).toHaveLength(2);
    for (const got of others) got?.forEach((y, i) => expect(y).toBeCloseTo(wanted?.[i] as number, 5));
  });

  test("its gradient in closed form is that of what it is made of", () => {
    const [closed, parts] = ended.slice(8, 10).map((one) => outputs(one));
    const names = Object.keys(closed ?? {}).filter((name) => name.startsWith("grad."));
    expect(names).toHaveLength(6);
    for (const name of names) {
      const wanted = parts?.[name]?.data ?? [];
      expect(Math.max(...wanted.map(Math.abs))).toBeGreaterThan(0);
      closed?.[name]?.data.forEach((y, i) => expect(y).toBeCloseTo(wanted[i] as number, 6));
    }
  });

  test("a pass is named by its file, shows its work, and its own test passes", async () => {
    expect(ended[4]?.stdout).toMatch(/^-.*= gelu\(%\w+\) : /m);
    expect(ended[4]?.stdout).toMatch(/^\+.*= gelu\(%\w+\) \{approximate="tanh"\} : /m);
    expect(ended[5]?.stdout).toContain("it is the tanh form already");
    const tested = await tamis(path(), ["--test", "tanhGelu.test.ts"], path("node_modules/tsx/dist/cli.mjs"));
    expect(tested.stdout).toMatch(/^# pass 1$/m);
    expect(tested.status).toBe(0);
  });

  test("a backend writes its files beside the IR", async () => {
    expect(ended[6]?.stdout).toContain("unit: graphviz, profile plain");
    const dot = await readFile(path("out/graph/model.dot"), "utf8");
    expect(dot).toMatch(/^digraph "unit" \{\n/);
    expect(dot).toContain('[label="siluGate\\nf32[batch,8]"]');
    const manifest = JSON.parse(await readFile(path("out/graph/manifest.json"), "utf8")) as { backend: string };
    expect(manifest.backend).toBe("graphviz");
  });

  test("a mistake in an operand is told at the line that made it", () => {
    expect(ended[7]?.stderr).toMatch(
      /^wrong\.ts:11:\d+ error\[shape-mismatch\]: siluGate: gate is f32\[batch,8\] but up is f32\[batch,9\]/,
    );
    expect(ended[7]?.status).toBe(1);
  });
});

describe("with a config", () => {
  let ended: readonly Ended[] = [];
  beforeAll(async () => {
    await writeFile(path("tamis.config.ts"), files.find(([name]) => name === "tamis.config.ts")?.[1] as string);
    for (const folder of ["below", "checkpoints", "vectors"]) await mkdir(path(folder), { recursive: true });
    const [inspected] = await inTurn(["", "inspect model.ts --json --pass tanhGelu"]);
    const { graph, parameters } = JSON.parse(inspected?.stdout as string) as {
      graph: string;
      parameters: { name: string; shape: number[] }[];
    };
    await writeFile(path("unit.ir"), graph);
    const zeros = (shape: readonly number[]) =>
      tensorData("f32", shape, new Float32Array(shape.reduce((size, dim) => size * dim, 1)));
    const entries = parameters.map(({ name, shape }) => ({ name, source: zeros(shape) }));
    await writeSafetensors(path("checkpoints/unit.safetensors"), entries);
    await writeVector(path("vectors/gate.safetensors"));
    ended = await inTurn(
      ["", `${shown("run unit.ir")} --json`],
      ["", shown("compile unit.ir")],
      ["", "inspect out/again"],
      ["", "inspect model.ts --locations"],
      ["below", "inspect ../model.ts --locations"],
      ["below", "inspect ../wrong.ts"],
      ["", "run model.ts --weights unit.safetensors --input x=random:1 --target reference --json"],
      ["", "fuzz --count 6 --nodes 6 --json"],
      ["", "conform vectors --json"],
    );
  });

  test("passes and backends go by their names, IR text knows the composites", async () => {
    const ir = await readFile(path("unit.ir"), "utf8");
    expect(ir).toContain('approximate="tanh"');
    expect(ir).toContain("siluGate(");
    expect(Object.keys(outputs(ended[0] as Ended))).toEqual(["y"]);
    expect(ended[1]?.stdout).toContain("unit: graphviz");
    expect(ended[2]?.stdout).toBe(ir);
  });

  test("places are named from the config's folder, wherever the command runs", () => {
    expect(ended[3]?.stdout).toContain('loc("model.ts":');
    expect(ended[4]?.stdout).toBe(ended[3]?.stdout);
    expect(ended[5]?.stderr).toMatch(/^wrong\.ts:11:/);
    expect(ended[5]?.stderr).toContain("  11 |     return { y:");
  });

  test("weights are looked for in the project's folder", () =>
    expect(outputs(ended[6] as Ended)["y"]?.data).toEqual([0, 0, 0, 0]));

  test("composites take part in fuzzing", () => {
    expect(JSON.parse(ended[7]?.stdout as string)).toMatchObject({ count: 6, failures: [] });
    expect(ended[7]?.status).toBe(0);
  });

  test("vectors of a composite are run through every target", () =>
    expect(JSON.parse(ended[8]?.stdout as string)).toMatchObject({ passed: 3, failed: 0 }));
});

/** scale 2; y computed from the formula of the paper in f64. */
async function writeVector(file: string): Promise<void> {
  const [gate, up] = [
    [0.5, -1, 2],
    [1, 2, 3],
  ] as const;
  const y = gate.map((x, i) => (2 * x * (up[i] as number)) / (1 + Math.exp(-2 * x)));
  const tensors = Object.entries({ "in.gate": gate, "in.up": up, "out.y": y });
  const entries = tensors.map(([name, numbers]) => ({ name, source: tensorData("f32", [3], numbers) }));
  await writeSafetensors(file, entries, { component: "siluGate", hyperparameters: '{"scale":2}' });
}

describe("what is wrong is said", () => {
  let ended: readonly Ended[] = [];
  const folderOf = (what: string): string => `config/${what.replaceAll(" ", "-")}`;
  beforeAll(async () => {
    for (const { file, text } of refusals) if (file !== undefined) await writeFile(path(file), text as string);
    for (const { what, text } of configs) {
      await mkdir(path(folderOf(what)), { recursive: true });
      await writeFile(path(`${folderOf(what)}/tamis.config.ts`), text);
    }
    ended = await inTurn(
      ...refusals.map(({ command }) => ["", command] as const),
      ...configs.map(({ what }) => [folderOf(what), "inspect ../../model.ts"] as const),
    );
  });
  const all = [...refusals, ...configs].map(({ what, says }, i) => [what, says, i] as const);

  test.each(all)("%s", (_, says, i) => {
    expect(ended[i]?.stderr.replace(/^ +\d* \|.*\n/gm, "")).toMatch(says); // without code frames
    expect(ended[i]?.status).toBe(1);
  });
});

test("the commands of the page are those that were run", () => {
  const run = commands.filter((line) => line.startsWith("npx tamis "));
  expect(run).toHaveLength(13);
  for (const line of run) expect(line).toMatch(/^npx tamis (inspect|run|compile|fuzz) /);
});
