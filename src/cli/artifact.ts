import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync, rmSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { compileError, type PictureInput, type TensorType, type Value } from "../index.ts";
import { insideFolder, startOf } from "../runtime/node/index.ts";

export interface NamedType extends TensorType {
  readonly name: string;
}

/** A value as manifests and `--json` show it. */
export const named = (name: string, { type }: Value): NamedType => ({ name, shape: type.shape, dtype: type.dtype });

/** manifest.json of a compiled folder: all that running it needs to know beside the files themselves. */
export interface Manifest {
  readonly format: 1;
  readonly tamis: string;
  readonly name: string;
  /** Absent where compilation was stopped before a target. */
  readonly target?: "onnx" | "webgpu";
  /** The name of the user's own target that wrote the other files. */
  readonly backend?: string;
  readonly profile?: string;
  /** Of onnx. */
  readonly opset?: number;
  readonly stoppedAfter?: string;
  /** The texts given to --pass, in order. */
  readonly passes: readonly string[];
  readonly inputs: readonly NamedType[];
  readonly outputs: readonly NamedType[];
  readonly symbols: readonly string[];
  /** The file of the folder that holds the contents of model.ir's parameters; null where it was compiled without. */
  readonly weights: string | null;
  readonly pictures: Readonly<Record<string, PictureInput>>;
  readonly labels: readonly string[];
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

export const manifestName = "manifest.json";
/** The graph of a compiled folder. */
export const irName = "model.ir";

/** The manifest of a compiled folder; undefined where the folder has none of ours. */
export async function readManifest(folder: string): Promise<Manifest | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(folder, manifestName), "utf8"));
    return isManifest(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isManifest(value: unknown): value is Manifest {
  if (typeof value !== "object" || value === null) return false;
  const { format, tamis, name, files, weights, pictures, inputs, outputs, passes, labels } = value as Partial<Manifest>;
  return (
    format === 1 &&
    [tamis, name].every((text) => typeof text === "string") &&
    (weights === null || typeof weights === "string") &&
    [files, pictures].every((map) => typeof map === "object" && map !== null) &&
    [inputs, outputs, passes, labels].every(Array.isArray)
  );
}

/** Where a file that a manifest names lies; it may not name what is outside its folder. */
export function inside(folder: string, name: string): string {
  const path = insideFolder(folder, name);
  if (path !== undefined) return path;
  throw compileError(
    "artifact-damaged",
    `the manifest names ${JSON.stringify(name)}, which is no file below its folder`,
    {
      loc: startOf(join(folder, manifestName)),
    },
  );
}

/** Size and SHA-256 of every file below a folder but the manifest, by name. */
export async function describeFiles(folder: string): Promise<Manifest["files"]> {
  const names = (await filesBelow(folder)).filter((name) => name !== manifestName);
  const described = names.map(async (name) => {
    const path = join(folder, name);
    return [name, { bytes: (await stat(path)).size, sha256: await hashFile(path) }] as const;
  });
  return Object.fromEntries(await Promise.all(described));
}

/** Paths of all files below a folder, with `/` between folders, sorted. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
    .sort();
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/**
 * Fails with `artifact-damaged` where a file of an artefact is missing or has another size, or, for those of `hashed`,
 * other contents than when it was written.
 */
export async function checkFiles(folder: string, manifest: Manifest, hashed: readonly string[]): Promise<void> {
  for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const path = inside(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size;
    const wrong =
      size === undefined
        ? "is missing"
        : size !== bytes
          ? `holds ${size} bytes, not ${bytes}`
          : hashed.includes(name) && (await hashFile(path)) !== sha256
            ? "is not what was written"
            : undefined;
    if (wrong !== undefined)
      throw compileError("artifact-damaged", `${name} of the compiled folder ${wrong}`, {
        loc: startOf(path),
        help: "compile it again; an .ir file that was edited can be given by itself",
      });
  }
}

/**
 * Lets `write` fill a new folder beside `folder`, then puts it in place: either all of it is there or nothing changed.
 * Fails with `output-exists` where `folder` holds anything but an artefact of ours, and with `file-unwritable`.
 */
export async function writeFolder(folder: string, write: (unfinished: string) => Promise<void>): Promise<void> {
  const target = resolve(folder);
  await refuseForeign(target, folder);
  const unfinished = join(dirname(target), `.${basename(target)}.${randomUUID()}.partial`);
  const discard = (): void => {
    if (existsSync(unfinished)) rmSync(unfinished, { recursive: true, force: true });
  };
  const interrupted = (signal: NodeJS.Signals): void => {
    discard();
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    await makeFolder(dirname(target));
    await mkdir(unfinished);
    await write(unfinished);
    await replaceFolder(target, unfinished);
  } catch (error) {
    discard();
    throw unwritable(folder, error);
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
}

/**
 * As `mkdir -p`; fails with `file-unwritable`. Node's own `recursive` never returns where a file system refuses new
 * names with ENOENT, as /proc does.
 */
export async function makeFolder(folder: string): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(folder); (await stat(at).catch(() => undefined)) === undefined; at = dirname(at))
    missing.push(at);
  try {
    for (const path of missing.toReversed()) await mkdir(path);
  } catch (error) {
    throw unwritable(folder, error);
  }
}

/** What the operating system refuses is the user's to mend; any other error stays what it is. */
function unwritable(folder: string, error: unknown): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  return compileError("file-unwritable", `${folder} cannot be written: ${error.code}`, { loc: startOf(folder) });
}

/** An earlier artefact is moved aside first and removed last. */
async function replaceFolder(target: string, unfinished: string): Promise<void> {
  const aside = `${unfinished}.old`;
  const exists = (await stat(target).catch(() => undefined)) !== undefined;
  if (exists) await rename(target, aside);
  try {
    await rename(unfinished, target);
  } catch (error) {
    if (exists) await rename(aside, target);
    throw error;
  }
  if (exists) await rm(aside, { recursive: true, force: true });
}

async function refuseForeign(target: string, folder: string): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (found === undefined) return;
  const refuse = (what: string): never => {
    throw compileError("output-exists", `${folder} ${what}`, {
      loc: startOf(folder),
      help: "name a new folder, an empty one, or an earlier artefact",
    });
  };
  if (!found.isDirectory()) refuse("is a file");
  const names = await filesBelow(target);
  if (names.length === 0) return;
  const manifest = await readManifest(target);
  if (manifest === undefined) refuse("is not empty and holds no artefact of ours");
  const foreign = names.filter((name) => name !== manifestName && !Object.hasOwn(manifest?.files ?? {}, name));
  if (foreign.length > 0) refuse(`holds files that are not of the artefact: ${foreign.slice(0, 5).join(", ")}`);
}
