import { firstLine, providerFailure } from "./ortProbe.ts";
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

/** What `tamis devices` shows. */
export interface Devices {
  readonly webgpu: readonly WebgpuAdapter[];
  readonly onnx: readonly OnnxProvider[];
}

/** What can run a model on this machine, and why the rest cannot. */
export async function findDevices(): Promise<Devices> {
  const webgpu = await findAdapters();
  return { webgpu, onnx: await findProviders(webgpu) };
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

/** Looks after the adapters: ONNX Runtime's WebGPU provider finds what the WebGPU target found. */
async function findProviders(adapters: readonly WebgpuAdapter[]): Promise<readonly OnnxProvider[]> {
  let ort: typeof import("onnxruntime-node");
  try {
    ort = await import("onnxruntime-node");
  } catch (error) {
    const reason = `onnxruntime-node cannot be loaded: ${firstLine(error)}`;
    return ["cpu", "webgpu", "cuda"].map((name) => ({ name, available: false, reason }));
  }
  const version = versionOf(ort);
  const backends = ort.listSupportedBackends();
  const failures = await Promise.all(backends.map(({ name }) => providerFailure(name)));
  return backends.map(({ name, bundled }, i) => {
    const failure = failures[i];
    const on = name === "webgpu" ? adapters.find(({ available }) => available)?.name : undefined;
    if (failure === undefined)
      return { name, available: true, version, ...(on !== undefined && { reason: `ran a model on ${on}` }) };
    const reason = bundled ? failure : `${failure}; its libraries do not come with onnxruntime-node`;
    return { name, available: false, version, reason };
  });
}
