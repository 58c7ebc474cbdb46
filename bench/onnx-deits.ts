// DeiT-S on ONNX Runtime's CPU provider: our files against the same network written with plain operators, as an
// exporter writes it. Interleaved, so that other load on the machine meets all alike.
// npx tsx bench/onnx-deits.ts [--rounds 20] [--threads 2] [--batch 1]
import { parseArgs } from "node:util";
import { emitOnnx, type OnnxOptions } from "../src/backends/onnx/index.ts";
import { encodeModel, type OnnxInitializer, type OnnxNode } from "../src/backends/onnx/proto.ts";
import { traceModel } from "../src/dsl/index.ts";
import { type Graph, type Model, parametersOf, sourceName, type Value, type WeightSource } from "../src/ir/graph.ts";
import { elementsOf, tensorData } from "../src/ir/type.ts";
import { deitSmall } from "../src/models/index.ts";
import { mergeTokens } from "../src/passes/mergeTokens/mergeTokens.ts";
import { runPasses } from "../src/passes/pass.ts";
import { createOrtSession } from "../src/runtime/node/ort.ts";
import type { Session } from "../src/runtime/session.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    threads: { type: "string", default: "2" },
    batch: { type: "string", default: "1" },
    only: { type: "string" },
  },
});
const [rounds, threads, batch] = [flags.rounds, flags.threads, flags.batch].map(Number) as [number, number, number];

// Idle threads of one session spin for a while and take the cores from the next one in turn.
const settings = { threads, ort: { extra: { session: { intra_op: { allow_spinning: "0" } } } } };

const drawnNumbers = (count: number, seed: number): Float32Array => {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state / 2 ** 31) * 0.05;
  });
};

function randomWeights(graph: Graph): Map<string, WeightSource> {
  return new Map(
    parametersOf(graph).map((node, i) => {
      const { shape, dtype } = (node.results[0] as Value).type as { dtype: "f32"; shape: readonly number[] };
      const values = drawnNumbers(elementsOf(shape), i + 1);
      const read = async (start = 0, end = values.length) => ({ dtype, shape, values: values.subarray(start, end) });
      return [sourceName(node), { type: { dtype, shape }, hash: sourceName(node), read }];
    }),
  );
}

