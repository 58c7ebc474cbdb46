import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { openWebGpu } from "./webgpuDevice.ts";

/** An execution provider of ONNX Runtime. */
export interface OnnxProvider {
  readonly name: string;
  readonly available: boolean;
  /** Of onnxruntime-node. */
  readonly version?: string;
  /** Why it is not there, or what is to know about it. */
  readonly reason?: string;
}

/** An adapter of the WebGPU target. */
export interface WebgpuAdapter {
  readonly name: string;
  readonly available: boolean;
  readonly reason?: string;
}

export interface Devices {
  readonly webgpu: readonly WebgpuAdapter[];
  readonly onnx: readonly OnnxProvider[];
}

/** What can run a model on this machine, and why the rest cannot. */
export async function findDevices(): Promise<Devices> {
  return { webgpu: await findAdapters(), onnx: await findProviders() };
}

/** The adapter that the WebGPU target would use, with what was looked for first. */
async function findAdapters(): Promise<readonly WebgpuAdapter[]> {
  try {
    const opened = await openWebGpu();
    const { adapter, reasons } = opened;
    opened.close();
    const kind = adapter.software ? "software adapter" : "hardware adapter";
    return [{ name: adapter.name, available: true, reason: `${kind}; ${reasons.join("; ")}` }];
  } catch (error) {
    return [{ name: "webgpu", available: false, reason: firstLine(error) }];
  }
}

/** Version of the ONNX Runtime that sessions run on. */
export const ortVersion = async (): Promise<string> => versionOf(await import("onnxruntime-node"));

const versionOf = ({ env }: typeof import("onnxruntime-node")): string => env.versions.node ?? env.versions.common;

async function findProviders(): Promise<readonly OnnxProvider[]> {
  let ort: typeof import("onnxruntime-node");
  try {
    ort = await import("onnxruntime-node");
  } catch (error) {
    const reason = `onnxruntime-node cannot be loaded: ${firstLine(error)}`;
    return ["cpu", "webgpu", "cuda"].map((name) => ({ name, available: false, reason }));
  }
  const version = versionOf(ort);
  const backends = ort.listSupportedBackends();
  const failures = await Promise.all(backends.map(({ name }) => tryProvider(name)));
  return backends.map(({ name, bundled }, i) => {
    const failure = failures[i];
    if (failure === undefined) return { name, available: true, version };
    const reason = bundled ? failure : `${failure}; its libraries do not come with onnxruntime-node`;
    return { name, available: false, version, reason };
  });
}

/**
 * Why a session cannot be made on a provider; undefined where it can. Asked in a process of its own: drivers write to
 * standard error, and a broken one may end the process.
 */
async function tryProvider(name: string): Promise<string | undefined> {
  const entry = import.meta.resolve("onnxruntime-node");
  try {
    await promisify(execFile)(process.execPath, ["--input-type=module", "-e", probe, entry, identityModel, name], {
      timeout: probeMs,
    });
    return undefined;
  } catch (error) {
    const { stdout = "", signal } = error as { readonly stdout?: string; readonly signal?: string | null };
    const said = stdout.trim().replace(/^.* was false\. /, "");
    return said !== "" ? said : signal ? `the probe was ended by ${signal}` : firstLine(error);
  }
}

const probeMs = 30_000; // a GPU's first start may take seconds
const probe = `
const [entry, model, provider] = process.argv.slice(1);
const { default: ort } = await import(entry);
try {
  const options = { executionProviders: [provider], logSeverityLevel: 4 };
  await (await ort.InferenceSession.create(Buffer.from(model, "base64"), options)).release();
} catch (error) {
  console.log(error.message.split("\\n")[0]);
  process.exitCode = 1;
}`;

const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";

/** The smallest ONNX file, in base64: y = Identity(x), f32[1], opset 17. */
const identityModel = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCAhAR";
