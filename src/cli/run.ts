import { join } from "node:path";
import { compileError, formatType, type TensorData, toNumbers } from "../index.ts";
import { type Session, writeSafetensors } from "../runtime/node/index.ts";
import { makeFolder } from "./artifact.ts";
import { readBindings, readCount } from "./choice.ts";
import { readInputs } from "./inputs.ts";
import { kernelTable, timeKernels } from "./kernelTimes.ts";
import { type ModelOptions, prepare } from "./prepare.ts";
import { openSession, profileFor, readProvider } from "./session.ts";
import { out, print, printJson, progress } from "./terminal.ts";

export interface RunOptions extends ModelOptions {
  readonly provider: string;
  readonly input?: readonly string[];
  readonly bind?: readonly string[];
  readonly repeat: string;
  readonly threads?: string;
  readonly profileKernels?: boolean;
  /** False where --no-tuning is given. */
  readonly tuning: boolean;
  readonly output?: string;
  readonly save?: string;
}

/** `tamis run MODEL --input name=FILE`: outputs and times. */
export async function runCommand(text: string, options: RunOptions): Promise<void> {
  const provider = readProvider(options.provider);
  const repeat = readCount("repeat", options.repeat, 1);
  const threads = options.threads === undefined ? undefined : readCount("threads", options.threads, 1);
  const sizes = readBindings(options.bind);
  const asked = { ...options, ...profileFor(provider, options) };
  await using prepared = await prepare(text, asked, { target: "onnx" });
  const { target, loaded } = prepared;
  if (options.profileKernels === true && target !== "webgpu")
    throw compileError("not-available", `the ${target} target does not time its kernels, --repeat times whole runs`, {
      help: "--target webgpu --profile-kernels does",
    });
  const { session, adapter, profiled, tuning } = await openSession(prepared, options, {
    provider,
    tuned: options.tuning && process.env["TAMIS_NO_TUNING"] !== "1",
    ...(threads !== undefined && { threads }),
  });
  await using _open = session;
  const inputs = await readInputs(session.inputs, { texts: options.input ?? [], pictures: loaded.pictures, sizes });
  const { outputs, timesMs } = await timed(session, inputs, repeat, loaded.name);
  const kernels =
    options.profileKernels === true && profiled !== undefined ? await timeKernels(profiled, inputs, repeat) : undefined;
  if (options.save !== undefined) await writeSafetensors(options.save, entriesOf(outputs));
  if (options.json === true) {
    const written = await jsonOutputs(outputs, options.output);
    return printJson({
      target,
      adapter,
      ...(tuning && { tuning }),
      outputs: written,
      timesMs,
      ...(kernels && { kernels }),
    });
  }
  if (options.output !== undefined) await writeOutputs(outputs, options.output);
  print(out.dim(`${loaded.name} on ${adapter}${tuning === undefined ? "" : `, tuning: ${tuning}`}`));
  for (const [name, contents] of Object.entries(outputs)) print(outputText(name, contents, loaded.labels));
  if (kernels !== undefined) print(kernelTable(kernels));
  print(out.dim(timesText(timesMs)));
}

async function timed(session: Session, inputs: Readonly<Record<string, TensorData>>, repeat: number, name: string) {
  const steps = progress(`run ${name}`, repeat);
  const timesMs: number[] = [];
  let outputs: Readonly<Record<string, TensorData>> = {};
  try {
    for (let i = 0; i < repeat; i++) {
      const start = performance.now();
      outputs = await session.run(inputs);
      timesMs.push(performance.now() - start);
      steps.advance();
    }
  } finally {
    steps.stop();
  }
  return { outputs, timesMs };
}

const shownElements = 4096; // of an output in the document of --json

async function jsonOutputs(outputs: Readonly<Record<string, TensorData>>, folder: string | undefined): Promise<object> {
  const entries = Object.entries(outputs).map(async ([name, contents]) => {
    const { shape, dtype, values } = contents;
    if (values.length <= shownElements) return [name, { shape, dtype, data: [...toNumbers(contents)] }] as const;
    if (folder === undefined) return [name, { shape, dtype }] as const;
    return [name, { shape, dtype, file: await writeOutput(folder, name, contents) }] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

async function writeOutput(folder: string, name: string, contents: TensorData): Promise<string> {
  await makeFolder(folder);
  const path = join(folder, `${name.replace(/[^\w.-]/g, "-")}.safetensors`);
  await writeSafetensors(path, [{ name, source: contents }]);
  return path;
}

async function writeOutputs(outputs: Readonly<Record<string, TensorData>>, folder: string): Promise<void> {
  for (const [name, contents] of Object.entries(outputs)) await writeOutput(folder, name, contents);
}

const entriesOf = (outputs: Readonly<Record<string, TensorData>>) =>
  Object.entries(outputs).map(([name, source]) => ({ name, source }));

const firstElements = 6; // shown of an output
const firstRows = 4; // classified of a batch
const best = 5;

function outputText(name: string, contents: TensorData, labels: readonly string[]): string {
  const { shape, values } = contents;
  const numbers = toNumbers(contents);
  const head = Array.from(numbers.slice(0, firstElements), (x) => Number(x.toPrecision(5))).join(", ");
  const more = values.length > firstElements ? ", ..." : "";
  const lines = [`${out.bold(name)}: ${formatType(contents)} = [${head}${more}]`];
  const classes = shape.at(-1) ?? 0;
  if (labels.length > 0 && classes === labels.length && contents.dtype !== "bool")
    for (let row = 0; row < Math.min(firstRows, values.length / classes); row++)
      lines.push(...topClasses(numbers.subarray(row * classes, (row + 1) * classes), labels));
  return lines.join("\n");
}

/** The best classes of one row of logits, with their softmax. */
function topClasses(logits: Float64Array, labels: readonly string[]): readonly string[] {
  const peak = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - peak));
  const total = weights.reduce((sum, x) => sum + x, 0);
  return [...weights.keys()]
    .sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    .slice(0, best)
    .map((i) => `  ${((100 * (weights[i] as number)) / total).toFixed(1).padStart(5)} %  ${labels[i]}`);
}

function timesText(timesMs: readonly number[]): string {
  const sorted = [...timesMs].sort((a, b) => a - b);
  const [first = 0] = sorted;
  const median = ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
  return timesMs.length === 1
    ? `${first.toFixed(1)} ms`
    : `${timesMs.length} runs: least ${first.toFixed(1)} ms, median ${median.toFixed(1)} ms`;
}