/** torch.onnx's way: MatMul with transposed weights and Add, LayerNormalization, attention and GELU spelt out. */
async function plainNetwork(weights: ReadonlyMap<string, WeightSource>): Promise<Uint8Array> {
  const nodes: OnnxNode[] = [];
  const initializers: OnnxInitializer[] = [];
  const put = (name: string, dtype: "f32" | "i64", shape: readonly number[], values: Float32Array | BigInt64Array) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    initializers.push({ name, dtype, shape, contents: { bytes } });
    return name;
  };
  const read = async (name: string) => (await (weights.get(name) as WeightSource).read()).values as Float32Array;
  const weight = async (name: string) =>
    put(name, "f32", (weights.get(name) as WeightSource).type.shape, await read(name));
  const turned = async (name: string) => {
    const [out, inner] = (weights.get(name) as WeightSource).type.shape as [number, number];
    const from = await read(name);
    return put(
      `${name}.T`,
      "f32",
      [inner, out],
      Float32Array.from({ length: from.length }, (_, i) => from[(i % out) * inner + Math.floor(i / out)] as number),
    );
  };
  let count = 0;
  const ints = (values: readonly number[]) =>
    put(`i${count++}`, "i64", [values.length], BigInt64Array.from(values, BigInt));
  const scalar = (x: number) => put(`s${count++}`, "f32", [], Float32Array.of(x));
  const op = (name: string, inputs: readonly string[], attrs: OnnxNode["attrs"] = {}) => {
    const out = `t${count++}`;
    nodes.push({ op: name, domain: "", name: out, inputs, outputs: [out], attrs, doc: "" });
    return out;
  };
  const linear = async (x: string, name: string) =>
    op("Add", [op("MatMul", [x, await turned(`${name}.weight`)]), await weight(`${name}.bias`)]);
  const norm = async (x: string, name: string) =>
    op("LayerNormalization", [x, await weight(`${name}.weight`), await weight(`${name}.bias`)], {
      axis: -1,
      epsilon: { float: 1e-6 },
    });
  const conv = op("Conv", ["image", await weight("patch_embed.proj.weight"), await weight("patch_embed.proj.bias")], {
    strides: [16, 16],
    kernel_shape: [16, 16],
  });
  const patches = op("Transpose", [op("Reshape", [conv, ints([batch, 384, 196])])], { perm: [0, 2, 1] });
  const cls = op("Expand", [await weight("cls_token"), ints([batch, 1, 384])]);
  let x = op("Add", [op("Concat", [cls, patches], { axis: 1 }), await weight("pos_embed")]);
  for (let i = 0; i < 12; i++) {
    const at = `blocks.${i}`;
    const qkv = op("Reshape", [
      await linear(await norm(x, `${at}.norm1`), `${at}.attn.qkv`),
      ints([batch, 197, 3, 6, 64]),
    ]);
    const heads = op("Transpose", [qkv], { perm: [2, 0, 3, 1, 4] });
    const [q, k, v] = [0, 1, 2].map((n) =>
      op("Gather", [heads, put(`g${count++}`, "i64", [], BigInt64Array.of(BigInt(n)))], { axis: 0 }),
    ) as [string, string, string];
    const scores = op("MatMul", [op("Mul", [q, scalar(0.125)]), op("Transpose", [k], { perm: [0, 1, 3, 2] })]);
    const mixed = op("MatMul", [op("Softmax", [scores], { axis: -1 }), v]);
    const merged = op("Reshape", [op("Transpose", [mixed], { perm: [0, 2, 1, 3] }), ints([batch, 197, 384])]);
    x = op("Add", [x, await linear(merged, `${at}.attn.proj`)]);
    const hidden = await linear(await norm(x, `${at}.norm2`), `${at}.mlp.fc1`);
    const share = op("Add", [op("Erf", [op("Div", [hidden, scalar(Math.SQRT2)])]), scalar(1)]);
    const active = op("Mul", [op("Mul", [hidden, share]), scalar(0.5)]);
    x = op("Add", [x, await linear(active, `${at}.mlp.fc2`)]);
  }
  const first = op("Gather", [await norm(x, "norm"), put("first", "i64", [], BigInt64Array.of(0n))], { axis: 1 });
  nodes.push({
    op: "Gemm",
    domain: "",
    name: "head",
    inputs: [first, await weight("head.weight"), await weight("head.bias")],
    outputs: ["logits"],
    attrs: { transB: 1 },
    doc: "",
  });
  return encodeModel({
    name: "plain",
    opset: 17,
    irVersion: 8,
    domains: {},
    nodes,
    functions: [],
    initializers,
    metadata: {},
    inputs: [{ name: "image", type: { dtype: "f32", shape: [batch, 3, 224, 224] } }],
    outputs: [{ name: "logits", type: { dtype: "f32", shape: [batch, 1000] } }],
  });
}

const graph = traceModel(deitSmall);
const weights = randomWeights(graph);
const merged = runPasses({ graph, weights }, [mergeTokens({ r: 13 })]).model;
const ours = (options: OnnxOptions, model: Model = { graph, weights }) =>
  createOrtSession(emitOnnx(model, options), settings);
const contestants: Record<string, () => Promise<Session>> = {
  plain: async () => createOrtSession(await plainNetwork(weights), settings),
  portable: () => ours({}),
  "ort-cuda": () => ours({ profile: "ort-cuda" }),
  standard: () => ours({ profile: "standard" }),
  "portable merged": () => ours({ tokenForm: "index" }, merged),
  "portable merged dense": () => ours({ tokenForm: "dense" }, merged),
};

const image = tensorData("f32", [batch, 3, 224, 224], drawnNumbers(batch * 3 * 224 * 224, 99));
const sessions: { name: string; session: Session; times: number[] }[] = [];
for (const [name, make] of Object.entries(contestants))
  if (flags.only === undefined || flags.only.split(",").includes(name))
    sessions.push({ name, session: await make(), times: [] });
const outputs = new Map<string, Float32Array>();
for (let round = -2; round < rounds; round++)
  for (const { name, session, times } of sessions) {
    const start = performance.now();
    const { logits } = await session.run({ image });
    if (round >= 0) times.push(performance.now() - start);
    outputs.set(name, logits?.values as Float32Array);
  }
const median = (times: readonly number[]) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] as number;
const base = sessions[0] as (typeof sessions)[number];
for (const { name, times, session } of sessions) {
  // Each round's ratio, so that load that comes and goes cancels.
  const ratio = median(times.map((t, i) => (base.times[i] as number) / t));
  const [a, b] = [outputs.get(name), outputs.get(base.name)] as [Float32Array, Float32Array];
  const difference = a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - (b[i] as number))), 0);
  console.log(
    `${name.padEnd(22)} min ${Math.min(...times).toFixed(1)} ms, median ${median(times).toFixed(1)} ms, speed ${ratio.toFixed(3)} of ${base.name}, largest difference ${difference.toExponential(1)}`,
  );
  await session.dispose();
}
