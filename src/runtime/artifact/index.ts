// A compiled folder for the webgpu target, read in Node and in browsers alike.
import type { Plan, TensorFile } from "../../backends/wgsl/artifact.ts";
import type { WgslProgram } from "../../backends/wgsl/index.ts";
import type { WeightSource } from "../../ir/graph.ts";
import type { TensorData } from "../../ir/type.ts";
import { type Arrived, type ArtifactFiles, damaged, readHashed, readLimited } from "./files.ts";
import { manifestFile, type RunManifest, readRunManifest } from "./manifest.ts";
import { planFile, readPlan } from "./plan.ts";
import { streamTensors, type TensorStream } from "./tensors.ts";

export type { ArtifactFiles } from "./files.ts";
export type { PictureInput, RunManifest } from "./manifest.ts";
export { checkRequirements } from "./requirements.ts";
export type { TensorStream } from "./tensors.ts";

/** How far loading is. */
export interface Progress {
  /** Bytes that have arrived, and all there are. */
  readonly loaded: number;
  readonly total: number;
}

export interface OpenArtifact {
  readonly manifest: RunManifest;
  readonly program: WgslProgram;
  /** Contents of the parameters, in one pass in the order of `program.parameters`. Closed, it can be read again. */
  readonly weights: TensorStream;
}

const kernelsFile = "kernels.wgsl";
const constantsFile = "constants.safetensors";
const weightsFile = "weights.safetensors";
const manifestLimit = 2 ** 24; // bytes
const textLimit = 2 ** 28; // bytes of a file that is read whole

/**
 * Reads everything of an artefact but its weights, whose bytes `onProgress` counts too. Fails with `file-not-found`,
 * `file-unreadable`, `artifact-damaged`, `artifact-version` and `model-format`.
 */
export async function openArtifact(
  files: ArtifactFiles,
  onProgress: (progress: Progress) => void = () => undefined,
): Promise<OpenArtifact> {
  const { place } = files;
  const decode = (name: string, bytes: Uint8Array): string => {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw damaged(place, name, "is not text");
    }
  };
  const manifest = readRunManifest(decode(manifestFile, await readLimited(files, manifestFile, manifestLimit)), place);
  const sizeOf = (name: string): number =>
    Object.hasOwn(manifest.files, name) ? (manifest.files[name]?.bytes ?? 0) : 0;
  const total = [planFile, kernelsFile, constantsFile, weightsFile].reduce((sum, name) => sum + sizeOf(name), 0);
  let loaded = 0;
  const arrived: Arrived = (bytes) => {
    loaded = Math.min(total, loaded + bytes); // a file that is begun again counts once
    onProgress({ loaded, total });
  };
  const whole = async (name: string, expected: { readonly bytes: number; readonly sha256: string } | undefined) => {
    if (expected === undefined) throw damaged(place, manifestFile, `does not list ${name}`);
    if (expected.bytes > textLimit) throw damaged(place, name, `is said to hold ${expected.bytes} bytes`);
    return readHashed(files, name, expected, arrived);
  };
  const listed = Object.hasOwn(manifest.files, planFile) ? manifest.files[planFile] : undefined;
  const plan = readPlan(decode(planFile, await whole(planFile, listed)), place);
  const kernels = await whole(kernelsFile, plan.kernels);
  const shaders = plan.kernels.shaders.map(({ offset, bytes }) =>
    decode(kernelsFile, kernels.subarray(offset, offset + bytes)),
  );
  const constants = plan.constants === null ? [] : await readConstants(files, plan, plan.constants, arrived);
  return {
    manifest,
    program: { ...plan.program, shaders, constants },
    weights: plan.weights === null ? noWeights : streamTensors(files, weightsFile, plan.weights, arrived),
  };
}

const noWeights: TensorStream = { get: () => undefined, close: async () => undefined };

async function readConstants(
  files: ArtifactFiles,
  { program }: Plan,
  file: TensorFile,
  arrived: Arrived,
): Promise<WgslProgram["constants"]> {
  const stream = streamTensors(files, constantsFile, file, arrived);
  try {
    const contents = new Map<string, TensorData>();
    for (const { name } of file.tensors) contents.set(name, await (stream.get(name) as WeightSource).read());
    return program.constants.map((constant, k) => ({ ...constant, data: contents.get(String(k)) as TensorData }));
  } finally {
    await stream.close();
  }
}
