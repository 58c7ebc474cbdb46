// Blocks are found by ops and edges alone (issue CORE, item 4), and merge as papers/03-tocom.md sections 2.2 to 2.5 say.
import { describe, expect, test } from "vitest";
import { type ModelDefinition, traceModel } from "../../src/dsl/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import type { TensorData } from "../../src/ir/type.ts";
import { type ClipVisionConfig, clipVision, type VitConfig, vit } from "../../src/models/index.ts";
import { findBlocks } from "../../src/passes/mergeTokens/blocks.ts";
import type { MergeTokensOptions } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { reductionSchedule } from "../../src/passes/mergeTokens/schedule.ts";
import {
  countOf,
  drawn,
  drawnParameters,
  drawnTensor,
  evaluate,
  evaluateRenamed,
  expectClose,
  merge,
  type OwnConfig,
  output,
  ownConfig,
  ownModel,
  plainClip,
  plainOwn,
  plainVit,
  refusal,
  renamed,
  sequencesOf,
} from "./mergeTokensModels.ts";
import { type Matrix, type Merging, restored } from "./mergeTokensPlain.ts";

const pictures = { image: drawnTensor(5, [2, 1, 12, 12]) };
const sequences = { x: drawnTensor(6, [3, 9, 8]) };

/** A model, an input, and what plain loops make of its one output. */
interface Subject {
  readonly model: ModelDefinition<never>;
  readonly depth: number;
  readonly protect: number;
  readonly inputs: Readonly<Record<string, TensorData>>;
  plain(parameters: ReadonlyMap<string, TensorData>, merging: Merging): readonly (Matrix | readonly number[])[];
}

const tiny = { imageSize: 12, patch: 4, channels: 1, dim: 8, depth: 3, heads: 2, mlpRatio: 2 } as const;
const vitConfig: VitConfig = { ...vit().options, ...tiny, classes: 5 };
function vitSubject(config: Partial<VitConfig>): Subject {
  const whole = { ...vitConfig, ...config };
  return {
    model: vit(whole) as ModelDefinition<never>,
    depth: whole.depth,
    protect: Number(whole.classToken) + Number(whole.distillToken),
    inputs: pictures,
    plain: (parameters, merging) =>
      sequencesOf(pictures.image).map((picture) => plainVit(whole, parameters, picture.flat(), merging).logits),
  };
}

function clipSubject(config: Partial<ClipVisionConfig>): Subject {
  const whole: ClipVisionConfig = { ...clipVision().options, ...tiny, projection: 5, ...config };
  return {
    model: clipVision(whole) as ModelDefinition<never>,
    depth: whole.depth,
    protect: 1,
    inputs: pictures,
    plain: (parameters, merging) =>
      sequencesOf(pictures.image).map((picture) => plainClip(whole, parameters, picture.flat(), merging)),
  };
}

function ownSubject(config: Partial<OwnConfig>): Subject {
  const whole = { ...ownConfig, ...config };
  return {
    model: ownModel(whole) as ModelDefinition<never>,
    depth: whole.depth,
    protect: whole.leading,
    inputs: sequences,
    plain: (parameters, merging) => plainOwn(whole, parameters, sequences.x, merging).y,
  };
}

const subjects = {
  "vit with a class token": vitSubject({}),
  "vit with class and distillation token": vitSubject({ distillToken: true }),
  "vit pooling over its patches": vitSubject({ globalPool: "avg" }),
  "vit without read-out tokens": vitSubject({ globalPool: "avg", classToken: false }),
  "vit without qkv bias": vitSubject({ qkvBias: false }),
  "CLIP's vision tower": clipSubject({}),
  "a CLIP tower with GELU and a biased head": clipSubject({ activation: "gelu", projectionBias: true }),
  "own blocks with q, k and v apart": ownSubject({}),
  "own blocks without biases": ownSubject({ bias: false }),
  "own blocks with LayerScale": ownSubject({ layerScale: true, leading: 1, readOut: "first" }),
  "own blocks over [batch * tokens, channels]": ownSubject({ flattened: true, batch: 3 }),
  "own blocks over [batch * tokens, channels], batch a symbol": ownSubject({ flattened: true, leading: 1 }),
  "own blocks with everything at once": ownSubject({ flattened: true, layerScale: true, leading: 1, bias: false }),
  "own blocks whose branch comes first in the sum": ownSubject({ branchFirst: true }),
  "own blocks under a mean over patches behind one token": ownSubject({ leading: 1, readOut: "patches" }),
  "own blocks under a mean over patches behind two tokens": ownSubject({ leading: 2, readOut: "patches" }),
  "own blocks with two query heads to a key head": ownSubject({ heads: 4, keyHeads: 2 }),
  "own blocks behind two learned tokens, joined one after the other": ownSubject({ leading: 2, readOut: "first" }),
} satisfies Record<string, Subject>;

