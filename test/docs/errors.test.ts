import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CompileError, formatDiagnostic, isModelDefinition, lower, parseGraph } from "../../src/index.ts";
import { type Block, blocksOf, programFile, readPage, repository } from "./blocks.ts";

const page = readPage("docs/errors.md");
const sections = [...page.matchAll(/^## (.+)$/gm)].map((m) => m[1] as string);
const blocks = blocksOf(page);

const sources = readdirSync(`${repository}src`, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => readFileSync(`${repository}src/${file}`, "utf8"));

/** Families of codes; a text of this form that is no code of ours stands in `others`. */
const family =
  /"((?:weights|file|tensor|picture|unknown|bad|unsupported|missing|duplicate|no|model|onnx|output|artifact)-[a-z]+(?:-[a-z]+)*)"/g;
const others = new Set(["onnx-proto", "no-cache"]);
/** The first text of a call that raises, or what a `code` is set to. */
const raised =
  /\b(?:compileError|diagnostic|OpError|wrong|refuse|fail|unknown)\(\s*(?:[\w.#]+,\s*)?"([a-z]+(?:-[a-z]+)*)"|\bcode\b(?::|\s*=|\s*\?)[^;"]*"([a-z]+(?:-[a-z]+)+)"/g;

const codes = new Set(
  sources
    .flatMap((text) => [...text.matchAll(family), ...text.matchAll(raised)].map((m) => (m[1] ?? m[2]) as string))
    .filter((code) => !others.has(code)),
);

test("every code of the sources has a section", () => {
  expect(codes.size).toBeGreaterThan(60);
  expect([...codes].filter((code) => !sections.includes(code))).toEqual([]);
});

test("every section is a code of the sources, once", () => {
  const text = sources.join("\n");
  expect(sections.filter((code) => !text.includes(`"${code}"`))).toEqual([]);
  expect(new Set(sections).size).toBe(sections.length);
});

test("the list at the top names every section", () => {
  const linked = [...(page.split("\n## ")[0] as string).matchAll(/\[([a-z-]+)\]\(#\1\)/g)].map((m) => m[1]);
  expect(new Set(linked)).toEqual(new Set(sections));
});

test.each(sections)("%s has a cause, an example and a fix", (code) => {
  const body = page.slice(page.indexOf(`\n## ${code}\n`) + code.length + 5).split(/\n##? /)[0] as string;
  expect(body).toMatch(/^\n+[A-Z`]/);
  expect(body).toContain("```");
  expect(body).toMatch(/^Fix: /m);
  expect(body.split("\n").filter((line) => line.length > 120 && !/error\[|^tamis:/.test(line))).toEqual([]);
});

const examples = blocks.flatMap((block, i): readonly (readonly [string, Block, Block])[] =>
  block.language === "ir" || block.language === "ts" ? [[block.section, block, blocks[i + 1] as Block]] : [],
);

test.each(examples)("the example of %s gives its message", async (code, { language, text, line }, message) => {
  const error = await (language === "ir"
    ? raise(() => parseGraph(text, { file: "model.ir" }))
    : raiseTracing(code, text));
  expect(error, `docs/errors.md:${line}`).toBeInstanceOf(CompileError);
  expect((error as CompileError).code).toBe(code);
  const shown = (error as CompileError).diagnostics.map((d) => formatDiagnostic(d)).join("\n");
  if (process.env["UPDATE_DOCS"] === "1") {
    const path = `${repository}docs/errors.md`;
    const lines = readFileSync(path, "utf8").split("\n");
    const at = lines.indexOf("```", lines.indexOf(`## ${code}`)) + 1; // behind the example
    const from = lines.indexOf("```", at) + 1;
    lines.splice(from, lines.indexOf("```", from) - from, ...shown.split("\n"));
    writeFileSync(path, lines.join("\n"));
  } else expect(shown).toBe(message.text);
});

function raise(body: () => unknown): unknown {
  try {
    return body();
  } catch (error) {
    return error;
  }
}

/** Imports the program and traces what it exports. Mistakes may show in either. */
async function raiseTracing(code: string, text: string): Promise<unknown> {
  try {
    const { default: model } = (await import(programFile(`${code}/model.ts`, text))) as { default: unknown };
    return isModelDefinition(model) ? raise(() => lower(model, { root: `${repository}out/docs/${code}` })) : model;
  } catch (error) {
    return error;
  }
}
