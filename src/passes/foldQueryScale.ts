import { allTraits } from "./pass.ts";
import { any, pat, rewritePass, rule } from "./rewrite.ts";

/** Scales the query [tokens, channels] instead of the scores [tokens, tokens]: fewer products when channels < tokens. */
export const foldQueryScale = rewritePass({
  name: "foldQueryScale",
  summary: "scale the query instead of the scores",
  contract: "reassociates",
  requires: [],
  preserves: allTraits,
  example: {
    before: `
graph @scores(%q: f32[197,64], %kt: f32[64,197], %scale: f32[]) {
  %0 = matmul(%q, %kt) : f32[197,197]
  %1 = broadcast(%scale) {shape=[197,197], axes=[0,1]} : f32[197,197]
  %2 = mul(%0, %1) : f32[197,197]
  return scores: %2
}`,
    after: `
graph @scores(%q: f32[197,64], %kt: f32[64,197], %scale: f32[]) {
  %0 = broadcast(%scale) {shape=[197,64], axes=[0,1]} : f32[197,64]
  %1 = mul(%q, %0) : f32[197,64]
  %2 = matmul(%1, %kt) : f32[197,197]
  return scores: %2
}`,
  },
  rules: [
    rule({
      match: pat.mul([pat.matmul([any("q"), any("kt")]).as("scores"), pat.broadcast([any("scale")])]),
      where: ({ q, scores, scale }, { usedOnce }) => {
        if (scale.type.shape.length > 0) return "the scale differs between scores";
        if (!usedOnce(scores.value)) return "the scores are read without the scale too";
        // Both have one row per query, so their widths decide; an unknown size is not known to be smaller.
        const [channels, keys] = [q.type.shape.at(-1), scores.value.type.shape.at(-1)] as const;
        return typeof channels === "number" && typeof keys === "number" && channels < keys
          ? true
          : "the scores are no larger than the query";
      },
      build: (b, { q, kt, scale }) => {
        const { shape } = q.type;
        return b.matmul(b.mul(q, b.broadcast(scale, { shape, axes: shape.map((_, axis) => axis) })), kt);
      },
    }),
  ],
});
