// Small networks that the backend's tests emit, and the judges they ask.
import { expect } from "vitest";
import { checkOnnx, emitOnnx, type OnnxArtifact, type OnnxOptions } from "../../src/backends/onnx/index.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { type Builder, createBuilder } from "../../src/ir/builder.ts";
import { type Graph, type Model, parametersOf, sourceName, type Value, type WeightSource } from "../../src/ir/graph.ts";
import { type Dim, elementsOf, type TensorData } from "../../src/ir/type.ts";
import { createOrtSession } from "../../src/runtime/node/ort.ts";
import { createReferenceSession } from "../../src/runtime/node/reference.ts";
import { drawn, randomNumbers } from "./cases.ts";

const here = (line: number) => ({ kind: "file", file: "model.ts", line, column: 3 }) as const;

/** x W^T + b in scope `name`; weight [out, in], bias [out]. */
export function linear(b: Builder, x: Value, name: string, out: number, bias = true): Value {
  return b.at({ scope: [b.scope, name].filter(Boolean).join(".") }, () => {
    const inner = x.type.shape.at(-1) as Dim;
    const weight = b.parameter(`${b.scope}.weight`, { dtype: "f32", shape: [out, inner] });
    const y = b.matmul(x, b.transpose(weight, { perm: [1, 0] }));
    if (!bias) return y;
    const { shape } = y.type;
    const offset = b.parameter(`${b.scope}.bias`, { dtype: "f32", shape: [out] });
    return b.add(y, b.broadcast(offset, { shape, axes: [...shape.keys()].slice(0, -1) }));
  });
}

const vector = (b: Builder, name: string, size: number): Value =>
  b.parameter([b.scope, name].filter(Boolean).join("."), { dtype: "f32", shape: [size] });

interface TokenSizes {
  readonly batch: Dim;
  readonly tokens: Dim;
  readonly channels: number;
  readonly heads: number;
}

function heads(b: Builder, x: Value, { batch, tokens, channels }: TokenSizes, count: number): Value {
  return b.transpose(b.reshape(x, { shape: [batch, tokens, count, channels / count] }), { perm: [0, 2, 1, 3] });
}

/** Blocks of pre-norm attention and mlp, merging `r` tokens between them where it is above 0, and a class head. */
export function smallVit({ batch = "batch" as Dim, depth = 2, r = 0 } = {}): Graph {
  const b = createBuilder();
  const channels = 16;
  const image = b.input("image", { dtype: "f32", shape: [batch, 3, 12, 12] });
  const kernel = b.parameter("patch.weight", { dtype: "f32", shape: [channels, 3, 4, 4] });
  const grid = b.conv2d(image, kernel, { strides: [4, 4] });
  const offset = b.parameter("patch.bias", { dtype: "f32", shape: [channels] });
  const patches = b.add(grid, b.broadcast(offset, { shape: grid.type.shape, axes: [0, 2, 3] }));
  let x = b.transpose(b.reshape(patches, { shape: [batch, channels, 9] }), { perm: [0, 2, 1] });
  const first = b.parameter("cls", { dtype: "f32", shape: [1, channels] });
  x = b.concat([b.broadcast(first, { shape: [batch, 1, channels], axes: [0] }), x], { axis: 1 });
  for (let i = 0; i < depth; i++)
    x = b.at({ scope: `blocks.${i}`, loc: here(20) }, () => {
      const sizes = { batch, tokens: x.type.shape[1] as Dim, channels, heads: 4 };
      const normed = b.layerNorm(x, vector(b, "norm1.gain", channels), vector(b, "norm1.bias", channels), {
        epsilon: 1e-6,
      });
      const [q, k, v] = ["q", "k", "v"].map((name) => heads(b, linear(b, normed, name, channels), sizes, 4)) as [
        Value,
        Value,
        Value,
      ];
      const [mixed] = b.attention([q, k, v], { scale: 0.5 });
      const side = b.reshape(b.transpose(mixed, { perm: [0, 2, 1, 3] }), { shape: [batch, sizes.tokens, channels] });
      x = b.add(x, linear(b, side, "proj", channels));
      if (r > 0) {
        const matching = b.tokenMatch(b.reduceMean(k, { axes: [1] }), { r, protect: 1 });
        x = b.tokenMerge(x, ...matching, { protect: 1 });
      }
      const again = b.layerNorm(x, vector(b, "norm2.gain", channels), vector(b, "norm2.bias", channels), {
        epsilon: 1e-6,
      });
      return b.add(x, linear(b, b.gelu(linear(b, again, "fc1", 32)), "fc2", channels));
    });
  x = b.layerNorm(x, vector(b, "norm.gain", channels), vector(b, "norm.bias", channels), { epsilon: 1e-6 });
  const cls = b.reshape(b.slice(x, { axis: 1, end: 1 }), { shape: [batch, channels] });
  return b.finish("small-vit", { logits: linear(b, cls, "head", 10) });
}

