import { expect, test } from "vitest";
import { sharedFolder, tamis, writeModels } from "./command.ts";
import { installPacked } from "./packed.ts";

// A folder of a user's: tamis below node_modules as it is packed, its dependencies beside it, CommonJS by default.
const path = sharedFolder(async (path) => {
  await installPacked(path(""), { name: "app", type: "commonjs" });
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
