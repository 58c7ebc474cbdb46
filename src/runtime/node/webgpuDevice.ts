// WebGPU in Node: Dawn through the npm package `webgpu`; a hardware adapter first, else SwiftShader, the software adapter
// that the npm package @sparticuz/chromium carries.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, homedir } from "node:os";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { compileError } from "../../ir/diagnostic.ts";

export interface NodeDevice {
  readonly device: GPUDevice;
  readonly adapter: { readonly name: string; readonly vendor: string; readonly software: boolean };
  /** What was looked for and found, in order. */
  readonly reasons: readonly string[];
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
  const hardware =
    process.env["TAMIS_SOFTWARE_ADAPTER"] === "1"
      ? undefined
      : await tryAdapter(dawn, reasons, "a Vulkan driver of the system");
  if (hardware !== undefined) return hardware;
  if (prepareSwiftShader(reasons)) {
    const software = await tryAdapter(dawn, reasons, "SwiftShader from @sparticuz/chromium");
    if (software !== undefined) return software;
  }
  throw compileError("no-adapter", `no WebGPU adapter: ${reasons.join("; ")}`, {
    help: "install a Vulkan driver, or the npm package @sparticuz/chromium for the software adapter",
  });
}

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

async function tryAdapter(dawn: Dawn, reasons: string[], what: string): Promise<NodeDevice | undefined> {
  // The object that create() returns keeps the process alive: it is held here alone and dropped on close.
  let gpu: GPU | undefined = dawn.create([]);
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (adapter === null) {
    reasons.push(`${what}: none found`);
    return undefined;
  }
  const { limits, info } = adapter;
  const device = await adapter.requestDevice({
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    },
    requiredFeatures: (["timestamp-query"] as const).filter((feature) => adapter.features.has(feature)),
  });
  const name = info.device || info.description || "unknown";
  reasons.push(`${what}: ${name}`);
  return {
    device,
    adapter: {
      name,
      vendor: info.vendor,
      software: /swiftshader|llvmpipe|lavapipe/i.test(`${name} ${info.description}`),
    },
    reasons,
    close() {
      device.destroy();
      gpu = undefined;
    },
  };
}

/** Unpacks SwiftShader to the cache folder once and makes Dawn's Vulkan loader find it. */
function prepareSwiftShader(reasons: string[]): boolean {
  const archive = swiftShaderArchive();
  if (archive === undefined) {
    reasons.push("SwiftShader: the npm package @sparticuz/chromium is not installed");
    return false;
  }
  const folder = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tamis", "swiftshader");
  try {
    if (!existsSync(join(folder, "vk_swiftshader_icd.json"))) unpack(archive, folder);
  } catch (error) {
    reasons.push(
      `SwiftShader: cannot be unpacked to ${folder}: ${error instanceof Error ? error.message : String(error)}`,
    );
    return false;
  }
  process.env["VK_DRIVER_FILES"] = join(folder, "vk_swiftshader_icd.json");
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
  mkdirSync(fresh, { recursive: true });
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
  rmSync(folder, { recursive: true, force: true });
  try {
    renameSync(fresh, folder);
  } catch {
    rmSync(fresh, { recursive: true, force: true }); // another process was quicker
  }
}

const text = (header: Uint8Array, at: number, length: number): string =>
  Buffer.from(header.subarray(at, at + length))
    .toString("latin1")
    .replace(/\0.*$/s, "");
