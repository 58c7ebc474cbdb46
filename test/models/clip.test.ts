import { describe, expect, test } from "vitest";
import { traceModel } from "../../src/dsl/index.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parametersOf, sourceName } from "../../src/ir/graph.ts";
import { formatType, tensorData } from "../../src/ir/type.ts";
import { clipB32, clipVision } from "../../src/models/index.ts";
import { attend, beside, columns, drawn, drawnParameters, expectClose, only, Plain, plus, traced } from "./plain.ts";

const tiny = { imageSize: 6, patch: 3, channels: 2, dim: 8, depth: 2, heads: 2, mlpRatio: 2, projection: 5 } as const;

test("parameters have timm's names and shapes: a norm before the blocks, no bias of patches or head", () => {
  const outside = parametersOf(traced(clipB32)).filter((n) => !sourceName(n).startsWith("blocks."));
  expect(outside.flatMap((n) => n.results.map(({ type }) => `${sourceName(n)} ${formatType(type)}`))).toEqual([
    "patch_embed.proj.weight f32[768,3,32,32]",
    "cls_token f32[1,1,768]",
    "pos_embed f32[1,50,768]",
    "norm_pre.weight f32[768]",
    "norm_pre.bias f32[768]",
    "norm.weight f32[768]",
    "norm.bias f32[768]",
    "head.weight f32[512,768]",
  ]);
});

describe("the tower", () => {
  const channels = 2;
  const image = tensorData("f32", [1, channels, 6, 6], drawn(3, 72));

  test("computes what the paper's code does, written out", () => {
    const model = clipVision(tiny);
    const graph = traced(model);
    const plain = new Plain(drawnParameters(graph));
    const { dim, patch, heads, imageSize } = tiny;
    const epsilon = 1e-5;

    const kernel = plain.vector("patch_embed.proj.weight");
    const pixel = (c: number, y: number, x: number) => Number(image.values[(c * imageSize + y) * imageSize + x]);
    const patchAt = (top: number, left: number) =>
      Array.from({ length: dim }, (_, out) => {
        let sum = 0;
        for (let c = 0; c < channels; c++)
          for (let y = 0; y < patch; y++)
            for (let x = 0; x < patch; x++)
              sum +=
                pixel(c, top + y, left + x) * (kernel[((out * channels + c) * patch + y) * patch + x] ?? Number.NaN);
        return sum;
      });
    const patches = [patchAt(0, 0), patchAt(0, 3), patchAt(3, 0), patchAt(3, 3)];
    let tokens = plus([plain.vector("cls_token"), ...patches], plain.rows("pos_embed"));
    tokens = plain.layerNorm("norm_pre", tokens, epsilon);
    for (let i = 0; i < tiny.depth; i++) {
      const at = `blocks.${i}`;
      const qkv = plain.linear(`${at}.attn.qkv`, plain.layerNorm(`${at}.norm1`, tokens, epsilon));
      const width = dim / heads;
      const mixed = Array.from({ length: heads }, (_, head) => {
        const part = (which: number) => columns(qkv, which * dim + head * width, width);
        return attend(part(0), part(1), part(2), false);
      });
      tokens = plus(tokens, plain.linear(`${at}.attn.proj`, beside(mixed)));
      const hidden = plain.linear(`${at}.mlp.fc1`, plain.layerNorm(`${at}.norm2`, tokens, epsilon));
      const active = hidden.map((row) => row.map((x) => x / (1 + Math.exp(-1.702 * x))));
      tokens = plus(tokens, plain.linear(`${at}.mlp.fc2`, active));
    }
    const embedding = plain.linear("head", plain.layerNorm("norm", tokens.slice(0, 1), epsilon));

    const got = only(evaluateGraph(graph, { image }, { parameters: plain.parameters }));
    expectClose(got, tensorData("f32", [1, tiny.projection], embedding.flat()));
  });

  test("without a projection gives the normed class token", () => {
    const graph = traced(clipVision({ ...tiny, projection: 0 }));
    const outputs = evaluateGraph(graph, { image }, { parameters: drawnParameters(graph) });
    expect(outputs["features"]?.shape).toEqual([1, 8]);
  });
});

test("an activation of another name is refused", () => {
  expect(() => traceModel(clipB32, { set: { activation: "relu" } })).toThrow(
    'activation is one of gelu, geluTanh, quickGelu, got "relu"',
  );
});
