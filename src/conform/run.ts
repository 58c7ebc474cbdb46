import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { emitOnnx } from "../backends/onnx/index.ts";
import { emitWgsl } from "../backends/wgsl/index.ts";
import { CompileError, compileError, didYouMean } from "../ir/diagnostic.ts";
import { evaluateExact } from "../ir/evaluate/index.ts";
import { type Graph, sourceName, type Value, type WeightSource } from "../ir/graph.ts";
import type { NamedComposite, Registry } from "../ir/op.ts";
import { registryWith } from "../ir/registry.ts";
import { type TensorData, tensorData, toNumbers } from "../ir/type.ts";
import { differentiate } from "../passes/differentiate.ts";
import { runPasses } from "../passes/pass.ts";
import { createOrtSession } from "../runtime/node/ort.ts";
import { openSafetensors } from "../runtime/node/safetensors.ts";
import { deviceProfile } from "../runtime/node/webgpuSession.ts";
import { createProgramSession } from "../runtime/webgpu/program.ts";
import { type BuiltCase, type Component, Settings, type VectorCase } from "./component.ts";
import { attentionComponents } from "./components/attention.ts";
import { ownComponent } from "./components/ownComposite.ts";
import { tomeComponents } from "./components/tome.ts";
import { judgeDevice } from "./judgeDevice.ts";
import { type Comparable, compareTensors, type Judged, tolerance } from "./tolerance.ts";

export const components: Readonly<Record<string, Component>> = { ...tomeComponents, ...attentionComponents };

export type Target = "reference" | "onnx" | "webgpu";
export const targets: readonly Target[] = ["reference", "onnx", "webgpu"];

export interface ConformRow {
  readonly file: string;
  readonly component: string;
  readonly target: Target | "host";
  readonly status: "passed" | "failed" | "skipped";
  readonly maxAbs: number;
  /** max|a - b| / max(1, max|b|) of the worst tensor. */
  readonly maxRel: number;
  readonly worstTensor: string;
  readonly reason: string;
}

export interface ConformReport {
  readonly rows: readonly ConformRow[];
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface ConformOptions {
  readonly components?: readonly string[];
  /** Components that no file has are left out instead of refused. */
  readonly presentOnly?: boolean;
  readonly targets?: readonly Target[];
  /** Leave out gradients. */
  readonly outputsOnly?: boolean;
  /** Of the user's own: each is the component of its name. */
  readonly composites?: readonly NamedComposite[];
  readonly onRow?: (row: ConformRow) => void;
}

/** Runs every reference vector below the folders through our implementation. Rows come in file order. */
export async function conform(paths: readonly string[], options: ConformOptions = {}): Promise<ConformReport> {
  const files = (await Promise.all(paths.map(vectorFiles))).flat();
  if (files.length === 0) throw compileError("file-not-found", `no .safetensors files below ${paths.join(", ")}`);
  const rows: ConformRow[] = [];
  const seen = new Set<string>();
  for (const path of files) {
    const vector = await readVector(path);
    seen.add(vector.component);
    if (vector.component === "weights") continue;
    if (options.components !== undefined && !options.components.includes(vector.component)) continue;
    for (const row of await runCase(vector, options)) {
      rows.push(row);
      options.onRow?.(row);
    }
  }
  for (const name of options.components ?? [])
    if (!seen.has(name) && options.presentOnly !== true)
      throw compileError("unknown-component", `no vector below ${paths.join(", ")} has component ${name}`, {
        help: didYouMean(name, seen),
      });
  const count = (status: ConformRow["status"]) => rows.filter((row) => row.status === status).length;
  return { rows, passed: count("passed"), failed: count("failed"), skipped: count("skipped") };
}

async function vectorFiles(path: string): Promise<readonly string[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw compileError("file-not-found", `there is no ${path}`);
  if (found.isFile()) return [path];
  const entries = await readdir(path, { withFileTypes: true });
  const sorted = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const lists = await Promise.all(
    sorted.map((entry) =>
      entry.isDirectory()
        ? vectorFiles(join(path, entry.name))
        : Promise.resolve(entry.name.endsWith(".safetensors") ? [join(path, entry.name)] : []),
    ),
  );
  return lists.flat();
}

async function readAll(
  path: string,
): Promise<{ tensors: Map<string, TensorData>; metadata: Readonly<Record<string, string>> }> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, TensorData>();
    for (const [name, source] of file.tensors) tensors.set(name, await source.read());
    return { tensors, metadata: file.metadata };
  } finally {
    await file.close();
  }
}

async function readVector(path: string): Promise<VectorCase> {
  const { tensors, metadata } = await readAll(path);
  const settings = JSON.parse(metadata["hyperparameters"] ?? "{}") as Readonly<Record<string, unknown>>;
  const from = settings["params_from"];
  if (typeof from === "string" && from !== "self")
    for (const name of from.split(",")) {
      const shared = await readAll(join(dirname(path), basename(name.trim())));
      for (const [key, data] of shared.tensors) if (!tensors.has(key)) tensors.set(key, data);
    }
  return {
    file: relative(process.cwd(), path),
    component: metadata["component"] ?? "",
    settings: new Settings(settings),
    tensors,
  };
}

