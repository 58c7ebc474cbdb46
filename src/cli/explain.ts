import { readFileSync } from "node:fs";
import { compileError, didYouMean } from "../index.ts";
import { print } from "./terminal.ts";
import { packageRoot } from "./version.ts";

/** The sections of docs/errors.md by code. */
export function errorSections(): ReadonlyMap<string, string> {
  let text: string;
  try {
    text = readFileSync(new URL("docs/errors.md", packageRoot), "utf8");
  } catch {
    throw compileError("file-not-found", "docs/errors.md is not part of this installation");
  }
  const parts = text.split(/^## +/m).slice(1);
  return new Map(parts.map((part) => [codeOf(part), `## ${part.trim()}`] as const));
}

/** Headings are the code alone, with or without backticks. */
const codeOf = (part: string): string => (part.split("\n")[0] ?? "").trim().replaceAll("`", "");

/** `tamis explain CODE`: the section of docs/errors.md; without a code, all codes. */
export function explainCommand(code: string | undefined): void {
  const sections = errorSections();
  if (code === undefined) return print([...sections.keys()].sort().join("\n"));
  const section = sections.get(code);
  if (section === undefined)
    throw compileError("unknown-code", `there is no error code ${JSON.stringify(code.slice(0, 60))}`, {
      help: didYouMean(code, sections.keys()) ?? "tamis explain lists them all",
    });
  print(section);
}
