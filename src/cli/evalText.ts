import type { Evaluation, Share } from "../runtime/node/index.ts";
import { count, out, table } from "./terminal.ts";

export interface Evaluated {
  readonly model: string;
  readonly adapter: string;
  readonly data: string;
  readonly labels: readonly string[];
}

const shownClasses = 25; // of the tables; a confusion matrix wider than this does not fit a terminal
const shownMistakes = 10;

/** Accuracy, time, classes and what was taken for what, for people. */
export function evaluationText(result: Evaluation, about: Evaluated): string {
  const { top1, top5, batch, msPerExample, readingMs, runningMs, unanswered, interrupted } = result;
  const lines = [
    out.dim(`${about.model} on ${about.adapter}, ${count(top1.count)} of ${about.data} in batches of ${batch}`),
    "",
    `${out.bold("accuracy")}  ${shareText(top1)}`,
    ...(top5 === undefined ? [] : [`${out.bold("top 5")}     ${shareText(top5)}`]),
    `${out.bold("time")}      ${msPerExample.toFixed(2)} ms each (median of batches); running ${seconds(runningMs)}, reading ${seconds(readingMs)}`,
    ...(unanswered === 0 ? [] : [out.red(`${unanswered} gave NaN for every class: no answer`)]),
    ...(interrupted ? [out.yellow("interrupted: this is what was counted until then")] : []),
  ];
  const tables = [classTable(result, about.labels), ...confusionTexts(result, about.labels)];
  return [lines.join("\n"), ...tables].join("\n\n");
}

const shareText = ({ right, count: total, share, interval: [low, high] }: Share): string =>
  `${percent(share)}  (${count(right)} of ${count(total)}; 95 % interval ${percent(low)} to ${percent(high)})`;

const percent = (share: number): string => (Number.isNaN(share) ? "-" : `${(100 * share).toFixed(1)} %`);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`;

const nameOf = (labels: readonly string[], i: number): string =>
  labels[i] === undefined ? String(i) : `${i} ${labels[i]}`;

/** All classes, or those with the lowest recall. */
function classTable({ classes }: Evaluation, labels: readonly string[]): string {
  const all = classes.map((score, i) => ({ ...score, i, recall: score.right / score.count }));
  const met = all.filter(({ count, answered }) => count + answered > 0);
  const shown =
    met.length <= shownClasses
      ? met
      : met
          .filter(({ count }) => count > 0)
          .sort((a, b) => a.recall - b.recall || b.count - a.count || a.i - b.i)
          .slice(0, shownMistakes);
  const title = shown.length < met.length ? `class (the ${shown.length} with the lowest recall)` : "class";
  return table(
    [title, "examples", "right", "recall", "precision"],
    shown.map(({ i, count: total, right, answered, recall }) => [
      nameOf(labels, i),
      count(total),
      count(right),
      percent(recall),
      percent(right / answered),
    ]),
  );
}

function confusionTexts({ classes, pairs }: Evaluation, labels: readonly string[]): readonly string[] {
  const mistakes = pairs.filter(({ actual, answered }) => actual !== answered);
  if (classes.length <= shownClasses) {
    const counts = new Map(pairs.map(({ actual, answered, count }) => [`${actual} ${answered}`, count]));
    const rows = classes.map((_, actual) => [
      nameOf(labels, actual),
      ...classes.map((_, answered) => {
        const text = String(counts.get(`${actual} ${answered}`) ?? "·");
        return actual === answered ? out.green(text) : text;
      }),
    ]);
    return [table(["is, and was taken for", ...classes.map((_, i) => String(i))], rows)];
  }
  if (mistakes.length === 0) return [];
  const rows = mistakes
    .slice(0, shownMistakes)
    .map(({ actual, answered, count: times }) => [
      `${nameOf(labels, actual)} taken for ${nameOf(labels, answered)}`,
      count(times),
    ]);
  return [table(["most frequent mistakes", "times"], rows)];
}
