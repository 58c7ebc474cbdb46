import { basename } from "node:path";
import type { OnnxArtifact } from "../../backends/onnx/index.ts";
import { writeAtomically } from "./files.ts";

/**
 * Writes an ONNX artefact to `path`, weights streamed, and large ones to `path` + ".data" first: whoever sees the new
 * model sees its weights. Gives the files written. Fails with `file-unwritable`.
 */
export async function writeOnnx(artifact: OnnxArtifact, path: string): Promise<readonly string[]> {
  const { externalFile } = artifact;
  const dataPath = `${path}.data`;
  if (externalFile !== undefined)
    await writeAtomically(dataPath, async (file) => {
      for (const entry of externalFile.entries) {
        let position = entry.offset;
        for await (const bytes of entry.bytes()) {
          await file.write(bytes, 0, bytes.length, position);
          position += bytes.length;
        }
      }
    });
  await writeAtomically(path, async (file) => {
    for await (const bytes of artifact.chunks(basename(dataPath))) await file.write(bytes);
  });
  return externalFile === undefined ? [path] : [path, dataPath];
}
