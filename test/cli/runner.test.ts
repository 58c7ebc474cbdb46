import { execFileSync } from "node:child_process";
import { symlink, writeFile } from "node:fs/promises";
import { transform } from "esbuild";
import { expect, test } from "vitest";
import { sharedFolder, tamis, tamisInTurn } from "./command.ts";
import { compiler, installPacked } from "./packed.ts";

// The modules that `tamis compile` writes, in a project of the user's where only the packed package is installed.
const model = `import { defineModel, add, cast, input, matmul, parameter } from "tamis";
export const pair = defineModel({
  name: "pair",
  build() {
    const image = input("image", "f32", ["batch", 3]);
    const ids = input("ids", "i32", ["batch", 2]);
    const product = matmul(image, parameter("weight", [3, 2]));
    return { logits: add(product, cast(ids, "f32")), twice: add(ids, ids) };
  },
});
`;
const paths = { onnx: "./out/onnx/pair.js", gpu: "./out/gpu/pair.node.js", byName: "gpu-pair" };
type Module = keyof typeof paths;

const opening = (name: Module): string =>
  name === "onnx"
    ? `import { run } from "${paths[name]}";\nconst dispose = async () => {};`
    : `import { load } from "${paths[name]}";\nconst { run, dispose } = await load();`;

/** A program with mistakes; each is one error, at the line after its comment. */
const wrong = (name: Module): string => `${opening(name)}
const image = { data: new Float32Array(6), shape: [2, 3] } as const;
const ids = { data: new Int32Array(4), shape: [2, 2] } as const;
// input name
await run({ picture: image, ids });
// input that is missing
await run({ image });
// dtype
await run({ image, ids: { data: new Float32Array(4), shape: [2, 2] } });
// literal size
await run({ image: { data: new Float32Array(8), shape: [2, 4] }, ids });
// rank
await run({ image: { data: new Float32Array(6), shape: [2, 3, 1] }, ids });
// symbol with two sizes
await run({ image, ids: { data: new Int32Array(6), shape: [3, 2] } });
const { logits, twice } = await run({ image, ids });
// output name
const { logit } = await run({ image, ids });
// size of an output
const three: 3 = logits.shape[0];
// dtype of an output
const floats: Float32Array = twice.data;
`;
const right = (name: Module): string => `${opening(name)}
const image = { data: Float32Array.of(1, 0, 0, 0, 1, 0), shape: [2, 3] } as const;
const { logits, twice } = await run({ image, ids: { data: Int32Array.of(1, 2, 3, 4), shape: [2, 2] } });
const rows: 2 = logits.shape[0];
const columns: 2 = logits.shape[1];
const whole: Int32Array = twice.data;
const open = await run({ image: { data: new Float32Array(3) }, ids: { data: new Int32Array(2) } });
const batch: number = open.logits.shape[0];
await dispose();
console.log(JSON.stringify({ rows: [rows, columns, batch], logits: [...logits.data], twice: [...whole] }));
`;

const path = sharedFolder(async (path) => {
  await installPacked(path(""), { name: "app", version: "1.0.0", type: "module" });
  await writeFile(path("model.ts"), model);
  const compilerOptions = { module: "nodenext", strict: true, skipLibCheck: true, types: ["node"] };
  await writeFile(path("tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*-*.ts"] }));
  for (const name of Object.keys(paths) as Module[]) {
    await writeFile(path(`right-${name}.ts`), right(name));
    await writeFile(path(`wrong-${name}.ts`), wrong(name));
  }
  const compile = (target: string, folder: string) => ({
    folder: path(""),
    args: ["compile", "model.ts", "--target", target, "--weights", "random:1", "-o", folder],
  });
  const ended = await tamisInTurn(path("node_modules/tamis/dist/cli/main.js"), [
    compile("onnx", "out/onnx"),
    compile("webgpu", "out/gpu"),
  ]);
  expect(ended.map(({ stderr }) => stderr)).toEqual(["", ""]);
  await symlink(path("out/gpu"), path("node_modules/gpu-pair"));
});

test("wrong names, dtypes, sizes and ranks are errors of the user's own compiler, at their lines", async () => {
  const { stdout } = await tamis(path(), ["-p", path("tsconfig.json"), "--noEmit", "--pretty", "false"], compiler);
  const found = [...stdout.matchAll(/^([\w-]+)\.ts\((\d+),\d+\): error/gm)].map(([, file, line]) => `${file}:${line}`);
  for (const name of Object.keys(paths) as Module[]) {
    const lines = wrong(name).split("\n");
    const marked = lines.flatMap((line, i) => (line.startsWith("// ") ? [`wrong-${name}:${i + 2}`] : []));
    expect(marked).toHaveLength(9);
    expect([...new Set(found.filter((place) => place.startsWith(`wrong-${name}:`)))], stdout).toEqual(marked);
  }
  expect(found.filter((place) => place.startsWith("right-"))).toEqual([]);
});

const runHere = (program: string): string =>
  execFileSync(process.execPath, ["--input-type=module", "--eval", program], { cwd: path(), encoding: "utf8" });

test("both modules run in Node, by path and by name, and agree", async () => {
  const programs = (Object.keys(paths) as Module[]).map((name) => transform(right(name), { loader: "ts" }));
  const [onnx, ...others] = (await Promise.all(programs)).map(
    ({ code }) => JSON.parse(runHere(code)) as { rows: number[]; logits: number[]; twice: number[] },
  );
  expect(onnx?.rows).toEqual([2, 2, 1]);
  expect(onnx?.twice).toEqual([2, 4, 6, 8]);
  expect(others).toHaveLength(2);
  for (const other of others) {
    expect(other.rows).toEqual(onnx?.rows);
    expect(other.twice).toEqual(onnx?.twice);
    other.logits.forEach((y, i) => expect(y).toBeCloseTo(onnx?.logits[i] as number, 5));
  }
});

test("an input that is not the model's is refused where no compiler looks", () =>
  expect(
    runHere(`import { run } from "${paths.onnx}";
await run({ picture: { data: new Float32Array(3) } }).catch((error) => console.log(error.code, error.message));`),
  ).toBe("bad-input there is no input picture; the inputs: image, ids\n"));
