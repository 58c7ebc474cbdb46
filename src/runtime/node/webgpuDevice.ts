// WebGPU in Node: Dawn through the npm package `webgpu`; a hardware adapter first, else SwiftShader, the software adapter
// that the npm package @sparticuz/chromium carries.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { compileError } from "../../ir/diagnostic.ts";

/** A WebGPU device of this process; it keeps Node alive until it is closed. */
export interface NodeDevice {
  /** The device in use; another one after a loss and `reopen`. */
  readonly device: GPUDevice;
  readonly adapter: { readonly name: string; readonly vendor: string; readonly software: boolean };
  /** What was looked for and found, in order. */
  readonly reasons: readonly string[];
  /** The device in use, or another one where it was lost. Fails with `device-lost` where none can be had, or after `close`. */
  reopen(): Promise<GPUDevice>;
  /** Frees the device and lets the process end. */
  close(): void;
}

interface Dawn {
  create(flags: string[]): GPU;
}

const noDelete = 0x1000; // RTLD_NODELETE, absent from os.constants.dlopen
const requireHere = createRequire(import.meta.url);

/** The best adapter at hand; `no-adapter` with everything that was tried where there is none. */
export async function openWebGpu(): Promise<NodeDevice> {
  const reasons: string[] = [];
  const dawn = await loadDawn();
  const hardware = systemHasVulkan(reasons)
    ? await tryAdapter(dawn, reasons, "a Vulkan driver of the system")
    : undefined;
  if (hardware !== undefined) return hardware;
  if (prepareSwiftShader(reasons)) {
    const software = await tryAdapter(dawn, reasons, "SwiftShader from @sparticuz/chromium");
    if (software !== undefined) return software;
  }
  throw compileError("no-adapter", `no WebGPU adapter: ${reasons.join("; ")}`, {
    help: "install a Vulkan driver, or the npm package @sparticuz/chromium for the software adapter",
  });
}

/**
 * Lets a library of this process that carries a Dawn of its own find an adapter: a hardware one of the system where
 * `failure`, tried in a process of its own, finds that to work, else SwiftShader. Gives what was looked for. To be called
 * before that library looks, since a Dawn looks for drivers once; and ours stays out of it, since two Dawns on
 * SwiftShader in one process now and then end it.
 */
export async function prepareAdapter(failure: () => Promise<string | undefined>): Promise<readonly string[]> {
  const reasons: string[] = [];
  if (systemHasVulkan(reasons)) {
    const reason = await failure();
    reasons.push(`a Vulkan driver of the system: ${reason ?? "works"}`);
    if (reason === undefined) return reasons;
  }
  if (prepareSwiftShader(reasons)) reasons.push("SwiftShader from @sparticuz/chromium");
  return reasons;
}

/** The environment of a process that shall find the adapter that this one prepared. */
export function adapterEnvironment(): NodeJS.ProcessEnv {
  if (!usesSwiftShader()) return process.env;
  const libraries = [swiftShaderFolder(), process.env["LD_LIBRARY_PATH"]].filter((path) => path !== undefined);
  return { ...process.env, LD_LIBRARY_PATH: libraries.join(delimiter) };
}

/** Whether to look for a driver of the system at all: without a loader for it, Dawn would only print a warning. */
function systemHasVulkan(reasons: string[]): boolean {
  if (process.env["TAMIS_SOFTWARE_ADAPTER"] === "1") {
    reasons.push("TAMIS_SOFTWARE_ADAPTER=1 asks for the software adapter");
    return false;
  }
  if (usesSwiftShader()) return false; // this process settled on it before
  if (process.platform !== "linux") return true;
  try {
    process.dlopen({ exports: {} }, "libvulkan.so.1", constants.dlopen.RTLD_NOW | noDelete);
  } catch (error) {
    // A library that was found is no Node addon and says so.
    if (!(error instanceof Error) || error.message.includes("self-register")) return true;
    reasons.push(`a Vulkan driver of the system: ${error.message}`);
    return false;
  }
  return true;
}

const nameOf = ({ device, description }: GPUAdapterInfo): string => device || description || "unknown";

async function loadDawn(): Promise<Dawn> {
  try {
    return (await import("webgpu")) as unknown as Dawn;
  } catch (error) {
    throw compileError(
      "missing-dependency",
      `the npm package webgpu cannot be loaded: ${error instanceof Error ? error.message : String(error)}`,
      {
        help: "npm install webgpu",
      },
    );
  }
}

/** Exact times for `profile`; a browser rounds them for privacy. */
const dawnFlags = ["disable-dawn-features=timestamp_quantization"];

