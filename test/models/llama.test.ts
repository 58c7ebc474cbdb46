import { describe, expect, test } from "vitest";
import { traceModel } from "../../src/dsl/index.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parametersOf, sourceName } from "../../src/ir/graph.ts";
import { formatType, type TensorData, tensorData } from "../../src/ir/type.ts";
import { countParameters, type LlamaConfig, llama, llama3_8B, rotaryTables } from "../../src/models/index.ts";
import {
  at,
  attend,
  beside,
  columns,
  drawnParameters,
  expectClose,
  only,
  Plain,
  plus,
  type Rows,
  traced,
} from "./plain.ts";

const tiny = {
  vocabulary: 11,
  dim: 12,
  depth: 2,
  heads: 6,
  keyHeads: 2,
  headDim: 4,
  hidden: 10,
  epsilon: 1e-5,
  ropeTheta: 100,
} as const;
const ids = [3, 0, 10, 3, 7];
const tokens = tensorData("i32", [1, ids.length], ids);
const run = (config: Partial<LlamaConfig>, parameters: ReadonlyMap<string, TensorData>) =>
  only(evaluateGraph(traced(llama({ ...tiny, sequence: ids.length, ...config })), { tokens }, { parameters }));

/** The network on one sequence, from the papers: RoFormer's rotation, GQA's sharing, GLU variants. */
function plainLogits(plain: Plain, config: Omit<LlamaConfig, "batch" | "sequence">): number[][] {
  const { depth, epsilon, headDim, heads, keyHeads, ropeInterleaved, ropeTheta } = config;
  const rotate = (x: Rows): number[][] =>
    x.map((row, position) => {
      const turned = [...row];
      for (let i = 0; i < headDim / 2; i++) {
        const angle = position * ropeTheta ** ((-2 * i) / headDim);
        const [cos, sin] = [Math.fround(Math.cos(angle)), Math.fround(Math.sin(angle))];
        const [a, b] = ropeInterleaved ? [2 * i, 2 * i + 1] : [i, i + headDim / 2];
        turned[a] = at(row, a) * cos - at(row, b) * sin;
        turned[b] = at(row, b) * cos + at(row, a) * sin;
      }
      return turned;
    });
  const table = plain.rows("model.embed_tokens.weight");
  let x: number[][] = ids.map((id) => table[id] ?? []);
  for (let i = 0; i < depth; i++) {
    const layer = `model.layers.${i}`;
    const normed = plain.rmsNorm(`${layer}.input_layernorm`, x, epsilon);
    const project = (name: string) => plain.linear(`${layer}.self_attn.${name}_proj`, normed);
    const [q, k, v] = [project("q"), project("k"), project("v")];
    const mixed = Array.from({ length: heads }, (_, head) => {
      const shared = Math.floor(head / (heads / keyHeads)) * headDim;
      const key = rotate(columns(k, shared, headDim));
      return attend(rotate(columns(q, head * headDim, headDim)), key, columns(v, shared, headDim), true);
    });
    x = plus(x, plain.linear(`${layer}.self_attn.o_proj`, beside(mixed)));
    const inner = plain.rmsNorm(`${layer}.post_attention_layernorm`, x, epsilon);
    const [gate, up] = [plain.linear(`${layer}.mlp.gate_proj`, inner), plain.linear(`${layer}.mlp.up_proj`, inner)];
    const gated = gate.map((row, t) => row.map((g, c) => (g / (1 + Math.exp(-g))) * at(up[t] ?? [], c)));
    x = plus(x, plain.linear(`${layer}.mlp.down_proj`, gated));
  }
  return plain.linear("lm_head", plain.rmsNorm("model.norm", x, epsilon));
}

describe("logits are those of a plain computation", () => {
  const standard = { ...llama().options, ...tiny };
  test.each([
    ["with grouped keys", {}],
    ["with neighbouring channels paired", { ropeInterleaved: true }],
    ["with biases on attention's projections", { attentionBias: true }],
  ])("%s", (_, config) => {
    const parameters = drawnParameters(traced(llama({ ...tiny, ...config })));
    const wanted = plainLogits(new Plain(parameters), { ...standard, ...config });
    expectClose(run(config, parameters), tensorData("f32", [1, ids.length, tiny.vocabulary], wanted.flat()));
  });
});

