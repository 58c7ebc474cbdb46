import { type CompileError, compileError } from "../../ir/diagnostic.ts";
import { pack } from "../../ir/packing.ts";
import { allocate, bytesOf, type DType, type Elements, formatType, type TensorData } from "../../ir/type.ts";
import { type OpenFile, openFile, startOf, writeAtomically } from "./files.ts";
import { chunkBytes, countElements, packedSource } from "./packedSource.ts";
import { quoted } from "./safetensorsHeader.ts";

/** NumPy's type letters; undefined where NumPy has no such dtype. */
const descriptors = {
  f64: "<f8",
  f32: "<f4",
  f16: "<f2",
  bf16: undefined,
  f8e4m3: undefined,
  f8e5m2: undefined,
  i64: "<i8",
  i32: "<i4",
  i16: "<i2",
  i8: "|i1",
  i4: undefined,
  u32: "<u4",
  u16: "<u2",
  u8: "|u1",
  u4: undefined,
  u2: undefined,
  bool: "|b1",
} as const satisfies Record<DType, string | undefined>;

const magic = Buffer.from("\x93NUMPY", "latin1");
const headerLimit = 65_536; // bytes; a hundred dimensions take a tenth of it
const alignment = 64; // bytes; where NumPy begins the data

/**
 * Reads one array, of little-endian elements, in C or Fortran order; the result is row-major.
 * Fails with `weights-header`, `weights-dtype`, `weights-size` or `weights-truncated`.
 * Source: numpy.lib.format, versions 1.0 to 3.0.
 */
export async function readNpy(path: string): Promise<TensorData> {
  const file = await openFile(path);
  try {
    const { dtype, shape, fortranOrder, dataStart } = await readHeader(file);
    const elements = countElements(shape);
    if (elements === undefined)
      throw fail(path, "weights-size", "the shape is not a list of sizes whose product is below 2^53");
    const wanted = bytesOf(dtype, elements);
    const got = file.size - dataStart;
    if (got !== wanted) {
      const code = got < wanted ? "weights-truncated" : "weights-size";
      throw fail(path, code, `${formatType({ dtype, shape })} needs ${wanted} bytes of data, the file holds ${got}`);
    }
    const source = packedSource({ dtype, shape, bytes: file, offset: dataStart, identity: file.identity });
    const read = await source.read();
    return fortranOrder ? { dtype, shape, values: fromFortranOrder(read) } : read;
  } finally {
    await file.close();
  }
}

interface NpyHeader {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly fortranOrder: boolean;
  readonly dataStart: number;
}

async function readHeader(file: OpenFile): Promise<NpyHeader> {
  const { path } = file;
  const prefix = Buffer.alloc(12);
  await file.read(prefix.subarray(0, 10), 0);
  if (!prefix.subarray(0, 6).equals(magic)) throw fail(path, "weights-header", "the file is not a .npy file");
  const version = prefix[6] as number;
  if (version < 1 || version > 3) throw fail(path, "weights-header", `the .npy version is ${version}, not 1, 2 or 3`);
  if (version > 1) await file.read(prefix.subarray(10), 10);
  const length = version === 1 ? prefix.readUInt16LE(8) : prefix.readUInt32LE(8);
  if (length > headerLimit)
    throw fail(path, "weights-header", `the header claims ${length} bytes, more than the ${headerLimit} allowed`);
  const headerStart = version === 1 ? 10 : 12;
  const header = Buffer.alloc(length);
  await file.read(header, headerStart);
  const fields = parseFields(header.toString(version === 3 ? "utf8" : "latin1"), path);
  return { ...fields, dataStart: headerStart + length };
}

const field = /\s*'(\w+)'\s*:\s*(?:'([^'\\]*)'|(True|False)|\(([\d\s,]*)\))\s*(?:,|(?=\}))/y;

