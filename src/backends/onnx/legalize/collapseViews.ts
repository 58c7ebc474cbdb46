import { sameShape } from "../../../ir/dim.ts";
import { any, pat, rewritePass, rule } from "../../../passes/rewrite.ts";

/** Views of views that earlier rewrites leave are one view, or none. */
export const collapseViews = rewritePass({
  name: "collapseViews",
  summary: "reshapes of reshapes and transposes of transposes as one",
  contract: "exact",
  example: {
    before: `
graph @heads(%x: f32[2,5,8]) {
  %0 = reshape(%x) {shape=[2,5,2,4]} : f32[2,5,2,4]
  %1 = transpose(%0) {perm=[0,2,1,3]} : f32[2,2,5,4]
  %2 = transpose(%1) {perm=[0,2,1,3]} : f32[2,5,2,4]
  %3 = reshape(%2) {shape=[2,5,8]} : f32[2,5,8]
  return y: %3
}`,
    after: `
graph @heads(%x: f32[2,5,8]) {
  return y: %x
}`,
  },
  rules: [
    rule({
      name: "reshapeSame",
      match: pat.reshape([any("x")]).where(({ shape }, node) => sameShape(node.operands[0]?.type.shape ?? [], shape)),
      build: (_, { x }) => x,
    }),
    rule({
      name: "transposeNone",
      match: pat.transpose([any("x")]).where(({ perm }) => perm.every((from, to) => from === to)),
      build: (_, { x }) => x,
    }),
    rule({
      name: "reshapeTwice",
      match: pat.reshape([pat.reshape([any("x")])]).as("outer"),
      build: (b, { x, outer }) => b.reshape(x, outer.attrs),
    }),
    rule({
      name: "transposeTwice",
      match: pat.transpose([pat.transpose([any("x")]).as("inner")]).as("outer"),
      build: (b, { x, outer, inner }) =>
        b.transpose(x, { perm: outer.attrs.perm.map((axis) => inner.attrs.perm[axis] as number) }),
    }),
    ...[pat.gelu, pat.relu, pat.sigmoid, pat.tanh, pat.silu, pat.quickGelu].map((unary) =>
      rule({
        name: "reshapeAroundUnary",
        match: pat.reshape([unary([pat.reshape([any("x")])]).as("unary")]).as("outer"),
        where: ({ x, unary, outer }, { usedOnce }) =>
          !sameShape(x.type.shape, outer.attrs.shape)
            ? "the reshapes do not undo each other"
            : usedOnce(unary.value) || "it is read in the middle shape too",
        build: (b, { x, unary }) => b.make(unary.value.producer.op, [x], unary.attrs),
      }),
    ),
  ],
});
