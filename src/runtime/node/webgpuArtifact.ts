import { createReadStream } from "node:fs";
import { fileURLToPath } from "node:url";
import { compileError } from "../../ir/diagnostic.ts";
import { type ArtifactFiles, checkRequirements, openArtifact, type Progress } from "../artifact/index.ts";
import { type PlainModel, plainModel } from "../artifact/plainModel.ts";
import type { ProgramSession } from "../webgpu/program.ts";
import { insideFolder, openFile, startOf } from "./files.ts";
import { type NodeDevice, openWebGpu } from "./webgpuDevice.ts";
import { createWebGpuSession } from "./webgpuSession.ts";

function folderFiles(folder: string): ArtifactFiles {
  return {
    place: folder,
    async *read(name) {
      const path = insideFolder(folder, name);
      if (path === undefined)
        throw compileError("artifact-damaged", `${JSON.stringify(name)} is no file below the folder`, {
          loc: startOf(folder),
        });
      await (await openFile(path)).close(); // says what is wrong where it cannot be read
      yield* createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Uint8Array>;
    },
  };
}

/**
 * Runs a compiled folder for the webgpu target on the best adapter of this machine, or on a device of the caller's,
 * which stays open. Fails as `openArtifact` does, and with `no-adapter` and `device-limit`.
 */
export async function createFolderSession(
  folder: string,
  given?: NodeDevice,
  onProgress?: (progress: Progress) => void,
): Promise<ProgramSession> {
  const { program, weights } = await openArtifact(folderFiles(folder), onProgress);
  try {
    if (given !== undefined) checkRequirements(program, given.device);
    return await createWebGpuSession(program, weights, given);
  } finally {
    await weights.close();
  }
}

/** What `loadModel` may be told. */
export interface LoadOptions {
  /** Called as bytes are read. */
  readonly onProgress?: (progress: Progress) => void;
  /** A device of the caller's, which stays open; otherwise the model opens the best one and closes it at the end. */
  readonly device?: NodeDevice;
}

/**
 * Makes a compiled folder for the webgpu target ready to run, in the form that `tamis/browser` has too. Fails as
 * `createFolderSession` does.
 */
export async function loadModel(folder: string | URL, { onProgress, device }: LoadOptions = {}): Promise<PlainModel> {
  const path = typeof folder === "string" ? folder : fileURLToPath(folder);
  const { manifest, program, weights } = await openArtifact(folderFiles(path), onProgress);
  try {
    const opened = device ?? (await openWebGpu());
    const close = device === undefined ? () => opened.close() : () => undefined;
    try {
      checkRequirements(program, opened.device);
      const session = await createWebGpuSession(program, weights, opened);
      const model = plainModel(manifest, session, device === undefined ? opened.adapter.name : "");
      const dispose = async (): Promise<void> => {
        await model.dispose();
        close();
      };
      return { ...model, dispose };
    } catch (error) {
      close();
      throw error;
    }
  } finally {
    await weights.close();
  }
}
