import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { emitWgslArtifact } from "../../../src/backends/wgsl/artifact.ts";
import type { WgslOptions } from "../../../src/backends/wgsl/index.ts";
import type { Model } from "../../../src/ir/graph.ts";
import { writeWebGpu } from "../../../src/runtime/node/index.ts";

/** A folder as the command line writes it, as far as running needs it, for a software adapter. */
export async function writeArtifactFolder(
  folder: string,
  model: Model,
  name: string,
  options: WgslOptions = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const artifact = emitWgslArtifact(model, { device: { storageBuffers: 8, software: true }, ...options });
  const names = await writeWebGpu(artifact, folder, "0.0.0");
  await writeManifest(folder, names, { name });
}

/** manifest.json with the sizes and hashes of the files as they are now. */
export async function writeManifest(folder: string, names: readonly string[], rest: object = {}): Promise<void> {
  const described = names.map(async (file) => {
    const bytes = await readFile(join(folder, file));
    return [file, { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") }] as const;
  });
  const files = Object.fromEntries(await Promise.all(described));
  const manifest = { format: 1, tamis: "0.0.0", name: "m", target: "webgpu", inputs: [], pictures: {}, labels: [] };
  await writeFile(join(folder, "manifest.json"), JSON.stringify({ ...manifest, files, ...rest }));
}
