import { createHash } from "node:crypto";
import { dirname } from "node:path";
import onnxProto from "onnx-proto";
import { type CompileError, compileError } from "../../ir/diagnostic.ts";
import type { WeightSource } from "../../ir/graph.ts";
import { bytesOf, type DType, dtypes } from "../../ir/type.ts";
import { type ByteReader, insideFolder, memoryReader, type OpenFile, openFile, readBytes, startOf } from "./files.ts";
import { countElements, isCount, packedSource } from "./packedSource.ts";
import { quoted } from "./safetensorsHeader.ts";

const { onnx } = onnxProto;
type TensorProto = onnxProto.onnx.TensorProto;

/** The initializers of an ONNX file; holds its external files open until it is closed. */
export interface OnnxWeights {
  readonly path: string;
  /** The model's metadata_props. */
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of the file. Small floats are widened and sub-byte integers unpacked when read. */
  readonly tensors: ReadonlyMap<string, WeightSource>;
  close(): Promise<void>;
}

type TypedField = "floatData" | "int32Data" | "int64Data" | "doubleData" | "uint64Data";

/** By TensorProto.DataType; the numbers after 16 are younger than onnx-proto's. Source: onnx/onnx.proto. */
const elementTypes: ReadonlyMap<number, { readonly dtype: DType; readonly field: TypedField }> = new Map([
  [1, { dtype: "f32", field: "floatData" }],
  [2, { dtype: "u8", field: "int32Data" }],
  [3, { dtype: "i8", field: "int32Data" }],
  [4, { dtype: "u16", field: "int32Data" }],
  [5, { dtype: "i16", field: "int32Data" }],
  [6, { dtype: "i32", field: "int32Data" }],
  [7, { dtype: "i64", field: "int64Data" }],
  [9, { dtype: "bool", field: "int32Data" }],
  [10, { dtype: "f16", field: "int32Data" }],
  [11, { dtype: "f64", field: "doubleData" }],
  [12, { dtype: "u32", field: "uint64Data" }],
  [16, { dtype: "bf16", field: "int32Data" }],
  [17, { dtype: "f8e4m3", field: "int32Data" }],
  [19, { dtype: "f8e5m2", field: "int32Data" }],
  [21, { dtype: "u4", field: "int32Data" }],
  [22, { dtype: "i4", field: "int32Data" }],
  [25, { dtype: "u2", field: "int32Data" }],
]);

const modelLimit = 2 ** 31 - 1; // bytes; protobuf messages are no larger
const externalLocation = 1; // TensorProto.DataLocation.EXTERNAL

/**
 * Reads the model's own bytes into memory; external contents stay in their files until asked for. Fails with
 * `weights-header`, `weights-dtype`, `weights-size`, `weights-offsets`, `weights-duplicate`, `weights-truncated`,
 * `weights-path`, `file-not-found`, `file-unreadable` or `file-too-large`.
 */
