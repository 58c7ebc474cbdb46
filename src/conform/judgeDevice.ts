import { type NodeDevice, openWebGpu } from "../runtime/node/webgpuDevice.ts";

let open: Promise<NodeDevice> | undefined;

/** One WebGPU device for a whole run of comparisons. */
export const judgeDevice = (): Promise<NodeDevice> => {
  open ??= openWebGpu();
  return open;
};

/** Lets the process end. */
export async function closeJudgeDevice(): Promise<void> {
  const device = open;
  open = undefined;
  (await device?.catch(() => undefined))?.close();
}
