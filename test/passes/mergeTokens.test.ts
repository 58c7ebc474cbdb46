// mergeTokens by its specification: papers/03-tocom.md sections 2.1 to 2.5 and the invariants of section 4.
import { describe, expect, test } from "vitest";
import {
  add,
  concat,
  expand,
  input,
  type ModelDefinition,
  mean,
  nn,
  parameter,
  scope,
  slice,
  sum,
  type Tensor,
  traceModel,
} from "../../src/dsl/index.ts";
import { fileLoc } from "../../src/ir/diagnostic.ts";
import type { Graph, WeightSource } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { type Dim, type TensorData, tensorData } from "../../src/ir/type.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { clipVision, deitBase, fashionVit, type VitConfig, vit, vitForward } from "../../src/models/index.ts";
import { bindSymbols } from "../../src/passes/bindSymbols.ts";
import { decompose } from "../../src/passes/decompose.ts";
import { foldConstants } from "../../src/passes/foldConstants.ts";
import { foldQueryScale } from "../../src/passes/foldQueryScale.ts";
import { type MergeTokensOptions, mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { type Pass, runPasses } from "../../src/passes/pass.ts";
import { simplify } from "../../src/passes/simplify.ts";
import {
  countOf,
  countsAfter,
  drawn,
  drawnParameters,
  drawnTensor,
  evaluate,
  expectClose,
  expectSame,
  merge,
  output,
  ownConfig,
  ownModel,
  plainOwn,
  plainVit,
  refusal,
  sequencesOf,
} from "./mergeTokensModels.ts";
import { restored, rowOf, sumOf } from "./mergeTokensPlain.ts";

const tiny = { imageSize: 12, patch: 4, channels: 1, dim: 8, depth: 4, heads: 2, mlpRatio: 2, classes: 5 } as const;
const tinyVit = (config: Partial<VitConfig> = {}): ModelDefinition<VitConfig> => vit({ ...tiny, ...config });
const pictures = { image: drawnTensor(3, [2, 1, 12, 12]) };
const sequences = { x: drawnTensor(4, [2, 9, 8]) };

const protectedBy = (graph: Graph): unknown[] =>
  graph.nodes.filter((node) => node.op === "tokenMatch").map((node) => node.attrs["protect"]);
const passed = (graph: Graph, passes: readonly Pass[]): Graph =>
  runPasses({ graph, weights: new Map() }, passes).model.graph;

describe("protected tokens", () => {
  test.each([
    ["none without read-out tokens", tinyVit({ classToken: false, globalPool: "avg" }), 0],
    ["the class token", tinyVit(), 1],
    ["a class token that is not read, under a mean over patches", tinyVit({ globalPool: "avg" }), 1],
    ["class and distillation token", tinyVit({ distillToken: true }), 2],
    ["CLIP's class token, behind a norm", clipVision({ ...tiny, projection: 5 }), 1],
    ["none in an own network", ownModel(), 0],
    ["one learned token in front", ownModel({ leading: 1 }), 1],
    ["two learned tokens, joined one after the other", ownModel({ leading: 2 }), 2],
  ])("are found in the graph: %s", (_, model, protect) => {
    const { after } = merge(model as ModelDefinition, { r: 1 });
    expect(new Set(protectedBy(after))).toEqual(new Set([protect]));
  });

  test("that a slice has taken away again are not counted", () => {
    const model = author((x) => {
      const more = concat([expand(parameter("first", [1, 1, 8]), [x.dim(0), 1, 8]), x], 1);
      return { y: mean(block(slice(more, { axis: 1, start: 1 })), 1) };
    });
    expect(protectedBy(merge(model, { r: 1 }).after)).toEqual([0]);
  });

  test.each([
    ["no read-out token", 1, { classToken: false, globalPool: "avg" }],
    ["no read-out token", 2, { classToken: false, globalPool: "avg" }],
    ["a class token", 2, {}],
    ["class and distillation token", 2, { distillToken: true }],
    ["a class token under a mean over patches", 1, { globalPool: "avg" }],
  ] as const)("may be given: with %s, protect=%i", (_, protect, config) => {
    const model = tinyVit(config);
    const { after, before } = merge(model as ModelDefinition, { r: 2, protect });
    const parameters = drawnParameters(before);
    const wanted = sequencesOf(pictures.image).map(
      (picture) => plainVit(model.options, parameters, picture.flat(), { r: [2, 2, 2, 2], protect }).logits,
    );
    expect(protectedBy(after)).toEqual([protect, protect, protect, protect]);
    expectClose(output(evaluate(after, pictures, parameters), "logits"), wanted);
  });

  test.each([
    ["a class token", 0, 1, {}],
    ["class and distillation token", 1, 2, { distillToken: true }],
    ["a class token under a mean over patches", 0, 1, { globalPool: "avg" }],
  ] as const)("may not be fewer than the read-out reads: with %s, protect=%i", (_, protect, help, config) => {
    const found = refusal(tinyVit(config) as ModelDefinition, { r: 2, protect });
    expect(found.code).toBe("cannot-merge");
    expect(found.help).toMatch(`protect=${help}`);
  });

  test.each([3, -1, 0.5, Number.NaN])("are 0, 1 or 2, not %o", (protect) => {
    const found = refusal(tinyVit() as ModelDefinition, { r: 2, protect });
    expect([found.code, found.message]).toEqual(["bad-option", `mergeTokens: protect is 0, 1 or 2, got ${protect}`]);
  });
});

describe("tokens to merge", () => {
  const nothing: readonly MergeTokensOptions["r"][] = [0, [], [0, 0], { r: 0, inflection: -1 }];
  test.each(nothing.map((r) => ({ r })))("none: r = $r gives the same graph object", ({ r }) => {
    const { before, after, changed, fired, notes } = merge(tinyVit() as ModelDefinition, { r });
    expect(after).toBe(before);
    expect([changed, fired, notes]).toEqual([false, [], []]);
  });

  const wrong: readonly MergeTokensOptions["r"][] = [-1, 1.5, Number.NaN, [2, -1], [0.5], { r: 2, inflection: 1.5 }];
  test.each(wrong.map((r) => ({ r })))("are whole numbers: r = $r is a bad option", ({ r }) => {
    expect(refusal(tinyVit() as ModelDefinition, { r }).code).toBe("bad-option");
  });

  test("of DeiT-B at r = 16 leave the counts of section 2.1, the last one clamped with a note", () => {
    const { after, notes, fired } = merge(deitBase as ModelDefinition, { r: 16 });
    expect(countsAfter(after)).toEqual([181, 165, 149, 133, 117, 101, 85, 69, 53, 37, 21, 11]);
    expect(notes.map((note) => [note.severity, note.message])).toEqual([
      ["note", "r=16 is more than half of the tokens: clamped to 10 in blocks.11"],
    ]);
    expect(fileLoc(notes[0]?.loc ?? { kind: "unknown" })?.file).toMatch(/models\/vit\.ts$/);
    expect(fired).toHaveLength(12);
  });

  test("run out: blocks with nothing left to merge are as they were", () => {
    // Ten tokens, one protected: at most 4, then 2, 1 and 0 (papers/03-tocom.md, 2.1).
    const { after, before, notes, fired } = merge(tinyVit() as ModelDefinition, { r: 99 });
    expect(countsAfter(after)).toEqual([6, 4, 3, 2]);
    expect(notes).toHaveLength(4);
    expect(fired).toHaveLength(4);
    const deeper = merge(tinyVit({ depth: 6 }) as ModelDefinition, { r: 99 });
    expect(countsAfter(deeper.after)).toEqual([6, 4, 3, 2]);
    expect(deeper.fired).toHaveLength(4);
    const parameters = drawnParameters(before);
    const wanted = sequencesOf(pictures.image).map(
      (picture) =>
        plainVit({ ...vit().options, ...tiny }, parameters, picture.flat(), { r: [99, 99, 99, 99], protect: 1 }).logits,
    );
    expectClose(output(evaluate(after, pictures, parameters), "logits"), wanted);
  });

  test("of a list longer than the network are those of its blocks", () => {
    expect(printGraph(merge(tinyVit() as ModelDefinition, { r: [2, 0, 1, 1, 7, 7] }).after)).toBe(
      printGraph(merge(tinyVit() as ModelDefinition, { r: [2, 0, 1, 1] }).after),
    );
  });

  test("follow the order of the blocks", () => {
    expect(countsAfter(merge(tinyVit() as ModelDefinition, { r: [3, 0, 1] }).after)).toEqual([7, 6]);
    expect(countsAfter(merge(tinyVit() as ModelDefinition, { r: { r: 1, inflection: -1 } }).after)).toEqual([8, 7]);
    expect(countsAfter(merge(tinyVit() as ModelDefinition, { r: { r: 1, inflection: 1 } }).after)).toEqual([9, 7]);
  });
});

describe("tracking", () => {
  const subjects = {
    "a class token": { model: tinyVit(), protect: 1, tokens: 10 },
    "class and distillation token": { model: tinyVit({ distillToken: true }), protect: 2, tokens: 11 },
    "no read-out token": { model: tinyVit({ classToken: false, globalPool: "avg" }), protect: 0, tokens: 9 },
  };
  const layers = [[0], [2], [2, 2], [2, 2, 1], [2, 2, 1, 1], [0, 0, 3, 0], [0, 9]];

  describe.each(Object.entries(subjects))("with %s", (_, { model, protect, tokens }) => {
    test.each(layers.map((r) => ({ r })))("keeps the invariants of section 4 after r = $r", ({ r }) => {
      const { after, before } = merge(model as ModelDefinition, { r, track: true });
      const outputs = evaluate(after, pictures, drawnParameters(before));
      const [sizes, sources] = [output(outputs, "tokenSizes"), output(outputs, "tokenSource")];
      const parameters = drawnParameters(before);
      sequencesOf(sizes).forEach((rows, picture) => {
        const size = rows.flat();
        const source = sequencesOf(sources)[picture] ?? [];
        const { merged } = plainVit(model.options, parameters, sequencesOf(pictures.image)[picture]?.flat() ?? [], {
          r,
          protect,
        });
        expect(sumOf(size)).toBe(tokens);
        expect(source.map((row) => sumOf(row))).toEqual(size);
        expect(rowOf(source, 0).map((_, original) => sumOf(source.map((row) => row[original] ?? 0)))).toEqual(
          Array.from({ length: tokens }, () => 1),
        );
        expect(new Set(source.flat()).size).toBeLessThanOrEqual(2);
        for (let i = 0; i < protect; i++)
          expect(rowOf(source, i)).toEqual(Array.from({ length: tokens }, (_, original) => Number(original === i)));
        expect(size).toEqual(merged.sizes ?? Array.from({ length: tokens }, () => 1));
        expect(source).toEqual(merged.source);
      });
    });
  });

  test("adds its two outputs behind the model's and constructs another signature", () => {
    const { after, contract } = merge(tinyVit() as ModelDefinition, { r: 1, track: true });
    expect(contract).toBe("constructs");
    expect(after.outputs.map(({ name, value }) => [name, value.type])).toEqual([
      ["logits", { dtype: "f32", shape: ["batch", 5] }],
      ["tokenSizes", { dtype: "f32", shape: ["batch", 6, 1] }],
      ["tokenSource", { dtype: "f32", shape: ["batch", 6, 10] }],
    ]);
  });
  test("leaves the logits as they are without it", () => {
    const [plain, tracked] = [false, true].map((track) => merge(tinyVit() as ModelDefinition, { r: 2, track }));
    const parameters = drawnParameters(tinyGraph());
    const logits = (graph: Graph | undefined): NumberTensor =>
      output(evaluate(graph ?? tinyGraph(), pictures, parameters), "logits");
    expect(logits(tracked?.after)).toEqual(logits(plain?.after));
    expect(plain?.contract).toBe("approximate");
  });
  test("fires only where tokens merge", () => {
    const { fired, after } = merge(tinyVit() as ModelDefinition, { r: [2, 0, 1], track: true });
    expect(fired).toHaveLength(countOf(after, "tokenMatch"));
  });
});

const tinyGraph = (): Graph => traceModel(tinyVit());

describe("proportional attention", () => {
  const extras = (options: MergeTokensOptions) =>
    merge(tinyVit() as ModelDefinition, options).after.nodes.flatMap((node) =>
      node.op === "attention" ? [node.attrs["extras"]] : [],
    );
  test("starts behind the first block that merges", () => {
    expect(extras({ r: 1 })).toEqual([[], ["logSize"], ["logSize"], ["logSize"]]);
    expect(extras({ r: [0, 2] })).toEqual([[], [], ["logSize"], ["logSize"]]);
  });
  test("can be left out", () => {
    expect(extras({ r: 1, proportional: false })).toEqual([[], [], [], []]);
  });
});

type Tokens = Tensor<"f32", nn.Rank3>;

/** A model of the tests on `x` f32[batch, 9, 8]. */
function author(build: (x: Tokens) => Readonly<Record<string, Tensor>>): ModelDefinition {
  return { kind: "model", name: "author", options: {}, build: () => build(input("x", "f32", ["batch", 9, 8])) };
}
function attend(name: string, query: Tokens, memory: Tokens): Tokens {
  return scope(name, () => {
    const heads = (part: string, x: Tokens) => nn.splitHeads(nn.linear(part, x, { out: 8 }), 2);
    const mixed = nn.attention(heads("q", query), heads("k", memory), heads("v", memory));
    return nn.linear("o", nn.mergeHeads(mixed), { out: 8 });
  });
}
function block(x: Tokens): Tokens {
  const normed = nn.layerNorm("norm1", x);
  const attended = add(x, attend("attn", normed, normed));
  return add(attended, nn.linear("mlp", nn.layerNorm("norm2", attended), { out: 8 }));
}
const blocks = (x: Tokens, depth: number): Tokens =>
  Array.from({ length: depth }, (_, i) => i).reduce((y, i) => scope(`block.${i}`, () => block(y)), x);

describe("tokens that are equal", () => {
  // Twins sit beside each other, one of them even and one odd; so every pair that matches is a pair of twins.
  const twins = (tokens: number, alone: number): TensorData => {
    const rows = Array.from({ length: tokens - alone }, (_, i) => drawn(Math.floor(i / 2), 8)).flat();
    return tensorData("f32", [1, tokens, 8], [...drawn(99, 8 * alone), ...rows]);
  };
  const readOuts: Readonly<Record<string, (x: Tokens) => Tensor>> = {
    "a mean": (x) => mean(x, 1),
    "a mean that keeps its axis": (x) => mean(x, 1, true),
    "a mean over tokens and channels": (x) => mean(x, [1, 2]),
    "a sum": (x) => sum(x, 1),
    "a mean behind a norm": (x) => mean(nn.layerNorm("last", x), 1),
    "cross-attention to them": (x) => attend("cross", input("query", "f32", ["batch", 3, 8]), x),
    "cross-attention from them": (x) => attend("cross", x, input("memory", "f32", ["batch", 3, 8])),
    themselves: (x) => x,
    "themselves, projected": (x) => nn.linear("last", x, { out: 3 }),
  };
  test.each(Object.entries(readOuts))("merge without a change to %s", (name, readOut) => {
    const model = author((x) => ({ y: scope("head", () => readOut(blocks(slice(x, { axis: 1, end: 8 }), 3))) }));
    const { before, after } = merge(model, { r: [4] });
    const inputs = {
      x: twins(9, 0),
      ...(name === "cross-attention to them" && { query: drawnTensor(1, [1, 3, 8]) }),
      ...(name === "cross-attention from them" && { memory: drawnTensor(2, [1, 3, 8]) }),
    };
    const parameters = drawnParameters(before);
    expect(countOf(after, "tokenMatch")).toBe(1);
    const [merged, whole] = [after, before].map((graph) => output(evaluate(graph, inputs, parameters), "y"));
    if (merged !== undefined && whole !== undefined) expectSame(merged, whole);
  });

  test.each([
    ["class token", tinyVit()],
    ["distillation token", tinyVit({ distillToken: true })],
    ["mean over patches", tinyVit({ globalPool: "avg" })],
  ])("merge without a change to the logits read from: %s", (_, model) => {
    const { before, after } = merge(model as ModelDefinition, { r: [4] });
    // Twin patches need equal positions too. Patch 8 stands alone.
    const parameters = new Map(drawnParameters(before));
    const leading = model.options.distillToken ? 2 : 1;
    const positions = Array.from({ length: 9 + leading }, (_, i) =>
      drawn(i < leading ? 50 + i : Math.floor((i - leading) / 2), 8),
    );
    parameters.set("pos_embed", tensorData("f32", [1, 9 + leading, 8], positions.flat()));
    const pixel = (i: number): number => {
      const [row, column] = [Math.floor(i / 12), i % 12];
      const patch = Math.floor(row / 4) * 3 + Math.floor(column / 4);
      return drawn(200 + Math.floor(patch / 2), 16)[(row % 4) * 4 + (column % 4)] ?? 0;
    };
    const image = tensorData(
      "f32",
      [1, 1, 12, 12],
      Array.from({ length: 144 }, (_, i) => pixel(i)),
    );
    const [merged, whole] = [after, before].map((graph) => output(evaluate(graph, { image }, parameters), "logits"));
    if (merged !== undefined && whole !== undefined) expectSame(merged, whole);
  });

  test("everywhere stay what they are: merging a constant is that constant", () => {
    const { before, after } = merge(
      author((x) => ({ y: blocks(x, 3) })),
      { r: 2 },
    );
    const parameters = drawnParameters(before);
    const x = tensorData("f32", [1, 9, 8], Array.from({ length: 9 }, () => drawn(1, 8)).flat());
    const [merged, whole] = [after, before].map((graph) => output(evaluate(graph, { x }, parameters), "y"));
    if (merged !== undefined && whole !== undefined) expectSame(merged, whole);
  });

  test("everywhere are ties, and the lowest indices win", () => {
    const config = { ...ownConfig, leading: 0 as const };
    const { before, after } = merge(ownModel(config) as ModelDefinition, { r: [2], track: true });
    const parameters = drawnParameters(before);
    const x = tensorData("f32", [1, 9, 8], Array.from({ length: 9 }, () => drawn(1, 8)).flat());
    const { merged } = plainOwn(config, parameters, x, { r: [2], protect: 0 });
    const outputs = evaluate(after, { x }, parameters);
    expect(sequencesOf(output(outputs, "tokenSource"))).toEqual(merged.map((run) => run.source));
  });
});

describe("the last block", () => {
  test.each([
    ["a vit", tinyVit()],
    ["a distilled vit", tinyVit({ distillToken: true })],
    ["CLIP", clipVision({ ...tiny, projection: 5 })],
  ])("of %s may merge without a change to what the read-out tokens say", (_, model) => {
    const graph = traceModel(model as ModelDefinition);
    const parameters = drawnParameters(graph);
    const [name = ""] = graph.outputs.map((o) => o.name);
    const values = [
      [2, 2, 1],
      [2, 2, 1, 2],
    ].map((r) => output(evaluate(merge(graph, { r }).after, pictures, parameters), name));
    if (values[0] !== undefined && values[1] !== undefined) expectSame(values[1], values[0]);
  });
});

describe("outputs that hold tokens", () => {
  const staged: ModelDefinition = {
    kind: "model",
    name: "teacher",
    options: {},
    build: () => {
      const image = input("image", "f32", ["batch", 1, 12, 12]);
      const { stages, features } = vitForward(image, { ...vit().options, ...tiny });
      return { features, ...Object.fromEntries(stages.map((stage, i) => [`stage${i}`, stage])) };
    },
  };
  test("are restored to their old number: source^T x, each by the merges up to it", () => {
    const { before, after, contract } = merge(staged, { r: [2, 0, 3, 1] });
    expect(contract).toBe("approximate");
    const signature = (graph: Graph) => graph.outputs.map(({ name, value }) => [name, value.type]);
    expect(signature(after)).toEqual(signature(before));
    const parameters = new Map([...drawnParameters(before), ...headOf(5)]);
    const runs = sequencesOf(pictures.image).map(
      (picture) =>
        plainVit({ ...vit().options, ...tiny }, parameters, picture.flat(), { r: [2, 0, 3, 1], protect: 1 }).merged,
    );
    const outputs = evaluate(after, pictures, parameters);
    for (let i = 0; i < 4; i++)
      expectClose(
        output(outputs, `stage${i}`),
        runs.map((run) => run.stages.slice(i, i + 1).flatMap((stage) => restored(stage))),
      );
  });

  test("without the class token are restored to the patches", () => {
    const config = { ...ownConfig, leading: 1 as const, readOut: "tokens" as const };
    const model: ModelDefinition = {
      kind: "model",
      name: "patches",
      options: {},
      build: () => {
        const { y } = ownModel(config).build({ ...config });
        return { y: slice(y as Tokens, { axis: 1, start: 1 }) };
      },
    };
    const { before, after } = merge(model, { r: 2 });
    expect(after.outputs[0]?.value.type.shape).toEqual(["batch", 9, 8]);
    const parameters = drawnParameters(before);
    const { merged } = plainOwn(config, parameters, sequences.x, { r: [2, 2, 2], protect: 1 });
    expectClose(
      output(evaluate(after, sequences, parameters), "y"),
      merged.map((run) => restored(run).slice(1)),
    );
  });

  test("that are protected tokens alone need no restoring", () => {
    const config = { ...ownConfig, leading: 2 as const, readOut: "tokens" as const };
    const model: ModelDefinition = {
      kind: "model",
      name: "prefix",
      options: {},
      build: () => ({ y: slice(ownModel(config).build({ ...config })["y"] as Tokens, { axis: 1, end: 2 }) }),
    };
    const { before, after } = merge(model, { r: 2 });
    const parameters = drawnParameters(before);
    const { merged } = plainOwn(config, parameters, sequences.x, { r: [2, 2, 2], protect: 2 });
    expectClose(
      output(evaluate(after, sequences, parameters), "y"),
      merged.map((run) => run.x.slice(0, 2)),
    );
  });

  test("are restored beside tracking, whose source says how", () => {
    const config = { ...ownConfig, readOut: "tokens" as const };
    const { before, after } = merge(ownModel(config) as ModelDefinition, { r: 2, track: true });
    const parameters = drawnParameters(before);
    const { merged } = plainOwn(config, parameters, sequences.x, { r: [2, 2, 2], protect: 0 });
    expectClose(output(evaluate(after, sequences, parameters), "y"), merged.map(restored));
  });
});

/** Parameters that `vitForward` makes for a head that is no output. */
const headOf = (classes: number): ReadonlyMap<string, TensorData> =>
  new Map([
    ["head.weight", drawnTensor(1, [classes, 8])],
    ["head.bias", drawnTensor(2, [classes])],
  ]);

describe("the merged graph", () => {
  const models = {
    vit: tinyVit(),
    "distilled vit": tinyVit({ distillToken: true }),
    "pooling vit": tinyVit({ globalPool: "avg" }),
    clip: clipVision({ ...tiny, projection: 5 }),
    "own network": ownModel({ flattened: true, layerScale: true }),
    "own network with tokens out": ownModel({ readOut: "tokens" }),
    "fashion-vit": fashionVit,
  } as unknown as Readonly<Record<string, ModelDefinition>>;

  describe.each(Object.entries(models))("of %s", (_, model) => {
    test.each([{ r: 2 }, { r: 2, track: true }, { r: [3, 0, 1], proportional: false }])(
      "is well-formed and reads back from its text, %o",
      (options) => {
        const { after } = merge(model, options);
        verifyGraph(after);
        const text = printGraph(after, { locations: true });
        const back = parseGraph(text);
        verifyGraph(back);
        expect(printGraph(back, { locations: true })).toBe(text);
      },
    );
    test("is the same text every time", () => {
      const [once, again] = [1, 2].map(() => printGraph(merge(model, { r: 2 }).after, { locations: true }));
      expect(again).toBe(once);
    });
    test("leaves the graph it came from alone", () => {
      const graph = traceModel(model);
      const text = printGraph(graph);
      merge(graph, { r: 2 });
      expect(printGraph(graph)).toBe(text);
      verifyGraph(graph);
    });
  });

  test("keeps inputs, parameters and outputs", () => {
    const { before, after } = merge(tinyVit() as ModelDefinition, { r: 2 });
    const sources = (graph: Graph) =>
      graph.nodes.filter((node) => node.op === "input" || node.op === "parameter").map((node) => node.attrs["name"]);
    expect(sources(after).toSorted()).toEqual(sources(before).toSorted());
  });

  test("names the author's line and the pass on every node that merging made", () => {
    const { after } = merge(tinyVit() as ModelDefinition, { r: 2 });
    const made = after.nodes.filter((node) => node.op === "tokenMatch" || node.op === "tokenMerge");
    expect(made.length).toBeGreaterThan(0);
    for (const { locs, scope } of made) {
      expect(locs[0]).toMatchObject({ kind: "made", by: "mergeTokens" });
      expect(fileLoc(locs[0] ?? { kind: "unknown" })?.file).toMatch(/models\/vit\.ts$/);
      expect(scope).toMatch(/^blocks\.\d/);
    }
  });

  test("matches on every head's keys, in f32 even where the network is f16 (product.md, decision 11)", () => {
    const half = parseGraph(printGraph(traceModel(ownModel({ depth: 2 }))).replaceAll("f32[", "f16["));
    const { after } = merge(half, { r: 2 });
    const open = passed(after, [decompose(new Set(["layerNorm", "attention", "gelu"]))]);
    const compared = open.nodes.filter((node) => node.op === "argMax" || node.op === "sort");
    expect(compared.length).toBeGreaterThan(0);
    for (const node of compared) expect(["f32", "i32"]).toContain(node.operands[0]?.type.dtype);
    expect(after.outputs.map((o) => o.value.type.dtype)).toEqual(["f16"]);
  });
  test("counts in f32 where the network is f16", () => {
    const half = parseGraph(printGraph(traceModel(ownModel({ depth: 2 }))).replaceAll("f32[", "f16["));
    const { before, after } = merge(half, { r: 2, track: true });
    expect(after.outputs.map((o) => o.value.type.dtype)).toEqual(["f16", "f32", "f32"]);
    const halved = ({ shape, values }: TensorData) => tensorData("f16", shape, Array.from(values, Number));
    const outputs = evaluate(after, { x: halved(sequences.x) }, drawnParameters(before));
    const parameters = new Map([...drawnParameters(before)].map(([name, x]) => [name, x]));
    const { merged } = plainOwn({ ...ownConfig, depth: 2 }, parameters, halved(sequences.x), { r: [2, 2], protect: 0 });
    expect(sequencesOf(output(outputs, "tokenSource"))).toEqual(merged.map((run) => run.source));
    expect(sequencesOf(output(outputs, "tokenSizes")).map((rows) => rows.flat())).toEqual(
      merged.map((run) => run.sizes),
    );
  });
});

describe("two networks in one graph", () => {
  test("merge each on its own", () => {
    const model = author((x) => {
      const [first, second] = ["first", "second"].map((name) => scope(name, () => mean(blocks(x, 2), 1)));
      return first === undefined || second === undefined ? {} : { y: add(first, second) };
    });
    const { before, after, fired } = merge(model, { r: [2, 2, 1, 1] });
    expect(fired).toHaveLength(4);
    const parameters = drawnParameters(before);
    const alone = (name: string, r: readonly number[]) => {
      const graph = traceModel(author((x) => ({ y: scope(name, () => mean(blocks(x, 2), 1)) })));
      return output(evaluate(merge(graph, { r }).after, sequences, parameters), "y");
    };
    const [first, second] = [alone("first", [2, 2]), alone("second", [1, 1])];
    const total = { ...first, values: first.values.map((value, i) => value + (second.values[i] ?? Number.NaN)) };
    expectSame(output(evaluate(after, sequences, parameters), "y"), total);
  });
});

describe("with other passes (product.md, amendment 12)", () => {
  const r = 2;
  const graph = tinyGraph();
  const parameters = drawnParameters(graph);
  const logits = (g: Graph): NumberTensor => output(evaluate(g, pictures, parameters), "logits");
  const merged = logits(merge(graph, { r }).after);
  const others: Readonly<Record<string, Pass>> = { simplify, bindSymbols: bindSymbols({ batch: 2 }), foldQueryScale };

  test.each(Object.entries(others))("composes with %s, before and after it", (_, other) => {
    expectSame(logits(passed(graph, [other, mergeTokens({ r })])), merged);
    expectSame(logits(passed(graph, [mergeTokens({ r }), other])), merged);
  });
  describe("and foldConstants, weights at hand", () => {
    const weights = new Map(
      [...parameters].map(([name, data]): [string, WeightSource] => [
        name,
        {
          type: data,
          hash: name,
          read: async (start = 0, end = data.values.length) => ({ ...data, values: data.values.slice(start, end) }),
        },
      ]),
    );
    const logitsOf = async (passes: readonly Pass[], set: { readonly batch: Dim }): Promise<NumberTensor> => {
      const { model } = runPasses({ graph: traceModel(tinyVit(set)), weights }, passes);
      const contents = new Map<string, TensorData>();
      for (const [name, source] of model.weights) contents.set(name, await source.read());
      return output(evaluate(model.graph, pictures, contents), "logits");
    };
    test.each(["batch", 2] as const)("composes before and after, batch %o", async (batch) => {
      expectSame(await logitsOf([foldConstants(), mergeTokens({ r })], { batch }), merged);
      expectSame(await logitsOf([mergeTokens({ r }), foldConstants()], { batch }), merged);
      expectSame(await logitsOf([mergeTokens({ r }), foldConstants({ views: true })], { batch }), merged);
    });
    test("is refused once views are folded too: a bias written out for every token is a table by position", async () => {
      const passes = [foldConstants({ views: true }), mergeTokens({ r })];
      expectSame(await logitsOf(passes, { batch: "batch" }), merged);
      await expect(logitsOf(passes, { batch: 2 })).rejects.toThrow(/cannot-merge.*fixed size along the tokens/);
    });
    test("composes with the whole recipe", async () => {
      const recipe = [simplify, foldConstants(), bindSymbols({ batch: 2 }), mergeTokens({ r }), simplify];
      expectSame(
        await logitsOf([...recipe, foldConstants(), foldQueryScale, decompose(new Set())], { batch: "batch" }),
        merged,
      );
    });
  });
  test("decompose may follow, but leaves it nothing to find when it goes first", () => {
    expectSame(logits(passed(graph, [mergeTokens({ r }), decompose(new Set())])), merged);
    const found = refusal(passed(graph, [decompose(new Set())]), { r });
    expect([found.code, found.help]).toEqual(["pattern-not-found", "the graph has no attention op"]);
    const whole = new Set(["attention", "layerNorm"]);
    expectSame(logits(passed(graph, [decompose(whole), mergeTokens({ r })])), merged);
  });
});
