import { emitOnnx } from "../backends/onnx/index.ts";
import { emitWgsl } from "../backends/wgsl/index.ts";
import { CompileError, compileError, InternalError } from "../ir/diagnostic.ts";
import { evaluateExact } from "../ir/evaluate/index.ts";
import type { Graph } from "../ir/graph.ts";
import type { NamedComposite, Registry } from "../ir/op.ts";
import { registryWith } from "../ir/registry.ts";
import type { TensorData } from "../ir/type.ts";
import { createOrtSession } from "../runtime/node/ort.ts";
import { deviceProfile } from "../runtime/node/webgpuSession.ts";
import { createProgramSession } from "../runtime/webgpu/program.ts";
import { closeJudgeDevice, judgeDevice } from "./judgeDevice.ts";
import { randomGraph, shrinkGraph } from "./randomGraph.ts";
import { compareTensors, tolerance } from "./tolerance.ts";

type Inputs = Readonly<Record<string, TensorData>>;

export interface FuzzFailure {
  readonly seed: number;
  /** What differed, on the whole graph. */
  readonly message: string;
  /** The smallest graph found that still fails, as IR text. */
  readonly shrunk: string;
}

export interface FuzzReport {
  readonly count: number;
  /** Graphs on which every judge agreed. */
  readonly agreed: number;
  /** Graphs that a target refused by a diagnostic, by code and op. */
  readonly refused: Readonly<Record<string, number>>;
  readonly failures: readonly FuzzFailure[];
}

export type FuzzTarget = "onnx" | "webgpu";
const fuzzTargets: readonly FuzzTarget[] = ["onnx", "webgpu"];

export interface FuzzOptions {
  readonly count: number;
  /** Judges beside the reference interpreter; all unless said otherwise. */
  readonly targets?: readonly FuzzTarget[];
  readonly seed?: number;
  readonly nodes?: number;
  /** Of the user's own, drawn beside the ops of the table. */
  readonly composites?: readonly NamedComposite[];
  readonly onGraph?: (done: number) => void;
}

/** Random well-typed graphs through the reference interpreter and ONNX Runtime; mismatches are shrunk. */
export async function fuzz({
  count,
  seed = 1,
  nodes,
  targets = fuzzTargets,
  composites = [],
  onGraph,
}: FuzzOptions): Promise<FuzzReport> {
  const refused: Record<string, number> = {};
  const failures: FuzzFailure[] = [];
  const registry = registryWith(composites);
  let agreed = 0;
  for (let i = 0; i < count; i++) {
    const { graph, inputs } = randomGraph(seed + i, { composites, ...(nodes !== undefined && { nodes }) });
    const verdict = await judge(graph, inputs, targets, registry);
    if (verdict.kind === "agreed") agreed++;
    else if (verdict.kind === "refused") refused[verdict.message] = (refused[verdict.message] ?? 0) + 1;
    else {
      const fails = async (candidate: Graph, given: Inputs) =>
        (await judge(candidate, given, targets, registry)).kind === "differs";
      const small = await shrinkGraph(graph, fails, inputs, registry);
      failures.push({ seed: seed + i, message: verdict.message, shrunk: small.text });
    }
    onGraph?.(i + 1);
  }
  return { count, agreed, refused, failures };
}

interface Verdict {
  readonly kind: "agreed" | "refused" | "differs";
  readonly message: string;
}

async function judge(
  graph: Graph,
  inputs: Inputs,
  targets: readonly FuzzTarget[],
  registry: Registry,
): Promise<Verdict> {
  const wanted = evaluateExact(graph, inputs, { registry });
  let refused: Verdict | undefined;
  for (const target of targets)
    try {
      const results = await (target === "onnx" ? runOnnx : runWebGpu)(graph, inputs, registry);
      for (const { name } of graph.outputs) {
        const [got, want] = [results[name], wanted[name]];
        if (got === undefined || want === undefined)
          return { kind: "differs", message: `${target}: output ${name} is missing` };
        const compared = compareTensors(got, want, tolerance(want.dtype, { target }));
        if (!compared.ok) return { kind: "differs", message: `${target}: output ${name}: ${compared.message}` };
      }
    } catch (error) {
      if (error instanceof InternalError) throw error;
      const message = `${target}: ${error instanceof Error ? error.message : String(error)}`;
      if (!(error instanceof CompileError && error.code.startsWith("unsupported"))) return { kind: "differs", message };
      refused = { kind: "refused", message };
    }
  return refused ?? { kind: "agreed", message: "" };
}

async function runOnnx(graph: Graph, inputs: Inputs, registry: Registry): Promise<Results> {
  const artifact = emitOnnx({ graph, weights: new Map() }, { profile: "portable", registry });
  await using session = await createOrtSession(artifact, { provider: "cpu", threads: 1 });
  return await session.run(inputs);
}

async function runWebGpu(graph: Graph, inputs: Inputs, registry: Registry): Promise<Results> {
  const judge = await judgeDevice();
  const program = emitWgsl({ graph, weights: new Map() }, { device: deviceProfile(judge), registry });
  await using session = await createProgramSession(judge.device, program, new Map());
  return await session.run(inputs);
}

type Results = Readonly<Record<string, TensorData>>;

export interface FuzzCommandOptions {
  readonly count: string;
  readonly seed?: string;
  readonly nodes?: string;
  readonly target?: readonly string[];
  readonly json?: boolean;
  /** Of the project's. */
  readonly composites?: readonly NamedComposite[];
}

/** `tamis fuzz --count N`: gives the exit status. */
export async function fuzzCommand(options: FuzzCommandOptions): Promise<number> {
  const number = (text: string, what: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0)
      throw compileError("bad-option", `--${what} wants a whole number, got ${text}`);
    return value;
  };
  const report = await fuzz({
    count: number(options.count, "count"),
    ...(options.composites && { composites: options.composites }),
    ...(options.seed !== undefined && { seed: number(options.seed, "seed") }),
    ...(options.nodes !== undefined && { nodes: number(options.nodes, "nodes") }),
    ...(options.target !== undefined &&
      options.target.length > 0 && { targets: fuzzTargets.filter((t) => options.target?.includes(t)) }),
  }).finally(closeJudgeDevice);
  if (options.json === true) process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
  else {
    for (const { seed, message, shrunk } of report.failures)
      process.stdout.write(`seed ${seed}: ${message}\n${shrunk}\n`);
    for (const [message, times] of Object.entries(report.refused))
      process.stdout.write(`refused ${times} times: ${message}\n`);
    const refusals = Object.values(report.refused).reduce((sum, n) => sum + n, 0);
    process.stdout.write(`${report.agreed} passed, ${report.failures.length} failed, ${refusals} skipped\n`);
  }
  return report.failures.length > 0 ? 1 : 0;
}
