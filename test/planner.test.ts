import { expect, test } from "vitest";
import { plansOf, presets } from "../scripts/planner.ts";

const mebibyte = 2 ** 20;

test("there are the presets of every family", () => {
  const names = presets.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["deit-tiny", "vit-large", "fashion-vit", "clip-l14", "llama-7b"]));
});

test.each(presets.map((model) => [model.name, model] as const))(
  "the plan of %s needs at most a tenth more than what is alive at once",
  (_, model) => {
    const plans = plansOf(model);
    expect(plans.length).toBeGreaterThan(0);
    const wasteful = plans.filter(({ planned, lowerBound }) => planned > mebibyte && planned > 1.1 * lowerBound);
    expect(wasteful).toEqual([]);
    for (const { planned, naive, lowerBound } of plans) {
      expect(planned).toBeGreaterThanOrEqual(lowerBound);
      expect(planned).toBeLessThan(naive);
    }
  },
);