async function tryAdapter(dawn: Dawn, reasons: string[], what: string): Promise<NodeDevice | undefined> {
  // The object that create() returns keeps the process alive: it is held here alone and dropped on close.
  let gpu: GPU | undefined = dawn.create(dawnFlags);
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (adapter === null) {
    reasons.push(`${what}: none found`);
    return undefined;
  }
  const { info } = adapter;
  const name = nameOf(info);
  reasons.push(`${what}: ${name}`);
  let current = await requestDevice(adapter);
  let reopening: Promise<GPUDevice> | undefined;
  const reopen = async (): Promise<GPUDevice> => {
    const again = await gpu?.requestAdapter().catch(() => null);
    if (gpu === undefined || again === undefined || again === null)
      throw compileError(
        "device-lost",
        `${name} was lost and ${gpu === undefined ? "then closed" : "is not found again"}`,
        {
          help: "open WebGPU again, or see `tamis devices`",
        },
      );
    current = await requestDevice(again);
    return current.device;
  };
  return {
    get device() {
      return current.device;
    },
    adapter: {
      name,
      vendor: info.vendor,
      software: /swiftshader|llvmpipe|lavapipe/i.test(`${name} ${info.description}`),
    },
    reasons,
    async reopen() {
      if (gpu !== undefined && !current.isLost()) return current.device;
      reopening ??= reopen().finally(() => {
        reopening = undefined;
      });
      return reopening;
    },
    close() {
      current.device.destroy();
      gpu = undefined;
    },
  };
}

/** A device with its adapter's own limits: the default ones are small. */
async function requestDevice(adapter: GPUAdapter): Promise<{ readonly device: GPUDevice; isLost(): boolean }> {
  const { limits } = adapter;
  const device = await adapter.requestDevice({
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    },
    requiredFeatures: (["timestamp-query", "subgroups"] as const).filter((feature) => adapter.features.has(feature)),
  });
  let lost = false;
  void device.lost.then(() => {
    lost = true;
  });
  return { device, isLost: () => lost };
}

/** Unpacks SwiftShader to the cache folder once and makes Dawn's Vulkan loader find it. */
function prepareSwiftShader(reasons: string[]): boolean {
  const archive = swiftShaderArchive();
  if (archive === undefined) {
    reasons.push("SwiftShader: the npm package @sparticuz/chromium is not installed");
    return false;
  }
  const folder = swiftShaderFolder();
  try {
    if (!existsSync(swiftShaderDriver())) unpack(archive, folder);
  } catch (error) {
    reasons.push(
      `SwiftShader: cannot be unpacked to ${folder}, below XDG_CACHE_HOME or HOME: ${error instanceof Error ? error.message : String(error)}`,
    );
    return false;
  }
  process.env["VK_DRIVER_FILES"] = swiftShaderDriver();
  const { RTLD_NOW, RTLD_GLOBAL } = constants.dlopen;
  try {
    process.dlopen({ exports: {} }, join(folder, "libvulkan.so.1"), RTLD_NOW | RTLD_GLOBAL | noDelete);
  } catch (error) {
    // It is no Node addon and says so, but stays loaded, which is all that Dawn needs.
    if (!(error instanceof Error) || !error.message.includes("self-register")) {
      reasons.push(
        `SwiftShader: its Vulkan loader cannot be opened: ${error instanceof Error ? error.message : String(error)}`,
      );
      return false;
    }
  }
  return true;
}

const swiftShaderFolder = (): string =>
  join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tamis", "swiftshader");

const swiftShaderDriver = (): string => join(swiftShaderFolder(), "vk_swiftshader_icd.json");
const usesSwiftShader = (): boolean => process.env["VK_DRIVER_FILES"] === swiftShaderDriver();

function swiftShaderArchive(): string | undefined {
  try {
    const entry = requireHere.resolve("@sparticuz/chromium");
    for (let folder = dirname(entry); folder !== dirname(folder); folder = dirname(folder)) {
      const path = join(folder, "bin", "swiftshader.tar.br");
      if (existsSync(path)) return path;
    }
  } catch {
    return undefined; // not installed: the caller says so
  }
  return undefined;
}

const blockBytes = 512; // of a tar archive

/** Writes the plain files of a small brotli-compressed tar; into a fresh folder first, then renamed. */
function unpack(archive: string, folder: string): void {
  const tar = brotliDecompressSync(readFileSync(archive));
  const fresh = `${folder}.${process.pid}`;
  makeFolder(fresh);
  for (let at = 0; at + blockBytes <= tar.length; ) {
    const header = tar.subarray(at, at + blockBytes);
    const name = text(header, 0, 100);
    if (name === "") break;
    const size = Number.parseInt(text(header, 124, 12).trim(), 8);
    const plain = [0, 0x30].includes(header[156] as number); // type flag: a plain file
    at += blockBytes;
    if (plain && /^(\.\/)?[\w.-]+$/.test(name))
      writeFileSync(join(fresh, name.replace(/^\.\//, "")), tar.subarray(at, at + size));
    at += Math.ceil(size / blockBytes) * blockBytes;
  }
  try {
    renameSync(fresh, folder);
  } catch (error) {
    // Another process was quicker, and may be loading from there by now.
    rmSync(fresh, { recursive: true, force: true });
    if (!existsSync(swiftShaderDriver())) throw error;
  }
}

/** As `mkdir -p`. Node's own `recursive` never returns where a file system refuses new names, as /proc does. */
function makeFolder(folder: string): void {
  const missing: string[] = [];
  for (let at = folder; !existsSync(at); at = dirname(at)) missing.push(at);
  for (const path of missing.toReversed())
    try {
      mkdirSync(path);
    } catch (error) {
      if (!existsSync(path)) throw error; // else another process made it
    }
}

const text = (header: Uint8Array, at: number, length: number): string =>
  Buffer.from(header.subarray(at, at + length))
    .toString("latin1")
    .replace(/\0.*$/s, "");
