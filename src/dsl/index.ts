export { compileError } from "../ir/diagnostic.ts";
export {
  defineModel,
  isModelDefinition,
  type ModelDefinition,
  type Options,
  type OptionValue,
  type PictureInput,
  type TraceOptions,
  traceModel,
} from "./model.ts";
export * as nn from "./nn.ts";
export * from "./tensor.ts";
export { scope } from "./trace.ts";
export { concatWeights, reorderRows, reshapeWeight, transposeWeight } from "./weights.ts";
