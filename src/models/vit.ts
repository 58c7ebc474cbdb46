import {
  add,
  compileError,
  concat,
  expand,
  gelu,
  input,
  type ModelDefinition,
  mean,
  mul,
  nn,
  parameter,
  quickGelu,
  reshape,
  scope,
  slice,
  type Tensor,
  take,
  transpose,
} from "../dsl/index.ts";
import type { WeightSource } from "../ir/graph.ts";
import type { Dim, FloatType } from "../ir/type.ts";
import { refuseOption, wantWholes } from "./options.ts";
import { fromHuggingFace } from "./weights/huggingFace.ts";

/** A vision transformer as timm's `VisionTransformer` (and `VisionTransformerDistilled`) builds it. */
export type VitConfig = {
  /** Height and width of the picture, in pixels; a multiple of `patch`. */
  readonly imageSize: number;
  /** Height and width of a patch, in pixels. */
  readonly patch: number;
  /** Channels of the picture. */
  readonly channels: number;
  /** Channels of a token; a multiple of `heads`. */
  readonly dim: number;
  /** Blocks. */
  readonly depth: number;
  readonly heads: number;
  /** Channels between the two layers of an mlp, over `dim`. */
  readonly mlpRatio: number;
  readonly qkvBias: boolean;
  /** Width of the head; 0 leaves the head away and gives the features it would read. */
  readonly classes: number;
  readonly classToken: boolean;
  /** A second read-out token with a head of its own, as DeiT's; the logits are the mean of both heads. */
  readonly distillToken: boolean;
  /** "token": final norm, then the class token. "avg": mean over the patches' tokens, then `fc_norm` (MAE's form). */
  readonly globalPool: "token" | "avg";
  /** Of every layer norm. */
  readonly epsilon: number;
  /** Pictures at a time: a symbol, or a size. */
  readonly batch: Dim;
};

/** ViT-B/16 at 224 x 224 with 1000 classes. */
const standard: VitConfig = {
  imageSize: 224,
  patch: 16,
  channels: 3,
  dim: 768,
  depth: 12,
  heads: 12,
  mlpRatio: 4,
  qkvBias: true,
  classes: 1000,
  classToken: true,
  distillToken: false,
  globalPool: "token",
  epsilon: 1e-6,
  batch: "batch",
};

/** What a definition says beside its architecture. */
export type Presentation = Partial<Pick<ModelDefinition, "name" | "weights" | "weightName" | "pictures" | "labels">>;

/**
 * timm's names from timm's, DeiT's or Hugging Face's. A model without classes leaves the checkpoint's heads, and one
 * that pools over patches reads a checkpoint's `norm` as its `fc_norm` (as MAE's fine-tuning and timm do).
 */
export function adaptVitWeights(
  tensors: ReadonlyMap<string, WeightSource>,
  { classes, globalPool }: Pick<VitConfig, "classes" | "globalPool">,
): ReadonlyMap<string, WeightSource> {
  const named = fromHuggingFace(tensors);
  const adapted = new Map<string, WeightSource>();
  for (const [name, source] of named) {
    const isHead = /^head(_dist)?\./.test(name);
    const poolsPatches = globalPool === "avg" && name.startsWith("norm.") && !named.has(`fc_${name}`);
    if (!isHead || classes > 0) adapted.set(poolsPatches ? `fc_${name}` : name, source);
  }
  return adapted;
}

/**
 * A vision transformer; what `config` leaves out is ViT-B/16's. Input `image` f32[batch, channels, imageSize,
 * imageSize]; output `logits` f32[batch, classes], or `features` f32[batch, dim] without classes. Parameters are named
 * as timm's. Tracing fails with `bad-option` for a combination that timm refuses too.
 */
export function vit(config: Partial<VitConfig> = {}, presentation: Presentation = {}): ModelDefinition<VitConfig> {
  return {
    kind: "model",
    name: "vit",
    pictures: { image: halfScaled },
    adaptWeights: adaptVitWeights,
    ...presentation,
    dims: ["batch"],
    options: { ...standard, ...config },
    build: (options) => {
      const { batch, channels, imageSize } = options;
      const { logits, features } = vitForward(input("image", "f32", [batch, channels, imageSize, imageSize]), options);
      return logits === undefined ? { features } : { logits };
    },
  };
}

type Tokens<D extends FloatType> = Tensor<D, nn.Rank3>;
type Picture<D extends FloatType> = Tensor<D, nn.Rank4>;

