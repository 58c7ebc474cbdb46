import { expect, test } from "vitest";
import { packElements } from "../../src/backends/onnx/elements.ts";
import { createBuilder } from "../../src/ir/builder.ts";
import { pack } from "../../src/ir/packing.ts";
import { type DType, tensorData } from "../../src/ir/type.ts";
import { randomNumbers } from "./cases.ts";
import { expectAgreement, sourceOf } from "./models.ts";

const hard = [
  0,
  -0,
  1,
  65504,
  65519,
  65520,
  1e9,
  2 ** -14,
  2 ** -24,
  2 ** -25,
  2 ** -25 * 1.01,
  3e-8,
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  Infinity,
  -Infinity,
  Number.NaN,
];

test.each<DType>(["f16", "bf16", "f32", "f64", "i4", "u4", "u2", "i8", "u8", "bool", "i64"])(
  "packs %s as the weights of other files are packed",
  (dtype) => {
    const random = randomNumbers(2);
    const float = dtype.includes("f");
    const drawn = Array.from({ length: 1000 }, () =>
      float ? (random() - 0.5) * 2 ** Math.floor(random() * 60 - 30) : Math.floor(random() * 2),
    );
    const numbers = float ? [...hard, ...drawn, 0] : drawn;
    const { values } = tensorData(dtype, [numbers.length], numbers);
    expect(Buffer.from(packElements(dtype, values))).toEqual(Buffer.from(pack(dtype, values, 0, values.length)));
    expect(Buffer.from(packElements(dtype, values, 8, 24))).toEqual(Buffer.from(pack(dtype, values, 8, 24)));
  },
);

test.each<DType>(["i4", "u4", "i8", "f16", "bf16"])(
  "weights stored as %s are cast where they are read",
  async (dtype) => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "f32", shape: [2, 4] });
    const stored = b.parameter("w", { dtype, shape: [4, 3] });
    const graph = b.finish("stored", { y: b.matmul(x, b.cast(stored, { to: "f32" })) });
    const numbers = [1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4];
    const weights = new Map([["w", sourceOf(tensorData(dtype, [4, 3], numbers), "w")]]);
    const artifact = await expectAgreement({ graph, weights }, {}, [1]);
    expect(artifact.opset).toBe(dtype.endsWith("4") ? 21 : 17);
  },
);

test("outputs may be inputs, parameters, constants, views of them, and one value twice", async () => {
  const b = createBuilder();
  const x = b.input("x", { dtype: "f32", shape: ["batch", 3] });
  const w = b.parameter("w", { dtype: "f32", shape: [2] });
  const y = b.exp(x);
  const graph = b.finish("copies", {
    same: x,
    first: y,
    second: y,
    weight: w,
    three: b.full({ dtype: "f32", shape: [2, 2] }, 3),
    count: b.iota({ shape: ["batch", 2], axis: 0 }),
    best: b.argMax(x, { axis: 1 }),
  });
  await expectAgreement(
    { graph, weights: new Map([["w", sourceOf(tensorData("f32", [2], [1, 2]), "w")]]) },
    {},
    [1, 4],
  );
});

test("sizes that are polynomials of the batch are computed where no copy or rest will do", async () => {
  const b = createBuilder();
  const x = b.input("x", { dtype: "f32", shape: ["n", "m", 2] });
  const padded = b.pad(x, { low: [1, 0, 0], high: [0, 2, 0] });
  const graph = b.finish("sizes", {
    flat: b.reshape(x, { shape: ["m", "2*n"] }),
    wide: b.broadcast(b.reduceSum(x, { axes: [0, 1, 2] }), { shape: ["n+1", "m//2"], axes: [0, 1] }),
    tail: b.slice(padded, { axis: 1, start: 1, end: "m" }),
    middle: b.slice(padded, { axis: 0, start: 1, end: "n+1" }),
    order: b.sort(x, { axis: 0 })[0],
    counts: b.iota({ shape: ["n*m"], axis: 0 }),
  });
  await expectAgreement({ graph, weights: new Map() }, {}, [2, 5]);
});
