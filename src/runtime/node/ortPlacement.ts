// Which nodes of a model ONNX Runtime would leave to the CPU, and why an operator is not on its provider.
import { spawn } from "node:child_process";
import onnxProto from "onnx-proto";
import { type CompileError, compileError, type Loc, unknownLoc } from "../../ir/diagnostic.ts";
import { readBytes } from "./files.ts";
import { adapterEnvironment } from "./webgpuDevice.ts";

const { onnx } = onnxProto;

/** A node as ONNX Runtime names it after it wrote out the file's functions. */
interface PlacedNode {
  readonly op: string;
  readonly name: string;
}

/** A node of a file, with the line of the model that its docString names. */
interface FileNode extends PlacedNode {
  readonly doc: string;
}

/** What ONNX Runtime says where a provider other than the CPU's was asked for alone and does not take all nodes. */
export const isFallbackRefusal = (message: string): boolean =>
  /assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled/.test(message);

/**
 * The error for a model of which a provider takes only a part: each node that would run on the CPU, at the line of the
 * model that its docString names. ONNX Runtime tells where nodes lie in its verbose log alone, so the file is loaded
 * once more in a process of its own.
 */
export async function fallbackError(path: string, provider: string): Promise<CompileError> {
  const ofFile = nodesOf(await readBytes(path, modelLimit));
  const nodes = await nodesOnCpu(path, provider, ofFile);
  const docs = new Map(ofFile.map(({ name, doc }) => [name, doc]));
  const text = ({ op, name }: PlacedNode): string => `${op} (${name})`;
  const [first, ...more] = nodes;
  const what = first === undefined ? "some nodes" : text(first);
  return compileError(
    "unsupported-op",
    `ONNX Runtime's ${provider} provider does not take ${what}, and the CPU may not stand in for it`,
    {
      loc: first === undefined ? unknownLoc : locOf(first.name, docs),
      notes: more.map((node) => ({ message: `nor ${text(node)}`, loc: locOf(node.name, docs) })),
      help:
        provider === "webgpu"
          ? "compile with --profile ort-webgpu; where sizes are computed, fix them with --pass bindSymbols:batch=1"
          : "run on the cpu provider",
    },
  );
}

const modelLimit = 2 ** 31 - 1; // bytes; protobuf messages are no larger

async function nodesOnCpu(path: string, provider: string, ofFile: readonly FileNode[]): Promise<readonly PlacedNode[]> {
  const entry = import.meta.resolve("onnxruntime-node");
  const log = await new Promise<string>((resolve, reject) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", probe, entry, path, provider], {
      stdio: ["ignore", "ignore", "pipe"],
      env: adapterEnvironment(),
    });
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    child.on("error", reject).on("close", () => resolve(text));
  });
  if (/All nodes placed on \[CPUExecutionProvider\]/.test(log)) return ofFile; // they are not listed then
  const section = log.split("placed on [").find((part) => part.startsWith("CPUExecutionProvider]")) ?? "";
  return [...section.matchAll(/VerifyEachNodeIsAssignedToAnEp\]\s+(\S+) \((.*)\)/g)].map(([, op = "", name = ""]) => ({
    op,
    name,
  }));
}

/** Loads a file with the CPU allowed and everything logged to standard error. */
const probe = `
const [entry, path, provider] = process.argv.slice(1);
const { default: ort } = await import(entry);
const options = { executionProviders: [provider], logSeverityLevel: 0 };
await (await ort.InferenceSession.create(path, options)).release();`;

/** The nodes of a file; those of functions have the name that they get when their function is written out. */
function nodesOf(bytes: Uint8Array): readonly FileNode[] {
  const { graph, functions } = onnx.ModelProto.decode(bytes);
  const called = new Set(functions.map(({ name }) => name));
  const parts = [{ before: "", node: graph?.node }, ...functions.map((f) => ({ before: `_inlfunc_${f.name}_`, ...f }))];
  return parts.flatMap(({ before, node }) =>
    (node ?? [])
      .filter(({ opType }) => !called.has(opType ?? ""))
      .map(({ opType, name, docString }) => ({ op: opType ?? "", name: `${before}${name}`, doc: docString ?? "" })),
  );
}

/** ONNX Runtime numbers names that it has met before: `x`, `x_token_3`. */
function locOf(name: string, docs: ReadonlyMap<string, string>): Loc {
  const doc = docs.get(name) ?? docs.get(name.replace(/_token_\d+.*$/, "")) ?? "";
  const place = /^(.+):(\d+):(\d+)/.exec(doc);
  if (place === null) return unknownLoc;
  const [, file = "", line, column] = place;
  return { kind: "file", file, line: Number(line), column: Number(column) };
}