/** What the network computes of a batch of pictures. */
export interface VitResult<D extends FloatType = "f32"> {
  /** The token stream after each block: [batch, tokens, dim]. */
  readonly stages: readonly Tokens<D>[];
  /** What the head reads, [batch, dim]; with a distillation token the mean of both. */
  readonly features: Tensor<D>;
  /** [batch, classes]; undefined without classes. */
  readonly logits: Tensor<D> | undefined;
}

/** The whole network on a picture [batch, channels, imageSize, imageSize]; parameters below the scope in force. */
export function vitForward<D extends FloatType>(image: Picture<D>, config: VitConfig): VitResult<D> {
  checkConfig(config);
  let x = embedPositions(patchEmbed(image, config), config);
  const stages: Tokens<D>[] = [];
  for (let i = 0; i < config.depth; i++) {
    const before = x;
    x = scope(`blocks.${i}`, () => block(before, config));
    stages.push(x);
  }
  return { stages, ...readOut(x, config) };
}

/** [batch, channels, height, width] -> [batch, patches, dim], row by row. */
export function patchEmbed<D extends FloatType>(
  image: Picture<D>,
  config: Pick<VitConfig, "patch" | "dim"> & { readonly bias?: boolean },
): Tokens<D> {
  const { patch, dim, bias = true } = config;
  return scope("patch_embed", () => {
    const grid = nn.conv2d("proj", image, { out: dim, kernel: patch, stride: patch, bias });
    return transpose(reshape(grid, [grid.dim(0), dim, -1]), [0, 2, 1]);
  });
}

/** Puts the read-out tokens in front and adds what is learned per position. */
export function embedPositions<D extends FloatType>(
  patches: Tokens<D>,
  { classToken, distillToken }: Pick<VitConfig, "classToken" | "distillToken">,
): Tokens<D> {
  const [batch, count, dim] = patches.shape;
  const names = [...(classToken ? ["cls_token"] : []), ...(distillToken ? ["dist_token"] : [])];
  const prefix = names.map((name) => expand(parameter(name, [1, 1, dim], patches.dtype), [batch, 1, dim]));
  const [first, ...others] = [...prefix, patches];
  const tokens = first === undefined ? patches : concat([first, ...others], 1);
  if (typeof count !== "number")
    throw compileError("shape-mismatch", `positions are learned for a known number of patches, got ${count}`);
  return add(tokens, parameter("pos_embed", [1, count + names.length, dim], patches.dtype));
}

/** What a block needs to know of the network around it. */
export type BlockConfig = Pick<VitConfig, "heads" | "mlpRatio" | "qkvBias" | "epsilon"> & {
  readonly activation?: Activation;
};
/** The nonlinearity of the MLP. */
export type Activation = "gelu" | "geluTanh" | "quickGelu";

/** Pre-norm: x + attention(norm1(x)), then that + mlp(norm2(that)). */
export function block<D extends FloatType>(x: Tokens<D>, config: BlockConfig): Tokens<D> {
  const { epsilon } = config;
  const attended = add(x, attention(nn.layerNorm("norm1", x, { epsilon }), config));
  return add(attended, mlp(nn.layerNorm("norm2", attended, { epsilon }), config));
}

/** Multi-head self-attention: one projection to query, key and value, and one back. */
export function attention<D extends FloatType>(
  x: Tokens<D>,
  { heads, qkvBias }: Pick<VitConfig, "heads" | "qkvBias">,
): Tokens<D> {
  return scope("attn", () => {
    const [query, key, value] = nn.queryKeyValue("qkv", x, { heads, bias: qkvBias });
    return nn.linear("proj", nn.mergeHeads(nn.attention(query, key, value)), { out: channelsOf(x) });
  });
}

/** Two layers with an activation between them; GELU by erf unless told otherwise. */
export function mlp<D extends FloatType>(
  x: Tokens<D>,
  { mlpRatio, activation = "gelu" }: { readonly mlpRatio: number; readonly activation?: Activation },
): Tokens<D> {
  const dim = channelsOf(x);
  return scope("mlp", () => {
    const hidden = nn.linear("fc1", x, { out: Math.trunc(dim * mlpRatio) });
    return nn.linear("fc2", activate(hidden, activation), { out: dim });
  });
}

function activate<D extends FloatType>(x: Tokens<D>, activation: Activation): Tokens<D> {
  switch (activation) {
    case "gelu":
      return gelu(x);
    case "geluTanh":
      return gelu(x, "tanh");
    case "quickGelu":
      return quickGelu(x);
    default:
      return activation satisfies never;
  }
}

