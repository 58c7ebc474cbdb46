import { arch, platform } from "node:os";
import { CommanderError } from "commander";
import { CompileError, type Diagnostic, diagnostic, diagnosticJson, OpError } from "../index.ts";
import { formatForTerminal, printJson, say } from "./terminal.ts";
import { version } from "./version.ts";

/** What a command ended with: fine, the user's input is wrong, usage, a defect of ours; ended by Ctrl-C. */
export type ExitCode = 0 | 1 | 2 | 3 | 130;

/** Prints what went wrong, on standard error or as the document of `--json`, and gives the exit status. */
export function reportFailure(error: unknown, argv: readonly string[], usage: string): ExitCode {
  const json = argv.includes("--json");
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // --help and --version
    const message = error.message.replace(/^error: /, "");
    if (json) printErrors([diagnostic("usage", message === "(outputHelp)" ? "no command given" : message)]);
    else say(usage === "" ? error.message : usage);
    return 2;
  }
  const diagnostics = diagnosticsOf(error);
  if (diagnostics !== undefined) {
    if (json) printErrors(diagnostics);
    else for (const d of diagnostics) say(formatForTerminal(d));
    return 1;
  }
  const report = defectReport(error, argv);
  say(report);
  if (json) printErrors([diagnostic("internal-error", error instanceof Error ? error.message : String(error))]);
  return 3;
}

/** Options that do not go together, where the parser cannot say so: exit status 2. */
export const usageError = (message: string): CommanderError =>
  new CommanderError(2, "tamis.usage", `error: ${message}`);

/** The findings of a user's mistake; undefined for anything else. A model's file may hold another copy of Tamis. */
export function diagnosticsOf(error: unknown): readonly Diagnostic[] | undefined {
  if (error instanceof CompileError) return error.diagnostics;
  if (error instanceof OpError) return [diagnostic(error.code, error.message, { help: error.help })];
  if (error instanceof Error && error.name === "CompileError" && "diagnostics" in error)
    return (error as CompileError).diagnostics;
  return undefined;
}

const printErrors = (diagnostics: readonly Diagnostic[]): void =>
  printJson({ error: { diagnostics: diagnostics.map(diagnosticJson) } });

function defectReport(error: unknown, argv: readonly string[]): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return [
    "tamis: this is a defect of Tamis, not of your input; please send us this report, with the model if you may:",
    "",
    `  command: tamis ${argv.map((part) => (/^[\w./:=,@+-]+$/.test(part) ? part : JSON.stringify(part))).join(" ")}`,
    `  version: ${version}`,
    `  node: ${process.version} on ${platform()} ${arch()}`,
    ...stack.split("\n").map((line) => `  ${line}`),
  ].join("\n");
}
