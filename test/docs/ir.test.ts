import { expect, test } from "vitest";
import { type DType, dtypes, parseGraph, printGraph, verifyGraph } from "../../src/index.ts";
import { parseDim } from "../../src/ir/dim.ts";
import { blocksOf, readPage } from "./blocks.ts";

const page = readPage("docs/ir.md");
const snippets = blocksOf(page).filter(({ language }) => language.startsWith("ir"));

test("the page has IR on it", () => expect(snippets.length).toBeGreaterThanOrEqual(4));

test.each(snippets.map((block) => [block.line, block] as const))(
  "the IR of line %i is valid",
  (_, { language, text }) => {
    const graph = parseGraph(text, { file: "docs/ir.md" });
    verifyGraph(graph);
    if (language === "ir") expect(printGraph(graph, { locations: true })).toBe(`${text}\n`);
  },
);

test("an op written twice is one node with two places", () => {
  const text = snippets.find(({ language }) => language === "ir twice")?.text as string;
  const [input, exp, add] = parseGraph(text).nodes;
  expect([input?.op, exp?.op, add?.op]).toEqual(["input", "exp", "add"]);
  expect(exp?.locs).toHaveLength(2);
});

test("the table of dtypes is the one there is", () => {
  const rows = [...page.matchAll(/^\| (float|signed|unsigned|bool) \| (.*) \|$/gm)];
  const shown = rows.flatMap(([, kind, cells]) => [...(cells as string).matchAll(/`(\w+)`/g)].map((m) => [m[1], kind]));
  expect(shown).toEqual(shown.map(([name]) => [name, dtypes[name as DType].kind]));
  expect(new Set(shown.map(([name]) => name))).toEqual(new Set(Object.keys(dtypes)));
});

test("dimensions have the canonical form stated", () => {
  expect(["2*n-n", "n+n", "(2*n)//2"].map(parseDim)).toEqual(["n", "2*n", "n"]);
});
