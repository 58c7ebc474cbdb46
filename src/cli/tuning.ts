// Measured tiles for the commands that use them.
import { dirname } from "node:path";
import {
  CompileError,
  type DeviceProfile,
  defaultTuning,
  formatTuning,
  type Graph,
  isTunable,
  kernelKey,
  parseTuning,
  scheduleKernels,
  type Tuning,
  type TuningChoices,
} from "../index.ts";
import {
  type NodeDevice,
  readTuningFile,
  startOf,
  type TunedAdapter,
  tunedAdapter,
  tuningPath,
  writeFileAtomically,
} from "../runtime/node/index.ts";
import { makeFolder } from "./artifact.ts";
import { registry } from "./registry.ts";
import { say } from "./terminal.ts";
import { version } from "./version.ts";

/** Choices of a file that the user names. Fails with `bad-tuning` and as reading a file does. */
export const readChoices = async (path: string, device: DeviceProfile): Promise<TuningChoices> =>
  parseTuning(await readTuningFile(path), device, startOf(path));

/**
 * What was measured on this adapter before; undefined where nothing was, or by another version, whose kernels are not
 * these. A file that cannot be used is told of and ignored.
 */
export async function cachedChoices(opened: NodeDevice, device: DeviceProfile): Promise<TuningChoices | undefined> {
  const path = tuningPath(tunedAdapter(opened));
  try {
    const file = await readTuningFile(path);
    if (versionOf(file) !== undefined && versionOf(file) !== version) return undefined;
    return parseTuning(file, device, startOf(path));
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    if (error.code !== "file-not-found")
      say(`tamis: measured tiles are ignored: ${error.message}; \`tamis bench tune\` writes them anew`);
    return undefined;
  }
}

const versionOf = (file: unknown): unknown =>
  typeof file === "object" && file !== null && "tamis" in file ? file.tamis : undefined;

/** Writes choices whole or not at all. */
export async function writeChoices(path: string, choices: TuningChoices, adapter: TunedAdapter): Promise<void> {
  await makeFolder(dirname(path));
  const { format, choices: entries } = formatTuning(choices);
  const file = { format, tamis: version, adapter, choices: entries };
  await writeFileAtomically(path, `${JSON.stringify(file, null, 2)}\n`);
}

/** How many of a graph's tunable kernels, by key, the choices are for. */
export function choicesUsed(graph: Graph, device: DeviceProfile, { gemm, attention }: TuningChoices): number {
  if (gemm.size + attention.size === 0) return 0;
  const { kernels } = scheduleKernels(graph, { device, registry });
  const keys = new Set(kernels.filter(isTunable).map(kernelKey));
  return [...keys].filter((key) => gemm.has(key) || attention.has(key)).length;
}

/** The default tiles of a device but for the kernels that have one of their own. */
export const withChoices = (device: DeviceProfile, choices: TuningChoices): Tuning => ({
  ...defaultTuning(device),
  choices,
});
