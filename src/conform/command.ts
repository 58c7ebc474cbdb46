import pc from "picocolors";
import { compileError, didYouMean } from "../ir/diagnostic.ts";
import type { NamedComposite } from "../ir/op.ts";
import { closeJudgeDevice } from "./judgeDevice.ts";
import { type ConformRow, components, conform, type Target, targets } from "./run.ts";

export interface ConformCommandOptions {
  readonly component?: string;
  readonly target?: readonly string[];
  readonly outputsOnly?: boolean;
  /** Every component that is built. */
  readonly built?: boolean;
  readonly json?: boolean;
  /** Of the project's. */
  readonly composites?: readonly NamedComposite[];
}

/** `tamis conform DIR...`: prints a row per file and target; gives the exit status. */
export async function conformCommand(paths: readonly string[], options: ConformCommandOptions): Promise<number> {
  const named = options.component?.split(",").map((name) => name.trim());
  const report = await conform(paths, {
    ...(options.built === true
      ? { components: Object.keys(components), presentOnly: true }
      : named && { components: named }),
    ...(options.target !== undefined && options.target.length > 0 && { targets: options.target.map(readTarget) }),
    ...(options.composites && { composites: options.composites }),
    outputsOnly: options.outputsOnly === true,
    ...(options.json !== true && { onRow: printRow }),
  }).finally(closeJudgeDevice);
  if (options.json === true) process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
  else process.stdout.write(`${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped\n`);
  return report.failed > 0 ? 1 : 0;
}

function readTarget(text: string): Target {
  const target = targets.find((t) => t === text);
  if (target === undefined)
    throw compileError("unknown-target", `there is no target ${JSON.stringify(text)}`, {
      help: didYouMean(text, targets) ?? `the targets: ${targets.join(", ")}`,
    });
  return target;
}

const colours = { passed: pc.green, failed: pc.red, skipped: pc.yellow } as const;

function printRow({ file, component, target, status, maxAbs, maxRel, worstTensor, reason }: ConformRow): void {
  const figures =
    status === "passed" ? `  ${maxRel.toExponential(1)} in ${worstTensor} (abs ${maxAbs.toExponential(1)})` : "";
  const why = reason === "" ? "" : `  ${reason}`;
  process.stdout.write(`${colours[status](status)}  ${target.padEnd(9)}  ${component}  ${file}${figures}${why}\n`);
}
