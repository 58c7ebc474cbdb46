import { input, type ModelDefinition, nn, scope, type Tensor, take } from "../dsl/index.ts";
import type { FloatType } from "../ir/type.ts";
import { refuseOption, wantWholes } from "./options.ts";
import {
  type Activation,
  block,
  checkPictures,
  embedPositions,
  type Presentation,
  patchEmbed,
  type VitConfig,
} from "./vit.ts";
import { fromAnyClip } from "./weights/clipNames.ts";

/** The vision tower of CLIP (Radford et al., 2021): a ViT with a norm before its blocks and a bias-free patch layer. */
export type ClipVisionConfig = Pick<
  VitConfig,
  "imageSize" | "patch" | "channels" | "dim" | "depth" | "heads" | "mlpRatio" | "epsilon" | "batch"
> & {
  /** "quickGelu" for OpenAI's weights, "gelu" for most of open_clip's. */
  readonly activation: Activation;
  /** Width of the space that pictures and texts share; 0 leaves the projection away. */
  readonly projection: number;
  /** timm's checkpoints give the projection a bias (of zeros). */
  readonly projectionBias: boolean;
};

/** CLIP ViT-B/32 of OpenAI. */
const standard: ClipVisionConfig = {
  imageSize: 224,
  patch: 32,
  channels: 3,
  dim: 768,
  depth: 12,
  heads: 12,
  mlpRatio: 4,
  activation: "quickGelu",
  projection: 512,
  projectionBias: false,
  epsilon: 1e-5,
  batch: "batch",
};

/**
 * CLIP's vision tower; what `config` leaves out is ViT-B/32's. Input `image` f32[batch, channels, imageSize, imageSize];
 * output `embedding` f32[batch, projection], or `features` f32[batch, dim] without a projection. Parameters are named as
 * timm's vit_base_patch32_clip_224.
 */
export function clipVision(
  config: Partial<ClipVisionConfig> = {},
  presentation: Presentation = {},
): ModelDefinition<ClipVisionConfig> {
  return {
    kind: "model",
    name: "clip-vision",
    pictures: { image: clipScaled },
    adaptWeights: (tensors, { projection }) => {
      const adapted = new Map(fromAnyClip(tensors));
      if (projection === 0) for (const name of ["head.weight", "head.bias"]) adapted.delete(name);
      return adapted;
    },
    ...presentation,
    dims: ["batch"],
    options: { ...standard, ...config },
    build: (options) => {
      const { batch, channels, imageSize } = options;
      const image = input("image", "f32", [batch, channels, imageSize, imageSize]);
      const { embedding, features } = clipVisionForward(image, options);
      return embedding === undefined ? { features } : { embedding };
    },
  };
}

/** What the tower computes of a batch of pictures. */
export interface ClipVisionResult<D extends FloatType = "f32"> {
  /** The token stream after each block, [batch, 1 + patches, dim]; language models read one of the last, without its first token. */
  readonly stages: readonly Tensor<D, nn.Rank3>[];
  /** The class token after the last norm: [batch, dim]. */
  readonly features: Tensor<D>;
  /** [batch, projection], not normalised; undefined without a projection. */
  readonly embedding: Tensor<D> | undefined;
}

/** The tower on a picture [batch, channels, imageSize, imageSize]; parameters below the scope in force. */
export function clipVisionForward<D extends FloatType>(
  image: Tensor<D, nn.Rank4>,
  config: ClipVisionConfig,
): ClipVisionResult<D> {
  const { activation, depth, epsilon, projection } = config;
  checkPictures(config);
  wantWholes(config, { projection: 0 });
  if (!activations.includes(activation))
    refuseOption(`activation is one of ${activations.join(", ")}, got ${JSON.stringify(activation)}`);
  const patches = patchEmbed(image, { ...config, bias: false });
  const embedded = embedPositions(patches, { classToken: true, distillToken: false });
  let x = nn.layerNorm("norm_pre", embedded, { epsilon });
  const stages: Tensor<D, nn.Rank3>[] = [];
  for (let i = 0; i < depth; i++) {
    const before = x;
    x = scope(`blocks.${i}`, () => block(before, { ...config, qkvBias: true }));
    stages.push(x);
  }
  const features = nn.layerNorm("norm", take(x, 0, 1), { epsilon });
  const project = () => nn.linear("head", features, { out: projection, bias: config.projectionBias });
  return { stages, features, embedding: projection === 0 ? undefined : project() };
}

const activations: readonly Activation[] = ["gelu", "geluTanh", "quickGelu"];

/** Mean and standard deviation per channel of CLIP's training pictures. */
const clipScaled = {
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
  fit: "cover",
} as const;

const large = { patch: 14, dim: 1024, depth: 24, heads: 16, projection: 768 } as const;

/** OpenAI's ViT-B/32: 87,849,216 parameters. */
export const clipB32 = clipVision({}, { name: "clip-b32" });
/** OpenAI's ViT-B/16: 86,192,640 parameters. */
export const clipB16 = clipVision({ patch: 16 }, { name: "clip-b16" });
/** OpenAI's ViT-L/14: 303,966,208 parameters. */
export const clipL14 = clipVision(large, { name: "clip-l14" });
/** OpenAI's ViT-L/14 at 336 pixels: 304,293,888 parameters. */
export const clipL14At336 = clipVision({ ...large, imageSize: 336 }, { name: "clip-l14-336" });
