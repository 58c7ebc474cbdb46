import { randomUUID } from "node:crypto";
import { type FileHandle, open, readdir, realpath, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, win32 } from "node:path";
import { type CompileError, compileError, didYouMean, InternalError, type Loc } from "../../ir/diagnostic.ts";

/** Bytes that can be read at any position: a file, or the part of a file that is in memory already. */
export interface ByteReader {
  /** Names the bytes in messages. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** Fills `target` from `position` on; `weights-truncated` where fewer bytes are left. */
  read(target: Uint8Array, position: number): Promise<void>;
}

export interface OpenFile extends ByteReader {
  /** Changes whenever the file is replaced or written to: place, size, inode and time of last change. */
  readonly identity: string;
  /** Safe to call twice. */
  close(): Promise<void>;
}

/** The place of a mistake that lies in a binary file as a whole. */
export const startOf = (path: string): Loc => ({ kind: "file", file: path, line: 1, column: 1 });

/** Opens a regular file; `file-not-found` or `file-unreadable` otherwise. Reads may run concurrently. */
export async function openFile(path: string): Promise<OpenFile> {
  try {
    // Asked before opening: opening a pipe would wait for its writer.
    if (!(await stat(path)).isFile()) throw compileError("file-unreadable", `${path} is not a file`, at(path));
    const file = await open(path, "r");
    try {
      const { size, mtimeNs, ino, dev } = await file.stat({ bigint: true });
      const identity = [await realpath(path), size, mtimeNs, ino, dev].join(" ");
      return fileReader(path, file, Number(size), identity);
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    throw await readFailure(path, error);
  }
}

function fileReader(path: string, file: FileHandle, size: number, identity: string): OpenFile {
  let closed = false;
  return {
    path,
    size,
    identity,
    async read(target, position) {
      if (closed) throw new InternalError(`${path} is read after it was closed`);
      let filled = 0;
      while (filled < target.length) {
        const length = Math.min(target.length - filled, readAtOnce);
        const { bytesRead } = await file.read(target, filled, length, position + filled).catch(async (error) => {
          throw await readFailure(path, error);
        });
        if (bytesRead === 0) throw truncated(path, position + target.length, position + filled);
        filled += bytesRead;
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      await file.close();
    },
  };
}

const readAtOnce = 2 ** 30; // bytes; one read call takes less than 2^31

/** Bytes in memory under the same interface as a file. */
export function memoryReader(path: string, bytes: Uint8Array): ByteReader {
  return {
    path,
    size: bytes.length,
    async read(target, position) {
      if (position + target.length > bytes.length) throw truncated(path, position + target.length, bytes.length);
      target.set(bytes.subarray(position, position + target.length));
    },
  };
}

const truncated = (path: string, wanted: number, got: number): CompileError =>
  compileError("weights-truncated", `${path} ends at byte ${got} but ${wanted} bytes are needed`, at(path));

/** A whole file of at most `limit` bytes; `file-too-large` above. */
export async function readBytes(path: string, limit: number): Promise<Buffer> {
  const file = await openFile(path);
  try {
    if (file.size > limit)
      throw compileError("file-too-large", `${path} holds ${file.size} bytes, the limit is ${limit}`, at(path));
    const bytes = Buffer.alloc(file.size);
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

/** Where `name` lies below `folder`; undefined where it is no plain relative path, so that a file cannot name others. */
export function insideFolder(folder: string, name: string): string | undefined {
  const plain =
    name !== "" &&
    !/[\\\0]/.test(name) &&
    !isAbsolute(name) &&
    !win32.isAbsolute(name) &&
    !/^[a-z]:/i.test(name) &&
    !name.split("/").includes("..");
  return plain ? join(folder, name) : undefined;
}

/**
 * Gives `write` a new file beside `path`, then renames it to `path`: a reader sees the old contents or the new ones,
 * never a part, and nothing is left behind when `write` throws. A link is followed, so that its target is replaced.
 * Fails with `file-unwritable`.
 */
export async function writeAtomically(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  let unfinished: string | undefined;
  try {
    const target = await writeTarget(path);
    const beside = join(dirname(target), `.${basename(target).slice(0, 100)}.${randomUUID()}.partial`);
    const file = await open(beside, "wx");
    unfinished = beside;
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, target);
  } catch (error) {
    if (unfinished !== undefined) await unlink(unfinished).catch(() => undefined);
    const reason = systemCode(error);
    if (reason === undefined) throw error;
    throw compileError("file-unwritable", `${path} cannot be written: ${reasons[reason] ?? reason}`, at(path));
  }
}

/**
 * Writes a whole file through one beside it, which replaces `path` when it is complete. Fails with `file-unwritable`.
 */
export const writeFileAtomically = (path: string, contents: Uint8Array | string): Promise<void> =>
  writeAtomically(path, (file) => file.writeFile(contents));

/** The file to replace; refuses what a rename would destroy, such as /dev/null. */
async function writeTarget(path: string): Promise<string> {
  try {
    const target = await realpath(path);
    if ((await stat(target)).isFile()) return target;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return path;
    throw error;
  }
  throw compileError("file-unwritable", `${path} exists and is not a file`, at(path));
}

const at = (path: string): { loc: Loc } => ({ loc: startOf(path) });

/** `ENOENT` and the like; undefined for errors that the operating system did not raise. */
function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "syscall" in error && "code" in error ? String(error.code) : undefined;
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  EMFILE: "too many files are open",
  ENOENT: "its folder does not exist",
  ENOSPC: "the disk is full",
  ENOTDIR: "its folder is not a folder",
  EROFS: "the file system is read-only",
};

async function readFailure(path: string, error: unknown): Promise<unknown> {
  const reason = systemCode(error);
  if (reason === undefined && !path.includes("\0")) return error;
  if (reason !== undefined && reason !== "ENOENT" && reason !== "ENOTDIR")
    return compileError("file-unreadable", `${path} cannot be read: ${reasons[reason] ?? reason}`, at(path));
  const neighbours = await readdir(dirname(path)).catch(() => []);
  const help = didYouMean(basename(path), neighbours.sort());
  return compileError("file-not-found", `there is no file ${path}`, { ...at(path), help });
}
