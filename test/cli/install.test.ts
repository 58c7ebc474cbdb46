import { execFileSync } from "node:child_process";
import { cp, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { sharedFolder, tamis, writeModels } from "./command.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));

// A folder of a user's: tamis below node_modules as it is packed, its dependencies beside it, CommonJS by default.
const path = sharedFolder(async (path) => {
  const own = path("node_modules/tamis");
  await mkdir(own, { recursive: true });
  try {
    execFileSync(process.execPath, [
      `${repository}node_modules/typescript/bin/tsc`,
      "-p",
      `${repository}tsconfig.build.json`,
      "--outDir",
      `${own}/dist`,
    ]);
  } catch {
    // Type errors are another test's matter; what it writes all the same is run here.
  }
  for (const name of ["bin", "docs", "package.json"])
    await cp(`${repository}${name}`, `${own}/${name}`, { recursive: true });
  for (const name of await readdir(`${repository}node_modules`))
    if (name !== "tamis" && !name.startsWith("."))
      await symlink(`${repository}node_modules/${name}`, path(`node_modules/${name}`));
  await writeFile(path("package.json"), '{ "name": "app", "type": "commonjs" }');
  await writeModels(path);
});

const run = (...args: string[]) => tamis(path(), args, path("node_modules/tamis/bin/tamis.js"));

test("a model of a user's folder is traced by the one copy of the DSL that runs", async () => {
  const { stdout, status } = await run("inspect", "two.ts#second", "--pass", "./passes.ts:tanhForRelu");
  expect(stdout).toContain("%0 = tanh(%x) : f32[3]");
  expect(status).toBe(0);
});

test("its mistakes are shown at its own lines", async () => {
  const { stderr } = await run("inspect", "wrong.ts");
  expect(stderr).toContain("wrong.ts:7:17 error[shape-mismatch]");
  expect(stderr).toContain("  7 |     return { y: matmul(x, weight) };");
});

test("errors are explained from the packed page", async () =>
  expect((await run("explain", "shape-mismatch")).stdout).toMatch(/^## shape-mismatch\n/));
