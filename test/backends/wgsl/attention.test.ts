import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AttentionTile, defaultTuning, emitWgsl, scheduleKernels } from "../../../src/backends/wgsl/index.ts";
import { writesOf } from "../../../src/backends/wgsl/kernel.ts";
import { compareTensors, tolerance } from "../../../src/conform/tolerance.ts";
import { createBuilder } from "../../../src/ir/builder.ts";
import { evaluateGraph } from "../../../src/ir/evaluate/index.ts";
import type { Graph } from "../../../src/ir/graph.ts";
import type { AttentionAttrs } from "../../../src/ir/ops/nn.ts";
import type { TensorData } from "../../../src/ir/type.ts";
import { type NodeDevice, openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { deviceProfile } from "../../../src/runtime/node/webgpuSession.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";

interface Options extends Omit<AttentionAttrs, "scale" | "past"> {
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly channels?: number;
  readonly valueChannels?: number;
  readonly past?: number;
}

const combinations: Readonly<Record<string, Options>> = {
  plain: {},
  "sixteen channels": { channels: 16 },
  "channels not in fours": { channels: 6, valueChannels: 5 },
  "values wider than keys": { channels: 16, valueChannels: 32 },
  causal: { causal: true },
  "causal behind a cache": { causal: true, past: 5 },
  "a window on both sides": { left: 3, right: 2 },
  "a causal window": { causal: true, left: 7, channels: 16 },
  mask: { extras: ["mask"] },
  bias: { extras: ["bias"], channels: 16 },
  "sizes of merged tokens": { extras: ["logSize"], channels: 16 },
  "mask, bias and sizes": { extras: ["mask", "bias", "logSize"] },
  "grouped heads": { heads: 4, keyHeads: 2, causal: true },
  "log-sum-exp": { logSumExp: true, extras: ["logSize"] },
};
// A million scores take the reference seconds: every combination has its turn with TAMIS_ALL_SAMPLES=1.
const long: ReadonlySet<string> = new Set(["plain", "causal", "mask, bias and sizes"]);
const everySample = process.env["TAMIS_ALL_SAMPLES"] === "1";

function attentionGraph(tokens: number, options: Options): Graph {
  const {
    heads = 2,
    keyHeads = heads,
    channels = 8,
    valueChannels = channels,
    past = 0,
    extras = [],
    ...rest
  } = options;
  const keys = tokens + past;
  const b = createBuilder();
  const input = (name: string, shape: readonly number[], dtype: "f32" | "bool" = "f32") =>
    b.input(name, { dtype, shape });
  const operands = [
    input("query", [1, heads, tokens, channels]),
    input("key", [1, keyHeads, keys, channels]),
    input("value", [1, keyHeads, keys, valueChannels]),
    ...extras.map((extra) => {
      if (extra === "logSize") return input("logSize", [1, keys]);
      return input(extra, [1, 1, tokens, keys], extra === "mask" ? "bool" : "f32");
    }),
  ];
  const [out, logSumExp] = b.attention(operands, { ...rest, extras, past, scale: channels ** -0.5 });
  return b.finish("attention", { out, ...(rest.logSumExp && logSumExp !== undefined && { logSumExp }) });
}

/** Every row sees at least one key: the first of them is never masked. */
function inputsOf(graph: Graph): Readonly<Record<string, TensorData>> {
  return Object.fromEntries(
    graph.inputs.map(({ type: { dtype, shape: dims }, producer }, k): [string, TensorData] => {
      const shape = dims as readonly number[];
      const count = shape.reduce((a, b) => a * b, 1);
      const columns = shape.at(-1) as number;
      const name = producer.attrs["name"] as string;
      if (dtype === "bool")
        return [
          name,
          {
            dtype,
            shape,
            values: Uint8Array.from({ length: count }, (_, i) => (i % columns === 0 || i % 3 > 0 ? 1 : 0)),
          },
        ];
      return [
        name,
        { dtype: "f32", shape, values: Float32Array.from({ length: count }, (_, i) => Math.sin((0.37 + k) * i)) },
      ];
    }),
  );
}

let opened: NodeDevice;
beforeAll(async () => {
  opened = await openWebGpu();
});
afterAll(() => opened?.close());

async function judge(tokens: number, options: Options, tile?: AttentionTile): Promise<void> {
  const graph = attentionGraph(tokens, options);
  const inputs = inputsOf(graph);
  const device = deviceProfile(opened);
  const tuning = tile && { ...defaultTuning(device), attention: tile };
  const program = emitWgsl({ graph, weights: new Map() }, { device, ...(tuning && { tuning }) });
  await using session = await createProgramSession(opened.device, program, new Map());
  const results = await session.run(inputs);
  for (const [name, wanted] of Object.entries(evaluateGraph(graph, inputs))) {
    const { message } = compareTensors(results[name] as TensorData, wanted, tolerance("f32", { target: "webgpu" }));
    expect(message, `${name} of ${tokens} tokens`).toBe("");
  }
}

describe("attention without stored scores", () => {
  test.each(Object.entries(combinations))("%s, at 1, 17, 197 and (long ones) 1000 tokens", async (name, options) => {
    for (const tokens of everySample || long.has(name) ? [1, 17, 197, 1000] : [1, 17, 197]) {
      await judge(tokens, tokens === 1000 ? { ...options, heads: options.keyHeads === undefined ? 1 : 4 } : options);
      const { kernels } = scheduleKernels(attentionGraph(tokens, options));
      const scores = (options.heads ?? 2) * tokens * (tokens + (options.past ?? 0));
      if (tokens > 32)
        expect(kernels.flatMap((k) => writesOf(k).map((buffer) => buffer.elements))).not.toContain(scores);
    }
  });

  test.each(Object.entries(combinations))("%s, with keys staged in shared memory", async (_name, options) => {
    for (const tokens of [17, 197]) await judge(tokens, options, { keys: 2, subgroup: false, staged: 8 });
  });
});