const schedules: readonly MergeTokensOptions["r"][] = [1, 2, [3, 0, 1], { r: 1, inflection: -1 }];

describe.each(Object.entries<Subject>(subjects))("%s", (_, { model, depth, protect, inputs, plain }) => {
  const graph = traceModel(model);
  const parameters = drawnParameters(graph);
  const [name = ""] = graph.outputs.map((o) => o.name);

  test("is found whole: every attention is a block, none is refused", () => {
    const { blocks, refusals } = findBlocks(graph);
    expect([blocks.length, refusals]).toEqual([depth, []]);
  });

  test("computes what plain loops compute before any merging", () => {
    const merging = { r: [], protect };
    expectClose(output(evaluate(graph, inputs, parameters), name), plain(parameters, merging));
  });

  test.each(schedules.map((r) => ({ r })))("merges as plain loops do, r = $r", ({ r }) => {
    const { after } = merge(graph, { r });
    const merging = { r: reductionSchedule(depth, r), protect };
    expectClose(output(evaluate(after, inputs, parameters), name), plain(parameters, merging));
  });

  test("merges as plain loops do without proportional attention", () => {
    const { after } = merge(graph, { r: 2, proportional: false });
    const merging = { r: Array.from({ length: depth }, () => 2), protect, proportional: false };
    expect(after.nodes.filter((node) => String(node.attrs["extras"]).includes("logSize"))).toEqual([]);
    expectClose(output(evaluate(after, inputs, parameters), name), plain(parameters, merging));
  });

  test.each(["nonsense", "shuffled"] as const)("merges in every block under %s names, to the same result", (how) => {
    const wanted = output(evaluate(merge(graph, { r: 1 }).after, inputs, parameters), name);
    for (const seed of [1, 2, 3]) {
      const other = renamed(graph, seed, how);
      const report = merge(other.graph, { r: 1 });
      expect([report.fired.length, report.refused, countOf(report.after, "tokenMatch")]).toEqual([depth, [], depth]);
      const got = output(evaluateRenamed({ ...other, graph: report.after }, inputs, parameters), name);
      expect(got).toEqual(wanted);
    }
  });
});

test("the renaming leaves no name, scope, location or graph name of the model behind", () => {
  const graph = traceModel(subjects["vit with a class token"].model);
  const other = renamed(graph, 1, "nonsense").graph;
  const namesOf = (g: typeof graph) =>
    g.nodes.flatMap(({ attrs, scope, locs }) => [attrs["name"], scope, ...locs.map((loc) => JSON.stringify(loc))]);
  const old = new Set([...namesOf(graph), graph.name, ...graph.outputs.map((o) => o.name)]);
  const shared = [...namesOf(other), other.name, ...other.outputs.map((o) => o.name)].filter((word) => old.has(word));
  expect(new Set(shared)).toEqual(new Set([undefined, ""]));
  expect(other.nodes.map((node) => node.op)).toEqual(graph.nodes.map((node) => node.op));
});

test("the plain loops themselves depend on every one of their weights", () => {
  const { model, plain } = subjects["own blocks with LayerScale"];
  const parameters = drawnParameters(traceModel(model));
  const merging = { r: [2, 2, 2], protect: 1 };
  const wanted = plain(parameters, merging).flat(2);
  for (const [name, tensor] of parameters) {
    const changed = { ...tensor, values: Float32Array.from(drawn(99, tensor.values.length)) };
    expect(plain(new Map([...parameters, [name, changed]]), merging).flat(2), name).not.toEqual(wanted);
  }
});