export async function openOnnxWeights(path: string): Promise<OnnxWeights> {
  const bytes = await readBytes(path, modelLimit);
  const model = decodeModel(bytes, path);
  const identity = createHash("sha256").update(bytes).digest("hex");
  const external = new Map<string, OpenFile>();
  const close = async (): Promise<void> => {
    for (const file of external.values()) await file.close();
  };
  try {
    const tensors = new Map<string, WeightSource>();
    for (const [index, proto] of (model.graph?.initializer ?? []).entries()) {
      const tensor = onnx.TensorProto.create(proto);
      if (tensors.has(tensor.name))
        throw fail(path, "weights-duplicate", `two initializers are named ${quoted(tensor.name)}`);
      const place = { path, identity: `${identity} ${index}`, external };
      tensors.set(tensor.name, await sourceOf(tensor, place));
    }
    return { path, metadata: metadataOf(model.metadataProps), tensors, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function decodeModel(bytes: Uint8Array, path: string): onnxProto.onnx.ModelProto {
  try {
    const model = onnx.ModelProto.decode(bytes);
    if (model.graph !== null && model.graph !== undefined) return model;
  } catch (error) {
    // protobufjs has no error type of its own: RangeError at the end of the bytes, Error for a bad wire type.
    throw fail(path, "weights-header", `the file is not an ONNX model: ${(error as Error).message}`);
  }
  throw fail(path, "weights-header", "the file is not an ONNX model: it holds no graph");
}

function metadataOf(properties: readonly { key?: string | null; value?: string | null }[]): Record<string, string> {
  const metadata = Object.create(null) as Record<string, string>;
  for (const { key, value } of properties) metadata[key ?? ""] = value ?? "";
  return metadata;
}

interface Place {
  readonly path: string;
  readonly identity: string;
  /** Files opened so far, by location. */
  readonly external: Map<string, OpenFile>;
}

async function sourceOf(tensor: TensorProto, place: Place): Promise<WeightSource> {
  const what = `initializer ${quoted(tensor.name)}`;
  const element = elementTypes.get(tensor.dataType);
  if (element === undefined) {
    const name = onnx.TensorProto.DataType[tensor.dataType] ?? String(tensor.dataType);
    throw fail(place.path, "weights-dtype", `${what} has data type ${name}, which is not supported`);
  }
  const { dtype, field } = element;
  const shape = tensor.dims.map(toNumber);
  const elements = countElements(shape);
  if (elements === undefined || tensor.segment)
    throw fail(place.path, "weights-size", `the dims of ${what} are not sizes whose product is below 2^53`);
  const wanted = bytesOf(dtype, elements);
  const external = (tensor.dataLocation as number) === externalLocation;
  const held = external
    ? await externalBytes(tensor, wanted, place)
    : { bytes: inlineBytes(tensor, field, dtype, place.path), offset: 0, length: undefined, identity: place.identity };
  const got = held.length ?? held.bytes.size;
  if (got !== wanted)
    throw fail(place.path, "weights-size", `${what} of ${dtype}[${shape.join(",")}] needs ${wanted} bytes, not ${got}`);
  return packedSource({ dtype, shape, bytes: held.bytes, offset: held.offset, identity: held.identity });
}

/** The packed bytes of raw_data, or of the typed field that the element type says. */
function inlineBytes(tensor: TensorProto, field: TypedField, dtype: DType, path: string): ByteReader {
  if (tensor.rawData.length > 0) return memoryReader(path, tensor.rawData);
  const list: readonly unknown[] = tensor[field];
  if (field === "floatData") return memoryReader(path, bytesOfArray(Float32Array.from(list as number[])));
  if (field === "doubleData") return memoryReader(path, bytesOfArray(Float64Array.from(list as number[])));
  if (field === "int64Data") return memoryReader(path, bytesOfArray(BigInt64Array.from(list, toBigInt)));
  // A typed array keeps the low bits of each element: codes of small floats, and two packed int4, alike.
  const { bits } = dtypes[dtype];
  const low = field === "uint64Data" ? list.map((v) => Number(BigInt.asUintN(32, toBigInt(v)))) : (list as number[]);
  const packed = bits === 32 ? Int32Array.from(low) : bits === 16 ? Uint16Array.from(low) : Uint8Array.from(low);
  return memoryReader(path, bytesOfArray(packed));
}

const bytesOfArray = (array: { buffer: ArrayBuffer; byteOffset: number; byteLength: number }): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

interface HeldBytes {
  readonly bytes: ByteReader;
  readonly offset: number;
  readonly length: number;
  readonly identity: string;
}

/** Opens the file that external_data names: a path below the model's folder, with a range inside the file. */
async function externalBytes(tensor: TensorProto, wanted: number, place: Place): Promise<HeldBytes> {
  const what = `initializer ${quoted(tensor.name)}`;
  const properties = metadataOf(tensor.externalData);
  const location = properties["location"] ?? "";
  const filePath = insideFolder(dirname(place.path), location);
  if (filePath === undefined)
    throw fail(
      place.path,
      "weights-path",
      `the location ${quoted(location)} of ${what} is not a file below the folder of its model`,
    );
  const offset = parseCount(properties["offset"] ?? "0");
  const length = parseCount(properties["length"] ?? String(wanted));
  if (offset === undefined || length === undefined)
    throw fail(place.path, "weights-offsets", `the offset and length of ${what} are not byte counts`);
  let file = place.external.get(filePath);
  if (file === undefined) {
    file = await openFile(filePath);
    place.external.set(filePath, file);
  }
  if (offset + length > file.size)
    throw fail(
      place.path,
      "weights-truncated",
      `${what} ends at byte ${offset + length} of ${quoted(location)}, which holds ${file.size} bytes`,
    );
  return { bytes: file, offset, length, identity: file.identity };
}

function parseCount(text: string): number | undefined {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : undefined;
  return isCount(count) ? count : undefined;
}

/** protobufjs gives 64-bit integers as Long, { low, high } of 32 bits each, or as numbers where they were set so. */
function toBigInt(value: unknown): bigint {
  if (typeof value === "number") return BigInt(value);
  const { low, high } = value as { readonly low: number; readonly high: number };
  return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
}

const toNumber = (value: unknown): number => Number(toBigInt(value));

const fail = (path: string, code: string, message: string): CompileError =>
  compileError(code, message, { loc: startOf(path) });
