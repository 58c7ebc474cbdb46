// Token merging against papers/03-tocom.md: the authors' vectors (test/vectors/03-tocom, commit af95e4b of
// facebookresearch/ToMe), the table of section 5, and the real weights of fashion-vit.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type ModelDefinition, traceModel } from "../../src/dsl/index.ts";
import { costOf } from "../../src/ir/cost.ts";
import { type Graph, parametersOf, sourceName } from "../../src/ir/graph.ts";
import { type TensorData, tensorData } from "../../src/ir/type.ts";
import {
  deitBase,
  deitSmall,
  deitTiny,
  fashionVit,
  type VitConfig,
  vit,
  vitBase,
  vitLarge,
} from "../../src/models/index.ts";
import { type MergeTokensOptions, mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { parseReduction, type Reduction, reductionSchedule } from "../../src/passes/mergeTokens/schedule.ts";
import { openSafetensors } from "../../src/runtime/node/safetensors.ts";
import {
  countsAfter,
  evaluate,
  expectClose,
  merge,
  output,
  plainVit,
  sequencesOf,
} from "../passes/mergeTokensModels.ts";
import { at, type Matrix, matchPairs, mergeSum } from "../passes/mergeTokensPlain.ts";

const pathOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const vectorPath = (name: string): string => pathOf(`test/vectors/03-tocom/${name}`);

interface Vector {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, TensorData>;
}
async function readVector(path: string, wanted: (name: string) => boolean = () => true): Promise<Vector> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, TensorData>();
    for (const [name, source] of file.tensors) if (wanted(name)) tensors.set(name, await source.read());
    const settings = JSON.parse(file.metadata["hyperparameters"] ?? "{}") as Readonly<Record<string, unknown>>;
    return { settings, tensors };
  } finally {
    await file.close();
  }
}
function tensorOf({ tensors }: Vector, name: string): TensorData {
  const found = tensors.get(name);
  if (found === undefined) throw new Error(`no tensor ${name}`);
  return found;
}

describe("2.1: the number of tokens per layer", () => {
  // Keys are Python: (layers, r) with r a number, a pair (r, inflection) or a list.
  const cases = Object.entries(
    JSON.parse(readFileSync(vectorPath("parse_r.json"), "utf8")) as Record<string, number[]>,
  );
  const parts = (key: string): [layers: number, r: string] => {
    const match = /^\((\d+), (.*)\)$/.exec(key);
    if (match === null) throw new Error(`${key} is no (layers, r)`);
    return [Number(match[1]), match[2] ?? ""];
  };

  test("has 48 cases of the authors", () => expect(cases).toHaveLength(48));
  test.each(cases)("parse_r%s", (key, wanted) => {
    const [layers, r] = parts(key);
    expect(reductionSchedule(layers, parseReduction(r))).toEqual(wanted);
  });

  const texts: readonly [string, Reduction][] = [
    ["8", 8],
    [" 8 ", 8],
    ["[7, 0, 5]", [7, 0, 5]],
    ["[7,0,5]", [7, 0, 5]],
    ["[7]", [7]],
    ["(6, -1.0)", { r: 6, inflection: -1 }],
    ["(6,-1)", { r: 6, inflection: -1 }],
    ["(6, 0.5)", { r: 6, inflection: 0.5 }],
  ];
  test.each(texts)("reads %s", (text, wanted) => expect(parseReduction(text)).toEqual(wanted));
  test.each(["", " ", "eight", "8 tokens", "()", "(6)", "(6, 1, 2)", "(6, x)", "[7, x]", "NaN"])(
    "refuses %o",
    (text) => {
      expect(() => parseReduction(text)).toThrow("r is a number, a list or a pair (r, inflection)");
    },
  );
  const wrong: readonly Reduction[] = [
    -1,
    1.5,
    Number.NaN,
    [1, -1],
    [1.5],
    { r: 4, inflection: 1.1 },
    { r: -4, inflection: 1 },
  ];
  test.each(wrong.map((r) => ({ r })))("refuses r = $r", ({ r }) => {
    expect(() => reductionSchedule(4, r)).toThrow(/bad-option/);
  });
  test("pads a list with zeros and never cuts it", () => {
    expect(reductionSchedule(4, [3, 1])).toEqual([3, 1, 0, 0]);
    expect(reductionSchedule(2, [3, 1, 4])).toEqual([3, 1, 4]);
    expect(reductionSchedule(3, [])).toEqual([0, 0, 0]);
  });
  test("spends the same with any inflection, up to what is cut off", () => {
    for (const inflection of [-1, -0.5, 0.25, 1]) {
      const spent = reductionSchedule(12, { r: 13, inflection }).reduce((total, r) => total + r, 0);
      expect(Math.abs(spent - 12 * 13)).toBeLessThanOrEqual(12);
    }
  });
});

