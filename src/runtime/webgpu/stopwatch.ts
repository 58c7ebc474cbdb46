// Times of dispatches, taken by the device itself: two timestamps around a pass of its own for each.
import { compileError } from "../../ir/diagnostic.ts";
import { type Ledger, usage } from "./ledger.ts";

const passesPerSet = 2048; // WebGPU's limit is 4096 queries in a set
const bytesPerStamp = 8;

export class Stopwatch {
  readonly #ledger: Ledger;
  readonly #sets: readonly GPUQuerySet[];
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #passes: number;

  private constructor(ledger: Ledger, passes: number, resolved: GPUBuffer, staging: GPUBuffer) {
    this.#ledger = ledger;
    this.#passes = passes;
    this.#resolved = resolved;
    this.#staging = staging;
    this.#sets = Array.from({ length: Math.ceil(passes / passesPerSet) }, () =>
      ledger.device.createQuerySet({ type: "timestamp", count: 2 * passesPerSet }),
    );
  }

  /** Fails with `not-available` where the device has no timestamps. */
  static async start(ledger: Ledger, passes: number): Promise<Stopwatch> {
    if (!ledger.device.features.has("timestamp-query"))
      throw compileError("not-available", "this WebGPU device has no timestamp-query, so kernels cannot be timed");
    const bytes = 2 * passes * bytesPerStamp;
    const resolved = await ledger.create(bytes, usage.queryResolve | usage.copySource, "times of kernels");
    try {
      const staging = await ledger.create(bytes, usage.mapRead | usage.copyTarget, "times of kernels");
      return new Stopwatch(ledger, passes, resolved, staging);
    } catch (error) {
      ledger.destroy(resolved);
      throw error;
    }
  }

  /** For the descriptor of the pass with this number. */
  stamps(pass: number): GPUComputePassTimestampWrites {
    const querySet = this.#sets[Math.floor(pass / passesPerSet)] as GPUQuerySet;
    const at = 2 * (pass % passesPerSet);
    return { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** To be encoded behind the last pass. */
  resolve(encoder: GPUCommandEncoder): void {
    this.#sets.forEach((set, k) => {
      const count = 2 * Math.min(passesPerSet, this.#passes - k * passesPerSet);
      encoder.resolveQuerySet(set, 0, count, this.#resolved, 2 * k * passesPerSet * bytesPerStamp);
    });
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 2 * this.#passes * bytesPerStamp);
  }

  /** Nanoseconds of each pass, once the work is submitted; 0 where the clock stood still. */
  async read(): Promise<readonly number[]> {
    await this.#staging.mapAsync(1 /* GPUMapMode.READ */);
    const stamps = new BigUint64Array(this.#staging.getMappedRange(0, 2 * this.#passes * bytesPerStamp));
    const times = Array.from({ length: this.#passes }, (_, k) => {
      const [from = 0n, to = 0n] = stamps.subarray(2 * k, 2 * k + 2);
      return to > from ? Number(to - from) : 0;
    });
    this.#staging.unmap();
    return times;
  }

  destroy(): void {
    for (const set of this.#sets) set.destroy();
    this.#ledger.destroy(this.#resolved);
    this.#ledger.destroy(this.#staging);
  }
}
