import type { Builder } from "../../../ir/builder.ts";
import { productOfDims } from "../../../ir/dim.ts";
import type { Value } from "../../../ir/graph.ts";
import type { Dim } from "../../../ir/type.ts";
import { any, pat, rewritePass, rule } from "../../../passes/rewrite.ts";

const turned = [1, 0];
const isTurned = ({ perm }: { readonly perm: readonly number[] }) => perm.length === 2 && `${perm}` === `${turned}`;
const lastOnly = ({ axes, shape }: { readonly axes: readonly number[]; readonly shape: readonly unknown[] }) =>
  axes.length === shape.length - 1 && axes.every((axis, i) => axis === i);
const isFloating = (x: Value): true | string =>
  x.type.dtype[0] === "f" || x.type.dtype === "bf16" || "Gemm and Conv are for floats";

/** Gemm takes matrices: the tokens of all batches are laid end to end. */
function linear(b: Builder, x: Value, [weight, ...bias]: readonly [Value, ...Value[]]): Value {
  const { shape } = x.type;
  const lead = shape.slice(0, -1);
  const rows = lead.length === 1 ? x : b.reshape(x, { shape: [productOfDims(lead), shape.at(-1) as Dim] });
  const [y] = b.make("onnxLinear", [rows, weight, ...bias]) as readonly [Value];
  return lead.length === 1 ? y : b.reshape(y, { shape: [...lead, y.type.shape[1] as Dim] });
}

/** A projection is one Gemm, and a convolution takes its bias with it. */
export const fuseProducts = rewritePass({
  name: "fuseProducts",
  summary: "projections and convolutions with their bias as one operator each",
  contract: "exact",
  example: {
    before: `
graph @project(%x: f32[2,5,8]) {
  %w = parameter() : f32[4,8]
  %0 = transpose(%w) {perm=[1,0]} : f32[8,4]
  %1 = matmul(%x, %0) : f32[2,5,4]
  %b = parameter() : f32[4]
  %2 = broadcast(%b) {shape=[2,5,4], axes=[0,1]} : f32[2,5,4]
  %3 = add(%1, %2) : f32[2,5,4]
  return y: %3
}`,
    after: `
graph @project(%x: f32[2,5,8]) {
  %w = parameter() : f32[4,8]
  %b = parameter() : f32[4]
  %0 = reshape(%x) {shape=[10,8]} : f32[10,8]
  %1 = onnxLinear(%0, %w, %b) : f32[10,4]
  %2 = reshape(%1) {shape=[2,5,4]} : f32[2,5,4]
  return y: %2
}`,
  },
  rules: [
    rule({
      name: "linear",
      match: pat.add([
        pat.matmul([any("x"), pat.transpose([any("w")]).where(isTurned)]).as("product"),
        pat.broadcast([any("bias")]).where(lastOnly),
      ]),
      where: ({ x, product }, { usedOnce }) =>
        usedOnce(product.value) ? isFloating(x) : "the product is read without the bias too",
      build: (b, { x, w, bias }) => linear(b, x, [w, bias]),
    }),
    rule({
      name: "linearWithoutBias",
      match: pat.matmul([any("x"), pat.transpose([any("w")]).where(isTurned)]),
      where: ({ x }, { root, uses, usedOnce }) => {
        const [product] = root.results as readonly [Value];
        const reader = usedOnce(product) ? uses.get(product)?.[0]?.user : undefined;
        const biased =
          reader?.op === "add" &&
          reader.operands.some((v) => v.producer.op === "broadcast" && lastOnly(v.producer.attrs as never));
        return biased ? "its bias goes with it" : isFloating(x);
      },
      build: (b, { x, w }) => linear(b, x, [w]),
    }),
    rule({
      name: "convWithBias",
      match: pat.add([
        pat.conv2d([any("x"), any("w")]).as("product"),
        pat.broadcast([any("bias")]).where(({ axes }) => `${axes}` === "0,2,3"),
      ]),
      where: ({ x, product }, { usedOnce }) =>
        usedOnce(product.value) ? isFloating(x) : "the product is read without the bias too",
      build: (b, { x, w, bias, product }) => b.make("onnxConv", [x, w, bias], product.attrs),
    }),
  ],
});