describe("2.2 and 2.3: the plain loops that judge the pass", () => {
  test.each([
    "bipartite-matching-n2-r1-nocls-b3",
    "bipartite-matching-n17-r5-cls-b3",
    "bipartite-matching-n17-r5-nocls-b3",
    "bipartite-matching-n50-r99-clamped-cls-b3",
    "bipartite-matching-n197-r16-cls",
    "bipartite-matching-n197-r16-nocls",
    "bipartite-matching-n198-r16-cls-distill",
    "bipartite-matching-ties-n16-r4-nocls",
    "bipartite-matching-ties-n17-r5-cls",
  ])("match and merge as the authors' code: %s", async (name) => {
    const vector = await readVector(vectorPath(`${name}.safetensors`));
    const { class_token: classToken, distill_token: distillToken, r, r_effective: effective } = vector.settings;
    const protect = Number(classToken) + Number(distillToken ?? false);
    const pairs = sequencesOf(tensorOf(vector, "in.metric")).map((metric) =>
      matchPairs(metric, Number(effective ?? r), protect),
    );
    const indices = (of: string) => Array.from(tensorOf(vector, `out.${of}`).values, Number);
    expect(pairs.flatMap((p) => p.kept)).toEqual(indices("unm_idx"));
    expect(pairs.flatMap((p) => p.source)).toEqual(indices("src_idx"));
    expect(pairs.flatMap((p) => p.destination)).toEqual(indices("dst_idx"));
    const averaged = sequencesOf(tensorOf(vector, "in.x")).map((x, b): Matrix => {
      const matched = pairs[b] ?? { kept: [], source: [], destination: [] };
      const sizes = mergeSum(
        x.map(() => [1]),
        matched,
        protect,
      ).flat();
      return mergeSum(x, matched, protect).map((row, i) => row.map((value) => value / at(sizes, i)));
    });
    const wanted = tensorOf(vector, vector.tensors.has("in.size") ? "out.x_merged_size_none" : "out.x_merged");
    expectClose(
      { dtype: "f32", shape: wanted.shape, values: Float64Array.from(averaged.flat(2)) },
      sequencesOf(wanted),
    );
  });
});

