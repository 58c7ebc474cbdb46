import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InferenceSession, Tensor } from "onnxruntime-common";
import type { OnnxArtifact } from "../../backends/onnx/index.ts";
import { bindSizes } from "../../ir/bindSizes.ts";
import { compileError, InternalError, OpError, unknownLoc } from "../../ir/diagnostic.ts";
import { parseDim } from "../../ir/dim.ts";
import { pack, unpack } from "../../ir/packing.ts";
import { allocate, type Dim, type DType, type Elements, type TensorData } from "../../ir/type.ts";
import type { Session, SessionValue } from "../session.ts";
import { fallbackError, isFallbackRefusal } from "./ortPlacement.ts";
import { firstLine, plainReason, providerFailure } from "./ortProbe.ts";
import { prepareAdapter } from "./webgpuDevice.ts";
import { writeOnnx } from "./writeOnnx.ts";

/** How ONNX Runtime runs a model. */
export interface OrtSessionOptions {
  /** Default cpu. */
  readonly provider?: "cpu" | "webgpu" | "cuda";
  /** Threads of one operator; default: what ONNX Runtime picks. */
  readonly threads?: number;
  /** Further options of ONNX Runtime, as its InferenceSession.SessionOptions has them. */
  readonly ort?: Readonly<Record<string, unknown>>;
}

/**
 * Loads an ONNX file, its bytes, or an artefact not yet written, into ONNX Runtime. On WebGPU the CPU does not stand in
 * for nodes that the provider does not take: they are `unsupported-op`. Fails with `missing-dependency` where
 * onnxruntime-node is not installed, `provider-unavailable` and `onnx-load`; runs fail with `bad-input` and `onnx-run`.
 */
export async function createOrtSession(
  source: string | Uint8Array | OnnxArtifact,
  options: OrtSessionOptions = {},
): Promise<Session> {
  const ort = await importOrt();
  const { provider = "cpu", threads } = options;
  const looked = provider === "webgpu" ? await adapter() : [];
  const settings: InferenceSession.SessionOptions = {
    executionProviders: [provider],
    logSeverityLevel: logLevels[provider],
    ...(threads === undefined ? {} : { intraOpNumThreads: threads, interOpNumThreads: 1 }),
    ...(provider === "webgpu" && { extra: { session: { disable_cpu_ep_fallback: "1" } } }),
    ...options.ort,
  };
  const create = (from: string | Uint8Array): Promise<InferenceSession> =>
    typeof from === "string"
      ? ort.InferenceSession.create(from, settings)
      : ort.InferenceSession.create(from, settings);
  const load = async (from: string | Uint8Array): Promise<Session> => {
    try {
      return wrapSession(ort, await create(from));
    } catch (error) {
      const message = firstLine(error);
      if (!isFallbackRefusal(message)) throw loadFailure(message, provider, looked);
      throw await withFile(from, (path) => fallbackError(path, provider));
    }
  };
  if (typeof source === "string" || source instanceof Uint8Array) return load(source);
  if (source.externalFile === undefined && source.weightBytes < fromFileBytes) return load(await source.encode());
  // From a file ONNX Runtime reads the weights once, without a copy of ours; it needs the file only while it loads.
  return withFile(source, load);
}

const fromFileBytes = 64 * 2 ** 20; // of weights; below, a temporary file costs more than the copy

/**
 * ONNX Runtime's ORT_LOGGING_LEVEL. What fails is thrown as well, so errors are not logged. On CUDA the CPU computes
 * shapes by ONNX Runtime's own choice: its warning of that (2) is let through.
 */
const logLevels = { cpu: 4, webgpu: 4, cuda: 2 } as const;

let looking: Promise<readonly string[]> | undefined;

/** What was looked for, for ONNX Runtime's WebGPU provider to find: once, since it never looks again. */
const adapter = (): Promise<readonly string[]> => {
  looking ??= prepareAdapter(() => providerFailure("webgpu"));
  return looking;
};

/** Calls with the path of a model, written to a temporary folder where it has none. */
async function withFile<T>(source: string | Uint8Array | OnnxArtifact, body: (path: string) => Promise<T>): Promise<T> {
  if (typeof source === "string") return body(source);
  const folder = await mkdtemp(join(tmpdir(), "tamis-onnx-"));
  try {
    const path = join(folder, "model.onnx");
    await (source instanceof Uint8Array ? writeFile(path, source) : writeOnnx(source, path));
    return await body(path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

type Ort = typeof import("onnxruntime-node");

async function importOrt(): Promise<Ort> {
  try {
    const ort = await import("onnxruntime-node");
    ort.env.logLevel = "fatal"; // of what ONNX Runtime says outside sessions; errors are thrown as well
    return ort;
  } catch (error) {
    throw compileError("missing-dependency", `onnxruntime-node cannot be loaded: ${firstLine(error)}`, {
      help: "npm install --ignore-scripts onnxruntime-node",
    });
  }
}

function loadFailure(message: string, provider: string, looked: readonly string[]) {
  if (
    /backend not found|provider.*(not (enabled|available|supported)|fail)|libonnxruntime_providers|WebGPU adapter/i.test(
      message,
    )
  )
    return compileError(
      "provider-unavailable",
      `ONNX Runtime has no ${provider} provider here: ${plainReason(message)}`,
      {
        notes: looked.map((message) => ({ message, loc: unknownLoc })),
        help: provider === "cuda" ? cudaHelp : "use the cpu provider, or see `tamis devices`",
      },
    );
  return compileError("onnx-load", `ONNX Runtime cannot load the model: ${message}`);
}

/** What a kernel says of the numbers that it got, or of the memory that it did not get. */
function runFailure(message: string) {
  const node = /^Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: (.*)$/s.exec(
    message,
  );
  const [, op, name, reason = message] = node ?? [];
  const what = op === undefined ? "the model" : `${op} (${name})`;
  return compileError("onnx-run", `ONNX Runtime cannot run ${what}: ${plainReason(reason)}`, {
    help: "`--target reference` names the line of the model where numbers are at fault",
  });
}

const cudaHelp =
  "onnxruntime-node's CUDA libraries come with its install script (npm rebuild onnxruntime-node, with a network) and need an NVIDIA driver; use the cpu provider, or see `tamis devices`";

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
      const results = await session.run(feeds).catch((error: unknown) => {
        throw runFailure(firstLine(error));
      });
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
