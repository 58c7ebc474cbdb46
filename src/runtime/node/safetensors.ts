import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import {
  CompileError,
  compileError,
  type Diagnostic,
  diagnostic,
  didYouMean,
  InternalError,
} from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { pack } from "../../ir/packing.ts";
import { bytesOf, type DType, dtypes, type TensorData } from "../../ir/type.ts";
import { type ByteReader, insideFolder, openFile, readBytes, startOf, writeAtomically } from "./files.ts";
import { chunkBytes, countElements, packedSource } from "./packedSource.ts";
import { type Header, metadataName, parseHeader, parseObject, quoted, safetensorsNames } from "./safetensorsHeader.ts";

/** A safetensors checkpoint of one file or of several shards; holds its files open until it is closed. */
export interface SafetensorsFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes; of shards, in the order of their index. Small floats are widened when read. */
  readonly tensors: ReadonlyMap<string, WeightSource>;
  close(): Promise<void>;
}

/** The reference implementation refuses larger headers too (MAX_HEADER_SIZE in safetensors/src/tensor.rs). */
export const headerLimit = 100_000_000; // bytes

const prefixBytes = 8; // the header's length as a little-endian u64

/**
 * Reads the header only; contents are read by range when asked for. A weight's hash is the SHA-256 of its header entry
 * with the file's path, size, inode and time of change: stable while the file is untouched, and never a read of it.
 * Fails with `file-not-found`, `file-unreadable`, and what `parseHeader` refuses.
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openFile(path);
  try {
    const { header, dataStart } = await readHeader(file);
    const { metadata, entries } = header;
    const tensors = new Map<string, WeightSource>();
    for (const { name, dtype, shape, begin } of entries)
      tensors.set(
        name,
        packedSource({ dtype, shape, bytes: file, offset: dataStart + begin, identity: file.identity }),
      );
    return { path, metadata, tensors, close: file.close };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The header of an open file, and the byte at which its data begins. Fails as `openSafetensors` does. */
export async function readHeader(file: ByteReader): Promise<{ readonly header: Header; readonly dataStart: number }> {
  const { path, size } = file;
  if (size < prefixBytes) throw truncated(path, prefixBytes, size);
  const prefix = Buffer.alloc(prefixBytes);
  await file.read(prefix, 0);
  const length = prefix.readBigUInt64LE();
  if (length > headerLimit)
    throw fail(path, "weights-header", `the header claims ${length} bytes, more than the ${headerLimit} allowed`);
  const dataStart = prefixBytes + Number(length);
  if (dataStart > size) throw truncated(path, dataStart, size);
  const headerBytes = Buffer.alloc(Number(length));
  await file.read(headerBytes, prefixBytes);
  return { header: parseHeader(decodeText(headerBytes, path), path, size - dataStart), dataStart };
}

function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw fail(path, "weights-header", "the header is not UTF-8 text");
  }
}

/**
 * Opens the shards that a `*.safetensors.index.json` names. A shard may not lie outside the index's folder
 * (`weights-path`); all missing shards, then all tensors that their shard lacks (`weights-missing`), are named at once.
 */
export async function openShardedSafetensors(indexPath: string): Promise<SafetensorsFile> {
  const shardOf = await readIndex(indexPath);
  const shards = new Map<string, SafetensorsFile>();
  const close = async (): Promise<void> => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    const diagnostics: Diagnostic[] = [];
    for (const shard of new Set(shardOf.values())) {
      try {
        shards.set(shard, await openSafetensors(shardPath(indexPath, shard)));
      } catch (error) {
        if (!(error instanceof CompileError) || error.code !== "file-not-found") throw error;
        diagnostics.push(...error.diagnostics.map((d) => ({ ...d, notes: [namedBy(indexPath)] })));
      }
    }
    if (diagnostics.length > 0) throw new CompileError(diagnostics);
    const tensors = new Map<string, WeightSource>();
    for (const [name, shard] of shardOf) {
      const held = shards.get(shard)?.tensors;
      const tensor = held?.get(name);
      if (tensor !== undefined) tensors.set(name, tensor);
      else
        diagnostics.push(
          diagnostic("weights-missing", `shard ${quoted(shard)} does not hold tensor ${quoted(name)}`, {
            loc: startOf(indexPath),
            help: didYouMean(name, held?.keys() ?? []),
          }),
        );
    }
    if (diagnostics.length > 0) throw new CompileError(diagnostics);
    const [only] = shards.size === 1 ? shards.values() : [];
    return { path: indexPath, metadata: only?.metadata ?? {}, tensors, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const namedBy = (indexPath: string) => ({ message: "named by this index", loc: startOf(indexPath) });

/** Tensor name to shard file, in the order of the index. */
async function readIndex(indexPath: string): Promise<ReadonlyMap<string, string>> {
  const text = decodeText(await readBytes(indexPath, headerLimit), indexPath);
  const { weight_map: weightMap } = parseObject(text, indexPath, "the index");
  if (typeof weightMap !== "object" || weightMap === null || Array.isArray(weightMap))
    throw fail(indexPath, "weights-header", "the index has no weight_map");
  const shardOf = new Map<string, string>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== "string")
      throw fail(indexPath, "weights-header", `the shard of ${quoted(name)} is not a file name`);
    shardOf.set(name, shard);
  }
  return shardOf;
}

