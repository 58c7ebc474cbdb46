import {
  add,
  constant,
  input,
  type ModelDefinition,
  matmul,
  mul,
  nn,
  parameter,
  scope,
  silu,
  type Tensor,
  transpose,
} from "../dsl/index.ts";
import type { Dim, FloatType } from "../ir/type.ts";
import { refuseOption, wantWholes } from "./options.ts";
import type { Presentation } from "./vit.ts";
import { fromAnyLlama } from "./weights/llamaNames.ts";

/** A decoder of LLaMA's kind, named as transformers' `LlamaForCausalLM` names it. */
export type LlamaConfig = {
  readonly vocabulary: number;
  /** Channels of a token. */
  readonly dim: number;
  /** Blocks. */
  readonly depth: number;
  readonly heads: number;
  /** Heads of keys and values; a divisor of `heads`. */
  readonly keyHeads: number;
  /** Channels of a head, even; 0: dim / heads. */
  readonly headDim: number;
  /** Channels inside the mlp. */
  readonly hidden: number;
  /** Of every RMS norm. */
  readonly epsilon: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** Pairs channels 2i and 2i + 1 of a head (Meta's layout) instead of i and i + headDim / 2 (Hugging Face's). */
  readonly ropeInterleaved: boolean;
  /** Biases on the four projections of attention. */
  readonly attentionBias: boolean;
  /** The head reads the embedding table instead of one of its own. */
  readonly tieEmbeddings: boolean;
  /** Sequences at a time: a symbol, or a size. */
  readonly batch: Dim;
  /** Tokens of a sequence: a size, or a symbol, which makes the rotary tables inputs. */
  readonly sequence: Dim;
};

/** LLaMA-7B. Touvron et al., 2023, table 2. */
const standard: LlamaConfig = {
  vocabulary: 32_000,
  dim: 4096,
  depth: 32,
  heads: 32,
  keyHeads: 32,
  headDim: 0,
  hidden: 11_008,
  epsilon: 1e-6,
  ropeTheta: 10_000,
  ropeInterleaved: false,
  attentionBias: false,
  tieEmbeddings: false,
  batch: "batch",
  sequence: "sequence",
};

/**
 * A LLaMA that reads whole prompts; what `config` leaves out is LLaMA-7B's. Input `tokens` i32[batch, sequence], with
 * tables `cos` and `sin` f32[sequence, headDim / 2] (see `rotaryTables`) where `sequence` is a symbol; output `logits`
 * f32[batch, sequence, vocabulary]. Tracing fails with `bad-option` for sizes that do not fit together.
 */
export function llama(
  config: Partial<LlamaConfig> = {},
  presentation: Presentation = {},
): ModelDefinition<LlamaConfig> {
  return {
    kind: "model",
    name: "llama",
    adaptWeights: fromAnyLlama,
    ...presentation,
    dims: ["batch", "sequence"],
    options: { ...standard, ...config },
    build: (options) => {
      const { batch, sequence } = options;
      return { logits: llamaForward(input("tokens", "i32", [batch, sequence]), options).logits };
    },
  };
}

type Tokens<D extends FloatType> = Tensor<D, nn.Rank3>;

/** cos and sin [tokens, headDim / 2] of position times frequency. */
export interface Rotary<D extends FloatType = "f32"> {
  readonly cos: Tensor<D, readonly [Dim, Dim]>;
  readonly sin: Tensor<D, readonly [Dim, Dim]>;
}

/** What the network computes of a batch of token sequences. */
export interface LlamaResult {
  /** The token stream after each block: [batch, sequence, dim]. */
  readonly stages: readonly Tokens<"f32">[];
  /** After the last norm. */
  readonly features: Tokens<"f32">;
  /** [batch, sequence, vocabulary] */
  readonly logits: Tokens<"f32">;
}

/** The whole network on token ids; parameters below the scope in force. */
export function llamaForward(tokens: Tensor<"i32", readonly [Dim, Dim]>, config: LlamaConfig): LlamaResult {
  checkConfig(config);
  const { depth, dim, epsilon, tieEmbeddings, vocabulary } = config;
  const rotary = rotaryOf(tokens.dim(1), config);
  const stages: Tokens<"f32">[] = [];
  const features = scope("model", () => {
    let x: Tokens<"f32"> = nn.embedding("embed_tokens", tokens, { vocabulary, channels: dim });
    for (let i = 0; i < depth; i++) {
      const before = x;
      x = scope(`layers.${i}`, () => llamaBlock(before, rotary, config));
      stages.push(x);
    }
    return nn.rmsNorm("norm", x, { epsilon });
  });
  const tied = () => matmul(features, transpose(parameter("model.embed_tokens.weight", [vocabulary, dim]), [1, 0]));
  const logits = tieEmbeddings ? tied() : nn.linear("lm_head", features, { out: vocabulary, bias: false });
  return { stages, features, logits };
}