function readOut<D extends FloatType>(x: Tokens<D>, config: VitConfig): Omit<VitResult<D>, "stages"> {
  const { classes, distillToken, epsilon, globalPool } = config;
  const head = (name: string, pooled: Tensor<D>) => nn.linear(name, pooled, { out: classes });
  if (globalPool === "avg") {
    const patches = slice(x, { axis: 1, start: config.classToken ? 1 : 0 });
    const features = nn.layerNorm("fc_norm", mean(patches, 1), { epsilon });
    return { features, logits: classes === 0 ? undefined : head("head", features) };
  }
  const normed = nn.layerNorm("norm", x, { epsilon });
  const first = take(normed, 0, 1);
  if (!distillToken) return { features: first, logits: classes === 0 ? undefined : head("head", first) };
  const second = take(normed, 1, 1);
  const both = (a: Tensor<D>, b: Tensor<D>): Tensor<D> => mul(add(a, b), 0.5);
  return {
    features: both(first, second),
    logits: classes === 0 ? undefined : both(head("head", first), head("head_dist", second)),
  };
}

function channelsOf(x: Tensor): number {
  const channels = x.dim(-1);
  if (typeof channels !== "number")
    throw compileError("shape-mismatch", `tokens have a known number of channels, got ${channels}`);
  return channels;
}

function checkConfig(config: VitConfig): void {
  const { classToken, distillToken, globalPool } = config;
  checkPictures(config);
  wantWholes(config, { classes: 0 });
  if (globalPool !== "token" && globalPool !== "avg")
    refuseOption(`globalPool is token or avg, got ${JSON.stringify(globalPool)}`);
  if (globalPool === "token" && !classToken) refuseOption("globalPool token needs a class token");
  if (distillToken && (globalPool !== "token" || !classToken))
    refuseOption("a distillation token is read beside the class token, so it needs classToken and globalPool token");
}

/** Sizes that every vision transformer shares. */
export function checkPictures(
  config: Pick<VitConfig, "imageSize" | "patch" | "channels" | "dim" | "depth" | "heads">,
): void {
  wantWholes(config, { imageSize: 1, patch: 1, channels: 1, dim: 1, depth: 0, heads: 1 });
  const { imageSize, patch, dim, heads } = config;
  if (imageSize % patch !== 0)
    refuseOption(`a picture of ${imageSize} pixels does not divide into patches of ${patch}`);
  if (dim % heads !== 0) refuseOption(`${dim} channels do not divide into ${heads} heads`);
}

/** ImageNet's mean and standard deviation per channel, as DeiT uses them. */
const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], fit: "cover" } as const;
/** To [-1, 1], as the ViTs of Google's authors use it. */
const halfScaled = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], fit: "cover" } as const;

const small = { dim: 384, heads: 6 } as const;
const deit = (name: string, config: Partial<VitConfig>): ModelDefinition<VitConfig> =>
  vit(config, { name, pictures: { image: imageNet } });

/** DeiT-Ti/16: 5,717,416 parameters. Touvron et al., ICML 2021, table 1. */
export const deitTiny = deit("deit-tiny", { dim: 192, heads: 3 });
/** DeiT-S/16: 22,050,664 parameters. */
export const deitSmall = deit("deit-small", small);
/** DeiT-B/16: 86,567,656 parameters. */
export const deitBase = deit("deit-base", {});
/** DeiT-B/16 with the distillation token: 87,338,192 parameters. */
export const deitBaseDistilled = deit("deit-base-distilled", { distillToken: true });
/** ViT-S/16: 22,050,664 parameters. */
export const vitSmall = vit(small, { name: "vit-small" });
/** ViT-B/16: 86,567,656 parameters. */
export const vitBase = vit({}, { name: "vit-base" });
/** ViT-L/16: 304,326,632 parameters. */
export const vitLarge = vit({ dim: 1024, depth: 24, heads: 16 }, { name: "vit-large" });

/** Fashion-MNIST in 50 tokens: 305,034 parameters, whose weights come with Tamis. */
export const fashionVit = vit(
  { imageSize: 28, patch: 4, channels: 1, dim: 64, depth: 6, heads: 4, classes: 10 },
  {
    name: "fashion-vit",
    weights: new URL("../../examples/data/fashion-vit.safetensors", import.meta.url),
    pictures: { image: { mean: [0.286], std: [0.353] } },
    labels: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
  },
);
