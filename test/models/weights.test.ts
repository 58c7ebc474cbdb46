import { describe, expect, test } from "vitest";
import type { ModelDefinition, Options } from "../../src/dsl/index.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import type { WeightSource } from "../../src/ir/graph.ts";
import { type TensorData, tensorData } from "../../src/ir/type.ts";
import { clipVision, fromHuggingFace, llama, vit } from "../../src/models/index.ts";
import { drawn, drawnParameters, only, sourceOf, traced } from "./plain.ts";

type Tensors = ReadonlyMap<string, TensorData>;

const sources = (tensors: Iterable<readonly [string, TensorData]>): Map<string, WeightSource> =>
  new Map([...tensors].map(([name, tensor]) => [name, sourceOf(tensor)] as const));

async function read(weights: ReadonlyMap<string, WeightSource>): Promise<Map<string, TensorData>> {
  const contents = new Map<string, TensorData>();
  for (const [name, source] of weights) {
    const tensor = await source.read();
    expect(tensor.shape).toEqual(source.type.shape);
    contents.set(name, tensor);
  }
  return contents;
}

const adapted = <O extends Options>(model: ModelDefinition<O>, tensors: Iterable<readonly [string, TensorData]>) =>
  read(model.adaptWeights?.(sources(tensors), model.options) ?? new Map());

const byName = (tensors: Tensors) => [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));

/** Equal rows of a tensor, each under its own name. */
function cut(tensor: TensorData, names: readonly string[]): [string, TensorData][] {
  const rows = (tensor.shape[0] ?? 0) / names.length;
  const size = tensor.values.length / names.length;
  return names.map((name, i) => [
    name,
    { ...tensor, shape: [rows, ...tensor.shape.slice(1)], values: tensor.values.slice(i * size, (i + 1) * size) },
  ]);
}

function transposed({ shape: [rows = 0, columns = 0], values }: TensorData): TensorData {
  const at = (i: number) => Number(values[(i % rows) * columns + Math.floor(i / rows)]);
  return tensorData(
    "f32",
    [columns, rows],
    Array.from({ length: values.length }, (_, i) => at(i)),
  );
}

/** A model's drawn weights under another spelling: [ours, theirs] in order, `$1` for groups. */
function respelt(tensors: Tensors, spellings: readonly (readonly [RegExp, string])[]): Map<string, TensorData> {
  return new Map(
    [...tensors].map(([name, tensor]) => {
      const spelling = spellings.find(([ours]) => ours.test(name));
      expect(spelling, name).toBeDefined();
      return [spelling === undefined ? name : name.replace(...spelling), tensor] as const;
    }),
  );
}

const vitTiny = vit({
  imageSize: 8,
  patch: 4,
  channels: 1,
  dim: 8,
  depth: 2,
  heads: 2,
  mlpRatio: 2,
  classes: 3,
  distillToken: true,
});

/** transformers' DeiTForImageClassificationWithTeacher. */
function toHuggingFace(tensors: Tensors): Map<string, TensorData> {
  const named = respelt(tensors, [
    [/^cls_token$/, "deit.embeddings.cls_token"],
    [/^dist_token$/, "deit.embeddings.distillation_token"],
    [/^pos_embed$/, "deit.embeddings.position_embeddings"],
    [/^patch_embed\.proj\./, "deit.embeddings.patch_embeddings.projection."],
    [/^blocks\.(\d+)\.norm1\./, "deit.encoder.layer.$1.layernorm_before."],
    [/^blocks\.(\d+)\.norm2\./, "deit.encoder.layer.$1.layernorm_after."],
    [/^blocks\.(\d+)\.attn\.qkv\./, "deit.encoder.layer.$1.attention.attention.qkv."],
    [/^blocks\.(\d+)\.attn\.proj\./, "deit.encoder.layer.$1.attention.output.dense."],
    [/^blocks\.(\d+)\.mlp\.fc1\./, "deit.encoder.layer.$1.intermediate.dense."],
    [/^blocks\.(\d+)\.mlp\.fc2\./, "deit.encoder.layer.$1.output.dense."],
    [/^norm\./, "deit.layernorm."],
    [/^head\./, "cls_classifier."],
    [/^head_dist\./, "distillation_classifier."],
  ]);
  return new Map(
    [...named].flatMap(([name, tensor]) =>
      name.includes(".qkv.")
        ? cut(
            tensor,
            ["query", "key", "value"].map((part) => name.replace("qkv", part)),
          )
        : [[name, tensor] as const],
    ),
  );
}

