// What goes into a case: the same numbers in every process.
import { fileURLToPath } from "node:url";
import { fashionVit } from "../../examples/01-fashion-vit.ts";
import { randomTensor } from "../../src/runtime/node/random.ts";
import { loadWeights } from "../../src/runtime/node/weights.ts";
import { type Block, type Case, fashion, type Task } from "./cases.ts";

export interface Operand {
  /** As our models name inputs and parameters. */
  readonly name: string;
  readonly role: "input" | "weight";
  readonly shape: readonly number[];
  readonly values: Float32Array;
}
export type Operands = ReadonlyMap<string, Operand>;

interface Drawn {
  readonly name: string;
  readonly role: Operand["role"];
  readonly shape: readonly number[];
  /** Standard deviation; weights are scaled so that results stay near 1. */
  readonly deviation?: number;
}

/** Operands of a case, seeded by its name; the Fashion ViT's are read from examples/data. */
export async function operandsOf({ name, task }: Case): Promise<Operands> {
  if (task.kind === "fashionVit") return fashionOperands(task.batch);
  const seed = [...name].reduce((hash, character) => (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) >>> 0, 7);
  return new Map(
    drawn(task).map(({ name, role, shape, deviation = 1 }, i) => {
      const values = randomTensor({ dtype: "f32", shape }, seed + i, deviation).values as Float32Array;
      return [name, { name, role, shape, values }];
    }),
  );
}

function drawn(task: Exclude<Task, { readonly kind: "fashionVit" }>): readonly Drawn[] {
  switch (task.kind) {
    case "matmul": {
      const { batch, m, k, n } = task;
      const lead = batch === undefined ? [] : [batch];
      return [
        { name: "lhs", role: "input", shape: [...lead, m, k] },
        { name: "rhs", role: batch === undefined ? "weight" : "input", shape: [...lead, k, n], deviation: k ** -0.5 },
      ];
    }
    case "attention":
      return ["query", "key", "value"].map((name) => ({
        name,
        role: "input",
        shape: [1, task.heads, task.tokens, task.channels],
      }));
    case "layerNorm":
      return [
        { name: "x", role: "input", shape: [task.rows, task.channels] },
        { name: "norm.weight", role: "weight", shape: [task.channels] },
        { name: "norm.bias", role: "weight", shape: [task.channels] },
      ];
    case "softmax":
      return [{ name: "x", role: "input", shape: task.shape }];
    case "conv": {
      const { channels, out, side, kernel } = task;
      return [
        { name: "x", role: "input", shape: [1, channels, side, side] },
        {
          name: "conv.weight",
          role: "weight",
          shape: [out, channels, kernel, kernel],
          deviation: (channels * kernel ** 2) ** -0.5,
        },
        { name: "conv.bias", role: "weight", shape: [out] },
      ];
    }
    case "topK":
      return [{ name: "x", role: "input", shape: [task.rows, task.length] }];
    case "block":
      return [{ name: "x", role: "input", shape: [1, task.tokens, task.dim] }, ...blockWeights(task)];
    default:
      return task satisfies never;
  }
}

/** timm's names; matrices [out, in]. */
function blockWeights({ dim }: Block): readonly Drawn[] {
  const linear = (name: string, out: number, inner: number): readonly Drawn[] => [
    { name: `${name}.weight`, role: "weight", shape: [out, inner], deviation: inner ** -0.5 },
    { name: `${name}.bias`, role: "weight", shape: [out], deviation: 0.1 },
  ];
  const norm = (name: string): readonly Drawn[] =>
    ["weight", "bias"].map((part) => ({ name: `${name}.${part}`, role: "weight", shape: [dim] }));
  return [
    ...norm("norm1"),
    ...linear("attn.qkv", 3 * dim, dim),
    ...linear("attn.proj", dim, dim),
    ...norm("norm2"),
    ...linear("mlp.fc1", 4 * dim, dim),
    ...linear("mlp.fc2", dim, 4 * dim),
  ];
}

const examples = (file: string): string => fileURLToPath(new URL(`../../examples/data/${file}`, import.meta.url));

async function fashionOperands(batch: number): Promise<Operands> {
  await using weights = await loadWeights(examples("fashion-vit.safetensors"));
  const operands = new Map<string, Operand>();
  for (const [name, source] of weights.tensors) {
    const { shape, values } = await source.read();
    operands.set(name, { name, role: "weight", shape, values: values as Float32Array });
  }
  const shape = [batch, 1, fashion.side, fashion.side];
  const { mean, std } = fashionVit.pictures?.["image"] ?? { mean: [0], std: [1] };
  const pixels = await expectedRows("in.images", batch * fashion.side ** 2);
  const values = Float32Array.from(pixels, (pixel) => (pixel / 255 - (mean[0] ?? 0)) / (std[0] ?? 1));
  operands.set("image", { name: "image", role: "input", shape, values });
  return operands;
}

/** Logits of the first pictures in f64 arithmetic of the authors' code, stored as f32: [batch, classes]. */
export const fashionLogits = (batch: number): Promise<Float64Array> =>
  expectedRows("out.logits_r0", batch * fashion.classes);

async function expectedRows(name: string, count: number): Promise<Float64Array> {
  await using expected = await loadWeights(examples("fashion-vit-expected.safetensors"));
  const source = expected.tensors.get(name);
  if (source === undefined) throw new Error(`fashion-vit-expected.safetensors has no ${name}`);
  return Float64Array.from((await source.read(0, count)).values as ArrayLike<number>);
}

/** An operand that the case has. */
export function operand(operands: Operands, name: string): Operand {
  const found = operands.get(name);
  if (found === undefined) throw new Error(`no operand ${name} among ${[...operands.keys()].join(", ")}`);
  return found;
}