test("a symbolic sequence takes the rotary tables as inputs and gives the same logits", () => {
  const graph = traced(llama(tiny));
  const parameters = drawnParameters(graph);
  expect(graph.inputs.map((v) => `${sourceName(v.producer)} ${formatType(v.type)}`)).toEqual([
    "tokens i32[batch,sequence]",
    "cos f32[sequence,2]",
    "sin f32[sequence,2]",
  ]);
  const tables = rotaryTables({ tokens: ids.length, headDim: 4, theta: tiny.ropeTheta });
  const cos = tensorData("f32", [ids.length, 2], tables.cos);
  const sin = tensorData("f32", [ids.length, 2], tables.sin);
  const got = only(evaluateGraph(graph, { tokens, cos, sin }, { parameters }));
  expect(got).toEqual(run({}, parameters));
});

test("rotary tables start where they are told to", () => {
  const all = rotaryTables({ tokens: 5, headDim: 4, theta: 10_000 });
  const later = rotaryTables({ tokens: 2, headDim: 4, theta: 10_000, first: 3 });
  expect(later.cos).toEqual(all.cos.slice(6));
  expect(later.sin).toEqual(all.sin.slice(6));
  expect(all.sin.slice(2, 4)).toEqual(Float64Array.of(Math.sin(1), Math.sin(0.01)));
});

test("a tied head reads the embedding table", () => {
  const own = traced(llama(tiny));
  const tied = traced(llama({ ...tiny, tieEmbeddings: true }));
  expect(countParameters(own) - countParameters(tied)).toBe(tiny.vocabulary * tiny.dim);
  const parameters = drawnParameters(own);
  const table = parameters.get("model.embed_tokens.weight");
  expect(table).toBeDefined();
  if (table === undefined) return;
  const wanted = run({}, new Map([...parameters, ["lm_head.weight", table]]));
  expect(run({ tieEmbeddings: true }, parameters)).toEqual(wanted);
});

test("parameters have Hugging Face's names and shapes", () => {
  const parameters = parametersOf(traceModel(llama3_8B, { set: { depth: 1 } }));
  expect(parameters.flatMap((n) => n.results.map(({ type }) => `${sourceName(n)} ${formatType(type)}`))).toEqual([
    "model.embed_tokens.weight f32[128256,4096]",
    "model.layers.0.input_layernorm.weight f32[4096]",
    "model.layers.0.self_attn.q_proj.weight f32[4096,4096]",
    "model.layers.0.self_attn.k_proj.weight f32[1024,4096]",
    "model.layers.0.self_attn.v_proj.weight f32[1024,4096]",
    "model.layers.0.self_attn.o_proj.weight f32[4096,4096]",
    "model.layers.0.post_attention_layernorm.weight f32[4096]",
    "model.layers.0.mlp.gate_proj.weight f32[14336,4096]",
    "model.layers.0.mlp.up_proj.weight f32[14336,4096]",
    "model.layers.0.mlp.down_proj.weight f32[4096,14336]",
    "model.norm.weight f32[4096]",
    "lm_head.weight f32[128256,4096]",
  ]);
});

describe("options that do not go together are refused", () => {
  test.each([
    [{ keyHeads: 4 }, "6 heads do not divide among 4 key heads"],
    [{ headDim: 0, dim: 18 }, "a head has an even number of channels, but 18 channels in 6 heads are 3 each"],
    [{ hidden: 0 }, "hidden is a whole number from 1 on, got 0"],
  ])("%o", (config, message) => expect(() => traced(llama({ ...tiny, ...config }))).toThrow(message));
});

test("the sequence is a size or a symbol", () => {
  const shape = (sequence: number | string) =>
    traceModel(llama(tiny), { set: { sequence, batch: 2 } }).outputs[0]?.value.type.shape;
  expect(shape(7)).toEqual([2, 7, 11]);
  expect(shape("prompt")).toEqual([2, "prompt", 11]);
  expect(() => shape("no symbol")).toThrow("option sequence of llama wants a size or a symbol");
});