describe("a ViT from Hugging Face", () => {
  const ours = drawnParameters(traced(vitTiny));
  const theirs = toHuggingFace(ours);

  test("comes back under timm's names with equal contents", async () => {
    expect(theirs.size).toBe(ours.size + 2 * 2 * 2); // two blocks, weight and bias, three tensors for one
    expect(byName(await adapted(vitTiny, theirs))).toEqual(byName(ours));
  });
  test("leaves the pooler and the mask token out and other tensors alone", () => {
    const extra = sources([...theirs].map(([name, tensor]) => [name.replace(/^deit\./, "vit."), tensor] as const));
    const one = sourceOf(tensorData("f32", [1], [1]));
    for (const name of ["vit.pooler.dense.weight", "vit.embeddings.mask_token", "decoder.mask_token", "other.weight"])
      extra.set(name, one);
    expect([...fromHuggingFace(extra).keys()].sort()).toEqual([...ours.keys(), "other.weight"].sort());
  });
  test("reads of a joined weight only the parts that a range touches", async () => {
    const reads: [number, number][][] = [[], [], []];
    const tensors = sources(theirs);
    const prefix = "deit.encoder.layer.0.attention.attention";
    ["query", "key", "value"].forEach((part, i) => {
      const name = `${prefix}.${part}.weight`;
      tensors.set(name, sourceOf(theirs.get(name) ?? tensorData("f32", [0], []), reads[i]));
    });
    const joined = fromHuggingFace(tensors).get("blocks.0.attn.qkv.weight");
    const part = await joined?.read(60, 130); // 64 elements a part
    expect(reads).toEqual([[[60, 64]], [[0, 64]], [[0, 2]]]);
    expect(part).toEqual({
      dtype: "f32",
      shape: [70],
      values: ours.get("blocks.0.attn.qkv.weight")?.values.slice(60, 130),
    });
    expect(await joined?.read(5, 5)).toMatchObject({ shape: [0] });
  });
  test("is refused where query, key and value do not go together", () => {
    const name = "deit.encoder.layer.1.attention.attention.value.weight";
    const withValue = (value: TensorData | undefined) => () => {
      const tensors = sources(theirs);
      if (value === undefined) tensors.delete(name);
      else tensors.set(name, sourceOf(value));
      return fromHuggingFace(tensors);
    };
    expect(withValue(undefined)).toThrow(
      "[weights-missing]: blocks.1.attn.qkv.weight joins query, key and value, but the value's weight is missing",
    );
    expect(withValue(tensorData("f16", [8, 8], drawn(1, 64)))).toThrow(
      "[weights-dtype]: blocks.1.attn.qkv.weight joins f32[8,8] and f16[8,8]",
    );
    expect(withValue(tensorData("f32", [8, 4], drawn(1, 32)))).toThrow(
      "[weights-shape]: blocks.1.attn.qkv.weight joins f32[8,8] and f32[8,4]",
    );
  });
  test("is refused where two tensors get one name", () => {
    const tensors = sources([...theirs, ["classifier.weight", tensorData("f32", [1], [1])]]);
    expect(() => fromHuggingFace(tensors)).toThrow(
      "[weights-duplicate]: weights cls_classifier.weight and classifier.weight would both be head.weight",
    );
  });
});

describe("a ViT under timm's names", () => {
  const ours = drawnParameters(traced(vitTiny));
  test("stays as it is", async () => {
    expect(byName(await adapted(vitTiny, ours))).toEqual(byName(ours));
  });
  test("leaves its heads to a model that has none", async () => {
    const names = [...(await adapted(vit({ ...vitTiny.options, classes: 0 }), ours)).keys()];
    expect(names.filter((name) => name.startsWith("head"))).toEqual([]);
  });
  test("gives its norm to a model that pools over patches, unless it has an fc_norm", async () => {
    const pooling = vit({ ...vitTiny.options, distillToken: false, globalPool: "avg" });
    const names = async (tensors: Tensors) =>
      [...(await adapted(pooling, tensors)).keys()].filter((name) => /^(fc_)?norm/.test(name));
    expect(await names(ours)).toEqual(["fc_norm.weight", "fc_norm.bias"]);
    const own = new Map([...ours, ["fc_norm.weight", tensorData("f32", [8], drawn(1, 8))] as const]);
    expect(await names(own)).toEqual(["norm.weight", "fc_norm.bias", "fc_norm.weight"]);
  });
});

