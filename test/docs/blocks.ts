import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../../", import.meta.url));
export const readPage = (path: string): string => readFileSync(`${repository}${path}`, "utf8");

/** A fenced block of a page. */
export interface Block {
  /** The word behind the fence: `ts`, `ir`, `sh`, or "". */
  readonly language: string;
  readonly text: string;
  /** Of its first line. */
  readonly line: number;
  /** The last heading of level 2 above it. */
  readonly section: string;
}

export function blocksOf(page: string): readonly Block[] {
  const blocks: Block[] = [];
  let section = "";
  let open: { language: string; line: number; lines: string[] } | undefined;
  page.split("\n").forEach((text, i) => {
    const fence = /^```(.*)$/.exec(text);
    if (open !== undefined) {
      if (fence === null) open.lines.push(text);
      else {
        blocks.push({ language: open.language, text: open.lines.join("\n"), line: open.line, section });
        open = undefined;
      }
    } else if (fence !== null) open = { language: (fence[1] as string).trim(), line: i + 2, lines: [] };
    else section = /^## (.*)$/.exec(text)?.[1] ?? section;
  });
  return blocks;
}

/** Writes a program of a page to a file that git ignores, for import: names such as `tamis` mean this checkout. */
export function programFile(name: string, text: string): string {
  const path = `${repository}out/docs/${name}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${text}\n`);
  return path;
}
