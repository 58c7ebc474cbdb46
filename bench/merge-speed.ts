// How much of its arithmetic ToMe gives back: DeiT-S on ONNX Runtime's CPU provider with and without merging, our files
// both. Each runs in a process of its own, as it would for a user, in turns; the ratio is that of the medians.
// npx tsx bench/merge-speed.ts [--r 13] [--threads 2] [--batch 1] [--turns 5]
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { emitOnnx } from "../src/backends/onnx/index.ts";
import { lower } from "../src/compile.ts";
import { costOf } from "../src/ir/cost.ts";
import { type Graph, parametersOf, sourceName } from "../src/ir/graph.ts";
import { deitSmall } from "../src/models/index.ts";
import { bindSymbols } from "../src/passes/bindSymbols.ts";
import { mergeTokens } from "../src/passes/mergeTokens/mergeTokens.ts";
import { createOrtSession, randomSource, randomTensor } from "../src/runtime/node/index.ts";

const { values: flags } = parseArgs({
  options: {
    r: { type: "string", default: "13" },
    threads: { type: "string", default: "2" },
    batch: { type: "string", default: "1" },
    turns: { type: "string", default: "5" },
    only: { type: "string" },
  },
});
const [r, threads, batch, turns] = [flags.r, flags.threads, flags.batch, flags.turns].map(Number) as [
  number,
  number,
  number,
  number,
];
const [warmUps, runs] = [5, 40];

const graphOf = (merged: boolean): Graph =>
  lower(deitSmall, { passes: [...(merged ? [mergeTokens({ r })] : []), bindSymbols({ batch })] }).model.graph;
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

/** Median milliseconds of one file, in this process. */
async function timeOne(merged: boolean): Promise<number> {
  const graph = graphOf(merged);
  const weights = new Map(
    parametersOf(graph).map((node, i) => {
      const { dtype, shape } = node.results[0]?.type ?? { dtype: "f32", shape: [] };
      const name = sourceName(node);
      return [name, randomSource(name, { dtype, shape: shape as readonly number[] }, i)] as const;
    }),
  );
  await using session = await createOrtSession(emitOnnx({ graph, weights }), { threads });
  const inputs = { image: randomTensor({ dtype: "f32", shape: [batch, 3, 224, 224] }, 1) };
  const times: number[] = [];
  for (let i = 0; i < warmUps + runs; i++) {
    const start = performance.now();
    await session.run(inputs);
    if (i >= warmUps) times.push(performance.now() - start);
  }
  return median(times);
}

if (flags.only !== undefined) console.log(await timeOne(flags.only === "merged"));
else {
  const inProcess = (only: string): number => {
    const args = ["--r", flags.r, "--threads", flags.threads, "--batch", flags.batch, "--only", only];
    const { stdout, stderr, status } = spawnSync("npx", ["tsx", fileURLToPath(import.meta.url), ...args], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    return Number(stdout.trim().split("\n").at(-1));
  };
  const ratios: number[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const [plain, merged] = [inProcess("plain"), inProcess("merged")];
    ratios.push(plain / merged);
    console.log(`turn ${turn}: ${plain.toFixed(1)} ms, merged ${merged.toFixed(1)} ms, ${(plain / merged).toFixed(3)}`);
  }
  const exclude = new Set(["tokenMatch"]);
  const [before, after] = [false, true].map((merged) => costOf(graphOf(merged), { exclude }).macs as number) as [
    number,
    number,
  ];
  const share = median(ratios) / (before / after);
  console.log(
    `median ${median(ratios).toFixed(3)}; MACs fall ${(before / after).toFixed(3)} times; realised ${share.toFixed(3)}`,
  );
}
