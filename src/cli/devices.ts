import { findDevices } from "../runtime/node/index.ts";
import { out, print, printJson } from "./terminal.ts";

/** `tamis devices`: `{ webgpu: [...], onnx: [...] }`, with reasons. */
export async function devicesCommand(options: { readonly json?: boolean }): Promise<void> {
  const devices = await findDevices();
  if (options.json === true) return printJson(devices);
  const section = (title: string, rows: readonly { name: string; available: boolean; reason?: string }[]): void => {
    print(out.bold(title));
    for (const { name, available, reason } of rows)
      print(`  ${available ? out.green("yes") : out.red("no ")}  ${name}${reason === undefined ? "" : `: ${reason}`}`);
  };
  section("WebGPU adapters (Tamis)", devices.webgpu);
  const version = devices.onnx.find((provider) => provider.version !== undefined)?.version;
  section(`ONNX Runtime ${version ?? ""} execution providers`, devices.onnx);
}
