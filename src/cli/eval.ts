import { resolve } from "node:path";
import { compileError } from "../index.ts";
import {
  classOutput,
  type DataSet,
  type Evaluation,
  evaluateModel,
  openDataSet,
  type Share,
  type Wanted,
} from "../runtime/node/index.ts";
import { readCount } from "./choice.ts";
import { openDataModule } from "./dataModule.ts";
import { evaluationText } from "./evalText.ts";
import type { ExitCode } from "./failure.ts";
import { splitName } from "./load.ts";
import { type ModelOptions, prepare } from "./prepare.ts";
import { openSession, profileFor, readProvider } from "./session.ts";
import { print, printJson, progress, say } from "./terminal.ts";
import { outputToErrors } from "./theirs.ts";

export interface EvalOptions extends ModelOptions {
  readonly data: string;
  readonly provider: string;
  readonly limit?: string;
  readonly batch?: string;
}

/** `tamis eval MODEL --data D`: accuracy of a classifier. Ctrl-C ends it with what was counted so far, and status 130. */
export async function evalCommand(text: string, options: EvalOptions): Promise<ExitCode> {
  const provider = readProvider(options.provider);
  const limit = options.limit === undefined ? undefined : readCount("limit", options.limit, 1);
  const batch = options.batch === undefined ? undefined : readCount("batch", options.batch, 1);
  const asked = { ...options, ...profileFor(provider, options) };
  await using prepared = await prepare(text, asked, { target: "onnx" });
  const { loaded, target } = prepared;
  const { session, adapter } = await openSession(prepared, options, { provider });
  await using _open = session;
  const output = classOutput(session.outputs, loaded.labels);
  if (loaded.labels.length > 0 && loaded.labels.length !== output.classes)
    throw compileError(
      "data-classes",
      `the model names ${loaded.labels.length} classes, but its output ${output.name} has ${output.classes}`,
    );
  const { inputs } = session;
  const wanted: Wanted = { inputs, pictures: loaded.pictures, classes: output.classes, labels: loaded.labels };
  const restore = outputToErrors();
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once("SIGINT", interrupt);
  let result: Evaluation;
  try {
    await using dataSet = await openData(options.data, wanted);
    for (const note of dataSet.notes) say(`tamis: ${note}`);
    const steps = progress(`eval ${loaded.name}`, examplesOf(dataSet, limit));
    try {
      result = await evaluateModel(session, dataSet, {
        output,
        ...(batch !== undefined && { batch }),
        ...(limit !== undefined && { limit }),
        signal: stop.signal,
        onBatch: steps.advance,
      });
    } finally {
      steps.stop();
    }
  } finally {
    process.off("SIGINT", interrupt);
    restore();
  }
  const about = { model: loaded.name, target, adapter, data: options.data, passes: options.pass ?? [] };
  if (options.json === true) printJson({ ...about, ...evaluationDocument(result, loaded.labels) });
  else print(evaluationText(result, { ...about, labels: loaded.labels }));
  return result.interrupted ? 130 : 0;
}

async function openData(text: string, wanted: Wanted): Promise<DataSet> {
  const { path, exportName } = await splitName(text);
  return /\.[cm]?[jt]s$/.test(path) ? openDataModule(resolve(path), exportName, wanted) : openDataSet(path, wanted);
}

const examplesOf = ({ count }: DataSet, limit: number | undefined): number | undefined =>
  count === undefined ? limit : Math.min(count, limit ?? count);

const matrixClasses = 100; // above it, --json lists the pairs that were met
const listedPairs = 1000;

function evaluationDocument(result: Evaluation, labels: readonly string[]): object {
  const { top1, top5, classes, pairs, unanswered, batch, msPerExample, readingMs, runningMs, interrupted } = result;
  const share = ({ right, share, interval }: Share) => ({ right, accuracy: share, interval });
  return {
    count: top1.count,
    ...share(top1),
    ...(top5 && { top5: share(top5) }),
    batch,
    msPerExample,
    timesMs: { reading: readingMs, running: runningMs },
    unanswered,
    interrupted,
    classes: classes.map(({ count, right, answered }, i) => ({
      ...(labels[i] !== undefined && { label: labels[i] }),
      count,
      right,
      answered,
      recall: count === 0 ? null : right / count,
      precision: answered === 0 ? null : right / answered,
    })),
    ...(classes.length <= matrixClasses
      ? { confusion: confusionMatrix(result) }
      : { confusedPairs: pairs.filter(({ actual, answered }) => actual !== answered).slice(0, listedPairs) }),
  };
}

/** Rows: what examples are; columns: what the model took them for. */
export function confusionMatrix({ classes, pairs }: Evaluation): readonly (readonly number[])[] {
  const rows = classes.map(() => classes.map(() => 0));
  for (const { actual, answered, count } of pairs) (rows[actual] as number[])[answered] = count;
  return rows;
}
