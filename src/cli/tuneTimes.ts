/** One run of a program: nanoseconds of each of its kernels, in order. */
export interface Round {
  readonly nanoseconds: readonly number[];
}

/** Nanoseconds by round. */
export type KeyTimes = readonly number[];

const leastGain = 1.03; // below it, the next measurement may say the opposite

/** Which of the rivals is quickest, if it beats the default by 3 %; undefined also where the clock stood still. */
export function quickest(usual: KeyTimes, rivals: readonly KeyTimes[]): number | undefined {
  let winner: number | undefined;
  let most = leastGain;
  rivals.forEach((times, k) => {
    const ratio = ratioOf(usual, times);
    if (ratio >= most) [winner, most] = [k, ratio];
  });
  return winner;
}

/** Median over rounds of usual / times, so that load that comes and goes cancels; 1 where nothing was measured. */
export function ratioOf(usual: KeyTimes, times: KeyTimes): number {
  const ratios = usual.flatMap((ns, round) => {
    const other = times[round] ?? 0;
    return ns > 0 && other > 0 ? [ns / other] : [];
  });
  return ratios.length === 0 ? 1 : median(ratios);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}
