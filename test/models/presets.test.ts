import { describe, expect, test } from "vitest";
import { isModelDefinition, type ModelDefinition, traceModel } from "../../src/dsl/index.ts";
import { costOf } from "../../src/ir/cost.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import * as models from "../../src/models/index.ts";
import { expectOps, traced } from "./plain.ts";

// Counts of the checkpoints themselves: DeiT and ViT as timm reports them, LLaMA's as transformers does, CLIP's towers
// by the sum of their tensors (below).
const presets = {
  deitTiny: { model: models.deitTiny, parameters: 5_717_416 },
  deitSmall: { model: models.deitSmall, parameters: 22_050_664 },
  deitBase: { model: models.deitBase, parameters: 86_567_656 },
  deitBaseDistilled: { model: models.deitBaseDistilled, parameters: 87_338_192 },
  vitSmall: { model: models.vitSmall, parameters: 22_050_664 },
  vitBase: { model: models.vitBase, parameters: 86_567_656 },
  vitLarge: { model: models.vitLarge, parameters: 304_326_632 },
  fashionVit: { model: models.fashionVit, parameters: 305_034 },
  clipB32: { model: models.clipB32, parameters: 87_849_216 },
  clipB16: { model: models.clipB16, parameters: 86_192_640 },
  clipL14: { model: models.clipL14, parameters: 303_966_208 },
  clipL14At336: { model: models.clipL14At336, parameters: 304_293_888 },
  llama7B: { model: models.llama7B, parameters: 6_738_415_616 },
  llama13B: { model: models.llama13B, parameters: 13_015_864_320 },
  llama2_7B: { model: models.llama2_7B, parameters: 6_738_415_616 },
  llama3_8B: { model: models.llama3_8B, parameters: 8_030_261_248 },
} satisfies Record<string, { model: ModelDefinition; parameters: number }>;

type Preset = keyof typeof presets;
const names = Object.keys(presets) as Preset[];
const graphs = new Map<Preset, Graph>();
function graphOf(preset: Preset): Graph {
  const graph = graphs.get(preset) ?? traced(presets[preset].model);
  graphs.set(preset, graph);
  return graph;
}

test("every exported definition is counted here", () => {
  const exported = Object.entries(models).flatMap(([name, value]) => (isModelDefinition(value) ? [name] : []));
  expect(exported.sort()).toEqual([...names].sort());
});

describe.each(names)("%s", (preset) => {
  test("has exactly the parameters of the published model", () => {
    expect(models.countParameters(graphOf(preset))).toBe(presets[preset].parameters);
  });
  test("is a well-formed graph whose text reads back to itself", () => {
    const graph = graphOf(preset);
    verifyGraph(graph);
    const text = printGraph(graph);
    expect(printGraph(parseGraph(text))).toBe(text);
  });
  test("keeps the batch a symbol", () => {
    const { inputs, outputs } = graphOf(preset);
    expect(inputs[0]?.type.shape[0]).toBe("batch");
    for (const { value } of outputs) expect(value.type.shape[0]).toBe("batch");
  });
});

test("CLIP's counts are the sums of their tensors", () => {
  const block = (dim: number) => 12 * dim * dim + 13 * dim; // qkv, proj, fc1, fc2 with biases; two norms
  const tower = (dim: number, depth: number, patch: number, tokens: number, projection: number) =>
    3 * patch ** 2 * dim + dim + tokens * dim + 2 * dim + depth * block(dim) + 2 * dim + dim * projection;
  expect(tower(768, 12, 32, 50, 512)).toBe(presets.clipB32.parameters);
  expect(tower(768, 12, 16, 197, 512)).toBe(presets.clipB16.parameters);
  expect(tower(1024, 24, 14, 257, 768)).toBe(presets.clipL14.parameters);
  expect(tower(1024, 24, 14, 577, 768)).toBe(presets.clipL14At336.parameters);
});

test("LLaMA's counts are the sums of their tensors", () => {
  const total = (vocabulary: number, dim: number, depth: number, keyWidth: number, hidden: number) =>
    2 * vocabulary * dim + depth * (2 * dim * dim + 2 * dim * keyWidth + 3 * dim * hidden + 2 * dim) + dim;
  expect(total(32_000, 4096, 32, 4096, 11_008)).toBe(presets.llama7B.parameters);
  expect(total(32_000, 5120, 40, 5120, 13_824)).toBe(presets.llama13B.parameters);
  expect(total(128_256, 4096, 32, 1024, 14_336)).toBe(presets.llama3_8B.parameters);
});

test("a block of a ViT is one attention, four matrix products and two norms", () => {
  const network = (depth: number, heads = 1) => ({
    attention: depth,
    gelu: depth,
    matmul: 4 * depth + heads,
    layerNorm: 2 * depth + 1,
    conv2d: 1,
    concat: 1,
  });
  expectOps(graphOf("deitTiny"), network(12));
  expectOps(graphOf("deitBaseDistilled"), network(12, 2));
  expectOps(graphOf("vitLarge"), network(24));
  expectOps(graphOf("fashionVit"), network(6));
});

test("a CLIP tower has quick GELUs and two norms outside its blocks, a LLaMA causal attention and rotations", () => {
  expectOps(graphOf("clipL14"), { attention: 24, quickGelu: 24, matmul: 24 * 4 + 1, layerNorm: 24 * 2 + 2, conv2d: 1 });
  const llama = graphOf("llama3_8B");
  expectOps(llama, { attention: 32, rotaryEmbedding: 64, matmul: 32 * 7 + 1, rmsNorm: 65, silu: 32, embedding: 1 });
  expect(llama.nodes.filter((n) => n.op === "attention").every((n) => n.attrs["causal"] === true)).toBe(true);
});

test("nodes carry the scope of their layer", () => {
  const scopes = new Set(graphOf("deitTiny").nodes.map((n) => n.scope));
  for (const scope of ["patch_embed.proj", "blocks.3.attn", "blocks.3.attn.qkv", "blocks.11.mlp.fc2", "norm", "head"])
    expect(scopes).toContain(scope);
});

test("multiply-accumulates of one picture are the sum over its layers, 4.60 G for DeiT-S", () => {
  const macs = (preset: Preset) => Number(costOf(graphOf(preset), { symbols: new Map([["batch", 1]]) }).macs);
  const written = (dim: number) => {
    const [patches, tokens] = [196, 197];
    const block = 12 * tokens * dim * dim + 2 * tokens * tokens * dim; // qkv 3, proj 1, mlp 8; scores and their product
    return patches * dim * 768 + 12 * block + 1000 * dim;
  };
  expect(macs("deitTiny")).toBe(written(192));
  expect(macs("deitSmall")).toBe(written(384));
  expect(macs("deitBase")).toBe(written(768));
  expect((macs("deitSmall") / 1e9).toFixed(2)).toBe("4.60");
});

test("a size instead of a symbol makes the batch fixed", () => {
  const graph = traceModel(models.deitTiny, { set: { batch: 8, depth: 1 } });
  expect(graph.outputs[0]?.value.type.shape).toEqual([8, 1000]);
  expect(traceModel(models.deitTiny, { set: { batch: "n", depth: 1 } }).outputs[0]?.value.type.shape).toEqual([
    "n",
    1000,
  ]);
  expect(() => traceModel(models.deitTiny, { set: { batch: 0 } })).toThrow(
    "option batch of deit-tiny wants a size or a symbol, got 0",
  );
});