/** Pre-norm: x + attention(norm(x)), then that + mlp(norm(that)). */
export function llamaBlock<D extends FloatType>(x: Tokens<D>, rotary: Rotary<D>, config: LlamaConfig): Tokens<D> {
  const { epsilon } = config;
  const attended = add(x, llamaAttention(nn.rmsNorm("input_layernorm", x, { epsilon }), rotary, config));
  return add(attended, llamaMlp(nn.rmsNorm("post_attention_layernorm", attended, { epsilon }), config));
}

/** Causal attention, `heads / keyHeads` query heads to a key head, queries and keys rotated by position. */
export function llamaAttention<D extends FloatType>(
  x: Tokens<D>,
  { cos, sin }: Rotary<D>,
  config: Pick<LlamaConfig, "dim" | "heads" | "keyHeads" | "headDim" | "ropeInterleaved" | "attentionBias">,
): Tokens<D> {
  const { dim, heads, keyHeads, ropeInterleaved, attentionBias: bias } = config;
  const width = headDimOf(config);
  const project = (name: string, count: number) =>
    nn.splitHeads(nn.linear(name, x, { out: count * width, bias }), count);
  return scope("self_attn", () => {
    const query = nn.rotaryEmbedding(project("q_proj", heads), cos, sin, ropeInterleaved);
    const key = nn.rotaryEmbedding(project("k_proj", keyHeads), cos, sin, ropeInterleaved);
    const mixed = nn.attention(query, key, project("v_proj", keyHeads), { causal: true });
    return nn.linear("o_proj", nn.mergeHeads(mixed), { out: dim, bias });
  });
}

/** SwiGLU: down(silu(gate(x)) up(x)). Shazeer, 2020. */
export function llamaMlp<D extends FloatType>(x: Tokens<D>, config: Pick<LlamaConfig, "dim" | "hidden">): Tokens<D> {
  const { dim, hidden } = config;
  return scope("mlp", () => {
    const gate = silu(nn.linear("gate_proj", x, { out: hidden, bias: false }));
    const up = nn.linear("up_proj", x, { out: hidden, bias: false });
    return nn.linear("down_proj", mul(gate, up), { out: dim, bias: false });
  });
}

/**
 * Tables of the rotary embedding, row-major [tokens, headDim / 2], in f64: cos and sin of position theta^(-2i / headDim).
 * RoFormer (Su et al., 2021), section 3.2.2. `first` is the position of the first row.
 */
export function rotaryTables(options: {
  readonly tokens: number;
  readonly headDim: number;
  readonly theta: number;
  readonly first?: number;
}): { readonly cos: Float64Array; readonly sin: Float64Array } {
  const { tokens, headDim, theta, first = 0 } = options;
  const pairs = headDim / 2;
  const cos = new Float64Array(tokens * pairs);
  const sin = new Float64Array(tokens * pairs);
  for (let i = 0; i < pairs; i++) {
    const frequency = theta ** ((-2 * i) / headDim);
    for (let token = 0; token < tokens; token++) {
      const angle = (first + token) * frequency;
      cos[token * pairs + i] = Math.cos(angle);
      sin[token * pairs + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

function rotaryOf(sequence: Dim, config: LlamaConfig): Rotary {
  const headDim = headDimOf(config);
  const pairs = headDim / 2;
  if (typeof sequence !== "number")
    return { cos: input("cos", "f32", [sequence, pairs]), sin: input("sin", "f32", [sequence, pairs]) };
  const { cos, sin } = rotaryTables({ tokens: sequence, headDim, theta: config.ropeTheta });
  return { cos: constant("f32", [sequence, pairs], cos), sin: constant("f32", [sequence, pairs], sin) };
}

const headDimOf = ({ dim, heads, headDim }: Pick<LlamaConfig, "dim" | "heads" | "headDim">): number =>
  headDim === 0 ? dim / heads : headDim;

function checkConfig(config: LlamaConfig): void {
  wantWholes(config, { vocabulary: 1, dim: 1, depth: 0, heads: 1, keyHeads: 1, headDim: 0, hidden: 1 });
  const { dim, heads, keyHeads } = config;
  if (heads % keyHeads !== 0) refuseOption(`${heads} heads do not divide among ${keyHeads} key heads`);
  const width = headDimOf(config);
  if (!Number.isInteger(width) || width % 2 !== 0)
    refuseOption(`a head has an even number of channels, but ${dim} channels in ${heads} heads are ${width} each`);
}

/** LLaMA-7B: 6,738,415,616 parameters. */
export const llama7B = llama({}, { name: "llama-7b" });
/** LLaMA-13B: 13,015,864,320 parameters. */
export const llama13B = llama({ dim: 5120, depth: 40, heads: 40, keyHeads: 40, hidden: 13_824 }, { name: "llama-13b" });
/** Llama 2 7B: LLaMA-7B with another epsilon. */
export const llama2_7B = llama({ epsilon: 1e-5 }, { name: "llama-2-7b" });
/** Llama 3 8B, 4 query heads to a key head: 8,030,261,248 parameters. */
export const llama3_8B = llama(
  { vocabulary: 128_256, keyHeads: 8, hidden: 14_336, epsilon: 1e-5, ropeTheta: 500_000 },
  { name: "llama-3-8b" },
);
