import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { opsPage, passesPage } from "../../scripts/docs.ts";
import { builtinOps, passes } from "../../src/index.ts";
import { readPage, repository } from "./blocks.ts";

test.each([
  ["docs/ops.md", opsPage],
  ["docs/passes.md", passesPage],
])("%s is what `npm run docs` writes", (path, page) => {
  expect(readPage(path)).toBe(page());
});

test("the pages name every op and every pass", () => {
  for (const name of builtinOps.keys()) expect(opsPage()).toContain(`| \`${name}\` |`);
  for (const name of passes.keys()) expect(passesPage()).toContain(`\n## ${name}\n`);
});

const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].concat(
  readdirSync(`${repository}docs`, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => `docs/${file}`),
);

test.each(pages)("links of %s lead somewhere", (path) => {
  const text = readPage(path).replace(/^```[\s\S]*?^```/gm, "");
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map((m) => m[1] as string).filter((to) => !/^https?:/.test(to));
  const broken = links.filter((link) => {
    const [file = "", anchor] = link.split("#");
    const target = file === "" ? path : join(dirname(path), file);
    if (!existsSync(`${repository}${target}`)) return true;
    return anchor !== undefined && !anchorsOf(readPage(target)).has(anchor);
  });
  expect(broken).toEqual([]);
});

/** As GitHub makes them of headings. */
const anchorsOf = (page: string): ReadonlySet<string> =>
  new Set(
    [...page.matchAll(/^#+ (.+)$/gm)].map((m) =>
      (m[1] as string)
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
