export { compileError } from "../ir/diagnostic.ts";
export { assume, keepsShape } from "./assume.ts";
export { type CompositeDeclaration, composite, isComposite, type OwnComposite } from "./composite.ts";
export * from "./elementwise.ts";
export {
  defineModel,
  isModelDefinition,
  type ModelDefinition,
  type Options,
  type OptionValue,
  type PictureInput,
  type Traced,
  type TraceOptions,
  traceModel,
  traceWithOps,
} from "./model.ts";
export * as nn from "./nn/index.ts";
export * from "./products.ts";
export * from "./reduce.ts";
export * from "./shape.ts";
export { arange, constant, full, input, parameter, Tensor } from "./tensor.ts";
export { scope } from "./trace.ts";
export type { NumberType, ShapeError } from "./types/result.ts";
export { concatWeights, reorderRows, reshapeWeight, transposeWeight } from "./weights.ts";
