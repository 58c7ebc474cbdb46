import { checkRequirements, openArtifact, type Progress } from "../artifact/index.ts";
import { type PlainModel, plainModel } from "../artifact/plainModel.ts";
import { createProgramSession } from "../webgpu/program.ts";
import { type BrowserDevice, openDevice } from "./device.ts";
import { fetchFiles } from "./fetchFiles.ts";

/** What `loadModel` may be told. */
export interface LoadOptions {
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: Progress) => void;
  /** A device of the caller's, which stays open; otherwise the model asks the browser for one and destroys it at the end. */
  readonly device?: GPUDevice;
  /** Ends loading; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Fetches a compiled folder and makes it ready to run; weights go to the device as they arrive. `base` is the address of
 * the folder. Fails with `no-adapter`, `device-limit`, `file-not-found`, `file-unreadable`, `artifact-damaged`,
 * `artifact-version` and `model-format`.
 */
export async function loadModel(base: string | URL, options: LoadOptions = {}): Promise<PlainModel> {
  const files = fetchFiles(folderAddress(base), options.signal);
  const { manifest, program, weights } = await openArtifact(files, options.onProgress);
  let own = options.device === undefined ? await openDevice() : undefined;
  const device = options.device ?? (own as BrowserDevice).device;
  const close = (): void => own?.device.destroy();
  const reopen = async () => {
    own = await openDevice();
    return { device: own.device };
  };
  try {
    checkRequirements(program, device);
    const session = await createProgramSession(device, program, weights, own === undefined ? {} : { reopen, close });
    return plainModel(manifest, session, own?.adapter ?? "");
  } catch (error) {
    close();
    throw error;
  } finally {
    await weights.close();
  }
}

/** Relative addresses are the page's. */
function folderAddress(base: string | URL): URL {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  const url = new URL(base, location?.href);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  url.search = "";
  url.hash = "";
  return url;
}
