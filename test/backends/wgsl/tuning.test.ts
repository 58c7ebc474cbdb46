import { describe, expect, test } from "vitest";
import { candidateTiles } from "../../../src/backends/wgsl/candidates.ts";
import { type DeviceProfile, defaultTuning, emitWgsl, scheduleKernels } from "../../../src/backends/wgsl/index.ts";
import { isTunable, kernelKey } from "../../../src/backends/wgsl/kernelKey.ts";
import type { GemmTile, TuningChoices } from "../../../src/backends/wgsl/tuning.ts";
import { formatTuning, parseTuning } from "../../../src/backends/wgsl/tuningFile.ts";
import { CompileError } from "../../../src/ir/diagnostic.ts";
import { parseGraph } from "../../../src/ir/parse.ts";

const devices: Readonly<Record<string, DeviceProfile>> = {
  card: { storageBuffers: 8, software: false, workgroupBytes: 32_768 },
  "least card": { storageBuffers: 8, software: false },
  software: { storageBuffers: 8, software: true },
  "software with subgroups": { storageBuffers: 8, software: true, subgroupsOfFour: true },
};
const { card, software } = devices as { card: DeviceProfile; software: DeviceProfile };
const leastCard = devices["least card"] as DeviceProfile;
const fours = devices["software with subgroups"] as DeviceProfile;

const block = parseGraph(`
graph @block(%x: f32[batch,20,16], %w: f32[16,24], %v: f32[24,8], %q: f32[batch,2,20,16]) {
  %0 = reshape(%x) {shape=["20*batch",16]} : f32[20*batch,16]
  %1 = matmul(%0, %w) : f32[20*batch,24]
  %2 = matmul(%1, %v) : f32[20*batch,8]
  %3 = relu(%2) : f32[20*batch,8]
  %4 = attention(%q, %q, %q) {scale=0.25} : f32[batch,2,20,16]
  return y: %3, z: %4
}`);
const keys = [
  "gemm batch=1 m=20*batch n=24 k=16 f32",
  "gemm batch=1 m=20*batch n=8 k=24 f32",
  "attention heads=2 queries=20 keys=20 channels=16 values=16",
] as const;

const tile: GemmTile = { by: "thread", rows: 4, columns: 8, threads: [8, 8], depth: 4 };
const none: TuningChoices = { gemm: new Map(), attention: new Map() };

describe("the key of a kernel", () => {
  test("names its kind, sizes and register", () => {
    const { kernels } = scheduleKernels(block, { device: card });
    expect(kernels.filter(isTunable).map(kernelKey)).toEqual(keys);
  });
});

describe("a choice", () => {
  const emit = (choices: TuningChoices) => {
    const program = emitWgsl(
      { graph: block, weights: new Map() },
      { device: software, tuning: { ...defaultTuning(software), choices } },
    );
    return program.dispatches.map(({ shader }) => program.shaders[shader]);
  };

  test.each([
    ["a product", 0, { ...none, gemm: new Map([[keys[0], tile]]) }],
    ["attention", 2, { ...none, attention: new Map([[keys[2], { keys: 2, subgroup: false, staged: 0 }]]) }],
  ])("of %s changes the shader of that kernel alone", (_, at, choices: TuningChoices) => {
    const { kernels } = scheduleKernels(block, { device: software });
    const changed = kernels.findIndex((kernel) => isTunable(kernel) && kernelKey(kernel) === keys[at]);
    const [usual, chosen] = [emit(none), emit(choices)];
    expect(usual.flatMap((text, k) => (chosen[k] === text ? [] : [k]))).toEqual([changed]);
  });

  test("for another kernel changes nothing", () => {
    const other = new Map([[keys[0].replace("n=24", "n=25"), tile]]);
    expect(emit({ ...none, gemm: other })).toEqual(emit(none));
  });
});

describe.each(Object.entries(devices))("candidates of %s", (_name, device) => {
  const { gemm, attention } = candidateTiles(device);

  test("are a handful, all different", () => {
    for (const tiles of [gemm, attention]) {
      expect(tiles.length).toBeGreaterThanOrEqual(3);
      expect(tiles.length).toBeLessThanOrEqual(16);
      expect(new Set(tiles.map((t) => JSON.stringify(t))).size).toBe(tiles.length);
    }
  });

  test("are what a tuning file for the device may hold", () => {
    for (const t of gemm) {
      const { choices } = formatTuning({ ...none, gemm: new Map([[keys[0], t]]) });
      expect(parseTuning({ format: 1, choices }, device).gemm.get(keys[0])).toEqual(t);
    }
    for (const t of attention) {
      const { choices } = formatTuning({ ...none, attention: new Map([[keys[2], t]]) });
      expect(parseTuning({ format: 1, choices }, device).attention.get(keys[2])).toEqual(t);
    }
  });

  test("share by subgroups only where there are some of four threads", () => {
    const sharing = [...gemm.filter((t) => t.by === "subgroup"), ...attention.filter((t) => t.subgroup)];
    expect(sharing.length > 0).toBe(device.subgroupsOfFour === true);
  });
});

