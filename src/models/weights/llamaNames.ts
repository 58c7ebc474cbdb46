import { reorderRows } from "../../dsl/index.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { rename, type Spelling, type Weights } from "./rename.ts";

/** What of a configuration the names and layouts of its weights depend on. */
export interface LlamaLayout {
  readonly heads: number;
  readonly keyHeads: number;
  readonly ropeInterleaved: boolean;
  readonly tieEmbeddings: boolean;
}

/** transformers: LlamaForCausalLM; LlamaModel has the same without `model.`. The frequencies are a buffer. */
const huggingFace: readonly Spelling[] = [
  [/rotary_emb\.inv_freq$/, undefined],
  [/^(embed_tokens\.|layers\.\d+\.|norm\.)/, "model.$1"],
];

/** Meta's release, and Mistral's `consolidated`. */
const meta: readonly Spelling[] = [
  [/rope\.freqs$/, undefined],
  [/^tok_embeddings\./, "model.embed_tokens."],
  [/^layers\.(\d+)\.attention\.w([qkvo])\./, "model.layers.$1.self_attn.$2_proj."],
  [/^layers\.(\d+)\.attention_norm\./, "model.layers.$1.input_layernorm."],
  [/^layers\.(\d+)\.feed_forward\.w1\./, "model.layers.$1.mlp.gate_proj."],
  [/^layers\.(\d+)\.feed_forward\.w2\./, "model.layers.$1.mlp.down_proj."],
  [/^layers\.(\d+)\.feed_forward\.w3\./, "model.layers.$1.mlp.up_proj."],
  [/^layers\.(\d+)\.ffn_norm\./, "model.layers.$1.post_attention_layernorm."],
  [/^norm\./, "model.norm."],
  [/^output\./, "lm_head."],
];

/**
 * A checkpoint under Hugging Face's names, from theirs or Meta's. Meta's queries and keys pair channels 2i and 2i + 1 of
 * a head, Hugging Face's i and i + half: their rows change places where the model wants the other layout. A model with
 * tied embeddings leaves a head of the checkpoint's own away.
 */
export function fromAnyLlama(tensors: Weights, layout: LlamaLayout): ReadonlyMap<string, WeightSource> {
  const isMeta = tensors.has("tok_embeddings.weight");
  const named = rename(tensors, isMeta ? meta : huggingFace);
  if (layout.tieEmbeddings) named.delete("lm_head.weight");
  if (isMeta === layout.ropeInterleaved) return named;
  for (const [name, source] of named) {
    const match = /\.([qk])_proj\.(?:weight|bias)$/.exec(name);
    if (match === null) continue;
    const heads = match[1] === "q" ? layout.heads : layout.keyHeads;
    named.set(name, isMeta ? toHalves(source, heads) : toPairs(source, heads));
  }
  return named;
}

/** Rows of each head from pair order (2i, 2i + 1) to half order (i, i + half). */
function toHalves(source: WeightSource, heads: number): WeightSource {
  const width = (source.type.shape[0] ?? 0) / heads;
  return reorderRows(source, `halves of ${heads}`, (row) => {
    const channel = row % width;
    return row - channel + 2 * (channel % (width / 2)) + Math.floor(channel / (width / 2));
  });
}

/** The inverse of `toHalves`. */
function toPairs(source: WeightSource, heads: number): WeightSource {
  const width = (source.type.shape[0] ?? 0) / heads;
  return reorderRows(source, `pairs of ${heads}`, (row) => {
    const channel = row % width;
    return row - channel + Math.floor(channel / 2) + (channel % 2) * (width / 2);
  });
}
