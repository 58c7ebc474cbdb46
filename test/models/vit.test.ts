import { describe, expect, expectTypeOf, test } from "vitest";
import { input, type ModelDefinition, scope, traceModel } from "../../src/dsl/index.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parametersOf, sourceName } from "../../src/ir/graph.ts";
import { formatType, type TensorData, tensorData, toNumbers } from "../../src/ir/type.ts";
import {
  block,
  deitBaseDistilled,
  deitSmall,
  deitTiny,
  fashionVit,
  patchEmbed,
  type VitConfig,
  vit,
  vitForward,
} from "../../src/models/index.ts";
import { openSafetensors } from "../../src/runtime/node/safetensors.ts";
import { bindWeights } from "../../src/runtime/node/weights.ts";
import { drawn, drawnParameters, expectClose, only, traced } from "./plain.ts";

const shapes = (model: ModelDefinition<VitConfig>, which: RegExp): string[] =>
  parametersOf(traced(model)).flatMap((node) => {
    const name = sourceName(node);
    return which.test(name) ? node.results.map(({ type }) => `${name} ${formatType(type)}`) : [];
  });

const tiny = { imageSize: 8, patch: 4, channels: 1, dim: 8, depth: 2, heads: 2, mlpRatio: 2, classes: 3 } as const;
const picture = tensorData("f32", [2, 1, 8, 8], drawn(7, 128));

const zeros = ({ dtype, shape, values }: TensorData) => tensorData(dtype, shape, new Float64Array(values.length));
const numbers = (x: TensorData | undefined): number[] => (x === undefined ? [] : Array.from(toNumbers(x)));

/** Outputs of a tiny model on two drawn pictures with drawn weights. */
function outputs(config: Partial<VitConfig>) {
  const graph = traced(vit({ ...tiny, ...config }));
  return evaluateGraph(graph, { image: picture }, { parameters: drawnParameters(graph) });
}

describe("parameters", () => {
  test("have timm's names and shapes", () => {
    expect(shapes(deitTiny, /^(?!blocks\.(?!11\.))/)).toEqual([
      "patch_embed.proj.weight f32[192,3,16,16]",
      "patch_embed.proj.bias f32[192]",
      "cls_token f32[1,1,192]",
      "pos_embed f32[1,197,192]",
      "blocks.11.norm1.weight f32[192]",
      "blocks.11.norm1.bias f32[192]",
      "blocks.11.attn.qkv.weight f32[576,192]",
      "blocks.11.attn.qkv.bias f32[576]",
      "blocks.11.attn.proj.weight f32[192,192]",
      "blocks.11.attn.proj.bias f32[192]",
      "blocks.11.norm2.weight f32[192]",
      "blocks.11.norm2.bias f32[192]",
      "blocks.11.mlp.fc1.weight f32[768,192]",
      "blocks.11.mlp.fc1.bias f32[768]",
      "blocks.11.mlp.fc2.weight f32[192,768]",
      "blocks.11.mlp.fc2.bias f32[192]",
      "norm.weight f32[192]",
      "norm.bias f32[192]",
      "head.weight f32[1000,192]",
      "head.bias f32[1000]",
    ]);
  });
  test("of a distilled model have a second token, position and head", () => {
    expect(shapes(deitBaseDistilled, /token|pos_embed|head/)).toEqual([
      "cls_token f32[1,1,768]",
      "dist_token f32[1,1,768]",
      "pos_embed f32[1,198,768]",
      "head.weight f32[1000,768]",
      "head.bias f32[1000]",
      "head_dist.weight f32[1000,768]",
      "head_dist.bias f32[1000]",
    ]);
  });
  test("of MAE's form have fc_norm instead of norm", () => {
    expect(shapes(vit({ ...tiny, globalPool: "avg" }), /^(fc_)?norm/)).toEqual([
      "fc_norm.weight f32[8]",
      "fc_norm.bias f32[8]",
    ]);
  });
  test("leave out what is switched off", () => {
    const names = shapes(vit({ ...tiny, classToken: false, globalPool: "avg", qkvBias: false, classes: 0 }), /./);
    expect(names.join("\n")).not.toMatch(/cls_token|qkv\.bias|head/);
    expect(names).toContain("pos_embed f32[1,4,8]");
  });
});

