import type { WeightSource } from "../../ir/graph.ts";
import { joinQueryKeyValue, rename, type Spelling, type Weights } from "./rename.ts";

const layer = "^(?:(?:vit|deit)\\.)?encoder\\.layer\\.(\\d+)\\.";
const embeddings = "^(?:(?:vit|deit)\\.)?embeddings\\.";

/** transformers: ViTModel, ViTForImageClassification, DeiT*, DeiTForImageClassificationWithTeacher, ViTMAE's encoder. */
const spellings: readonly Spelling[] = [
  [new RegExp(`${embeddings}cls_token$`), "cls_token"],
  [new RegExp(`${embeddings}distillation_token$`), "dist_token"],
  [new RegExp(`${embeddings}position_embeddings$`), "pos_embed"],
  [new RegExp(`${embeddings}patch_embeddings\\.projection\\.`), "patch_embed.proj."],
  [new RegExp(`${embeddings}mask_token$`), undefined],
  [new RegExp(`${layer}layernorm_before\\.`), "blocks.$1.norm1."],
  [new RegExp(`${layer}layernorm_after\\.`), "blocks.$1.norm2."],
  [new RegExp(`${layer}attention\\.attention\\.(query|key|value)\\.`), "blocks.$1.attn.$2."],
  [new RegExp(`${layer}attention\\.output\\.dense\\.`), "blocks.$1.attn.proj."],
  [new RegExp(`${layer}intermediate\\.dense\\.`), "blocks.$1.mlp.fc1."],
  [new RegExp(`${layer}output\\.dense\\.`), "blocks.$1.mlp.fc2."],
  [/^(?:(?:vit|deit)\.)?layernorm\./, "norm."],
  [/^(?:(?:vit|deit)\.)?pooler\./, undefined],
  [/^(?:classifier|cls_classifier)\./, "head."],
  [/^distillation_classifier\./, "head_dist."],
];

// What only a Hugging Face checkpoint holds: without it the names are left alone.
const mark = new RegExp(`${embeddings}|${layer}`);

/**
 * A Hugging Face ViT or DeiT checkpoint under timm's names: query, key and value joined to `qkv`, read in place by range.
 * The pooler and the mask token, which no model here has, are left out, as is MAE's decoder; a checkpoint that has
 * timm's names already stays as it is. Fails with `weights-missing`, `weights-shape` and `weights-dtype` where query,
 * key and value do not go together.
 */
export function fromHuggingFace(tensors: Weights): ReadonlyMap<string, WeightSource> {
  if (![...tensors.keys()].some((name) => mark.test(name))) return tensors;
  return joinQueryKeyValue(rename(tensors, [[/^decoder\./, undefined], ...spellings]));
}