describe("2.5: a whole network", () => {
  const names = ["r0", "r5-prop", "r5-noprop", "r11-prop-b3", "rsched-r6-dec", "rlist-7-0-5", "mae-r0", "mae-r11-prop"];
  test.each(names)("gives the authors' logits, sizes and sources: tinyvit-tome-%s", async (name) => {
    const vector = await readVector(vectorPath(`tinyvit-tome-${name}.safetensors`), (n) => !n.startsWith("grad."));
    const weights = await readVector(vectorPath("tinyvit-weights.safetensors"));
    const { settings } = vector;
    const mae = name.startsWith("mae");
    const config: VitConfig = {
      ...vit().options,
      imageSize: Number(settings["img_size"]),
      patch: Number(settings["patch_size"]),
      dim: Number(settings["embed_dim"]),
      depth: Number(settings["depth"]),
      heads: Number(settings["num_heads"]),
      mlpRatio: Number(settings["mlp_ratio"]),
      classes: Number(settings["num_classes"]),
      epsilon: Number(settings["ln_eps"]),
      globalPool: mae ? "avg" : "token",
    };
    // The MAE cases read fc_norm from the file's final norm.
    const parameters = new Map(
      [...weights.tensors].map(([key, x]) => [
        key.replace("param.", "").replace(/^norm\./, mae ? "fc_norm." : "norm."),
        x,
      ]),
    );
    const proportional = settings["prop_attn"] === true;
    const r = parseReduction(String(settings["r"]));
    const track = vector.tensors.has("out.size_final");
    const graph = merge(vit(config) as ModelDefinition, { r, proportional, track }).after;
    const image = tensorOf(vector, "in.image");
    const outputs = evaluate(graph, { image }, parameters);
    const wanted = sequencesOf(tensorOf(vector, "out.logits"));
    expectClose(output(outputs, "logits"), wanted);
    if (track) {
      expectClose(output(outputs, "tokenSizes"), sequencesOf(tensorOf(vector, "out.size_final")));
      expectClose(output(outputs, "tokenSource"), sequencesOf(tensorOf(vector, "out.source_final")));
    }
    const merging = { r: reductionSchedule(config.depth, r), protect: 1, proportional };
    const plain = sequencesOf(image).map((picture) => plainVit(config, parameters, picture.flat(), merging).logits);
    const { shape } = tensorOf(vector, "out.logits");
    expectClose({ dtype: "f32", shape, values: Float64Array.from(plain.flat()) }, wanted);
  });
});

describe("5: multiply-accumulates, with attention on the tokens before a merge and the MLP on those after it", () => {
  const sized = (config: Partial<VitConfig>): ModelDefinition => vit(config) as ModelDefinition;
  const large = { dim: 1024, depth: 24, heads: 16 };
  const huge = { dim: 1280, depth: 32, heads: 16, patch: 14 };
  const models: Readonly<Record<string, ModelDefinition>> = {
    "DeiT-Ti": deitTiny as ModelDefinition,
    "DeiT-S": deitSmall as ModelDefinition,
    "ViT-B": vitBase as ModelDefinition,
    "ViT-L": vitLarge as ModelDefinition,
    "ViT-H/14": sized(huge),
    "ViT-B at 384": sized({ imageSize: 384 }),
    "ViT-L at 384": sized({ ...large, imageSize: 384 }),
    "ViT-L at 512": sized({ ...large, imageSize: 512 }),
    "ViT-H at 518": sized({ ...huge, imageSize: 518 }),
  };
  const modelOf = (name: string): ModelDefinition => models[name] ?? sized({});
  // GMACs, tokens left and ratios, as the table prints them; "" where it prints no ratio.
  const whole: readonly (readonly [model: string, gmacs: string])[] = [
    ["DeiT-Ti", "1.25"],
    ["DeiT-S", "4.60"],
    ["ViT-B", "17.56"],
    ["ViT-L", "61.55"],
    ["ViT-H/14", "167.30"],
    ["ViT-B at 384", "55.48"],
    ["ViT-L at 384", "191.07"],
    ["ViT-L at 512", "361.99"],
    ["ViT-H at 518", "1016.7"],
  ];
  const merged: readonly (readonly [model: string, r: string, gmacs: string, tokens: number, ratio: string])[] = [
    ["DeiT-Ti", "13", "0.73", 41, "1.7"],
    ["DeiT-S", "13", "2.70", 41, "1.7"],
    ["ViT-B", "8", "13.10", 101, ""],
    ["ViT-B", "13", "10.37", 41, "1.69"],
    ["ViT-B", "16", "8.77", 11, "2.00"],
    ["ViT-B", "(13,-1)", "8.10", 46, "2.17"],
    ["ViT-L", "7", "34.71", 29, ""],
    ["ViT-L", "8", "30.96", 7, "1.99"],
    ["ViT-H/14", "7", "92.83", 33, "1.80"],
    ["ViT-B at 384", "45", "28.25", 42, ""],
    ["ViT-L at 384", "23", "96.24", 25, ""],
    ["ViT-L at 512", "40", "182.8", 65, ""],
    ["ViT-H at 518", "40", "513.4", 90, ""],
  ];
  const exclude = new Set(["tokenMatch", "tokenMerge"]);
  const gigaMacs = (graph: Graph, left = exclude): number =>
    Number(costOf(graph, { symbols: new Map([["batch", 1]]), exclude: left }).macs) / 1e9;
  const rounded = (value: number, like: string): string => value.toFixed(like.split(".")[1]?.length ?? 0);

  test.each(whole)("%s: %s GMACs", (name, gmacs) => {
    expect(rounded(gigaMacs(traceModel(modelOf(name))), gmacs)).toBe(gmacs);
  });
  test.each(merged)("%s, r = %s: %s GMACs, %i tokens left", (name, r, gmacs, tokens, ratio) => {
    const { before, after } = merge(modelOf(name), { r: parseReduction(r) });
    expect(rounded(gigaMacs(after), gmacs)).toBe(gmacs);
    expect(countsAfter(after).at(-1)).toBe(tokens);
    if (ratio !== "") expect(rounded(gigaMacs(before) / gigaMacs(after), ratio)).toBe(ratio);
  });
  test("merging and weighing cost no multiply-accumulates beside the matching", () => {
    const { after } = merge(vitBase as ModelDefinition, { r: 8 });
    expect(gigaMacs(after, new Set(["tokenMatch"]))).toBe(gigaMacs(after));
    expect(gigaMacs(after, new Set())).toBeGreaterThan(gigaMacs(after));
  });
  test("of DeiT-B at r = 16 follow from the token counts of section 2.1", () => {
    const counts = [197, 181, 165, 149, 133, 117, 101, 85, 69, 53, 37, 21, 11];
    const dim = 768;
    let macs = 196 * dim * 768 + 1000 * dim;
    for (let layer = 0; layer < 12; layer++) {
      const [tokens, left] = [at(counts, layer), at(counts, layer + 1)];
      macs += 4 * tokens * dim * dim + 2 * tokens * tokens * dim + 8 * left * dim * dim;
    }
    expect(gigaMacs(merge(deitBase as ModelDefinition, { r: 16 }).after) * 1e9).toBe(macs);
  });
});

