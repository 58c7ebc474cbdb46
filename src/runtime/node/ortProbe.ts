import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { adapterEnvironment } from "./webgpuDevice.ts";

/**
 * Why a model does not run on a provider; undefined where it does. Tried in a process of its own: drivers write to
 * standard error, and a broken one may end the process.
 */
export async function providerFailure(name: string): Promise<string | undefined> {
  const entry = import.meta.resolve("onnxruntime-node");
  try {
    await promisify(execFile)(process.execPath, ["--input-type=module", "-e", probe, entry, identityModel, name], {
      timeout: probeMs,
      env: adapterEnvironment(),
    });
    return undefined;
  } catch (error) {
    const { stdout = "", signal } = error as { readonly stdout?: string; readonly signal?: string | null };
    const said = plainReason(stdout.trim());
    return said !== "" ? said : signal ? `the probe was ended by ${signal}` : firstLine(error);
  }
}

const probeMs = 30_000; // a GPU's first start may take seconds
const probe = `
const [entry, model, provider] = process.argv.slice(1);
const { default: ort } = await import(entry);
try {
  const extra = { session: { disable_cpu_ep_fallback: provider === "cpu" ? "0" : "1" } };
  const options = { executionProviders: [provider], logSeverityLevel: 4, extra };
  const session = await ort.InferenceSession.create(Buffer.from(model, "base64"), options);
  const { y } = await session.run({ x: new ort.Tensor("float32", [3], [1]) });
  await session.release();
  if (y.data[0] !== 3) {
    console.log("it computes y = x as " + y.data[0] + " for x = 3");
    process.exitCode = 1;
  }
} catch (error) {
  console.log(error.message.split("\\n")[0]);
  process.exitCode = 1;
}`;

/** A message of ONNX Runtime's without the place in its sources that it begins with. */
export const plainReason = (message: string): string => message.replace(/^.* was false\. /, "");

export const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";

/** The smallest ONNX file, in base64: y = Identity(x), f32[1], opset 17. */
const identityModel = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCAhAR";
