import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import { main } from "../../src/cli/main.ts";

const bin = fileURLToPath(new URL("../../bin/tamis.js", import.meta.url));

export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the real command line in a folder. */
export function tamis(folder: string, args: readonly string[], program = bin): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { cwd: folder, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** The same without a process of its own, for commands that load no .ts file; not while another runs. */
export async function tamisHere(args: readonly string[]): Promise<Ended> {
  const written = { stdout: "", stderr: "" };
  const streams = ["stdout", "stderr"] as const;
  const saved = streams.map((name) => process[name].write);
  for (const name of streams)
    process[name].write = ((text: string) => {
      written[name] += text;
      return true;
    }) as typeof process.stdout.write;
  try {
    const status = await main(args);
    return { status, ...written };
  } finally {
    streams.forEach((name, i) => (process[name].write = saved[i] as typeof process.stdout.write));
  }
}

/** One folder for all tests of a file, filled once. */
export function sharedFolder(fill: (path: (name: string) => string) => Promise<void>): (name?: string) => string {
  let folder = "";
  const path = (name = ""): string => join(folder, name);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tamis-cli-"));
    await fill(path);
  });
  afterAll(() => rm(folder, { recursive: true }));
  return path;
}

/** Files of a user's folder: no package.json says what a .ts file is. */
export const writeModels = async (path: (name: string) => string): Promise<void> => {
  for (const [name, text] of Object.entries(models)) await writeFile(path(name), text);
};

const models: Readonly<Record<string, string>> = {
  "mlp.ts": `import { defineModel, input, nn, relu } from "tamis";
console.log("a model may print");
export const mlp = defineModel({
  name: "mlp",
  options: { width: 8, bias: true },
  weights: "mlp.safetensors",
  labels: ["ant", "bee", "cat"],
  build({ width, bias }) {
    const x = input("x", "f32", ["batch", 4]);
    return { y: nn.linear("fc2", relu(nn.linear("fc1", x, { out: width, bias })), { out: 3, bias }) };
  },
});
`,
  "two.ts": `import { defineModel, input, relu, tanh } from "tamis";
export const first = defineModel({ name: "first", build: () => ({ y: relu(input("x", "f32", [3])) }) });
export const second = defineModel({ name: "second", build: () => ({ y: tanh(input("x", "f32", [3])) }) });
`,
  "wrong.ts": `import { defineModel, input, matmul, parameter } from "tamis";
export const wrong = defineModel({
  name: "wrong",
  build() {
    const x = input("x", "f32", ["batch", 4]);
    const weight = parameter("weight", [5, 6]);
    return { y: matmul(x, weight) };
  },
});
`,
  "throws.ts": `import { defineModel, input, relu } from "tamis";
export const throws = defineModel({
  name: "throws",
  build() {
    const x: any = {};
    return { y: relu(x.missing.shape) };
  },
});
`,
  "syntax.ts": "const fine = 1;\nexport const x = ;\n",
  "absent.ts": `import { helper } from "./nowhere.ts";\nexport const x = helper;\n`,
  "empty.ts": "export const x = 1;\n",
  "passes.ts": `import { any, pat, rewritePass, rule } from "tamis";
const example = { before: "", after: "" };
const about = { summary: "", contract: "approximate", example } as const;
const match = pat.relu([any("x")]);
export const tanhForRelu = rewritePass({
  ...about,
  name: "tanhForRelu",
  rules: [rule({ match, build: (b, { x }) => b.tanh(x) })],
});
export const never = rewritePass({
  ...about,
  name: "never",
  rules: [rule({ match, where: () => "not today", build: (b, { x }) => b.tanh(x) })],
});
export const broken = { ...about, name: "broken", run() { throw new TypeError("oops"); } };
`,
  "mlp.ir": `graph @mlp(%x: f32[batch,4]) {
  %fc1.weight = parameter() : f32[4,8] in fc1
  %fc1.bias = parameter() : f32[8] in fc1
  %0 = matmul(%x, %fc1.weight) : f32[batch,8] in fc1
  %1 = broadcast(%fc1.bias) {shape=["batch",8], axes=[0]} : f32[batch,8] in fc1
  %2 = add(%0, %1) : f32[batch,8] in fc1
  return y: %2
}
`,
  "typo.ir": "graph @g(%x: f32[2]) {\n  %0 = relw(%x) : f32[2]\n  return y: %0\n}\n",
};

/** Several command lines one after the other in one process of the given `dist/cli/main.js`, each in its folder. */
export async function tamisInTurn(
  main: string,
  commands: readonly { readonly folder: string; readonly args: readonly string[] }[],
): Promise<readonly Ended[]> {
  const program = `
    process.setSourceMapsEnabled(true);
    const { main } = await import(${JSON.stringify(main)});
    const ended = [];
    for (const { folder, args } of ${JSON.stringify(commands)}) {
      process.chdir(folder);
      const written = { stdout: "", stderr: "" };
      const saved = ["stdout", "stderr"].map((name) => [name, process[name].write]);
      for (const [name] of saved) process[name].write = (text) => { written[name] += text; return true; };
      const status = await main(args);
      for (const [name, write] of saved) process[name].write = write;
      ended.push({ status, ...written });
    }
    process.stdout.write(JSON.stringify(ended));`;
  const { stdout, stderr } = await tamis(dirname(main), ["--eval", program], "--input-type=module");
  if (stderr !== "") throw new Error(stderr);
  return JSON.parse(stdout) as readonly Ended[];
}
