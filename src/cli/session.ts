import { join } from "node:path";
import { compileError, type DeviceProfile, emitOnnx, emitWgsl, type Model, profiles, providersOf } from "../index.ts";
import {
  createFolderSession,
  createOrtSession,
  createReferenceSession,
  createWebGpuSession,
  deviceProfile,
  type NodeDevice,
  type OrtSessionOptions,
  openWebGpu,
  ortVersion,
  type ProgramSession,
  type Session,
} from "../runtime/node/index.ts";
import { checkFiles } from "./artifact.ts";
import { readChoice } from "./choice.ts";
import type { ModelOptions, Prepared } from "./prepare.ts";
import { registry } from "./registry.ts";
import { cachedChoices, choicesUsed, withChoices } from "./tuning.ts";

const providers = ["cpu", "webgpu", "cuda"] as const;
export type Provider = (typeof providers)[number];

/** Fails with `bad-option`. */
export const readProvider = (text: string): Provider => readChoice("provider", text, providers);

/** A model runs on a provider in the profile that is for it, unless another was asked for. */
export function profileFor(
  provider: Provider,
  { target = "onnx", profile }: ModelOptions,
): { readonly profile?: string } {
  if (profile !== undefined || target !== "onnx" || provider === "cpu") return {};
  return { profile: profiles.find((name) => providersOf[name].meant === provider) ?? "portable" };
}

export interface Opened {
  readonly session: Session;
  /** What it runs on, for people and for --json. */
  readonly adapter: string;
  /** The same session, where its kernels can be timed. */
  readonly profiled?: ProgramSession;
  /** Of webgpu: where the tiles of its kernels come from, for people and for --json. */
  readonly tuning?: string;
}

export interface OpenSettings {
  /** Of ONNX Runtime; cpu for the other targets. */
  readonly provider: Provider;
  /** Of one operator. */
  readonly threads?: number;
  /** Further options of ONNX Runtime. */
  readonly ort?: NonNullable<OrtSessionOptions["ort"]>;
  /** Of webgpu: whether tiles that `bench tune` found on this adapter are used. */
  readonly tuned?: boolean;
}

/** An artefact that nothing was asked to change runs as it was written. Fails with `missing-weights`. */
export async function openSession(prepared: Prepared, options: ModelOptions, settings: OpenSettings): Promise<Opened> {
  const { target, loaded, model, profile, device } = prepared;
  const { provider } = settings;
  if (target !== "onnx" && provider !== "cpu")
    throw compileError("bad-option", `the ${target} target has no provider ${provider}`, {
      help: "providers are those of --target onnx",
    });
  if (!prepared.weighted)
    throw compileError("missing-weights", `model ${loaded.name} has parameters but no weights`, {
      help: "give --weights FILE, or --weights random:1 to see that it runs",
    });
  if (target === "reference")
    return { session: await createReferenceSession(model, { registry }), adapter: "reference interpreter, f64" };
  const changed = [options.pass, options.set, options.weights, options.profile, options.stopAfter].some(
    (option) => option !== undefined,
  );
  const artifact = changed ? undefined : loaded.artifact;
  if (target === "webgpu")
    return openWebGpuSession(model, {
      folder: artifact?.manifest.target === "webgpu" ? artifact.folder : undefined,
      device: options.profile === undefined ? undefined : device.device,
      tuned: settings.tuned === true,
    });
  // After the session: without onnxruntime-node, making one says how to get it.
  const named = async (session: Session): Promise<Opened> => ({
    session,
    adapter: `ONNX Runtime ${await ortVersion()} ${provider}`,
  });
  if (artifact?.manifest.target !== "onnx")
    return named(await createOrtSession(emitOnnx(model, { profile, externalData: "always", registry }), settings));
  await checkFiles(artifact.folder, artifact.manifest, []);
  return named(await createOrtSession(join(artifact.folder, "model.onnx"), settings));
}

interface WebGpuChoice {
  /** Of an artefact to run as it is. */
  readonly folder: string | undefined;
  /** A device to compile for, other than the one it runs on. */
  readonly device: DeviceProfile | undefined;
  readonly tuned: boolean;
}

/** A compiled folder as it is, or the model compiled for `device`, by default for the one it runs on. */
async function openWebGpuSession(model: Model, choice: WebGpuChoice): Promise<Opened> {
  const opened = await openWebGpu();
  try {
    const { session, tuning } =
      choice.folder === undefined
        ? await compileAndOpen(model, opened, choice)
        : { session: await createFolderSession(choice.folder, opened), tuning: "as compiled" };
    const dispose = async (): Promise<void> => {
      await session.dispose();
      opened.close();
    };
    const { inputs, outputs, run } = session;
    return {
      session: { inputs, outputs, run, dispose, [Symbol.asyncDispose]: dispose },
      adapter: `WebGPU, ${opened.adapter.name}${opened.adapter.software ? " (software)" : ""}`,
      profiled: session,
      tuning,
    };
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** In the tiles that were found on this adapter, unless it is compiled for another device. */
async function compileAndOpen(
  model: Model,
  opened: NodeDevice,
  { device, tuned }: WebGpuChoice,
): Promise<{ readonly session: ProgramSession; readonly tuning: string }> {
  const own = deviceProfile(opened);
  const choices = tuned && device === undefined ? await cachedChoices(opened, own) : undefined;
  const used = choices === undefined ? 0 : choicesUsed(model.graph, own, choices);
  const tuning = choices !== undefined && used > 0 ? { tuning: withChoices(own, choices) } : {};
  const program = emitWgsl(model, { device: device ?? own, registry, ...tuning });
  return {
    session: await createWebGpuSession(program, model.weights, opened),
    tuning: used === 0 ? "default" : `cached (${used} ${used === 1 ? "choice" : "choices"})`,
  };
}
