// Dawn where browser libraries look for WebGPU: `navigator.gpu` and the flag constants as globals.

interface Dawn {
  create(flags: string[]): GPU;
  readonly globals: Readonly<Record<string, unknown>>;
}

export interface Installed {
  /** Of the adapter that the library asked for last. */
  readonly adapter: () => string;
  /** Takes Dawn away again, without which Node does not end. */
  remove(): void;
}

/** The parent set VK_DRIVER_FILES where the adapter is the software one. */
export async function installNavigator(): Promise<Installed> {
  const dawn = (await import("webgpu")) as unknown as Dawn;
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create([]);
  let name = "none";
  const observed = {
    async requestAdapter(options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
      const adapter = await gpu.requestAdapter(options);
      if (adapter !== null) name = adapter.info.device || adapter.info.description;
      return adapter;
    },
    getPreferredCanvasFormat: () => "bgra8unorm",
    wgslLanguageFeatures: gpu.wgslLanguageFeatures,
  };
  const define = (value: unknown): void =>
    void Object.defineProperty(globalThis, "navigator", { value, configurable: true, writable: true });
  define({ gpu: observed, userAgent: "Node", platform: "Linux", language: "en" });
  return { adapter: () => name, remove: () => define(undefined) };
}
