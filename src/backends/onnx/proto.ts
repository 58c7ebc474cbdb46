// ONNX messages from plain data. onnx-proto speaks ONNX 1.10; the one younger field written here is
// NodeProto.metadata_props. Graphs are framed by hand, so that embedded weights are never copied twice.
import onnxProto from "onnx-proto";
import type { Dim, DType, TensorData, TensorType } from "../../ir/type.ts";
import { elementType, packElements } from "./elements.ts";

const { onnx } = onnxProto;

/** An integer, a text, a list of integers, or what needs saying: a float, floats, a tensor. */
export type OnnxAttr =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly tensor: TensorData };

export interface OnnxNode {
  readonly op: string;
  /** "" is ai.onnx. */
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attrs: Readonly<Record<string, OnnxAttr>>;
  /** `vit.ts:41:28 (made by mergeTokens)`; empty for none. */
  readonly doc: string;
}

export interface OnnxFunction {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly nodes: readonly OnnxNode[];
  readonly doc: string;
}

/** An input or output of an ONNX file; symbols are named dimensions. */
export interface OnnxValue {
  readonly name: string;
  readonly type: TensorType;
}

/** Bytes that come a few megabytes at a time, `length` of them. */
export interface StreamedBytes {
  readonly length: number;
  stream(): AsyncIterable<Uint8Array>;
}

/** Contents of an initializer: packed bytes, at hand or to come, or where they lie in the external file. */
export interface OnnxInitializer {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly contents:
    | { readonly bytes: Uint8Array | StreamedBytes }
    | { readonly location: string; readonly offset: number; readonly length: number };
}

export interface OnnxModel {
  readonly name: string;
  readonly opset: number;
  readonly irVersion: number;
  /** Versions of domains other than ai.onnx that nodes come from. */
  readonly domains: Readonly<Record<string, number>>;
  readonly nodes: readonly OnnxNode[];
  readonly functions: readonly OnnxFunction[];
  readonly initializers: readonly OnnxInitializer[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly metadata: Readonly<Record<string, string>>;
}

export const functionDomain = "tamis";
const metadataSince = 10; // IR version that gave nodes metadata_props

/** The bytes of a .onnx file whose weights are at hand. */
export function encodeModel(model: OnnxModel): Uint8Array {
  return joined(encodeParts(model) as readonly Uint8Array[]);
}

/** The bytes of a .onnx file in order. Equal models give equal bytes. */
export function encodeParts(model: OnnxModel): readonly (Uint8Array | StreamedBytes)[] {
  const withMetadata = model.irVersion >= metadataSince;
  const graph = [
    ...model.nodes.flatMap((node) => field(1, encodeNode(node, withMetadata))),
    ...model.initializers.flatMap((tensor) => fieldOf(5, encodeInitializer(tensor))),
    onnx.GraphProto.encode({
      name: model.name,
      input: model.inputs.map(valueInfo),
      output: model.outputs.map(valueInfo),
    }).finish(),
  ];
  const opsets = [{ domain: "", version: model.opset }, ...domainVersions(model.domains)];
  const head = onnx.ModelProto.encode({
    irVersion: model.irVersion,
    producerName: "tamis",
    opsetImport: [...opsets, ...(model.functions.length > 0 ? [{ domain: functionDomain, version: 1 }] : [])],
    metadataProps: Object.entries(model.metadata).map(([key, value]) => ({ key, value })),
  }).finish();
  const functions = model.functions.flatMap((f) => field(25, encodeFunction(f, opsets, withMetadata)));
  return [head, ...fieldOf(7, graph), ...functions];
}

const domainVersions = (domains: Readonly<Record<string, number>>) =>
  Object.entries(domains).map(([domain, version]) => ({ domain, version }));

function encodeFunction(
  f: OnnxFunction,
  opsetImport: readonly { domain: string; version: number }[],
  withMetadata: boolean,
): Uint8Array {
  const used = new Set(f.nodes.map((node) => node.domain));
  const head = onnx.FunctionProto.encode({
    name: f.name,
    domain: functionDomain,
    input: [...f.inputs],
    output: [...f.outputs],
    docString: f.doc,
    opsetImport: opsetImport.filter(({ domain }) => domain === "" || used.has(domain)),
  }).finish();
  return joined([head, ...f.nodes.flatMap((node) => field(7, encodeNode(node, withMetadata)))]);
}

function encodeNode(node: OnnxNode, withMetadata: boolean): Uint8Array {
  const head = onnx.NodeProto.encode({
    opType: node.op,
    domain: node.domain,
    name: node.name,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: Object.entries(node.attrs).map(([name, value]) => ({ name, ...attribute(value) })),
    docString: node.doc,
  }).finish();
  if (!withMetadata || node.doc === "") return head;
  const entry = onnx.StringStringEntryProto.encode({ key: "source", value: node.doc }).finish();
  return joined([head, ...field(9, entry)]);
}

const types = onnx.AttributeProto.AttributeType;

function attribute(value: OnnxAttr): onnxProto.onnx.IAttributeProto {
  if (typeof value === "number") return { type: types.INT, i: value };
  if (typeof value === "string") return { type: types.STRING, s: new TextEncoder().encode(value) };
  if ("float" in value) return { type: types.FLOAT, f: value.float };
  if ("floats" in value) return { type: types.FLOATS, floats: [...value.floats] };
  if ("tensor" in value) {
    const { dtype, shape, values } = value.tensor;
    const rawData = packElements(dtype, values);
    return { type: types.TENSOR, t: { dims: [...shape], dataType: elementType[dtype], rawData } };
  }
  return { type: types.INTS, ints: [...value] };
}

function valueInfo({ name, type }: OnnxValue): onnxProto.onnx.IValueInfoProto {
  const dim = (d: Dim) => (typeof d === "number" ? { dimValue: d } : { dimParam: d });
  return {
    name,
    type: { tensorType: { elemType: elementType[type.dtype], shape: { dim: type.shape.map(dim) } } },
  };
}

function encodeInitializer({ name, dtype, shape, contents }: OnnxInitializer): readonly Part[] {
  const head = { name, dims: [...shape], dataType: elementType[dtype] };
  if ("bytes" in contents) return [onnx.TensorProto.encode(head).finish(), ...fieldOf(9, [contents.bytes])];
  const { location, offset, length } = contents;
  const externalData = Object.entries({ location, offset, length }).map(([key, value]) => ({
    key,
    value: String(value),
  }));
  return [onnx.TensorProto.encode({ ...head, externalData, dataLocation: 1 }).finish()];
}

/** A length-delimited protobuf field. */
const field = (number: number, bytes: Uint8Array): readonly Uint8Array[] => fieldOf(number, [bytes]);

type Part = Uint8Array | StreamedBytes;

function fieldOf<P extends Part>(number: number, parts: readonly P[]): readonly (P | Uint8Array)[] {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [Uint8Array.from([...varint(number * 8 + 2), ...varint(length)]), ...parts];
}

function varint(value: number): readonly number[] {
  const out: number[] = [];
  let rest = value;
  while (rest >= 128) {
    out.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...out, rest];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
