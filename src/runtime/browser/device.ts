import { compileError } from "../../ir/diagnostic.ts";

/** A WebGPU device of this page, which models may share. */
export interface BrowserDevice {
  readonly device: GPUDevice;
  /** For people: what the browser tells of it. */
  readonly adapter: string;
  /** Threads are emulated: models compiled with --profile software run faster. */
  readonly software: boolean;
}

interface Page {
  readonly navigator?: { readonly gpu?: GPU };
  readonly isSecureContext?: boolean;
  readonly location?: { readonly origin: string };
}

/** Features that kernels may use; a device has those of them that its adapter has. */
const usefulFeatures = ["shader-f16", "subgroups", "timestamp-query"] as const satisfies readonly GPUFeatureName[];

/** A device of this browser, with all of its adapter's limits. Several models may share it. Fails with `no-adapter`. */
export async function openDevice(): Promise<BrowserDevice> {
  const adapter = await findAdapter();
  const { limits, info, features } = adapter;
  const device = await adapter.requestDevice({
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    },
    requiredFeatures: usefulFeatures.filter((feature) => features.has(feature)),
  });
  const words = [info.vendor, info.architecture, info.description].filter((word) => word !== "");
  const name = words.join(" ") || "WebGPU";
  return { device, adapter: name, software: info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(name) };
}

async function findAdapter(): Promise<GPUAdapter> {
  const { navigator, isSecureContext, location } = globalThis as Page;
  const gpu = navigator?.gpu;
  if (gpu === undefined && isSecureContext === false)
    throw compileError("no-adapter", `a page of ${location?.origin ?? "http"} gets no WebGPU`, {
      help: "serve it over https, or from localhost",
    });
  if (gpu === undefined)
    throw compileError("no-adapter", "this browser has no WebGPU: navigator.gpu is not there", {
      help: "use a current Chrome, Edge, Firefox or Safari; where they have it switched off, chrome://flags/#enable-unsafe-webgpu or about:config dom.webgpu.enabled turns it on",
    });
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (adapter !== null) return adapter;
  throw compileError("no-adapter", "this browser has WebGPU but finds no adapter for it", {
    help: "switch hardware acceleration on in its settings, or update the graphics driver; chrome://gpu says what is blocked",
  });
}
