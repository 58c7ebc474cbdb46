import { basename } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { type CompileError, compileError } from "../../../ir/diagnostic.ts";
import type { WeightSource } from "../../../ir/graph.ts";
import { memoryReader, type OpenFile, openFile, readBytes, startOf } from "../files.ts";
import { packedSource } from "../packedSource.ts";
import type { Arrays } from "./arrays.ts";

/** `t10k-images-idx3-ubyte.gz` */
export const isIdxPictures = (path: string): boolean => /images?[-._]idx3[-._]ubyte(\.gz)?$/i.test(basename(path));

/**
 * Pictures and labels in the format of MNIST (idx of unsigned bytes, .gz or not); the labels lie beside the pictures
 * under the name that says so. Fails with `data-format` and `file-not-found`. Source: yann.lecun.com/exdb/mnist.
 */
export async function openIdx(path: string): Promise<Arrays> {
  const labelsPath = path.replace(/images?([-._])idx3/i, (_, between: string) => `labels${between}idx1`);
  const pictures = await openPart(path, 3);
  try {
    const labels = await openPart(labelsPath, 1);
    const close = async (): Promise<void> => {
      await pictures.close();
      await labels.close();
    };
    return { path, tensors: new Map([["images", pictures.source], ["labels", labels.source]]), close }; // biome-ignore format: a table
  } catch (error) {
    await pictures.close();
    throw error;
  }
}

const packedLimit = 512 * 2 ** 20; // bytes of a .gz
const unpackedLimit = 2 ** 31 - 1; // bytes; a .gz is unpacked as a whole

/** `rank` axes, whose sizes stand in the header as 32-bit numbers, big end first. */
async function openPart(
  path: string,
  rank: number,
): Promise<{ readonly source: WeightSource; close(): Promise<void> }> {
  const file = path.endsWith(".gz") ? await unpacked(path) : await openFile(path);
  try {
    const headerBytes = 4 + 4 * rank;
    const header = Buffer.alloc(headerBytes);
    if (file.size < headerBytes) throw wrong(path, `it holds ${file.size} bytes, its header takes ${headerBytes}`);
    await file.read(header, 0);
    const magic = header.readUInt32BE(0);
    const wantedMagic = 0x0800 + rank; // 8 for unsigned bytes
    if (magic !== wantedMagic)
      throw wrong(path, `it begins with ${hex(magic)}, unsigned bytes of ${rank} axes with ${hex(wantedMagic)}`);
    const shape = Array.from({ length: rank }, (_, axis) => header.readUInt32BE(4 + 4 * axis));
    const elements = shape.reduce((product, dim) => product * dim, 1);
    if (file.size !== headerBytes + elements)
      throw wrong(path, `[${shape.join(",")}] takes ${headerBytes + elements} bytes, it holds ${file.size}`);
    const { identity } = file;
    return {
      source: packedSource({ dtype: "u8", shape, bytes: file, offset: headerBytes, identity }),
      close: file.close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function unpacked(path: string): Promise<OpenFile> {
  const packed = await readBytes(path, packedLimit);
  try {
    const bytes = await promisify(gunzip)(packed, { maxOutputLength: unpackedLimit });
    return { ...memoryReader(path, bytes), identity: path, close: async () => undefined };
  } catch (error) {
    throw wrong(path, `it cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const hex = (word: number): string => `0x${word.toString(16).padStart(8, "0")}`;

const wrong = (path: string, reason: string): CompileError =>
  compileError("data-format", `${path} is no idx file of this kind: ${reason}`, { loc: startOf(path) });