function shardPath(indexPath: string, shard: string): string {
  const path = insideFolder(dirname(indexPath), shard);
  if (path === undefined)
    throw fail(indexPath, "weights-path", `shard ${quoted(shard)} is not a file below the folder of its index`);
  return path;
}

/** A tensor to write: its contents, or where they are read from. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly source: WeightSource | TensorData;
}

/**
 * Writes a safetensors file in chunks of at most 16 MB, through a file beside it that replaces `path` when complete.
 * Equal entries and metadata give equal bytes, whatever their order: tensors are sorted by element size, largest
 * first (so that each is aligned), then by name; metadata by key.
 * Fails with `weights-dtype`, `weights-duplicate`, `weights-size` or `file-unwritable`.
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<SafetensorsEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const tensors = plan(path, entries);
  const header = headerOf(tensors, metadata);
  await writeAtomically(path, async (file) => {
    await file.writeFile(header);
    for (const tensor of tensors) await writeElements(file, tensor);
  });
}

interface PlannedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly dtypeName: string;
  readonly shape: readonly number[];
  readonly elements: number;
  readonly source: WeightSource | TensorData;
}

function plan(path: string, entries: Iterable<SafetensorsEntry>): readonly PlannedTensor[] {
  const planned = new Map<string, PlannedTensor>();
  for (const { name, source } of entries) {
    const { dtype, shape } = "read" in source ? source.type : source;
    const dtypeName = safetensorsNames[dtype];
    if (dtypeName === undefined)
      throw fail(path, "weights-dtype", `tensor ${quoted(name)} is ${dtype}, which safetensors cannot hold`);
    if (name === metadataName || planned.has(name))
      throw fail(path, "weights-duplicate", `the name ${quoted(name)} is taken`);
    const elements = countElements(shape);
    if (elements === undefined || (!("read" in source) && source.values.length !== elements)) {
      const got = "read" in source ? "no size" : `${source.values.length} elements`;
      throw fail(path, "weights-size", `tensor ${quoted(name)} has shape [${shape.join(",")}] but ${got}`);
    }
    planned.set(name, { name, dtype, dtypeName, shape, elements, source });
  }
  return [...planned.values()].sort(
    (a, b) => dtypes[b.dtype].bits - dtypes[a.dtype].bits || (a.name < b.name ? -1 : 1),
  );
}

function headerOf(tensors: readonly PlannedTensor[], metadata: Readonly<Record<string, string>>): Buffer {
  const members: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    members.push(`${JSON.stringify(metadataName)}:{${pairs.join(",")}}`);
  }
  let offset = 0;
  for (const { name, dtype, dtypeName, shape, elements } of tensors) {
    const end = offset + bytesOf(dtype, elements);
    const value = JSON.stringify({ dtype: dtypeName, shape, data_offsets: [offset, end] });
    members.push(`${JSON.stringify(name)}:${value}`);
    offset = end;
  }
  const text = `{${members.join(",")}}`;
  const alignment = 8; // bytes; so that the data is aligned when the file is mapped
  const padded = text + " ".repeat((alignment - (Buffer.byteLength(text) % alignment)) % alignment);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(padded)));
  return Buffer.concat([prefix, Buffer.from(padded)]);
}

async function writeElements(file: FileHandle, { name, dtype, elements, source }: PlannedTensor): Promise<void> {
  const perChunk = chunkBytes / Math.max(4, dtypes[dtype].bits / 8); // small floats take 4 bytes an element in memory
  for (let start = 0; start < elements; start += perChunk) {
    const end = Math.min(elements, start + perChunk);
    if ("read" in source) {
      const { values } = await source.read(start, end);
      if (values.length !== end - start)
        throw new InternalError(`${values.length} elements of ${name} were read where ${end - start} were asked for`);
      await file.writeFile(pack(dtype, values, 0, values.length));
    } else await file.writeFile(pack(dtype, source.values, start, end));
  }
}

const truncated = (path: string, wanted: number, got: number): CompileError =>
  fail(path, "weights-truncated", `the file holds ${got} bytes but its header needs ${wanted}`);

const fail = (path: string, code: string, message: string): CompileError =>
  compileError(code, message, { loc: startOf(path) });
