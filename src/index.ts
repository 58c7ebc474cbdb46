// The public surface: everything a model, a pass or a program around the compiler needs. Re-exports only.

export {
  type Backend,
  type BackendDeclaration,
  backend,
  type EmitOptions,
  type EmittedFiles,
  emitFiles,
  type FileBackend,
  isFileBackend,
} from "./backends/backend.ts";
export {
  type ExternalEntry,
  emitOnnx,
  isProfile,
  type OnnxArtifact,
  type OnnxOptions,
  type OnnxValue,
  onnxBackend,
  type Profile,
  profiles,
  providersOf,
} from "./backends/onnx/index.ts";
export { nativeOps as onnxOps } from "./backends/onnx/native.ts";
export {
  emitWgslArtifact,
  type Plan,
  type PlannedTensor,
  type TensorFile,
  type WgslArtifact,
} from "./backends/wgsl/artifact.ts";
export { type Candidates, candidateTiles } from "./backends/wgsl/candidates.ts";
export {
  type CauseReport,
  type DescribeOptions,
  type KernelOp,
  type KernelRead,
  type KernelReport,
  type KernelTotals,
  type KernelWrite,
  kernelReports,
  totalsOf,
} from "./backends/wgsl/describe.ts";
export { describeKernels } from "./backends/wgsl/describeText.ts";
export {
  type AttentionTile,
  type DeviceProfile,
  defaultTuning,
  emitWgsl,
  expandForKernels,
  type GemmTile,
  type Kernel,
  scheduleKernels,
  type Tuning,
  type TuningChoices,
  type WgslOptions,
  type WgslProgram,
} from "./backends/wgsl/index.ts";
export { isTunable, kernelKey, type TunableKernel } from "./backends/wgsl/kernelKey.ts";
export { formatTuning, parseTuning, type TuningFile } from "./backends/wgsl/tuningFile.ts";
export {
  type Compiled,
  type CompileOptions,
  compile,
  type Lowered,
  type LowerOptions,
  lower,
  type OnnxCompileOptions,
  type WebGpuCompileOptions,
} from "./compile.ts";
export { type Config, defineConfig } from "./config.ts";
export * from "./dsl/index.ts";
export { type Builder, createBuilder } from "./ir/builder.ts";
export { type Cost, type CostOptions, costOf, type Work } from "./ir/cost.ts";
export {
  CompileError,
  type Diagnostic,
  type DiagnosticDetails,
  type DiagnosticJson,
  diagnostic,
  diagnosticJson,
  didYouMean,
  fileLoc,
  formatDiagnostic,
  formatLoc,
  InternalError,
  type Loc,
  type Note,
  nearestNames,
  OpError,
  type SourceReader,
  unknownLoc,
} from "./ir/diagnostic.ts";
export { type Dim, evaluateDim, substituteDim, symbolsOf } from "./ir/dim.ts";
export { type EvaluateOptions, evaluateExact, evaluateGraph } from "./ir/evaluate/index.ts";
export {
  type Attr,
  type Attrs,
  type Graph,
  inputSymbols,
  isSource,
  type Model,
  type Node,
  type Output,
  parametersOf,
  sourceName,
  type Use,
  usesOf,
  type Value,
  type WeightSource,
} from "./ir/graph.ts";
export type {
  AnyOp,
  Composite,
  Form,
  IntScalar,
  NamedComposite,
  NumberTensor,
  Registry,
  Routine,
  Scalar,
  Structured,
  WindowGeometry,
} from "./ir/op.ts";
export { builtinOps, type OpName, type Ops } from "./ir/ops/index.ts";
export { type ParseOptions, parseGraph } from "./ir/parse.ts";
export { largeConstants, type PrintOptions, printGraph, printNode, valueNames } from "./ir/print.ts";
export { addOp, registryWith } from "./ir/registry.ts";
export {
  allocate,
  bytesOf,
  type DType,
  dtypes,
  type Elements,
  elementsOf,
  type FloatType,
  formatType,
  isFloat,
  isInteger,
  type Shape,
  type TensorData,
  type TensorType,
  tensorData,
  toNumbers,
} from "./ir/type.ts";
export { type VerifyOptions, verifyGraph } from "./ir/verify.ts";
export { bindSymbols } from "./passes/bindSymbols.ts";
export { decompose } from "./passes/decompose.ts";
export { foldConstants } from "./passes/foldConstants.ts";
export { foldQueryScale } from "./passes/foldQueryScale.ts";
export {
  type OptionSpec,
  type OptionSpecs,
  type PassEntry,
  type PassOptionValues,
  type PassSpec,
  parsePassSpec,
  passEntry,
  passes,
} from "./passes/index.ts";
export { type MergeTokensOptions, mergeTokens } from "./passes/mergeTokens/mergeTokens.ts";
export { parseReduction, type Reduction, reductionSchedule } from "./passes/mergeTokens/schedule.ts";
export {
  allTraits,
  type Contract,
  type Firing,
  type GraphTrait,
  graphTraits,
  type Pass,
  type PassContext,
  type PassOptions,
  type PassReport,
  patternNotFound,
  runPasses,
} from "./passes/pass.ts";
export { madeBy, rebuildGraph } from "./passes/rebuild.ts";
export {
  any,
  type BindingsOf,
  constant as constantPattern,
  type Matched,
  type Pattern,
  pat,
  patOf,
  type RewritePassDeclaration,
  type Rule,
  rest,
  rewritePass,
  rule,
  type Site,
  uniform,
} from "./passes/rewrite.ts";
export { runExample } from "./passes/runExample.ts";
export { simplify } from "./passes/simplify.ts";