describe("fashion-vit", () => {
  // Metadata of examples/data/fashion-vit-expected.safetensors: tokens after each block, logits of the authors' code.
  const rows: readonly [r: number, counts: readonly number[]][] = [
    [0, []],
    [1, [49, 48, 47, 46, 45, 44]],
    [2, [48, 46, 44, 42, 40, 38]],
    [4, [46, 42, 38, 34, 30, 26]],
    [6, [44, 38, 32, 26, 20, 14]],
    [8, [42, 34, 26, 18, 10, 6]],
  ];
  const pictures = 4;

  test.each(rows)("gives the logits of the authors' code on real pictures, r = %o", async (r, counts) => {
    const weights = await readVector(pathOf("examples/data/fashion-vit.safetensors"));
    const expected = await readVector(pathOf("examples/data/fashion-vit-expected.safetensors"));
    const { after, notes } = merge(fashionVit as ModelDefinition, { r } satisfies MergeTokensOptions);
    expect(countsAfter(after)).toEqual(counts);
    expect(notes.map((note) => note.message)).toEqual(
      r === 8 ? ["r=8 is more than half of the tokens: clamped to 4 in blocks.5"] : [],
    );
    expect(parametersOf(after).map(sourceName).toSorted()).toEqual([...weights.tensors.keys()].toSorted());
    const pixels = Array.from(tensorOf(expected, "in.images").values.slice(0, pictures * 28 * 28), Number);
    const image = tensorData(
      "f32",
      [pictures, 1, 28, 28],
      pixels.map((pixel) => (pixel / 255 - 0.286) / 0.353),
    );
    const wanted = sequencesOf(tensorOf(expected, `out.logits_r${r}`)).slice(0, pictures);
    expectClose(output(evaluate(after, { image }, weights.tensors), "logits"), wanted);
  });
});

test("the pass says where it comes from", () => {
  expect(mergeTokens({ r: 8 })).toMatchObject({ name: "mergeTokens", contract: "approximate" });
  expect(mergeTokens({ r: 8, track: true }).contract).toBe("constructs");
  expect(mergeTokens({ r: 8 }).source).toMatch(/Token Merging.*ICLR 2023/);
});
