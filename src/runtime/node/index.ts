export { convertFloats } from "../../ir/packing.ts";
export type { PlainModel, PlainTensor, Results } from "../artifact/plainModel.ts";
export type { Session, SessionValue } from "../session.ts";
export type { Allocations } from "../webgpu/ledger.ts";
export type { KernelTime, SessionMemory } from "../webgpu/loaded.ts";
export type { Profile, ProgramOptions, ProgramSession } from "../webgpu/program.ts";
export { DeviceTensor, uploadTensor } from "../webgpu/tensor.ts";
export { labelReader, type ReadLabel } from "./dataset/classes.ts";
export type { DataSet, Example, Wanted } from "./dataset/dataset.ts";
export {
  type ClassOutput,
  classOutput,
  type EvaluateModelOptions,
  type Evaluation,
  evaluateModel,
} from "./dataset/evaluateModel.ts";
export { openDataSet } from "./dataset/open.ts";
export type { ClassScore, Score, Share } from "./dataset/score.ts";
export { type Devices, findDevices, type OnnxProvider, ortVersion, type WebgpuAdapter } from "./devices.ts";
export { insideFolder, openFile, readBytes, startOf, writeAtomically, writeFileAtomically } from "./files.ts";
export { readNpy, writeNpy } from "./npy.ts";
export { createOrtSession, type OrtSessionOptions } from "./ort.ts";
export { type PictureForm, type PictureReader, pictureReader } from "./pictureInput.ts";
export { decodePicture, type Picture, type PictureOptions, readPicture } from "./pictures.ts";
export { randomSource, randomTensor } from "./random.ts";
export { createReferenceSession, type ReferenceSessionOptions } from "./reference.ts";
export { openSafetensors, type SafetensorsEntry, type SafetensorsFile, writeSafetensors } from "./safetensors.ts";
export { type InputSpec, parseInput, readTensor, readTensors, tensorFromNested } from "./tensorFiles.ts";
export { readTuningFile, type TunedAdapter, tunedAdapter, tuningPath } from "./tuning.ts";
export { createFolderSession, type LoadOptions, loadModel } from "./webgpuArtifact.ts";
export { type NodeDevice, openWebGpu } from "./webgpuDevice.ts";
export { createWebGpuSession, deviceProfile } from "./webgpuSession.ts";
export { type BindOptions, bindWeights, loadWeights, type OpenWeights } from "./weights.ts";
export { writeOnnx } from "./writeOnnx.ts";
export { writeWebGpu } from "./writeWebGpu.ts";