describe("a CLIP vision tower", () => {
  const tower = clipVision({
    imageSize: 8,
    patch: 4,
    channels: 1,
    dim: 8,
    depth: 2,
    heads: 2,
    mlpRatio: 2,
    projection: 5,
  });
  const ours = drawnParameters(traced(tower));
  const flat = (tensors: Map<string, TensorData>, name: string, axes: number) => {
    const tensor = tensors.get(name);
    if (tensor !== undefined) tensors.set(name, { ...tensor, shape: tensor.shape.slice(axes) });
  };

  test("comes back from Hugging Face's names, without the text tower", async () => {
    const named = respelt(ours, [
      [/^cls_token$/, "vision_model.embeddings.class_embedding"],
      [/^pos_embed$/, "vision_model.embeddings.position_embedding.weight"],
      [/^patch_embed\.proj\./, "vision_model.embeddings.patch_embedding."],
      [/^norm_pre\./, "vision_model.pre_layrnorm."],
      [/^blocks\.(\d+)\.norm([12])\./, "vision_model.encoder.layers.$1.layer_norm$2."],
      [/^blocks\.(\d+)\.attn\.qkv\./, "vision_model.encoder.layers.$1.self_attn.qkv."],
      [/^blocks\.(\d+)\.attn\.proj\./, "vision_model.encoder.layers.$1.self_attn.out_proj."],
      [/^blocks\.(\d+)\.mlp\.fc([12])\./, "vision_model.encoder.layers.$1.mlp.fc$2."],
      [/^norm\./, "vision_model.post_layernorm."],
      [/^head\./, "visual_projection."],
    ]);
    flat(named, "vision_model.embeddings.class_embedding", 2);
    flat(named, "vision_model.embeddings.position_embedding.weight", 1);
    const theirs = new Map(
      [...named].flatMap(([name, tensor]) =>
        name.includes(".qkv.")
          ? cut(
              tensor,
              ["q_proj", "k_proj", "v_proj"].map((part) => name.replace("qkv", part)),
            )
          : [[name, tensor] as const],
      ),
    );
    for (const name of ["text_model.final_layer_norm.weight", "text_projection.weight", "logit_scale"])
      theirs.set(name, tensorData("f32", [1], [1]));
    theirs.set("vision_model.embeddings.position_ids", tensorData("i64", [1, 5], [0, 1, 2, 3, 4]));
    expect(byName(await adapted(tower, theirs))).toEqual(byName(ours));
  });

  test("comes back from OpenAI's names, its projection transposed", async () => {
    const theirs = respelt(ours, [
      [/^cls_token$/, "visual.class_embedding"],
      [/^pos_embed$/, "visual.positional_embedding"],
      [/^patch_embed\.proj\./, "visual.conv1."],
      [/^norm_pre\./, "visual.ln_pre."],
      [/^blocks\.(\d+)\.norm([12])\./, "visual.transformer.resblocks.$1.ln_$2."],
      [/^blocks\.(\d+)\.attn\.qkv\./, "visual.transformer.resblocks.$1.attn.in_proj_"],
      [/^blocks\.(\d+)\.attn\.proj\./, "visual.transformer.resblocks.$1.attn.out_proj."],
      [/^blocks\.(\d+)\.mlp\.fc1\./, "visual.transformer.resblocks.$1.mlp.c_fc."],
      [/^blocks\.(\d+)\.mlp\.fc2\./, "visual.transformer.resblocks.$1.mlp.c_proj."],
      [/^norm\./, "visual.ln_post."],
      [/^head\.weight$/, "visual.proj"],
    ]);
    flat(theirs, "visual.class_embedding", 2);
    flat(theirs, "visual.positional_embedding", 1);
    const projection = theirs.get("visual.proj");
    if (projection !== undefined) theirs.set("visual.proj", transposed(projection));
    for (const name of ["token_embedding.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale"])
      theirs.set(name, tensorData("f32", [1], [1]));
    expect(byName(await adapted(tower, theirs))).toEqual(byName(ours));
  });

  test("reads of a transposed weight the range that is asked for", async () => {
    const theirs = sources([
      ["visual.conv1.weight", tensorData("f32", [1], [1])],
      ["visual.proj", tensorData("f32", [2, 3], [0, 1, 2, 10, 11, 12])],
    ]);
    const head = tower.adaptWeights?.(theirs, tower.options).get("head.weight");
    expect(head?.type).toEqual({ dtype: "f32", shape: [3, 2] });
    expect(await head?.read(1, 4)).toEqual(tensorData("f32", [3], [10, 1, 11]));
  });

  test("leaves its projection to a model that has one", async () => {
    expect([...(await adapted(clipVision({ ...tower.options, projection: 0 }), ours)).keys()]).not.toContain(
      "head.weight",
    );
  });
});

