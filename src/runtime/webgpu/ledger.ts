// The GPU buffers of one device: made here, counted here, and refused here with a diagnostic.
import { compileError, InternalError } from "../../ir/diagnostic.ts";

/** GPUBufferUsage: the constants are globals of a browser but not of Node. */
export const usage = {
  mapRead: 1,
  copySource: 4,
  copyTarget: 8,
  uniform: 64,
  storage: 128,
  queryResolve: 512,
} as const;

/** What kernels read and write, and what is copied to and from. */
export const storageUsage = usage.storage | usage.copyTarget | usage.copySource;

/** Live GPU buffers of a device that sessions and tensors made. */
export interface Allocations {
  readonly buffers: number;
  readonly bytes: number;
  /** Of `bytes`, what no tensor uses now and the next one of that size takes. */
  readonly spareBytes: number;
}

const mostSpareBytes = 64 * 2 ** 20; // kept of given-up tensors, so that a loop allocates nothing
const lossMs = 250; // within which a device says that it is lost, after something failed for that reason

const ledgers = new WeakMap<GPUDevice, Ledger>();

/** The ledger of a device, the same for every session on it. */
export function ledgerOf(device: GPUDevice): Ledger {
  const known = ledgers.get(device);
  if (known !== undefined) return known;
  const ledger = new Ledger(device);
  ledgers.set(device, ledger);
  return ledger;
}

export class Ledger {
  readonly device: GPUDevice;
  readonly #sizes = new Map<GPUBuffer, number>();
  /** Given up and not destroyed, longest first. */
  readonly #spare = new Set<GPUBuffer>();
  #bytes = 0;
  #spareBytes = 0;
  #loss: string | undefined;

  constructor(device: GPUDevice) {
    this.device = device;
    // The device owns this promise: a strong reference here would keep the device alive for ever.
    const weak = new WeakRef(this);
    void device.lost.then(({ reason, message }) => {
      const ledger = weak.deref();
      if (ledger !== undefined) ledger.#lose(message === "" ? reason : message);
    });
  }

  /** Why the device was lost; undefined while it is there. */
  get loss(): string | undefined {
    return this.#loss;
  }

  /** The same, for one whose work has just failed: waits until the device says why, but not for long. */
  async lossSoon(): Promise<string | undefined> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, lossMs);
    });
    await Promise.race([this.device.lost, patience]);
    clearTimeout(timer);
    return this.#loss;
  }

  get allocations(): Allocations {
    return { buffers: this.#sizes.size, bytes: this.#bytes, spareBytes: this.#spareBytes };
  }

  /**
   * A buffer of at least `bytes`. Fails with `device-limit` where no buffer of this device may be so large, and with
   * `out-of-memory` where it has no room. `purpose` ends up in the message: "parameter head.weight".
   */
  async create(bytes: number, use: GPUBufferUsageFlags, purpose: string): Promise<GPUBuffer> {
    const size = sizeFor(bytes);
    const { maxBufferSize } = this.device.limits;
    if (size > maxBufferSize) throw pastLimit(purpose, size, maxBufferSize, "in one buffer");
    let buffer = await this.#tryCreate(size, use, purpose);
    if (buffer === undefined && this.#spare.size > 0) {
      this.dropSpare();
      buffer = await this.#tryCreate(size, use, purpose);
    }
    if (buffer === undefined)
      throw compileError(
        "out-of-memory",
        `the device has no room for the ${size} bytes of ${purpose}; ${this.#sizes.size} buffers with ${this.#bytes} bytes are in use`,
        { help: "run a smaller batch, dispose of tensors and sessions that are done with, or use a smaller dtype" },
      );
    this.#sizes.set(buffer, size);
    this.#bytes += size;
    return buffer;
  }

  /** Frees a buffer; once is enough, twice does no harm. */
  destroy(buffer: GPUBuffer): void {
    const size = this.#sizes.get(buffer);
    if (size === undefined) return;
    if (this.#spare.delete(buffer)) this.#spareBytes -= size;
    this.#sizes.delete(buffer);
    this.#bytes -= size;
    buffer.destroy();
  }

  /** Memory for a tensor: one given up before, where there is one of that size. Contents are what they were. */
  async take(bytes: number, purpose: string): Promise<GPUBuffer> {
    const size = sizeFor(bytes);
    this.checkBinding(size, purpose);
    for (const buffer of this.#spare)
      if (buffer.size === size) {
        this.#spare.delete(buffer);
        this.#spareBytes -= size;
        return buffer;
      }
    return this.create(bytes, storageUsage, purpose);
  }

  /** Gives a tensor's memory up: kept for the next tensor, within reason. */
  give(buffer: GPUBuffer): void {
    const size = this.#sizes.get(buffer);
    if (size === undefined || this.#spare.has(buffer)) return;
    this.#spare.add(buffer);
    this.#spareBytes += size;
    for (const oldest of this.#spare) {
      if (this.#spareBytes <= mostSpareBytes) break;
      this.destroy(oldest);
    }
  }

  /** Frees what no tensor uses. */
  dropSpare(): void {
    for (const buffer of this.#spare) this.destroy(buffer);
  }

  #lose(reason: string): void {
    this.#loss = reason;
    this.#sizes.clear();
    this.#spare.clear();
    this.#bytes = 0;
    this.#spareBytes = 0;
  }

  /** Fails with `device-limit` where a kernel of this device cannot bind so many bytes at once. */
  checkBinding(bytes: number, purpose: string): void {
    const { maxStorageBufferBindingSize } = this.device.limits;
    if (bytes > maxStorageBufferBindingSize)
      throw pastLimit(purpose, bytes, maxStorageBufferBindingSize, "in one binding of a kernel");
  }

  async #tryCreate(size: number, use: GPUBufferUsageFlags, purpose: string): Promise<GPUBuffer | undefined> {
    const { device } = this;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    const buffer = device.createBuffer({ size, usage: use, label: purpose });
    const [full, invalid] = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
    if (invalid !== null)
      throw new InternalError(`WebGPU refused a buffer of ${size} bytes for ${purpose}: ${invalid.message}`);
    if (full === null) return buffer;
    buffer.destroy();
    return undefined;
  }
}

/** WebGPU wants whole words; a binding of nothing is refused. */
const sizeFor = (bytes: number): number => Math.max(16, Math.ceil(bytes / 4) * 4);

const pastLimit = (purpose: string, bytes: number, limit: number, where: string) =>
  compileError("device-limit", `${purpose} needs ${bytes} bytes, the device allows ${limit} ${where}`, {
    help: "run a smaller batch, a smaller model, or a device with larger limits",
  });

/** Fails with `device-lost`, saying what is gone with the device. */
export const deviceLost = (what: string, why: string, help: string) =>
  compileError("device-lost", `${what} is gone: the WebGPU device was lost (${why})`, { help });
