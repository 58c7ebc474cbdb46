import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { format } from "node:util";
import { describe, expect, test, vi } from "vitest";
import { apiPage, type Entry, entries, exportsOf, openProject } from "../../scripts/api.ts";
import { blocksOf, programFile, readPage, repository } from "./blocks.ts";

const project = openProject();
const codes = new Set([...readPage("docs/errors.md").matchAll(/^## ([a-z-]+)$/gm)].map((m) => m[1] as string));

describe.each(Object.keys(entries) as Entry[])("%s", (entry) => {
  const exported = exportsOf(entry, project);

  test("every export has a doc comment", () => {
    expect(exported.length).toBeGreaterThan(10);
    expect(exported.filter(({ doc }) => doc === "").map(({ name, place }) => `${name} ${place}`)).toEqual([]);
  });

  test("what doc comments say they fail with is explained in docs/errors.md", () => {
    const named = exported.flatMap(({ name, doc }) =>
      [...doc.matchAll(/(?:fails?|refused?|throws?)\b[^.]*/gi)].flatMap(([clause]) =>
        [...clause.matchAll(/`([a-z]+(?:-[a-z]+)+)`/g)].map((m) => [name, m[1] as string] as const),
      ),
    );
    expect(named.filter(([, code]) => !codes.has(code))).toEqual([]);
    if (entry !== "tamis/models") expect(named.length).toBeGreaterThanOrEqual(8);
  });

  test("its page has all of them, with signatures", () => {
    const page = apiPage(entry, exported);
    for (const { name } of exported) expect(page).toContain(`\n### ${name}\n`);
    expect(page).not.toContain("```ts\n\n```");
    expect(page).not.toContain('import("');
  });
});

// The file that docs/api.md makes.
const blocks = blocksOf(readPage("docs/api.md"));
const program = blocks
  .filter(({ language }) => language === "ts")
  .map(({ text }) => text)
  .join("\n\n");
const path = programFile("api/api.ts", program);

test("the program of docs/api.md prints what the page says", async () => {
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...args) => void printed.push(format(...args)));
  try {
    await import(path);
  } finally {
    log.mockRestore();
  }
  const shown = blocks.filter(({ language }) => language === "text").map(({ text }) => text);
  expect(printed.join("\n")).toBe(shown.join("\n"));
});

test("the program of docs/api.md is well typed", () => {
  const config = path.replace("api.ts", "tsconfig.json");
  writeFileSync(config, JSON.stringify({ extends: "../../../tsconfig.json", include: ["api.ts"] }));
  const compiler = `${repository}node_modules/typescript/bin/tsc`;
  expect(execFileSync(process.execPath, [compiler, "-p", config], { encoding: "utf8" })).toBe("");
});
