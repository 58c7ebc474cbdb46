import { expect, test } from "vitest";
import { costOf, lower, parsePassSpec } from "../../src/index.ts";
import { deitSmall, deitTiny, vitBase, vitLarge } from "../../src/models/index.ts";
import { readPage } from "./blocks.ts";

const models = { "DeiT-Ti": deitTiny, "DeiT-S": deitSmall, "ViT-B": vitBase, "ViT-L": vitLarge };
const rows = [
  ...readPage("docs/papers/03-tocom.md").matchAll(/^\| (DeiT-Ti|DeiT-S|ViT-B|ViT-L) \| ([\d.]+) \| (.+) \|$/gm),
];
const cases = rows.flatMap(([, model, plain, merged]) => [
  [model, "0", plain],
  ...[...(merged as string).matchAll(/([\d.]+) \(r=(\d+|\(.*?\))\)/g)].map(([, macs, r]) => [model, r, macs]),
]) as [keyof typeof models, string, string][];

test("the table has a row per model", () => expect(cases).toHaveLength(12));

test.each(cases)("%s with r=%s takes %s GMAC", (model, r, gmac) => {
  const lowered = lower(models[model], { passes: [parsePassSpec(`mergeTokens:r=${r}`).make()] });
  const { macs } = costOf(lowered.model.graph, { symbols: new Map([["batch", 1]]), exclude: new Set(["tokenMatch"]) });
  expect((Number(macs) / 1e9).toFixed(2)).toBe(gmac);
});
