import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InferenceSession, Tensor } from "onnxruntime-common";
import type { OnnxArtifact } from "../../backends/onnx/index.ts";
import { bindSizes } from "../../ir/bindSizes.ts";
import { compileError, InternalError, OpError } from "../../ir/diagnostic.ts";
import { parseDim } from "../../ir/dim.ts";
import { pack, unpack } from "../../ir/packing.ts";
import { allocate, type Dim, type DType, type Elements, type TensorData } from "../../ir/type.ts";
import type { Session, SessionValue } from "../session.ts";
import { writeOnnx } from "./writeOnnx.ts";

export interface OrtSessionOptions {
  /** Default cpu. */
  readonly provider?: "cpu" | "webgpu" | "cuda";
  /** Threads of one operator; default: what ONNX Runtime picks. */
  readonly threads?: number;
  /** Further options of ONNX Runtime, as its InferenceSession.SessionOptions has them. */
  readonly ort?: Readonly<Record<string, unknown>>;
}

/**
 * Loads an ONNX file, its bytes, or an artefact not yet written, into ONNX Runtime. Fails with `missing-dependency`
 * where onnxruntime-node is not installed, `provider-unavailable` and `onnx-load`.
 */
export async function createOrtSession(
  source: string | Uint8Array | OnnxArtifact,
  options: OrtSessionOptions = {},
): Promise<Session> {
  const ort = await importOrt();
  const { provider = "cpu", threads } = options;
  const settings: InferenceSession.SessionOptions = {
    executionProviders: [provider],
    logSeverityLevel: 3,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads, interOpNumThreads: 1 }),
    ...options.ort,
  };
  const load = async (from: string | Uint8Array): Promise<InferenceSession> => {
    try {
      return await (typeof from === "string"
        ? ort.InferenceSession.create(from, settings)
        : ort.InferenceSession.create(from, settings));
    } catch (error) {
      throw loadFailure(error, provider);
    }
  };
  if (typeof source === "string" || source instanceof Uint8Array) return wrapSession(ort, await load(source));
  if (source.externalFile === undefined && source.weightBytes < fromFileBytes)
    return wrapSession(ort, await load(await source.encode()));
  // From a file ONNX Runtime reads the weights once, without a copy of ours; it needs the file only while it loads.
  const folder = await mkdtemp(join(tmpdir(), "tamis-onnx-"));
  try {
    const path = join(folder, "model.onnx");
    await writeOnnx(source, path);
    return wrapSession(ort, await load(path));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const fromFileBytes = 64 * 2 ** 20; // of weights; below, a temporary file costs more than the copy

type Ort = typeof import("onnxruntime-node");

async function importOrt(): Promise<Ort> {
  try {
    return await import("onnxruntime-node");
  } catch (error) {
    throw compileError("missing-dependency", `onnxruntime-node cannot be loaded: ${firstLine(error)}`, {
      help: "npm install --ignore-scripts onnxruntime-node",
    });
  }
}

function loadFailure(error: unknown, provider: string) {
  const message = firstLine(error);
  if (/backend not found|provider.*(not (enabled|available|supported)|fail)|libonnxruntime_providers/i.test(message))
    return compileError("provider-unavailable", `ONNX Runtime has no ${provider} provider here: ${message}`, {
      help: "use the cpu provider, or see `tamis devices`",
    });
  return compileError("onnx-load", `ONNX Runtime cannot load the model: ${message}`);
}

const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";

function wrapSession(ort: Ort, session: InferenceSession): Session {
  const inputs = session.inputMetadata.map(describe);
  const outputs = session.outputMetadata.map(describe);
  let live = true;
  const dispose = async (): Promise<void> => {
    if (!live) return;
    live = false;
    await session.release();
  };
  return {
    inputs,
    outputs,
    async run(given) {
      if (!live) throw new InternalError("a session was run after it was disposed");
      bindSizes(inputs, given);
      const feeds: Record<string, Tensor> = {};
      for (const { name } of inputs) feeds[name] = toOrt(ort, given[name] as TensorData);
      const results = await session.run(feeds);
      return Object.fromEntries(
        outputs.map((output) => [output.name, fromOrt(results[output.name] as Tensor, output)]),
      );
    },
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
}

const ortTypes = {
  f32: "float32",
  f64: "float64",
  f16: "float16",
  i64: "int64",
  i32: "int32",
  i16: "int16",
  i8: "int8",
  u32: "uint32",
  u16: "uint16",
  u8: "uint8",
  bool: "bool",
} as const satisfies Partial<Record<DType, Tensor.Type>>;

const dtypeOf = new Map<string, DType>(Object.entries(ortTypes).map(([dtype, type]) => [type, dtype as DType]));

function describe(meta: InferenceSession.ValueMetadata): SessionValue {
  const dtype = meta.isTensor ? dtypeOf.get(meta.type) : undefined;
  if (!meta.isTensor || dtype === undefined)
    throw compileError(
      "unsupported-dtype",
      `${meta.name} is ${meta.isTensor ? meta.type : "no tensor"}, which sessions cannot pass`,
      {
        help: "cast at the model's border",
      },
    );
  return { name: meta.name, dtype, shape: meta.shape.map((dim, axis) => dimOf(dim, `${meta.name}_${axis}`)) };
}

/** Names from other exporters may be any text, or none; a symbol is a word. */
function dimOf(dim: number | string, place: string): Dim {
  if (typeof dim === "number") return dim;
  const word = (text: string): string => `_${text.replaceAll(/\W/g, "_")}`;
  try {
    return dim === "" ? word(place) : parseDim(dim);
  } catch (error) {
    if (!(error instanceof OpError)) throw error;
    return word(dim);
  }
}

function toOrt(ort: Ort, { dtype, shape, values }: TensorData): Tensor {
  const type = ortTypes[dtype as keyof typeof ortTypes];
  const data = dtype === "f16" ? new Uint16Array(pack(dtype, values, 0, values.length).buffer) : values;
  return new ort.Tensor(type as "float32", data as Float32Array, shape);
}

function fromOrt(tensor: Tensor, { dtype }: SessionValue): TensorData {
  const raw = tensor.data as Elements;
  if (dtype !== "f16") return { dtype, shape: tensor.dims, values: raw };
  const values = allocate(dtype, raw.length);
  unpack(dtype, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength), 0, values, { at: 0, count: raw.length });
  return { dtype, shape: tensor.dims, values };
}