/** The Python dictionary of exactly descr, fortran_order and shape, in any order. */
function parseFields(text: string, path: string): Omit<NpyHeader, "dataStart"> {
  const found = new Map<string, { text: string | undefined; truth: string | undefined; dims: string | undefined }>();
  if (!text.startsWith("{")) throw fail(path, "weights-header", "the header is not a Python dictionary");
  let rest = 1;
  field.lastIndex = rest;
  for (let match = field.exec(text); match !== null; match = field.exec(text)) {
    const [, key, string, truth, dims] = match;
    if (key === undefined || found.has(key)) throw fail(path, "weights-header", `the header holds ${key} twice`);
    found.set(key, { text: string, truth, dims });
    rest = field.lastIndex;
  }
  if (/'descr'\s*:\s*\[/.test(text)) throw unsupported(path, "a structured type");
  const descriptor = found.get("descr")?.text;
  const order = found.get("fortran_order")?.truth;
  const dims = found.get("shape")?.dims;
  if (
    descriptor === undefined ||
    order === undefined ||
    dims === undefined ||
    found.size !== 3 ||
    !/^\s*\}\s*$/.test(text.slice(rest))
  )
    throw fail(path, "weights-header", "the header does not consist of descr, fortran_order and shape");
  const sizes = dims.split(",").map((dim) => dim.trim());
  if (sizes.at(-1) === "") sizes.pop(); // (3,) and ()
  const shape = sizes.map((dim) => (/^\d+$/.test(dim) ? Number(dim) : Number.NaN));
  return { dtype: dtypeOf(descriptor, path), shape, fortranOrder: order === "True" };
}

function dtypeOf(descriptor: string, path: string): DType {
  // One-byte types have no byte order, and old files give them one.
  const wanted = /^[<>=]([bui]1|\?)$/.test(descriptor) ? `|${descriptor.slice(1)}` : descriptor;
  for (const [dtype, known] of Object.entries(descriptors)) if (known === wanted) return dtype as DType;
  throw unsupported(path, quoted(descriptor));
}

/** Column-major to row-major: the element at index (i, j, k) of the first is at i + d0 * (j + d1 * k). */
function fromFortranOrder({ dtype, shape, values }: TensorData): Elements {
  const rowMajor = allocate(dtype, values.length);
  const strides: number[] = [];
  let stride = 1;
  for (const dim of shape) {
    strides.push(stride);
    stride *= dim;
  }
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < values.length; to++) {
    rowMajor[to] = values[from] as never;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= (strides[axis] as number) * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return rowMajor;
}

/** Writes version 1.0 in C order; `weights-dtype` for a dtype that NumPy lacks, and see `writeAtomically`. */
export async function writeNpy(path: string, { dtype, shape, values }: TensorData): Promise<void> {
  const descriptor = descriptors[dtype];
  if (descriptor === undefined)
    throw compileError("weights-dtype", `NumPy has no ${dtype}`, { ...at(path), help: "write a .safetensors file" });
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': (${dims}), }`;
  const unpadded = magic.length + 4 + text.length + 1;
  const padding = " ".repeat((alignment - (unpadded % alignment)) % alignment);
  const header = Buffer.from(`${text}${padding}\n`, "latin1");
  const prefix = Buffer.concat([magic, Buffer.from([1, 0, header.length & 0xff, header.length >> 8])]);
  await writeAtomically(path, async (file) => {
    await file.writeFile(prefix);
    await file.writeFile(header);
    const perChunk = chunkBytes / 8;
    for (let start = 0; start < values.length; start += perChunk)
      await file.writeFile(pack(dtype, values, start, Math.min(values.length, start + perChunk)));
  });
}

const at = (path: string) => ({ loc: startOf(path) });

const unsupported = (path: string, type: string): CompileError =>
  compileError("weights-dtype", `elements of ${type} are not supported`, {
    ...at(path),
    help: `save the array as one of ${Object.values(descriptors).filter(Boolean).join(", ")}`,
  });

const fail = (path: string, code: string, message: string): CompileError => compileError(code, message, at(path));
