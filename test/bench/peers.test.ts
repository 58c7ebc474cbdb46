import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { type Case, cases, macsOf, selectCases, type Task, termsOf } from "../../bench/peers/cases.ts";
import { transposed } from "../../bench/peers/layout.ts";
import { type CaseResult, median, type Outcome, shareOf } from "../../bench/peers/measure.ts";
import { modelOf } from "../../bench/peers/models.ts";
import { operandsOf } from "../../bench/peers/operands.ts";
import { decodeOutput } from "../../bench/peers/protocol.ts";
import { erf, referenceOf } from "../../bench/peers/reference.ts";
import { cellsOf, geometricMean, markdown, remarksOf, rowOf } from "../../bench/peers/report.ts";
import { benchPeers } from "../../src/cli/benchPeers.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { costOf } from "../../src/ir/cost.ts";
import { createReferenceSession } from "../../src/runtime/node/reference.ts";

const small: readonly Task[] = [
  { kind: "matmul", m: 3, k: 5, n: 4 },
  { kind: "matmul", batch: 2, m: 3, k: 5, n: 4 },
  { kind: "attention", heads: 2, tokens: 5, channels: 4, causal: false },
  { kind: "attention", heads: 2, tokens: 5, channels: 4, causal: true },
  { kind: "layerNorm", rows: 3, channels: 7 },
  { kind: "softmax", shape: [2, 3, 5] },
  { kind: "conv", channels: 3, out: 4, side: 6, kernel: 3, stride: 1, padding: 1 },
  { kind: "conv", channels: 3, out: 4, side: 8, kernel: 4, stride: 4, padding: 0 },
  { kind: "topK", rows: 3, length: 9, k: 4 },
  { kind: "block", tokens: 5, dim: 8, heads: 2 },
];
const caseOf = (task: Task): Case => ({ name: JSON.stringify(task), family: "model", task });

test.each(small.map((task) => [task.kind, task] as const))(
  "the f64 loops of %s give what the interpreter gives for our model",
  async (_, task) => {
    const operands = await operandsOf(caseOf(task));
    const model = modelOf(caseOf(task), operands);
    await using session = await createReferenceSession(model);
    const inputs = Object.fromEntries(
      session.inputs.map(({ name }) => {
        const { shape, values } = operands.get(name) ?? { shape: [], values: new Float32Array() };
        return [name, { dtype: "f32" as const, shape, values }];
      }),
    );
    const results = await session.run(inputs);
    const wanted = await referenceOf(task, operands);
    expect(session.outputs).toHaveLength(wanted.length);
    for (const [i, { name }] of session.outputs.entries()) {
      const { values = [] } = results[name] ?? {};
      const [shape, expected] = [[values.length], wanted[i] ?? []];
      const difference = compareTensors(
        { dtype: "f64", shape, values: Float64Array.from(values, Number) },
        { dtype: "f64", shape: [expected.length], values: expected },
        tolerance("f64", { target: "reference" }),
      );
      expect(difference.message).toBe("");
    }
  },
);

test("names are unique, sums are at most 1 GFLOP, and what is 0 multiplications is not about arithmetic", () => {
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  for (const { family, task } of cases) {
    expect(2 * macsOf(task)).toBeLessThanOrEqual(1e9);
    expect(macsOf(task) > 0).toBe(!["norm", "top-k"].includes(family));
    expect(termsOf(task)).toBeGreaterThan(0);
  }
  expect(cases.filter(({ family }) => family === "gemm")).toHaveLength(12);
});

test("multiplications are those that the cost model counts", async () => {
  const exclude = new Set(["layerNorm", "gelu"]); // counted by it, not by us
  for (const wanted of cases.filter(({ task }) => ["matmul", "block", "fashionVit"].includes(task.kind))) {
    const { graph } = modelOf(wanted, await operandsOf(wanted));
    expect(costOf(graph, { exclude }).macs).toBe(macsOf(wanted.task));
  }
});

test("cases are chosen by family or by a part of their name", () => {
  const names = (words: string | undefined) => selectCases(words).map(({ name }) => name);
  expect(names("norm")).toEqual(["layer norm 197x384", "softmax 6x197x197"]);
  expect(names("top-k 64, fashion")).toEqual(["top-k 64x197 k=16", "Fashion ViT batch 1"]);
  expect(names(undefined)).toHaveLength(cases.length);
  expect(names("nothing")).toEqual([]);
});

test("operands are the same in every process and differ between cases", async () => {
  const [first, second] = [caseOf(small[0] as Task), { ...caseOf(small[0] as Task), name: "another" }];
  expect(await operandsOf(first)).toEqual(await operandsOf(first));
  expect(await operandsOf(first)).not.toEqual(await operandsOf(second));
});

test("a budget is shared out over rounds, and a slow peer takes fewer of them", () => {
  const effort = { rounds: 7, budgetMs: 700 };
  expect(shareOf(10, effort)).toEqual({ times: 10, turns: 7 });
  expect(shareOf(150, effort)).toEqual({ times: 1, turns: 5 });
  expect(shareOf(2000, effort)).toEqual({ times: 1, turns: 5 });
  expect(shareOf(0, effort)).toEqual({ times: 1000, turns: 7 });
});

