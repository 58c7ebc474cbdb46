// Reading the files of an artefact from wherever they lie, believing nothing that their hashes do not confirm.
import { type CompileError, compileError } from "../../ir/diagnostic.ts";

/** The files of an artefact: a folder, or an address to fetch from. */
export interface ArtifactFiles {
  /** Where they lie, for messages. */
  readonly place: string;
  /** The bytes of a file in order; fails with `file-not-found` or `file-unreadable`. */
  read(name: string): AsyncIterable<Uint8Array>;
}

export interface FileHash {
  readonly bytes: number;
  /** In hexadecimal. */
  readonly sha256: string;
}

/** A file with a hash of each `chunkBytes` bytes. */
export interface ChunkedFile {
  readonly bytes: number;
  readonly chunkBytes: number;
  readonly sha256: readonly string[];
}

/** Bytes that just arrived. */
export type Arrived = (bytes: number) => void;

export const damaged = (place: string, file: string, what: string): CompileError =>
  compileError("artifact-damaged", `${file} of ${place} ${what}`, {
    help: "compile the model again, and copy all files of its folder together",
  });

/** A whole file of at most `limit` bytes, unchecked. */
export async function readLimited(files: ArtifactFiles, name: string, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of files.read(name)) {
    total += part.length;
    if (total > limit) throw damaged(files.place, name, `holds more than ${limit} bytes`);
    parts.push(part);
  }
  return joined(parts, total);
}

/** A whole file, of exactly these bytes. Fails with `artifact-damaged`. */
export async function readHashed(
  files: ArtifactFiles,
  name: string,
  { bytes, sha256 }: FileHash,
  arrived: Arrived = () => undefined,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of verifiedChunks(
    files,
    name,
    { bytes, chunkBytes: Math.max(1, bytes), sha256: [sha256] },
    arrived,
  ))
    parts.push(part);
  return joined(parts, bytes);
}

/**
 * The chunks of a file, each only once its hash is confirmed; holds one chunk. Fails with `artifact-damaged` at the
 * first that differs, and where the file is shorter or longer.
 */
export async function* verifiedChunks(
  files: ArtifactFiles,
  name: string,
  { bytes, chunkBytes, sha256 }: ChunkedFile,
  arrived: Arrived = () => undefined,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let chunk = new Uint8Array(Math.min(chunkBytes, bytes));
  let filled = 0;
  let done = 0;
  for await (const part of files.read(name)) {
    if (done + filled + part.length > bytes) throw damaged(files.place, name, `holds more than its ${bytes} bytes`);
    arrived(part.length);
    for (let at = 0; at < part.length; ) {
      const taken = Math.min(part.length - at, chunk.length - filled);
      chunk.set(part.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < chunk.length) continue;
      await confirm(files.place, name, chunk, sha256[done / chunkBytes]);
      yield chunk;
      done += filled;
      filled = 0;
      chunk = new Uint8Array(Math.min(chunkBytes, bytes - done));
    }
  }
  if (done < bytes) throw damaged(files.place, name, `ends after ${done + filled} of ${bytes} bytes`);
  if (bytes === 0) await confirm(files.place, name, chunk, sha256[0]);
}

async function confirm(
  place: string,
  name: string,
  chunk: Uint8Array<ArrayBuffer>,
  wanted: string | undefined,
): Promise<void> {
  if (wanted === undefined || (await sha256Of(chunk)) !== wanted)
    throw damaged(place, name, "is not what was written (its SHA-256 differs)");
}

/** In hexadecimal. */
export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function joined(parts: readonly Uint8Array[], total: number): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  const all = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