async function runCase(vector: VectorCase, options: ConformOptions): Promise<readonly ConformRow[]> {
  const row = (target: ConformRow["target"], rest: Partial<ConformRow>): ConformRow => {
    const { file, component } = vector;
    return { file, component, target, status: "failed", maxAbs: 0, maxRel: 0, worstTensor: "", reason: "", ...rest };
  };
  const wanted = options.targets ?? targets;
  const registry = registryWith(options.composites ?? []);
  const own = options.composites?.find(({ name }) => name === vector.component);
  const build = own === undefined ? components[vector.component] : ownComponent(own, registry);
  if (build === undefined)
    return wanted.map((target) => row(target, { reason: `component ${vector.component || "(none)"} is not built` }));
  let built: BuiltCase;
  try {
    built = build(vector);
    if (options.outputsOnly !== true) built = withGradients(built, vector, registry);
  } catch (error) {
    return wanted.map((target) => row(target, { reason: messageOf(error) }));
  }
  const rows: ConformRow[] = [];
  const hostNames = new Set(Object.keys(built.host ?? {}));
  if (built.host !== undefined)
    rows.push(
      row("host", compareAll(vector, built.host, "host", { mine: (name) => hostNames.has(name), gradients: false })),
    );
  for (const target of wanted) {
    try {
      const results = await runners[target](built, registry);
      rows.push(
        row(
          target,
          compareAll(vector, results, target, {
            mine: (name) => !hostNames.has(name),
            gradients: options.outputsOnly !== true,
          }),
        ),
      );
    } catch (error) {
      rows.push(row(target, { reason: messageOf(error) }));
    }
  }
  return rows;
}

/** The case with an output `grad.NAME` for every gradient of the file, and its cotangents as inputs. */
function withGradients(built: BuiltCase, { tensors }: VectorCase, registry: Registry): BuiltCase {
  const named = (prefix: string) =>
    [...tensors.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  const wrt = named("grad.");
  if (wrt.length === 0) return built;
  const weighed = named("cot.");
  const cotangents = weighed.length > 0;
  // Without cotangents the gradients are those of the file's loss.
  const pass = differentiate({ of: cotangents ? weighed : ["loss"], wrt, cotangents });
  const { graph } = runPasses({ graph: built.graph, weights: new Map() }, [pass], { registry }).model;
  const seeds = weighed.map((name): [string, TensorData] => [`cot.${name}`, seedFor(graph, name, tensors)]);
  return { ...built, graph, inputs: { ...built.inputs, ...Object.fromEntries(seeds) } };
}

/** A cotangent of the file in the dtype and shape of the graph's input. */
function seedFor(graph: Graph, name: string, tensors: VectorCase["tensors"]): TensorData {
  const { type } = graph.inputs.find(({ producer }) => sourceName(producer) === `cot.${name}`) as Value;
  const given = tensors.get(`cot.${name}`) as TensorData;
  return tensorData(type.dtype, given.shape, toNumbers(given));
}

const messageOf = (error: unknown): string =>
  error instanceof CompileError
    ? error.diagnostics.map((d) => `${d.code}: ${d.message}`).join("; ")
    : error instanceof Error
      ? `${error.name}: ${error.message}`
      : String(error);

type Results = Readonly<Record<string, Comparable>>;

function runReference({ graph, inputs, parameters }: BuiltCase, registry: Registry): Results {
  return evaluateExact(graph, inputs, { parameters, registry });
}

async function runOnnx({ graph, inputs, parameters }: BuiltCase, registry: Registry): Promise<Results> {
  const weights = new Map<string, WeightSource>();
  for (const [name, data] of parameters) weights.set(name, sourceOf(name, data));
  const artifact = emitOnnx({ graph, weights }, { profile: "portable", registry });
  await using session = await createOrtSession(artifact, { provider: "cpu" });
  return await session.run(inputs);
}

async function runWebGpu({ graph, inputs, parameters }: BuiltCase, registry: Registry): Promise<Results> {
  const judge = await judgeDevice();
  const program = emitWgsl({ graph, weights: new Map() }, { device: deviceProfile(judge), registry });
  await using session = await createProgramSession(judge.device, program, parameters);
  return await session.run(inputs);
}

const runners: Readonly<Record<Target, (built: BuiltCase, registry: Registry) => Results | Promise<Results>>> = {
  reference: runReference,
  onnx: runOnnx,
  webgpu: runWebGpu,
};

function sourceOf(name: string, data: TensorData): WeightSource {
  return {
    type: data,
    hash: name,
    read: (start = 0, end = data.values.length) =>
      Promise.resolve({ dtype: data.dtype, shape: [end - start], values: data.values.subarray(start, end) }),
  };
}

/** Compares every `out.*` of the file that `mine` claims; one that was not computed fails the row. */
function compareAll(
  vector: VectorCase,
  results: Results,
  target: Judged,
  { mine, gradients }: { mine: (name: string) => boolean; gradients: boolean },
): Partial<ConformRow> {
  let worst: Partial<ConformRow> = { status: "passed", maxAbs: 0, maxRel: -1, worstTensor: "" };
  for (const [key, golden] of vector.tensors) {
    const gradient = key.startsWith("grad.");
    const name = key.replace(/^out\./, "");
    if (!(key.startsWith("out.") || (gradient && gradients)) || !mine(name)) continue;
    const result = results[name];
    if (result === undefined) return { status: "failed", worstTensor: name, reason: `${key} was not computed` };
    // Indices, masks and counts are compared as what the file says they are.
    const actual = { ...result, dtype: golden.dtype, values: toNumbers(result as TensorData) };
    const allowed = tolerance(golden.dtype, { target, golden: golden.dtype === "f64" ? "F64" : "F32", gradient });
    const { ok, maxAbs, error, message } = compareTensors(actual, golden, allowed);
    const failed = worst.status === "failed";
    if (ok ? !failed && error > (worst.maxRel ?? 0) : !failed || error > (worst.maxRel ?? 0))
      worst = { status: ok ? "passed" : "failed", maxAbs, maxRel: error, worstTensor: name, reason: ok ? "" : message };
  }
  return { ...worst, maxRel: Math.max(0, worst.maxRel ?? 0) };
}
