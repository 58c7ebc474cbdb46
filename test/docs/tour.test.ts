import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { blocksOf, programFile, readPage, repository } from "./blocks.ts";

const blocks = blocksOf(readPage("docs/tour.md"));
const program = blocks
  .filter(({ language }) => language === "ts")
  .map(({ text }) => text)
  .join("\n\n");
const path = programFile("tour/tour.ts", program);

test("the tour prints what the page says it prints", async () => {
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((line) => void printed.push(String(line).trimEnd()));
  try {
    await import(path);
  } finally {
    log.mockRestore();
  }
  const shown = blocks.filter(({ language }) => language === "text").map(({ text }) => text.trimEnd());
  expect(printed.join("\n")).toBe(shown.join("\n"));
});

test("the tour is well typed", () => {
  const config = { extends: "../../../tsconfig.json", include: ["tour.ts"] };
  writeFileSync(path.replace("tour.ts", "tsconfig.json"), JSON.stringify(config));
  const compiler = `${repository}node_modules/typescript/bin/tsc`;
  const run = () => execFileSync(process.execPath, [compiler, "-p", path.replace("tour.ts", "tsconfig.json")]);
  expect(run).not.toThrow();
});

test("the tour is under 300 lines", () => {
  expect(program.split("\n").length).toBeLessThan(300);
  expect(program.split("\n").filter((line) => line.length > 120)).toEqual([]);
});