test("the median of an even number of times is the mean of the middle two", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

test("layouts are reordered as transpose does it", () => {
  expect([...transposed([1, 2, 3, 4, 5, 6], [2, 3], [1, 0])]).toEqual([1, 4, 2, 5, 3, 6]);
  const [x, shape] = [Array.from({ length: 24 }, (_, i) => i), [2, 3, 4]];
  expect([...transposed(transposed(x, shape, [2, 0, 1]), [4, 2, 3], [1, 2, 0])]).toEqual(x);
});

test("results cross the border between processes unchanged", () => {
  const values = Float32Array.of(1.5, -0, Infinity, 3e-39);
  expect(decodeOutput(Buffer.from(values.buffer).toString("base64"))).toEqual(values);
});

test("erf is that of the tables", () => {
  // Abramowitz and Stegun, table 7.1.
  expect(erf(0.5)).toBeCloseTo(0.520499877813, 12);
  expect(erf(-1)).toBeCloseTo(-0.842700792949, 10);
  expect(erf(2.5)).toBeCloseTo(0.99959304798, 10);
  expect(erf(3)).toBeCloseTo(0.999977909503, 12);
});

const tried = [{ form: "usual", status: "measured", reason: undefined }] as const;
const measured = (...rounds: readonly number[]): Outcome => ({
  status: "measured",
  medianMs: median(rounds),
  leastMs: Math.min(...rounds),
  rounds,
  tried,
});
const [gemm] = cases as readonly [Case];
const resultOf = (outcomes: Partial<Record<"ours" | "jax" | "tfjs" | "ort", Outcome>>): CaseResult => ({
  case: gemm,
  outcomes: new Map(Object.entries(outcomes)) as CaseResult["outcomes"],
});
const wrong: Outcome = {
  status: "wrong",
  reason: "element 0: got 1, wanted 2",
  tried: [{ form: "fused", status: "wrong", reason: "element 0: got 1, wanted 2" }],
};

test("a row compares with the best peer that is right, round by round", () => {
  const row = rowOf(
    resultOf({ ours: measured(10, 20, 10), jax: measured(20, 40), tfjs: measured(90, 90), ort: wrong }),
  );
  expect(row).toMatchObject({ best: "jax", speed: 2 });
  expect(row.gigaflops).toBeCloseTo((2 * 256 ** 3) / 10e6, 6);
  expect(cellsOf(row, ["ours", "jax", "ort"])).toEqual([gemm.name, "10.0", "30.0", "wrong", "2.00 jax", "3.36"]);
});

test("without a right result of ours or of a peer there is no ratio", () => {
  expect(rowOf(resultOf({ ours: wrong, jax: measured(1) })).speed).toBeUndefined();
  expect(rowOf(resultOf({ ours: measured(1), jax: wrong })).speed).toBeUndefined();
  expect(geometricMean([undefined])).toBeUndefined();
  expect(geometricMean([4, undefined, 1])).toBe(2);
});

test("another checkout of ours has a ratio of its own and is no peer", () => {
  const result = resultOf({ ours: measured(10), jax: measured(20) });
  const row = rowOf({ ...result, outcomes: new Map([...result.outcomes, ["base", measured(15)] as const]) });
  expect(row).toMatchObject({ best: "jax", speed: 2, overBase: 1.5 });
  expect(cellsOf(row, ["ours", "base"]).at(-1)).toBe("1.50");
});

test("the page holds the figures, the mean, what is lost and every refusal", () => {
  const rows = [
    rowOf(resultOf({ ours: measured(10), jax: measured(40), ort: wrong })),
    { ...rowOf(resultOf({ ours: measured(10), jax: measured(2.5) })), case: { ...gemm, name: "another" } },
  ];
  const page = markdown(
    {
      command: "tamis bench peers",
      adapter: "an adapter",
      machine: "a machine",
      date: "2026-01-01",
      commit: "0123abc",
      peers: [
        { name: "ours", peer: "ours", version: "1" },
        { name: "jax", peer: "jax-js", version: "2" },
      ],
      rounds: 1,
    },
    rows,
  );
  expect(page).toContain(`| ${gemm.name} | 10.0 | 40.0 | 4.00 jax | 3.36 |`);
  expect(page).toContain("Geometric mean of best peer / ours: 1.00 over 2 cases.");
  expect(page).toContain("Lost: another (0.25).");
  expect(page).toContain("- jax: jax-js 2 (MIT)");
  expect(remarksOf(rows)).toEqual([`ort (fused) wrong: ${gemm.name}: element 0: got 1, wanted 2`]);
});

test("bench peers says what it needs where it is not there", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tamis-bench-"));
  try {
    await expect(benchPeers({}, `${folder}/`)).rejects.toThrow("bench peers runs in a checkout of tamis");
    await cp(fileURLToPath(new URL("../../bench/peers", import.meta.url)), join(folder, "peers"), { recursive: true });
    await expect(benchPeers({}, `${folder}/`)).rejects.toMatchObject({
      diagnostics: [{ code: "missing-dependency", help: "npm ci --prefix bench" }],
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});
