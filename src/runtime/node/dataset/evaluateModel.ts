import { compileError } from "../../../ir/diagnostic.ts";
import { formatType, type TensorData, toNumbers } from "../../../ir/type.ts";
import type { Session, SessionValue } from "../../session.ts";
import { batchOf, fill, readBatch } from "./batch.ts";
import type { DataSet, Example } from "./dataset.ts";
import { createScorer, type Score } from "./score.ts";

/** How `evaluateModel` goes through a data set. */
export interface EvaluateModelOptions {
  /** Examples in one run; where the model's batch has a fixed size, that size. Default 32. */
  readonly batch?: number;
  /** Examples at most. */
  readonly limit?: number;
  /** Ends after the batch that is running. */
  readonly signal?: AbortSignal;
  /** Called after each batch with the examples that it held. */
  readonly onBatch?: (examples: number) => void;
}

/** What `evaluateModel` found, and how long it took. */
export interface Evaluation extends Score {
  readonly batch: number;
  /** Median over batches of a run's time, by its examples. */
  readonly msPerExample: number;
  /** In all: of reading examples, and of running the model. */
  readonly readingMs: number;
  readonly runningMs: number;
  /** The signal ended it before the data set did. */
  readonly interrupted: boolean;
}

/** An output of a model that is one number per class. */
export interface ClassOutput {
  readonly name: string;
  readonly classes: number;
}

/** The output [batch, classes]: the one called `logits`, or the only one of its kind. Fails with `no-classes`. */
export function classOutput(outputs: readonly SessionValue[], labels: readonly string[] = []): ClassOutput {
  const candidates = outputs.flatMap(({ name, shape: [batch, classes, ...rest] }) =>
    batch !== undefined && typeof classes === "number" && rest.length === 0 ? [{ name, classes }] : [],
  );
  const found =
    candidates.find(({ name }) => name === "logits") ??
    (candidates.length === 1 ? candidates[0] : candidates.find(({ classes }) => classes === labels.length));
  if (found !== undefined) return found;
  throw compileError("no-classes", `the model has ${candidates.length} outputs of one number per class`, {
    help: `its outputs: ${outputs.map((output) => `${output.name}: ${formatType(output)}`).join(", ")}; call one logits`,
  });
}

/**
 * Runs a model over a data set in batches and counts right answers. Never holds more than one batch. The last batch is
 * as small as it comes out; where the model's batch is fixed it is filled up with copies, which do not count.
 * Fails with `no-classes`, `bad-option`, `data-empty`, `data-label`, `bad-input` and as the data set.
 */
export async function evaluateModel(
  session: Pick<Session, "inputs" | "outputs" | "run">,
  dataSet: DataSet,
  options: EvaluateModelOptions & { readonly output?: ClassOutput } = {},
): Promise<Evaluation> {
  const { limit = Number.POSITIVE_INFINITY, signal, onBatch } = options;
  const output = options.output ?? classOutput(session.outputs);
  const { batch, fixed } = batchOf(session.inputs, options.batch);
  const scorer = createScorer(output.classes);
  const timesMs: number[] = []; // of one example, by batch
  let [readingMs, runningMs, count] = [0, 0, 0];
  let readFrom = performance.now();
  for await (const examples of batches(dataSet, batch, limit)) {
    const filled = fixed ? fill(examples, batch) : examples;
    const inputs = await readBatch(filled, session.inputs);
    const start = performance.now();
    readingMs += start - readFrom;
    const outputs = await session.run(inputs);
    readFrom = performance.now();
    runningMs += readFrom - start;
    timesMs.push((readFrom - start) / filled.length);
    const logits = toNumbers(outputs[output.name] as TensorData);
    examples.forEach(({ label, name }, i) => {
      checkLabel(label, output.classes, name);
      scorer.add(logits.subarray(i * output.classes, (i + 1) * output.classes), label);
    });
    count += examples.length;
    onBatch?.(examples.length);
    await new Promise(setImmediate); // signals are heard even where nothing else waits
    if (signal?.aborted === true) break;
  }
  const interrupted = signal?.aborted === true && count < limit && count !== dataSet.count;
  if (count === 0) throw compileError("data-empty", "the data set holds no examples");
  return { ...scorer.score(), batch, msPerExample: median(timesMs), readingMs, runningMs, interrupted };
}

/** Examples in groups of `batch`, at most `limit` of them. */
async function* batches(dataSet: DataSet, batch: number, limit: number): AsyncIterable<readonly Example[]> {
  let group: Example[] = [];
  let taken = 0;
  for await (const example of dataSet.examples()) {
    group.push(example);
    taken++;
    if (group.length === batch) {
      yield group;
      group = [];
    }
    if (taken >= limit) break;
  }
  if (group.length > 0) yield group;
}

function checkLabel(label: number, classes: number, example: string): void {
  if (Number.isInteger(label) && label >= 0 && label < classes) return;
  throw compileError(
    "data-label",
    `label ${label} of ${example} is no class of the model, which has 0 to ${classes - 1}`,
  );
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? Number.NaN) + (sorted[sorted.length >> 1] ?? Number.NaN)) / 2;
}
