export type { Rank3, Rank4 } from "../types/layers.ts";
export * from "./attention.ts";
export {
  batchNorm,
  embedding,
  groupNorm,
  layerNorm,
  linear,
  rmsNorm,
} from "./layers.ts";
export * from "./window.ts";
