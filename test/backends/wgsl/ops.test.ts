import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { registerOf } from "../../../src/backends/wgsl/expr.ts";
import { emitWgsl } from "../../../src/backends/wgsl/index.ts";
import { compareTensors, tolerance } from "../../../src/conform/tolerance.ts";
import { ops } from "../../../src/ir/ops/index.ts";
import { dtypes } from "../../../src/ir/type.ts";
import { type NodeDevice, openWebGpu } from "../../../src/runtime/node/webgpuDevice.ts";
import { deviceProfile } from "../../../src/runtime/node/webgpuSession.ts";
import { createProgramSession } from "../../../src/runtime/webgpu/program.ts";
import { loadSamples, type OpSample, sampleGraph } from "../../samples/load.ts";

// The software adapter builds about two pipelines a second: one sample per op here, all of them in `npm run conform`'s
// slower sister, `TAMIS_ALL_SAMPLES=1 npx vitest run test/backends/wgsl`.
const everySample = process.env["TAMIS_ALL_SAMPLES"] === "1";

/**
 * Kinds that WGSL computes as they are: 32 bits wide, or integers and booleans that widen without loss. NaN and
 * infinities are left out: WGSL lets a device assume that there are none (section 15.7.2).
 */
const runs = ({ operands, results }: OpSample): boolean =>
  [...operands, ...results].every(({ dtype, shape, values }) => {
    const { kind, bits } = dtypes[dtype];
    const finite = kind !== "float" || Array.from(values, Number).every(Number.isFinite);
    return registerOf(dtype) !== undefined && (kind !== "float" || bits === 32) && !shape.includes(0) && finite;
  });

const samples = loadSamples().filter(runs);
const firstOfEach = [...new Map(samples.toReversed().map((sample) => [sample.op, sample])).values()];

let opened: NodeDevice;
beforeAll(async () => {
  opened = await openWebGpu();
});
afterAll(() => opened?.close());

describe("ops on WebGPU give what numpy gave", () => {
  test("every op has a sample that a device without 64-bit numbers can run", () => {
    const missing = Object.keys(ops).filter((name) => !samples.some((sample) => sample.op === name));
    expect(missing).toEqual([]);
  });

  test.each((everySample ? samples : firstOfEach).map((sample) => [sample.name, sample] as const))(
    "%s",
    async (_name, sample) => {
      const { device } = opened;
      const { graph, inputs } = sampleGraph(sample);
      const program = emitWgsl({ graph, weights: new Map() }, { device: deviceProfile(opened) });
      await using session = await createProgramSession(device, program, new Map());
      const results = await session.run(inputs);
      sample.results.forEach((wanted, i) => {
        const got = results[`y${i}`];
        expect(got).toBeDefined();
        if (got !== undefined)
          expect(compareTensors(got, wanted, tolerance(wanted.dtype, { target: "webgpu" })).message).toBe("");
      });
    },
  );
});
