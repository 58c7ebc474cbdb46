import { readFileSync } from "node:fs";
import { emitWgsl } from "../../src/backends/wgsl/index.ts";
import type { TensorData } from "../../src/ir/type.ts";
import { openWebGpu } from "../../src/runtime/node/webgpuDevice.ts";
import { createWebGpuSession, deviceProfile } from "../../src/runtime/node/webgpuSession.ts";
import { modelOf } from "./models.ts";
import { type Peer, serve } from "./protocol.ts";

async function open(): Promise<Peer> {
  const opened = await openWebGpu();
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return {
    peer: "ours",
    version,
    adapter: opened.adapter.name,
    async prepare(wanted, operands) {
      const model = modelOf(wanted, operands);
      const program = emitWgsl(model, { device: deviceProfile(opened) });
      const session = await createWebGpuSession(program, model.weights, opened);
      const inputs: Record<string, TensorData> = {};
      for (const { name, role, shape, values } of operands.values())
        if (role === "input") inputs[name] = { dtype: "f32", shape, values };
      return {
        run: async () => void (await session.run(inputs)),
        async outputs() {
          const results = await session.run(inputs);
          return session.outputs.map(({ name }) => results[name]?.values as ArrayLike<number>);
        },
        release: () => session.dispose(),
      };
    },
    close: async () => opened.close(),
  };
}

await serve(open);
