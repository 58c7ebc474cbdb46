import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import type { Plan, TensorFile, WgslArtifact } from "../../backends/wgsl/artifact.ts";
import { openFile, writeFileAtomically } from "./files.ts";
import { readHeader, writeSafetensors } from "./safetensors.ts";

const chunkBytes = 2 ** 22; // what a browser holds at least until it is confirmed

/**
 * Writes the files of a WebGPU artefact to `folder`, weights streamed, and plan.json last: whoever sees it sees what it
 * names. `tamis` is the version that it states. Gives the names of the files. Fails with `file-unwritable`.
 */
export async function writeWebGpu(artifact: WgslArtifact, folder: string, tamis: string): Promise<readonly string[]> {
  await writeFileAtomically(join(folder, "kernels.wgsl"), artifact.kernels);
  const constants = await writeTensors(join(folder, "constants.safetensors"), artifact.constants);
  const weights = await writeTensors(join(folder, "weights.safetensors"), artifact.weights);
  const kernelsSha256 = createHash("sha256").update(artifact.kernels).digest("hex");
  const plan: Plan = artifact.plan({ tamis, kernelsSha256, constants, weights });
  await writeFileAtomically(join(folder, "plan.json"), `${JSON.stringify(plan)}\n`);
  return [
    "kernels.wgsl",
    ...(constants === null ? [] : ["constants.safetensors"]),
    ...(weights === null ? [] : ["weights.safetensors"]),
    "plan.json",
  ];
}

async function writeTensors(
  path: string,
  entries: WgslArtifact["weights"] | WgslArtifact["constants"],
): Promise<TensorFile | null> {
  if (entries.length === 0) return null;
  await writeSafetensors(path, entries);
  const file = await openFile(path);
  try {
    const { dataStart, header } = await readHeader(file);
    const tensors = header.entries.map(({ name, dtype, shape, begin, end }) => ({
      name,
      dtype,
      shape,
      offset: dataStart + begin,
      bytes: end - begin,
    }));
    return { bytes: file.size, chunkBytes, sha256: await chunkHashes(path), tensors };
  } finally {
    await file.close();
  }
}

async function chunkHashes(path: string): Promise<readonly string[]> {
  const hashes: string[] = [];
  let hash = createHash("sha256");
  let filled = 0;
  const finish = (): void => {
    hashes.push(hash.digest("hex"));
    hash = createHash("sha256");
    filled = 0;
  };
  for await (const part of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>)
    for (let at = 0; at < part.length; ) {
      const taken = part.subarray(at, at + chunkBytes - filled);
      hash.update(taken);
      at += taken.length;
      filled += taken.length;
      if (filled === chunkBytes) finish();
    }
  if (filled > 0) finish();
  return hashes;
}
