import { reshapeWeight, transposeWeight } from "../../dsl/index.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { adapt, joinQueryKeyValue, rename, type Spelling, type Weights } from "./rename.ts";

const layer = "^vision_model\\.encoder\\.layers\\.(\\d+)\\.";

/** transformers: CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection. `pre_layrnorm` is their spelling. */
const huggingFace: readonly Spelling[] = [
  [/^vision_model\.embeddings\.class_embedding$/, "cls_token"],
  [/^vision_model\.embeddings\.patch_embedding\./, "patch_embed.proj."],
  [/^vision_model\.embeddings\.position_embedding\.weight$/, "pos_embed"],
  [/^vision_model\.embeddings\.position_ids$/, undefined],
  [/^vision_model\.pre_layrnorm\./, "norm_pre."],
  [new RegExp(`${layer}layer_norm([12])\\.`), "blocks.$1.norm$2."],
  [new RegExp(`${layer}self_attn\\.q_proj\\.`), "blocks.$1.attn.query."],
  [new RegExp(`${layer}self_attn\\.k_proj\\.`), "blocks.$1.attn.key."],
  [new RegExp(`${layer}self_attn\\.v_proj\\.`), "blocks.$1.attn.value."],
  [new RegExp(`${layer}self_attn\\.out_proj\\.`), "blocks.$1.attn.proj."],
  [new RegExp(`${layer}mlp\\.fc([12])\\.`), "blocks.$1.mlp.fc$2."],
  [/^vision_model\.post_layernorm\./, "norm."],
  [/^visual_projection\.weight$/, "head.weight"],
  [/^(?:text_model\.|text_projection\.|logit_scale$)/, undefined],
];

const resblock = "^visual\\.transformer\\.resblocks\\.(\\d+)\\.";

/** OpenAI's CLIP and open_clip: everything outside `visual.` is the text tower's. */
const openAi: readonly Spelling[] = [
  [/^visual\.class_embedding$/, "cls_token"],
  [/^visual\.conv1\./, "patch_embed.proj."],
  [/^visual\.positional_embedding$/, "pos_embed"],
  [/^visual\.ln_pre\./, "norm_pre."],
  [new RegExp(`${resblock}ln_([12])\\.`), "blocks.$1.norm$2."],
  [new RegExp(`${resblock}attn\\.in_proj_(weight|bias)$`), "blocks.$1.attn.qkv.$2"],
  [new RegExp(`${resblock}attn\\.out_proj\\.`), "blocks.$1.attn.proj."],
  [new RegExp(`${resblock}mlp\\.c_fc\\.`), "blocks.$1.mlp.fc1."],
  [new RegExp(`${resblock}mlp\\.c_proj\\.`), "blocks.$1.mlp.fc2."],
  [/^visual\.ln_post\./, "norm."],
  [/^visual\.proj$/, "head.weight"],
  [/^(?!visual\.)/, undefined],
];

/** The vision tower of a Hugging Face CLIP checkpoint under timm's names; the text tower is left out. */
export function fromHuggingFaceClip(tensors: Weights): ReadonlyMap<string, WeightSource> {
  const named = joinQueryKeyValue(rename(tensors, huggingFace));
  batchEmbeddings(named);
  return named;
}

/** The vision tower of an OpenAI or open_clip checkpoint under timm's names; its projection [dim, out] is transposed. */
export function fromOpenClip(tensors: Weights): ReadonlyMap<string, WeightSource> {
  const named = rename(tensors, openAi);
  batchEmbeddings(named);
  adapt(named, "head.weight", (source) => transposeWeight("head.weight", source));
  return named;
}

/** Whichever of the three spellings a checkpoint has; timm's stays as it is. */
export function fromAnyClip(tensors: Weights): ReadonlyMap<string, WeightSource> {
  if (tensors.has("visual.conv1.weight")) return fromOpenClip(tensors);
  if (tensors.has("vision_model.embeddings.patch_embedding.weight")) return fromHuggingFaceClip(tensors);
  return tensors;
}

/** timm keeps a batch axis of 1 before the class token and the positions. */
function batchEmbeddings(named: Map<string, WeightSource>): void {
  adapt(named, "cls_token", (source) => reshapeWeight("cls_token", source, [1, 1, source.type.shape.at(-1) ?? 0]));
  adapt(named, "pos_embed", (source) => reshapeWeight("pos_embed", source, [1, ...source.type.shape.slice(-2)]));
}
