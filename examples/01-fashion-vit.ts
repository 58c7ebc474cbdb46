// A vision transformer for Fashion-MNIST, as one would write it by hand: 28 x 28 grey pictures, patches of 4, 49 patch
// tokens and a class token, six pre-norm blocks. Parameter names are timm's, so that its checkpoint loads by name.
//
//   npx tamis inspect examples/01-fashion-vit.ts --stats
//   npx tamis inspect examples/01-fashion-vit.ts --pass mergeTokens:r=8 --diff --locations
//   npx tamis run examples/01-fashion-vit.ts --input image=picture.png --pass mergeTokens:r=4
import {
  add,
  concat,
  type Dim,
  defineModel,
  expand,
  gelu,
  input,
  nn,
  parameter,
  reshape,
  scope,
  type Tensor,
  take,
  transpose,
} from "tamis";

type TokenStream = Tensor<"f32", readonly [Dim, Dim, Dim]>;

/** x: [batch, tokens, dim] -> the same; attention and MLP, each behind a LayerNorm and around it a residual. */
function block(x: TokenStream, heads: number, dim: number): TokenStream {
  const normed = nn.layerNorm("norm1", x, { epsilon: 1e-6 });
  const attended = scope("attn", () => {
    const [query, key, value] = nn.queryKeyValue("qkv", normed, { heads });
    return nn.linear("proj", nn.mergeHeads(nn.attention(query, key, value)), { out: dim });
  });
  const middle = add(x, attended);
  const hidden = nn.layerNorm("norm2", middle, { epsilon: 1e-6 });
  const widened = scope("mlp", () => nn.linear("fc2", gelu(nn.linear("fc1", hidden, { out: 4 * dim })), { out: dim }));
  return add(middle, widened);
}

export const fashionVit = defineModel({
  name: "fashion-vit",
  options: { dim: 64, depth: 6, heads: 4, patch: 4, classes: 10 },
  weights: new URL("./data/fashion-vit.safetensors", import.meta.url),
  pictures: { image: { mean: [0.286], std: [0.353] } },
  labels: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
  build({ dim, depth, heads, patch, classes }) {
    const image = input("image", "f32", ["batch", 1, 28, 28]);
    const side = 28 / patch;
    const grid = scope("patch_embed", () => nn.conv2d("proj", image, { out: dim, kernel: patch, stride: patch }));
    const patches = transpose(reshape(grid, ["batch", dim, side * side]), [0, 2, 1]);
    const classToken = expand(parameter("cls_token", [1, 1, dim]), ["batch", 1, dim]);
    let x: TokenStream = add(concat([classToken, patches], 1), parameter("pos_embed", [1, side * side + 1, dim]));
    for (let i = 0; i < depth; i++) x = scope(`blocks.${i}`, () => block(x, heads, dim));
    const summary = take(nn.layerNorm("norm", x, { epsilon: 1e-6 }), 0, 1);
    return { logits: nn.linear("head", summary, { out: classes }) };
  },
});
