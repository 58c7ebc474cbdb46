// Tensors that lie on a device: inputs uploaded once, and outputs that the next session reads without a round trip.
import { compileError } from "../../ir/diagnostic.ts";
import { type DType, elementsOf, formatType, type TensorData } from "../../ir/type.ts";
import { deviceLost, type Ledger, ledgerOf, usage } from "./ledger.ts";
import { bytesPerWord, fromWords, toWords } from "./words.ts";

/** Why a tensor's memory is no longer its own. */
type End = "disposed" | "donated";

// A tensor that was forgotten gives its memory back when it is collected.
const forgotten = new FinalizationRegistry<{ readonly ledger: Ledger; readonly buffer: GPUBuffer }>(
  ({ ledger, buffer }) => ledger.give(buffer),
);

/**
 * A tensor in the memory of a WebGPU device, row-major, 32 bits an element. Any session on the same device takes it as
 * an input. Its memory is its own until it is disposed of or donated to a run.
 */
export class DeviceTensor implements Disposable {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly #ledger: Ledger;
  readonly #buffer: GPUBuffer;
  #end: End | undefined;

  /** Takes over `buffer`, which `ledger` has counted. Made by sessions and `uploadTensor`. */
  constructor(ledger: Ledger, buffer: GPUBuffer, dtype: DType, shape: readonly number[]) {
    this.#ledger = ledger;
    this.#buffer = buffer;
    this.dtype = dtype;
    this.shape = shape;
    forgotten.register(this, { ledger, buffer }, this);
  }

  get device(): GPUDevice {
    return this.#ledger.device;
  }

  /** Bytes on the device. */
  get byteLength(): number {
    return elementsOf(this.shape) * bytesPerWord;
  }

  /** The memory, for work outside Tamis on the same device; may be larger than the tensor. Fails as `read` does. */
  get buffer(): GPUBuffer {
    this.#expectLive(formatType(this));
    return this.#buffer;
  }

  /** The contents, once every run given before has ended. Fails with `bad-input` after its end, and `device-lost`. */
  async read(): Promise<TensorData> {
    this.#expectLive(formatType(this));
    const { dtype, shape, byteLength: bytes } = this;
    if (bytes === 0) return fromWords(dtype, shape, new ArrayBuffer(0));
    const { device } = this;
    const staging = await this.#ledger.create(bytes, usage.mapRead | usage.copyTarget, "reading a tensor back");
    try {
      this.#expectLive(formatType(this));
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(this.#buffer, 0, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(1 /* GPUMapMode.READ */);
      return fromWords(dtype, shape, staging.getMappedRange(0, bytes).slice(0));
    } catch (error) {
      const loss = await this.#ledger.lossSoon();
      throw loss === undefined ? error : lostTensor(formatType(this), loss);
    } finally {
      this.#ledger.destroy(staging);
    }
  }

  /** Gives the memory back; safe to call twice, and after a donation. */
  dispose(): void {
    if (this.#end !== undefined) return;
    this.#finish("disposed");
    this.#ledger.give(this.#buffer);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The memory, for a run on `ledger`'s device as its input `name`. Fails with `bad-input` and `device-lost`. */
  lend(ledger: Ledger, name: string): GPUBuffer {
    this.#expectLive(`input ${name}`);
    if (ledger !== this.#ledger)
      throw compileError("bad-input", `input ${name} lies on another device than the session`, {
        help: "open both sessions on one device, or give what read() gives",
      });
    return this.#buffer;
  }

  /** The same, for good: the tensor is over and the caller owns the memory. */
  surrender(ledger: Ledger, name: string): GPUBuffer {
    const buffer = this.lend(ledger, name);
    this.#finish("donated");
    return buffer;
  }

  #finish(end: End): void {
    this.#end = end;
    forgotten.unregister(this);
  }

  #expectLive(what: string): void {
    if (this.#end === "disposed") throw compileError("bad-input", `${what} was disposed of`);
    if (this.#end === "donated")
      throw compileError("bad-input", `${what} was donated to an earlier run, whose output has its memory now`, {
        help: "go on with that run's output",
      });
    const { loss } = this.#ledger;
    if (loss !== undefined) throw lostTensor(what, loss);
  }
}

const lostTensor = (what: string, why: string) =>
  deviceLost(what, why, "upload it again, or run again what computed it");

/** Puts a tensor on a device, where it stays until it is disposed of. Fails with `out-of-memory` and `device-limit`. */
export async function uploadTensor(device: GPUDevice, contents: TensorData): Promise<DeviceTensor> {
  const { dtype, shape, values } = contents;
  if (elementsOf(shape) !== values.length)
    throw compileError("bad-input", `${formatType(contents)} has ${values.length} elements`);
  const ledger = ledgerOf(device);
  const words = toWords(contents);
  const buffer = await ledger.take(words.byteLength, formatType(contents));
  if (words.byteLength > 0) device.queue.writeBuffer(buffer, 0, words);
  return new DeviceTensor(ledger, buffer, dtype, [...shape]);
}
