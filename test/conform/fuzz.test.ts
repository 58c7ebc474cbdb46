import { afterAll, expect, test } from "vitest";
import { fuzz } from "../../src/conform/fuzz.ts";
import { closeJudgeDevice } from "../../src/conform/judgeDevice.ts";

afterAll(closeJudgeDevice);

test("300 random graphs have equal results on the reference and on ONNX Runtime", async () => {
  const report = await fuzz({ count: 300, seed: 70_000, targets: ["onnx"] });
  expect(report.failures).toEqual([]);
  expect(report.agreed).toBeGreaterThanOrEqual(295);
});

test("a dozen random graphs have equal results on all three judges", async () => {
  const report = await fuzz({ count: 12, seed: 80_000 });
  expect(report.failures).toEqual([]);
  expect(report.agreed).toBeGreaterThanOrEqual(11);
});
