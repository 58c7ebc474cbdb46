import { degrees, expectedRight, type Outcome } from "./shrink.ts";

/**
 * Logits of two targets differ at most by this part of the largest: each may be 2e-5 from the truth, as the f32 row of
 * src/conform/tolerance.ts has it.
 */
export const allowedDifference = 4e-5;

/** What is not as it should be: right answers other than the authors' code gives, targets that disagree. */
export function failuresOf(outcomes: readonly Outcome[]): readonly string[] {
  return outcomes.flatMap(({ r, onnx, difference }) => {
    const expected = expectedRight[degrees.findIndex((degree) => degree === r)];
    const failures: string[] = [];
    if (onnx.right !== expected) failures.push(`${onnx.right} right answers, but the authors' code gives ${expected}`);
    if (!(difference.relative <= allowedDifference))
      failures.push(
        `the targets differ by ${difference.relative.toExponential(1)} of the largest logit, above ${allowedDifference}`,
      );
    return failures.map((failure) => `r = ${r}: ${failure}`);
  });
}