describe("a LLaMA", () => {
  const config = { vocabulary: 7, dim: 12, depth: 2, heads: 3, keyHeads: 1, hidden: 6, sequence: 4 } as const;
  const model = llama(config);
  const ours = drawnParameters(traced(model));
  const tokens = tensorData("i32", [1, 4], [6, 1, 0, 3]);
  const logits = (of: typeof model, parameters: Tensors) => only(evaluateGraph(traced(of), { tokens }, { parameters }));
  const toMeta = (tensors: Tensors) =>
    respelt(tensors, [
      [/^model\.embed_tokens\./, "tok_embeddings."],
      [/^model\.layers\.(\d+)\.self_attn\.(.)_proj\./, "layers.$1.attention.w$2."],
      [/^model\.layers\.(\d+)\.input_layernorm\./, "layers.$1.attention_norm."],
      [/^model\.layers\.(\d+)\.mlp\.gate_proj\./, "layers.$1.feed_forward.w1."],
      [/^model\.layers\.(\d+)\.mlp\.down_proj\./, "layers.$1.feed_forward.w2."],
      [/^model\.layers\.(\d+)\.mlp\.up_proj\./, "layers.$1.feed_forward.w3."],
      [/^model\.layers\.(\d+)\.post_attention_layernorm\./, "layers.$1.ffn_norm."],
      [/^model\.norm\./, "norm."],
      [/^lm_head\./, "output."],
    ]);

  test("under Hugging Face's names stays as it is, without its buffers; its body alone gets the prefix", async () => {
    const buffer = ["model.layers.0.self_attn.rotary_emb.inv_freq", tensorData("f32", [1], [1])] as const;
    expect(byName(await adapted(model, [...ours, buffer]))).toEqual(byName(ours));
    const body = [...ours].map(([name, tensor]) => [name.replace(/^model\./, ""), tensor] as const);
    expect(byName(await adapted(model, body))).toEqual(byName(ours));
  });

  test("under Meta's names computes the same in either pairing of channels", async () => {
    const paired = llama({ ...config, ropeInterleaved: true });
    const theirs = toMeta(ours);
    const asPairs = await adapted(paired, theirs); // Meta's own layout: nothing moves
    expect(byName(asPairs)).toEqual(byName(ours));
    const asHalves = await adapted(model, theirs);
    expect(asHalves.get("model.layers.0.self_attn.q_proj.weight")).not.toEqual(
      ours.get("model.layers.0.self_attn.q_proj.weight"),
    );
    expect(asHalves.get("model.layers.0.self_attn.v_proj.weight")).toEqual(
      ours.get("model.layers.0.self_attn.v_proj.weight"),
    );
    const [halves, pairs] = [logits(model, asHalves), logits(paired, asPairs)];
    expect(halves).toEqual(pairs);
    // And back: Hugging Face's layout in a model that pairs neighbours.
    expect(byName(await adapted(paired, asHalves))).toEqual(byName(ours));
  });

  test("with a tied head leaves the checkpoint's own away", async () => {
    expect([...(await adapted(llama({ ...config, tieEmbeddings: true }), ours)).keys()]).not.toContain(
      "lm_head.weight",
    );
  });
});
