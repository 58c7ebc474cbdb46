import { describe, expect, test } from "vitest";
import { emitOnnx, profiles } from "../../src/backends/onnx/index.ts";
import { expectAgreement, smallLlama, smallVit, weighted } from "./models.ts";

const networks = {
  "a vision transformer": weighted(smallVit()),
  "a vision transformer with token merging": weighted(smallVit({ r: 2 })),
  "a decoder": weighted(smallLlama()),
};

describe.each(profiles)("profile %s agrees with the reference at two batch sizes of one file on", (profile) => {
  describe.each(Object.entries(networks))("%s", (_, model) => {
    test("with blocks as functions", async () => {
      const artifact = await expectAgreement(model, { profile }, [1, 3]);
      expect(artifact.functions.length).toBeGreaterThan(0);
    });
    test("with all nodes in the graph", async () => {
      const artifact = await expectAgreement(model, { profile, functions: false }, [1, 3]);
      expect(artifact.functions).toEqual([]);
    });
    test("with token indices as matrices", () => expectAgreement(model, { profile, tokenForm: "dense" }, [1, 3]));
    test("with token indices as indices", () => expectAgreement(model, { profile, tokenForm: "index" }, [1, 3]));
  });
});

test("keeps a static batch as it is", async () => {
  const artifact = await expectAgreement(weighted(smallVit({ batch: 2 })), {}, [2]);
  expect(artifact.inputs[0]?.type.shape).toEqual([2, 3, 12, 12]);
});

test("gives blocks that are alike one function", () => {
  const { functions } = emitOnnx(weighted(smallVit({ depth: 4 })));
  expect(functions).toEqual(["blocks"]);
});

test("gives blocks that differ in their token count a function each", () => {
  const { functions } = emitOnnx(weighted(smallVit({ depth: 3, r: 1 })), { tokenForm: "index" });
  expect(functions).toEqual(["blocks", "blocks_1", "blocks_2"]);
});

test("leaves a block that other nodes interrupt in the graph", async () => {
  const { createBuilder } = await import("../../src/ir/builder.ts");
  const b = createBuilder();
  const x = b.input("x", { dtype: "f32", shape: [2, 3] });
  const first = b.at({ scope: "blocks.0" }, () => b.exp(x));
  const outside = b.at({ scope: "" }, () => b.sin(first));
  const last = b.at({ scope: "blocks.0" }, () => b.add(b.tanh(outside), first));
  const model = { graph: b.finish("interrupted", { y: last }), weights: new Map() };
  const artifact = await expectAgreement(model, {}, [1]);
  expect(artifact.functions).toEqual([]);
});