describe("networks of any size", () => {
  // A one among the sizes, or two that are equal, must not mislead whoever follows tokens through a reshape.
  const pick = <T>(choices: readonly [T, ...T[]], x: number): T =>
    choices[Math.floor(((x + 1) / 2) * choices.length)] ?? choices[0];
  const networks = Array.from({ length: 40 }, (_, seed) => {
    const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, i = 0, j = 0] = drawn(seed + 500, 10);
    const [heads, keyHeads] = pick<readonly [heads: number, keyHeads: number]>(
      [
        [1, 1],
        [2, 2],
        [2, 1],
        [4, 2],
      ],
      c,
    );
    const config: OwnConfig = {
      ...ownConfig,
      depth: pick([1, 2, 3], a),
      tokens: pick([2, 3, 4, 8, 13], b),
      dim: pick([8, 4], d),
      heads,
      keyHeads,
      flattened: e > 0,
      layerScale: f > 0,
      batch: pick<OwnConfig["batch"]>(["batch", 1, 2, 8], g),
      leading: pick<OwnConfig["leading"]>([0, 1, 2], h),
      readOut: pick<OwnConfig["readOut"]>(["mean", "patches", "tokens"], i),
    };
    return { config, r: pick([1, 2, 3, 5], j), seed };
  });
  test.each(networks)("merge as plain loops do: network $seed, r = $r", ({ config, r, seed }) => {
    const { before, after } = merge(ownModel(config) as ModelDefinition, { r });
    const parameters = drawnParameters(before, seed);
    const batch = config.batch === "batch" ? 3 : Number(config.batch);
    const x = drawnTensor(seed, [batch, Number(config.tokens), config.dim]);
    const merging = { r: Array.from({ length: config.depth }, () => r), protect: config.leading };
    const { y, merged } = plainOwn(config, parameters, x, merging);
    const wanted = config.readOut === "tokens" ? merged.map(restored) : y;
    expectClose(output(evaluate(after, { x }, parameters), "y"), wanted);
  });
});

describe("a number of tokens that is a symbol", () => {
  test("stays one: 9 tokens at run time merge as 9 in the model", () => {
    const [open, fixed] = ["n", 9].map((tokens) => {
      const { before, after } = merge(ownModel({ tokens, leading: 1, readOut: "first" }) as ModelDefinition, { r: 2 });
      return output(evaluate(after, sequences, drawnParameters(before)), "y");
    });
    expect(open).toEqual(fixed);
  });
  test("is needed as a size for a mean over tokens", () => {
    const found = refusal(ownModel({ tokens: "n", readOut: "mean" }) as ModelDefinition, { r: 2 });
    expect([found.code, found.help]).toEqual(["cannot-merge", "bind it with bindSymbols"]);
  });
});

describe("attention over something other than the stream's tokens", () => {
  const block = (heads: string) => `
graph @block(%x: f32[1,4,8]) {
  %g = parameter() : f32[8]
  %b = parameter() : f32[8]
  %0 = layerNorm(%x, %g, %b) {epsilon=0.00001} : f32[1,4,8]
${heads}
  return y: %9
}`;

  test("channels attended over are not taken for tokens, even where there are as many", () => {
    const graph = parseGraph(
      block(`  %1 = reshape(%0) {shape=[1,4,2,4]} : f32[1,4,2,4]
  %2 = transpose(%1) {perm=[0,2,3,1]} : f32[1,2,4,4]
  %3 = attention(%2, %2, %2) {scale=0.5} : f32[1,2,4,4]
  %4 = transpose(%3) {perm=[0,3,1,2]} : f32[1,4,2,4]
  %5 = reshape(%4) {shape=[1,4,8]} : f32[1,4,8]
  %9 = add(%x, %5) : f32[1,4,8]`),
    );
    expect(findBlocks(graph).refusals[0]?.reason).toBe("attention does not run over the tokens of the residual stream");
  });

  test("keys in another order than the stream are refused: they would be matched as other tokens", () => {
    const graph = parseGraph(
      block(`  %1 = reshape(%0) {shape=[1,4,2,4]} : f32[1,4,2,4]
  %2 = transpose(%1) {perm=[0,2,1,3]} : f32[1,2,4,4]
  %3 = reverse(%2) {axes=[2]} : f32[1,2,4,4]
  %4 = attention(%2, %3, %2) {scale=0.5} : f32[1,2,4,4]
  %5 = transpose(%4) {perm=[0,2,1,3]} : f32[1,4,2,4]
  %6 = reshape(%5) {shape=[1,4,8]} : f32[1,4,8]
  %9 = add(%x, %6) : f32[1,4,8]`),
    );
    expect(findBlocks(graph).refusals[0]?.reason).toContain("reverse turns tokens round");
  });
});
