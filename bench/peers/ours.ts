import { readFileSync } from "node:fs";
import { emitWgsl } from "../../src/backends/wgsl/index.ts";
import { openWebGpu } from "../../src/runtime/node/webgpuDevice.ts";
import { createWebGpuSession, deviceProfile } from "../../src/runtime/node/webgpuSession.ts";
import type { DeviceTensor } from "../../src/runtime/webgpu/tensor.ts";
import { modelOf } from "./models.ts";
import { type Peer, serve } from "./protocol.ts";

async function open(): Promise<Peer> {
  const opened = await openWebGpu();
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return {
    peer: "ours",
    version,
    adapter: opened.adapter.name,
    forms: ["usual"],
    async prepare(wanted, operands) {
      const model = modelOf(wanted, operands);
      const program = emitWgsl(model, { device: deviceProfile(opened) });
      const session = await createWebGpuSession(program, model.weights, opened);
      const inputs: Record<string, DeviceTensor> = {};
      for (const { name, role, shape, values } of operands.values())
        if (role === "input") inputs[name] = await session.upload({ dtype: "f32", shape, values });
      return {
        async run() {
          const results = await session.run(inputs, { keep: true });
          await session.device.queue.onSubmittedWorkDone();
          for (const result of Object.values(results)) result.dispose();
        },
        async outputs() {
          const results = await session.run(inputs);
          return session.outputs.map(({ name }) => results[name]?.values as ArrayLike<number>);
        },
        async release() {
          for (const input of Object.values(inputs)) input.dispose();
          await session.dispose();
        },
      };
    },
    close: async () => opened.close(),
  };
}

await serve(open);