describe("a tuning file", () => {
  test("comes back as it was written, in the order of its keys", () => {
    const choices: TuningChoices = {
      gemm: new Map([keys[1], keys[0]].map((key) => [key, tile])),
      attention: new Map([[keys[2], { keys: 8, subgroup: false, staged: 16 }]]),
    };
    const file = formatTuning(choices);
    expect(file.choices.map(({ kernel }) => kernel)).toEqual([keys[2], keys[0], keys[1]]);
    expect(parseTuning(JSON.parse(JSON.stringify(file)), card)).toEqual(choices);
  });

  test("may hold fields that this version does not know", () => {
    const file = { format: 1, adapter: {}, choices: [{ kernel: keys[0], tile: { ...tile, colour: 1 }, ms: 2 }] };
    expect(parseTuning(file, card).gemm).toEqual(new Map([[keys[0], tile]]));
  });

  const gemm = (fields: object) => [{ kernel: keys[0], tile: { ...tile, ...fields } }];
  const attention = (fields: object) => [{ kernel: keys[2], tile: { keys: 4, subgroup: false, staged: 0, ...fields } }];
  const wide = keys[2].replace("channels=16 values=16", "channels=128 values=128");
  const refusals: readonly (readonly [file: unknown, message: RegExp, device?: DeviceProfile])[] = [
    [null, /the file is not an object/],
    [[], /the file is not an object/],
    [{}, /format is nothing, this version reads 1/],
    [{ format: 2, choices: [] }, /format is 2, this version reads 1/],
    [{ format: 1 }, /choices is not a list/],
    [{ format: 1, choices: Array(10_001).fill(null) }, /list of at most 10000/],
    [[null], /choices\[0\] is not an object/],
    [[{ kernel: 7, tile }], /choices\[0\].kernel is not a text/],
    [[{ kernel: keys[0] }], /choices\[0\].tile is not an object/],
    [[{ kernel: "__proto__", tile }], /"__proto__", which names no kernel/],
    [[{ kernel: `${keys[0]}\n}`, tile }], /names no kernel/],
    [[{ kernel: `gemm batch=${"1".repeat(1000)} m=1 n=1 k=1 f32`, tile }], /names no kernel/],
    [[...gemm({}), ...gemm({})], /choices\[1\]: gemm .* has a tile before/],
    [gemm({ by: "thread; }" }), /tile.by is "thread; }", wanted thread, subgroup or workgroup/],
    [gemm({ rows: 0 }), /tile.rows is 0, wanted a whole number from 1 to 32/],
    [gemm({ rows: 33 }), /tile.rows is 33/],
    [gemm({ rows: 1.5 }), /tile.rows is 1.5/],
    [gemm({ rows: "4" }), /tile.rows is "4"/],
    [gemm({ columns: 6 }), /tile.columns is 6, wanted a multiple of 4 from 4 to 32/],
    [gemm({ rows: 32, columns: 32 }), /1024 results a thread, the limit is 512/],
    [gemm({ depth: 7 }), /tile.depth is 7/],
    [gemm({ threads: 64 }), /tile.threads is not a pair/],
    [gemm({ threads: [8, 0] }), /tile.threads\[1\] is 0/],
    [gemm({ threads: [32, 16] }), /tile.threads are 512, wanted at most 256/],
    [gemm({ by: "subgroup" }), /shares by subgroups of four threads, which the device has not/],
    [gemm({ by: "subgroup", rows: 6 }), /tile.rows is 6, wanted a multiple of 4/, fours],
    [gemm({ by: "subgroup", threads: [3, 3] }), /tile.threads are 9, wanted at most 256, in fours/, fours],
    [gemm({ by: "workgroup", rows: 8, threads: [16, 16], depth: 64 }), /takes 65536 bytes .* the limit is 32768/],
    [gemm({ by: "workgroup", threads: [16, 16], depth: 32 }), /takes 24576 bytes .* is 16384/, leastCard],
    [attention({ keys: 0 }), /tile.keys is 0/],
    [attention({ keys: 17 }), /tile.keys is 17/],
    [attention({ subgroup: 1 }), /tile.subgroup is 1, wanted true or false/],
    [attention({ subgroup: true }), /shares by subgroups/],
    [attention({ staged: 6 }), /tile.staged is 6, wanted a multiple of 4 from 0 to 256/],
    [[{ kernel: wide, tile: { keys: 4, subgroup: false, staged: 32 } }], /takes 32768 bytes .* the limit is 16384/],
  ];
  test.each(refusals.map(([file, message, device = card]) => [file, message, device] as const))(
    "is refused: %j",
    (file, message, device) => {
      const whole = Array.isArray(file) && file.length > 0 ? { format: 1, choices: file } : file;
      const error = (() => {
        try {
          return parseTuning(whole, device);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(error).toBeInstanceOf(CompileError);
      expect((error as CompileError).code).toBe("bad-tuning");
      expect((error as CompileError).message).toMatch(message);
    },
  );
});
