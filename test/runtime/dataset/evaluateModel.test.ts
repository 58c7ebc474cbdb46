import { describe, expect, test } from "vitest";
import { tensorData } from "../../../src/ir/type.ts";
import { createScorer, shareOf } from "../../../src/runtime/node/dataset/score.ts";
import { classOutput, type DataSet, evaluateModel, type SessionValue } from "../../../src/runtime/node/index.ts";
import { refusal } from "../folder.ts";
import { cornerSession, evaluated } from "./corner.ts";

/** Examples that show corner i % 4 and are said to be `label(i)`; tells how many were read. */
function endless(
  label: (i: number) => number,
  count = Number.POSITIVE_INFINITY,
): DataSet & { readonly read: () => number } {
  let read = 0;
  return {
    count: undefined,
    notes: [],
    read: () => read,
    async *examples() {
      for (let i = 0; i < count; i++)
        yield {
          name: `example ${i}`,
          label: label(i),
          read: async () => {
            read++;
            return {
              image: tensorData(
                "f32",
                [1, 2, 2],
                [0, 1, 2, 3].map((at) => (at === i % 4 ? 1 : 0)),
              ),
            };
          },
        };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

describe("batches", () => {
  test.each([1, 3, 4, 7, 100])(
    "of %i give the same answers for 7 examples, the last batch as small as it is",
    async (batch) => {
      const shown: number[] = [];
      const { top1, pairs } = await evaluated(
        endless((i) => (i < 5 ? i % 4 : 0), 7),
        { batch, onBatch: (examples) => shown.push(examples) },
      );
      expect([top1.right, top1.count]).toEqual([5, 7]);
      expect(pairs.slice(0, 2)).toEqual([
        { actual: 0, answered: 1, count: 1 },
        { actual: 0, answered: 2, count: 1 },
      ]);
      expect(shown.reduce((a, b) => a + b)).toBe(7);
      expect(shown.at(-1)).toBe(7 % batch || batch);
    },
  );

  test("that the model has fixed are filled up, and what fills them does not count", async () => {
    await using session = await cornerSession(4);
    const examples = endless((i) => i % 4, 6);
    const { top1, batch } = await evaluateModel(session, examples);
    expect([top1.right, top1.count, batch, examples.read()]).toEqual([6, 6, 4, 6]);
    expect(
      (
        await refusal(
          evaluateModel(
            session,
            endless(() => 0, 6),
            { batch: 3 },
          ),
        )
      ).message,
    ).toContain("the model takes batches of 4, not of 3");
  });

  test("are read as they are needed: a limit ends an endless data set, and no more is read than it", async () => {
    const examples = endless((i) => i % 4);
    expect((await evaluated(examples, { limit: 10, batch: 4 })).top1.count).toBe(10);
    expect(examples.read()).toBe(10);
  });

  test("end with the signal, and what was counted stays", async () => {
    const stop = new AbortController();
    const { top1, interrupted } = await evaluated(
      endless((i) => i % 4),
      {
        batch: 4,
        signal: stop.signal,
        onBatch: () => stop.abort(),
      },
    );
    expect([top1.count, interrupted]).toEqual([4, true]);
  });

  test("of examples that do not fit the model are refused by name", async () => {
    const wrong = (values: ReturnType<typeof tensorData> | undefined): DataSet => ({
      ...endless(() => 0),
      async *examples() {
        yield { name: "example 0", label: 0, read: async () => (values === undefined ? {} : { image: values }) };
      },
    });
    const message = async (values?: ReturnType<typeof tensorData>) => (await refusal(evaluated(wrong(values)))).message;
    expect(await message(tensorData("f32", [1, 3, 2], new Array(6).fill(0)))).toContain(
      "example 0 is f32[1,3,2], wanted input image: f32[1,2,2] of one example",
    );
    expect(await message(tensorData("i32", [1, 2, 2], [0, 0, 0, 0]))).toContain("example 0 is i32[1,2,2]");
    expect(await message()).toContain("example 0 gives nothing for input image");
    expect((await refusal(evaluated(endless(() => 4, 1)))).code).toBe("data-label");
    expect((await refusal(evaluated(endless(() => 0, 0)))).code).toBe("data-empty");
  });
});

describe("the output with the classes", () => {
  const value = (name: string, ...shape: readonly (number | string)[]): SessionValue => ({ name, dtype: "f32", shape });
  test("is called logits, or is the only one, or has as many as there are labels", async () => {
    const [logits, other, tokens] = [value("logits", "batch", 10), value("z", "batch", 7), value("t", "batch", 5, 7)];
    expect(classOutput([other, tokens, logits])).toEqual({ name: "logits", classes: 10 });
    expect(classOutput([tokens, other])).toEqual({ name: "z", classes: 7 });
    expect(classOutput([value("a", "batch", 3), other], ["x", "y", "z"])).toEqual({ name: "a", classes: 3 });
    expect((await refusal(() => classOutput([tokens]))).code).toBe("no-classes");
    expect((await refusal(() => classOutput([value("a", "batch", 3), other]))).message).toContain("2 outputs");
  });
});

describe("the score", () => {
  test("has Wilson's interval", () => {
    // Newcombe, Statistics in Medicine 17 (1998), 857, table I: method 3.
    for (const [right, count, low, high] of [
      [81, 263, 0.2553, 0.3662],
      [15, 148, 0.0624, 0.1605],
      [0, 20, 0, 0.1611],
      [1, 29, 0.0061, 0.1718],
    ] as const) {
      const { interval } = shareOf(right, count);
      expect(interval.map((x) => Number(x.toFixed(4)))).toEqual([low, high]);
    }
    expect(shareOf(0, 0).interval).toEqual([0, 1]);
  });

  test("gives ties to the lowest class, and no answer to NaN", () => {
    const scorer = createScorer(3);
    scorer.add([1, 1, 0], 0);
    scorer.add([1, 1, 0], 1);
    scorer.add([Number.NaN, Number.NaN, Number.NaN], 2);
    scorer.add([Number.NaN, -1, -2], 1);
    const { top1, unanswered, classes, top5 } = scorer.score();
    expect([top1.right, top1.count, unanswered, top5]).toEqual([2, 4, 1, undefined]);
    expect(classes).toEqual([
      { count: 1, right: 1, answered: 2 },
      { count: 2, right: 1, answered: 1 },
      { count: 1, right: 0, answered: 0 },
    ]);
  });

  test("has the best five where there are more than ten classes", () => {
    const scorer = createScorer(11);
    const descending = Array.from({ length: 11 }, (_, i) => -i);
    for (const label of [0, 4, 5]) scorer.add(descending, label);
    scorer.add(new Array(11).fill(0), 5); // ties: the five lowest classes are the best
    scorer.add(new Array(11).fill(Number.NaN), 0);
    const { top1, top5 } = scorer.score();
    expect([top1.right, top5?.right, top5?.count]).toEqual([1, 2, 5]);
  });
});
