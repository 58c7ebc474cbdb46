import { createReadStream } from "node:fs";
import { compileError } from "../../ir/diagnostic.ts";
import { type ArtifactFiles, checkRequirements, openArtifact, type Progress } from "../artifact/index.ts";
import type { ProgramSession } from "../webgpu/program.ts";
import { insideFolder, openFile, startOf } from "./files.ts";
import type { NodeDevice } from "./webgpuDevice.ts";
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