describe("read-out", () => {
  test("of a distilled model is the mean of both heads", () => {
    const graph = traced(vit({ ...tiny, distillToken: true }));
    const parameters = drawnParameters(graph);
    const silenced = (silent: string) =>
      new Map([...parameters].map(([name, tensor]) => [name, name.startsWith(`${silent}.`) ? zeros(tensor) : tensor]));
    const logits = (given: ReadonlyMap<string, TensorData>) => {
      const { values } = only(evaluateGraph(graph, { image: picture }, { parameters: given }));
      return Array.from(values, Number);
    };
    const [first, second] = [logits(silenced("head_dist")), logits(silenced("head"))];
    const sum = tensorData(
      "f32",
      [2, 3],
      first.map((x, i) => x + (second[i] ?? Number.NaN)),
    );
    expectClose(tensorData("f32", [2, 3], logits(parameters)), sum);
    expect(Math.max(...first.map(Math.abs), ...second.map(Math.abs))).toBeGreaterThan(0.01);
  });
  test("of MAE's form ignores the class token's own output, but not its part in attention", () => {
    const { features } = outputs({ depth: 0, classes: 0, globalPool: "avg" });
    const graph = traced(vit({ ...tiny, depth: 0, classes: 0, globalPool: "avg" }));
    const parameters = drawnParameters(graph);
    parameters.set("cls_token", tensorData("f32", [1, 1, 8], new Float64Array(8).fill(100)));
    expect(evaluateGraph(graph, { image: picture }, { parameters })["features"]).toEqual(features);
  });
  test("without classes gives what the head would read", () => {
    expect(outputs({ classes: 0 })["features"]?.shape).toEqual([2, 8]);
    expect(outputs({ classes: 3 })["logits"]?.shape).toEqual([2, 3]);
  });
});

describe("options that do not go together are refused", () => {
  const refused = (config: Partial<VitConfig>) => expect(() => traced(vit({ ...tiny, ...config })));
  test.each([
    [{ patch: 3 }, "a picture of 8 pixels does not divide into patches of 3"],
    [{ heads: 3 }, "8 channels do not divide into 3 heads"],
    [{ classToken: false }, "globalPool token needs a class token"],
    [{ distillToken: true, globalPool: "avg" }, "a distillation token is read beside the class token"],
    [{ depth: 1.5 }, "depth is a whole number from 0 on, got 1.5"],
    [{ classes: -1 }, "classes is a whole number from 0 on, got -1"],
  ] as const)("%o", (config, message) => refused(config).toThrow(message));
  test("a read-out of another name, as the command line may give it", () => {
    expect(() => traceModel(deitTiny, { set: { globalPool: "max" } })).toThrow('globalPool is token or avg, got "max"');
  });
});

test("fashion-vit reproduces the logits of its training code", async () => {
  // examples/data/fashion-vit-expected.safetensors: f64 arithmetic of the authors' code, stored as F32.
  const data = (name: string) => new URL(`../../examples/data/${name}.safetensors`, import.meta.url).pathname;
  const weights = await openSafetensors(data("fashion-vit"));
  const expected = await openSafetensors(data("fashion-vit-expected"));
  try {
    const graph = traced(fashionVit);
    const wanted = new Map(parametersOf(graph).flatMap((n) => n.results.map((v) => [sourceName(n), v.type] as const)));
    const parameters = new Map<string, TensorData>();
    for (const [name, source] of bindWeights(wanted, weights)) parameters.set(name, await source.read());
    const pictures = 4;
    const pixels = await expected.tensors.get("in.images")?.read(0, pictures * 28 * 28);
    const logits = await expected.tensors.get("out.logits_r0")?.read(0, pictures * 10);
    const [mean = 0] = fashionVit.pictures?.["image"]?.mean ?? [];
    const [std = 1] = fashionVit.pictures?.["image"]?.std ?? [];
    const image = numbers(pixels).map((pixel) => (pixel / 255 - mean) / std);
    const got = evaluateGraph(graph, { image: tensorData("f32", [pictures, 1, 28, 28], image) }, { parameters });
    expectClose(only(got), tensorData("f32", [pictures, 10], numbers(logits)));
    expect(fashionVit.labels).toHaveLength(10);
    expect(String(fashionVit.weights)).toBe(`file://${data("fashion-vit")}`);
  } finally {
    await weights.close();
    await expected.close();
  }
});

describe("types", () => {
  test("a preset with options of its own is a model definition", () => {
    expectTypeOf(deitSmall).toExtend<ModelDefinition>();
    expectTypeOf(deitSmall.options).toEqualTypeOf<VitConfig>();
  });
  test("pieces make a network of one's own, driven by a configuration, without casts", () => {
    const own: ModelDefinition<{ readonly depth: number; readonly heads: number }> = {
      kind: "model",
      name: "own",
      options: { depth: 3, heads: 2 },
      build: ({ depth, heads }) => {
        let x = patchEmbed(input("image", "f32", ["batch", 3, 16, 16]), { patch: 4, dim: 12 });
        for (let i = 0; i < depth; i++) {
          const before = x;
          x = scope(`blocks.${i}`, () => block(before, { heads, mlpRatio: 2, qkvBias: false, epsilon: 1e-6 }));
        }
        return { x };
      },
    };
    expect(traced(own).outputs[0]?.value.type.shape).toEqual(["batch", 16, 12]);
  });
  test("stages and features are within reach of a teacher or a pass", () => {
    const teacher: ModelDefinition = {
      kind: "model",
      name: "teacher",
      options: {},
      build: () => {
        const image = input("image", "f32", ["batch", 1, 8, 8]);
        const { stages, features } = vitForward(image, { ...deitSmall.options, ...tiny });
        return { features, ...Object.fromEntries(stages.map((stage, i) => [`stage${i}`, stage])) };
      },
    };
    expect(traced(teacher).outputs.map((o) => o.name)).toEqual(["features", "stage0", "stage1"]);
  });
});
