// The networks for frameworks whose users write operations by hand, in the operations that each offers for them.
import { type Block, type FashionVit, fashion } from "./cases.ts";

/** A framework's operations. `name` is that of a layer: it has operands name.weight and name.bias. */
export interface Ops<T> {
  operand(name: string): T;
  add(a: T, b: T): T;
  /** x [rows, in] -> [rows, out]. */
  linear(x: T, name: string): T;
  /** Over the last axis. */
  layerNorm(x: T, name: string): T;
  /** Exact, not its tanh approximation. */
  gelu(x: T): T;
  /** All [batch, heads, tokens, channels]. */
  attention(query: T, key: T, value: T, causal: boolean): T;
  reshape(x: T, shape: readonly number[]): T;
  transpose(x: T, order: readonly number[]): T;
  /** Position `at` of the first axis, which goes away. */
  take(x: T, at: number): T;
  concat(parts: readonly T[], axis: number): T;
  broadcast(x: T, shape: readonly number[]): T;
  /** Patches of a picture [batch, 1, side, side] as tokens [batch, patches, out]; patches do not overlap. */
  embedPatches(image: T, name: string): T;
}

type Size = Omit<Block, "kind"> & { readonly batch: number };

/** x [batch * tokens, dim] -> the same. */
export function block<T>(ops: Ops<T>, x: T, { batch, tokens, dim, heads }: Size, at = ""): T {
  const packed = ops.linear(ops.layerNorm(x, `${at}norm1`), `${at}attn.qkv`);
  const split = ops.transpose(ops.reshape(packed, [batch, tokens, 3, heads, dim / heads]), [2, 0, 3, 1, 4]);
  const mixed = ops.attention(ops.take(split, 0), ops.take(split, 1), ops.take(split, 2), false);
  const merged = ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [batch * tokens, dim]);
  const middle = ops.add(x, ops.linear(merged, `${at}attn.proj`));
  const hidden = ops.gelu(ops.linear(ops.layerNorm(middle, `${at}norm2`), `${at}mlp.fc1`));
  return ops.add(middle, ops.linear(hidden, `${at}mlp.fc2`));
}

/** examples/01-fashion-vit.ts: logits [batch, classes]. */
export function fashionVit<T>(ops: Ops<T>, { batch }: FashionVit): T {
  const { dim, depth, heads, side, patch } = fashion;
  const tokens = (side / patch) ** 2 + 1;
  const patches = ops.embedPatches(ops.operand("image"), "patch_embed.proj");
  const classToken = ops.broadcast(ops.operand("cls_token"), [batch, 1, dim]);
  const embedded = ops.add(ops.concat([classToken, patches], 1), ops.operand("pos_embed"));
  let x = ops.reshape(embedded, [batch * tokens, dim]);
  for (let i = 0; i < depth; i++) x = block(ops, x, { batch, tokens, dim, heads }, `blocks.${i}.`);
  // Only the class token is read: norm it alone, as we do.
  const first = ops.take(ops.transpose(ops.reshape(x, [batch, tokens, dim]), [1, 0, 2]), 0);
  return ops.linear(ops.layerNorm(first, "norm"), "head");
}
