/** A share of `count` with its 95 % confidence interval. */
export interface Share {
  readonly right: number;
  readonly count: number;
  /** NaN without any. */
  readonly share: number;
  readonly interval: readonly [low: number, high: number];
}

/** How a model did on examples of one class. */
export interface ClassScore {
  /** Examples of the class, and those of them that were found. */
  readonly count: number;
  readonly right: number;
  /** Examples that were taken for the class. */
  readonly answered: number;
}

/** Accuracy and confusion over the examples counted so far. */
export interface Score {
  readonly top1: Share;
  /** Where there are more than 10 classes: the class is among the five with the largest logits. */
  readonly top5?: Share;
  readonly classes: readonly ClassScore[];
  /** Of every pair of classes that was met, the most frequent mistakes first, then right answers. */
  readonly pairs: readonly { readonly actual: number; readonly answered: number; readonly count: number }[];
  /** Examples whose logits are all NaN: no answer, which is wrong. */
  readonly unanswered: number;
}

/** Counts answers; holds counters only, however many examples there are. */
export interface Scorer {
  /** `logits`: one number per class, of an example of class `label`. */
  add(logits: ArrayLike<number>, label: number): void;
  score(): Score;
}

const manyClasses = 10; // above it, being among the best five says something

/** The answer is the class with the largest logit; ties go to the lowest class. */
export function createScorer(classes: number): Scorer {
  const pairs = new Map<number, number>(); // by actual * classes + answered
  const counts = new Float64Array(classes); // examples by class
  let [total, right, amongFive, unanswered] = [0, 0, 0, 0];
  return {
    add(logits, label) {
      const answered = best(logits, classes);
      const own = logits[label] as number;
      let rank = 0; // classes before this one
      for (let i = 0; i < classes; i++) {
        const x = logits[i] as number;
        if (x > own || (x === own && i < label)) rank++;
      }
      total++;
      if (answered === label) right++;
      if (rank < 5 && !Number.isNaN(own)) amongFive++;
      if (answered < 0) unanswered++;
      else pairs.set(label * classes + answered, (pairs.get(label * classes + answered) ?? 0) + 1);
      counts[label] = (counts[label] as number) + 1;
    },
    score() {
      const met = [...pairs]
        .map(([key, count]) => ({ actual: Math.floor(key / classes), answered: key % classes, count }))
        .sort(
          (a, b) => rightLast(a) - rightLast(b) || b.count - a.count || a.actual - b.actual || a.answered - b.answered,
        );
      const byClass = Array.from(counts, (count) => ({ count, right: 0, answered: 0 }));
      for (const { actual, answered, count } of met) {
        const asked = byClass[answered] as { right: number; answered: number };
        asked.answered += count;
        if (actual === answered) asked.right += count;
      }
      return {
        top1: shareOf(right, total),
        ...(classes > manyClasses && { top5: shareOf(amongFive, total) }),
        classes: byClass,
        pairs: met,
        unanswered,
      };
    },
  };
}

const rightLast = ({ actual, answered }: { readonly actual: number; readonly answered: number }): number =>
  actual === answered ? 1 : 0;

/** -1 where every logit is NaN. */
function best(logits: ArrayLike<number>, classes: number): number {
  let at = -1;
  for (let i = 0; i < classes; i++) {
    const x = logits[i] as number;
    if (!Number.isNaN(x) && (at < 0 || x > (logits[at] as number))) at = i;
  }
  return at;
}

const normal95 = 1.959963984540054; // the normal distribution's 97.5 % quantile

/** With Wilson's score interval, which stays in [0, 1] and is honest near its ends. Source: Wilson, JASA 22 (1927), 209. */
export function shareOf(right: number, count: number): Share {
  if (count === 0) return { right, count, share: Number.NaN, interval: [0, 1] };
  const share = right / count;
  const z2 = normal95 ** 2;
  const centre = share + z2 / (2 * count);
  const margin = normal95 * Math.sqrt((share * (1 - share)) / count + z2 / (4 * count ** 2));
  const scale = 1 + z2 / count;
  const interval = [Math.max(0, (centre - margin) / scale), Math.min(1, (centre + margin) / scale)] as const;
  return { right, count, share, interval };
}