/** Blocks of rotary, grouped, causal attention and a gated mlp over token ids. */
export function smallLlama({ batch = "batch" as Dim, depth = 2 } = {}): Graph {
  const b = createBuilder();
  const [channels, tokens, headCount, keyHeads] = [16, 6, 4, 2];
  const ids = b.input("ids", { dtype: "i32", shape: [batch, tokens] });
  const table = b.parameter("embed", { dtype: "f32", shape: [12, channels] });
  const tables = ["cos", "sin"].map((name) => b.parameter(name, { dtype: "f32", shape: [tokens, 2] })) as [
    Value,
    Value,
  ];
  let x = b.embedding(table, ids);
  for (let i = 0; i < depth; i++)
    x = b.at({ scope: `layers.${i}`, loc: here(40) }, () => {
      const sizes = { batch, tokens, channels, heads: headCount };
      const normed = b.rmsNorm(x, vector(b, "norm1.gain", channels), { epsilon: 1e-6 });
      const q = b.rotaryEmbedding(heads(b, linear(b, normed, "q", channels, false), sizes, headCount), ...tables);
      const narrow = { ...sizes, channels: 8 };
      const k = b.rotaryEmbedding(heads(b, linear(b, normed, "k", 8, false), narrow, keyHeads), ...tables);
      const v = heads(b, linear(b, normed, "v", 8, false), narrow, keyHeads);
      const [mixed] = b.attention([q, k, v], { scale: 0.5, causal: true });
      const side = b.reshape(b.transpose(mixed, { perm: [0, 2, 1, 3] }), { shape: [batch, tokens, channels] });
      x = b.add(x, linear(b, side, "o", channels, false));
      const again = b.rmsNorm(x, vector(b, "norm2.gain", channels), { epsilon: 1e-6 });
      const gated = b.mul(b.silu(linear(b, again, "gate", 24, false)), linear(b, again, "up", 24, false));
      return b.add(x, linear(b, gated, "down", channels, false));
    });
  return b.finish("small-llama", { logits: linear(b, x, "head", 12, false) });
}

/** A graph with drawn weights. */
export function weighted(graph: Graph): Model {
  const random = randomNumbers(11);
  const weights = new Map<string, WeightSource>();
  for (const node of parametersOf(graph)) {
    const type = (node.results[0] as Value).type as { dtype: "f32"; shape: readonly number[] };
    weights.set(sourceName(node), sourceOf(drawn(type, random, [-0.5, 0.5]), sourceName(node)));
  }
  return { graph, weights };
}

export const sourceOf = (data: TensorData, hash: string): WeightSource => ({
  type: data,
  hash,
  read: async (start = 0, end = elementsOf(data.shape)) => ({ ...data, values: data.values.subarray(start, end) }),
});

/** Drawn inputs with a size for every symbol. */
export function inputsOf(graph: Graph, size: number): Record<string, TensorData> {
  const random = randomNumbers(5);
  return Object.fromEntries(
    graph.inputs.map(({ producer, type }) => {
      const shape = type.shape.map((dim) => (typeof dim === "number" ? dim : size));
      const data = drawn({ dtype: type.dtype, shape }, random);
      if (type.dtype === "i32") data.values.forEach((x, i) => (data.values[i] = Math.abs(Number(x)) % 12));
      return [sourceName(producer), data];
    }),
  );
}

/** Checks an artefact, runs it on ONNX Runtime's CPU provider and compares with the reference at each batch size. */
export async function expectAgreement(
  model: Model,
  options: OnnxOptions,
  sizes: readonly number[],
): Promise<OnnxArtifact> {
  const artifact = emitOnnx(model, options);
  expect(checkOnnx(await artifact.encode())).toEqual([]);
  await using reference = await createReferenceSession(model);
  await using session = await createOrtSession(artifact, { threads: 1 });
  for (const size of sizes) {
    const inputs = inputsOf(model.graph, size);
    const [wanted, results] = [await reference.run(inputs), await session.run(inputs)];
    for (const [name, value] of Object.entries(wanted)) {
      const allowed = tolerance(value.dtype, { target: "onnx", terms: 64 });
      expect(compareTensors(results[name] as TensorData, value, allowed).message, `${name}, batch ${size}`).toBe("");
    }
  }
  return artifact;
}
