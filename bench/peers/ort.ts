// ONNX Runtime's native WebGPU provider on the files that our compiler writes.
import { createRequire } from "node:module";
import onnxProto from "onnx-proto";
import type { InferenceSession } from "onnxruntime-common";
import { emitOnnx } from "../../src/backends/onnx/index.ts";
import { modelOf } from "./models.ts";
import { type Operands, operand } from "./operands.ts";
import { type Peer, serve } from "./protocol.ts";

const { onnx } = onnxProto;

/**
 * Profiles of our files. ort-cuda keeps MultiHeadAttention, which the provider gets wrong with subgroups of 4; the last
 * form leaves nodes that the provider does not have to the CPU.
 */
const forms = {
  "ort-cuda": { profile: "ort-cuda", fallback: false },
  "ort-webgpu": { profile: "ort-webgpu", fallback: false },
  "CPU fallback": { profile: "ort-webgpu", fallback: true },
} as const;

async function open(): Promise<Peer> {
  const ort = await import("onnxruntime-node");
  const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
  return {
    peer: "ONNX Runtime",
    version,
    adapter: "its own Dawn",
    forms: Object.keys(forms),
    async prepare(wanted, operands, form) {
      const { profile, fallback } = forms[form as keyof typeof forms];
      const file = await emitOnnx(modelOf(wanted, operands), { profile }).encode();
      const load = (bytes: Uint8Array): Promise<InferenceSession> =>
        ort.InferenceSession.create(bytes, {
          executionProviders: ["webgpu"],
          logSeverityLevel: 3,
          intraOpNumThreads: 1, // idle threads would spin
          extra: { session: { disable_cpu_ep_fallback: fallback ? "0" : "1" } },
        });
      const whole = await load(residentInputs(file, operands, false));
      const timed = await load(residentInputs(file, operands, true));
      return {
        run: async () => void (await timed.run({})),
        async outputs() {
          const results = await whole.run({});
          return whole.outputNames.map((name) => Array.from(results[name]?.data as Iterable<number>, Number));
        },
        async release() {
          await whole.release();
          await timed.release();
        },
      };
    },
    close: async () => undefined,
  };
}

/**
 * A model whose inputs have default contents, which ONNX Runtime uploads once and, since a caller could override them,
 * does not fold. The Node binding has no tensors on the device, so what it would read back is cut to one element.
 */
function residentInputs(file: Uint8Array, operands: Operands, oneElement: boolean): Uint8Array {
  const model = onnx.ModelProto.decode(file);
  const { input = [], output = [], initializer = [], node = [] } = model.graph ?? {};
  for (const { name } of input ?? []) {
    const { shape, values } = operand(operands, name ?? "");
    initializer?.push(initializerOf(name ?? "", elementTypes.f32, shape, values));
  }
  if (oneElement)
    for (const value of output ?? []) {
      const full = value.name ?? "";
      const dims = value.type?.tensorType?.shape?.dim ?? [];
      const bounds = {
        starts: dims.map(() => 0n),
        ends: dims.map(() => 1n),
        axes: dims.map((_, axis) => BigInt(axis)),
      };
      for (const [name, list] of Object.entries(bounds))
        initializer?.push(initializerOf(`${full}.${name}`, elementTypes.i64, [dims.length], BigInt64Array.from(list)));
      const first = `${full}.first`;
      const operands = [full, ...Object.keys(bounds).map((name) => `${full}.${name}`)];
      node?.push(onnx.NodeProto.create({ opType: "Slice", name: first, input: operands, output: [first] }));
      value.name = first;
      for (const dim of dims) dim.dimValue = 1;
    }
  return onnx.ModelProto.encode(model).finish();
}

const elementTypes = { f32: 1, i64: 7 } as const; // TensorProto.DataType

function initializerOf(name: string, dataType: number, dims: readonly number[], values: Float32Array | BigInt64Array) {
  const rawData = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return onnx.TensorProto.create({ name, dims: [...dims], dataType, rawData });
}

await serve(open);
