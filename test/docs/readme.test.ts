import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { costOf, type Dim, lower, type ModelDefinition, parsePassSpec } from "../../src/index.ts";
import { fashionVit } from "../../src/models/index.ts";
import { blocksOf, programFile, readPage, repository } from "./blocks.ts";

const page = readPage("README.md");
const blocks = blocksOf(page);
const { scripts } = JSON.parse(readFileSync(`${repository}package.json`, "utf8")) as {
  scripts: Record<string, string>;
};

test("the model compiles, and tokens merge in every block of it", async () => {
  const program = blocks.find(({ language }) => language === "ts")?.text as string;
  const { default: model } = (await import(programFile("readme/vit.ts", program))) as { default: ModelDefinition };
  const { reports, model: merged } = lower(model, { passes: [parsePassSpec("mergeTokens:r=8").make()] });
  expect(reports[0]?.fired).toHaveLength(4);
  expect(merged.graph.outputs.map(({ name }) => name)).toEqual(["logits"]);
});

test("the table of the demo has the cost that there is", () => {
  const rows = [...page.matchAll(/^(\d) {3}((?:\d+ )+) +([\d.]+) {3}\d+$/gm)];
  expect(rows).toHaveLength(3);
  for (const [, r, tokens, macs] of rows) {
    const { graph } = lower(fashionVit, { passes: [parsePassSpec(`mergeTokens:r=${r}`).make()] }).model;
    expect((Number(costOf(graph, { symbols: new Map<string, Dim>([["batch", 1]]) }).macs) / 1e6).toFixed(2)).toBe(macs);
    const merges = graph.nodes.filter(({ op, operands }) => op === "tokenMerge" && operands[0]?.type.shape[2] === 64);
    if (r !== "0")
      expect(`${merges.map((node) => node.results[0]?.type.shape[1]).join(" ")}`).toBe((tokens as string).trim());
  }
});

test("the commands named are there", async () => {
  for (const [, script] of `${page}${readPage("CONTRIBUTING.md")}`.matchAll(/npm run ([\w:]+)/g))
    expect(Object.keys(scripts)).toContain(script);
  const program = ["src/cli/main.ts", "examples/demo.ts"].map((path) => readFileSync(repository + path, "utf8")).join();
  for (const [, command] of page.matchAll(/`tamis (\w+)/g)) expect(program).toContain(`.command("${command}")`);
  for (const [, option] of page.matchAll(/[`\s](--[a-z][a-z-]*)/g))
    if (option !== "--ignore-scripts") expect(program.includes(option as string), option).toBe(true);
});

test("CI runs what the README says", () => {
  expect(readPage(".ci/run")).toContain("npm ci && npm test");
  expect(readPage(".github/workflows/ci.yml")).toContain(".ci/run");
  expect(existsSync(`${repository}LICENSE`)).toBe(true);
});
