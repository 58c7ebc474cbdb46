import {
  emitOnnx,
  emitWgslArtifact,
  type Graph,
  largeConstants,
  type Model,
  parseGraph,
  printGraph,
  runPasses,
  type TensorData,
  traceModel,
} from "../index.ts";
import { createMeasure, printCompileRows, rounds } from "./benchCompile.ts";
import { noSpinning, printRows, takeTurns } from "./benchRun.ts";
import { readBindings } from "./choice.ts";
import { readInputs } from "./inputs.ts";
import { type ModelOptions, type Prepared, prepare } from "./prepare.ts";
import { registry } from "./registry.ts";
import { openSession, type Provider, profileFor, readProvider } from "./session.ts";
import { readSettings } from "./set.ts";
import { progress } from "./terminal.ts";

export interface BenchModelOptions extends ModelOptions {
  readonly provider?: string;
  readonly bind?: readonly string[];
}

/** `tamis bench compile MODEL`: each step from the model to the target's files, without its weights' bytes. */
export async function benchCompileModel(text: string, options: BenchModelOptions): Promise<void> {
  await using prepared = await prepare(text, options, { target: "onnx", weightsOptional: true });
  const { loaded, source, model, passes, reports } = prepared;
  const steps = progress(`bench compile ${loaded.name}`, (rounds + 1) * (passes.length + 2));
  const { rows, measure } = createMeasure(steps.advance);
  const size = (graph: Graph): number => graph.nodes.length;
  const { name } = loaded;
  if (loaded.source.kind === "definition") {
    const { definition } = loaded.source;
    const set = readSettings(definition, options.set ?? []);
    await measure(name, "trace", size, () => traceModel(definition, { set, registry }));
  } else {
    const written = printGraph(source, { registry });
    const constants = new Map(largeConstants(source).map(([ref, node]) => [ref, node.data as TensorData]));
    await measure(name, "parse", size, () => parseGraph(written, { registry, constants }));
  }
  for (const [i, pass] of passes.entries()) {
    const before: Model = { graph: reports[i]?.before ?? source, weights: model.weights };
    await measure(name, pass.name, size, () => runPasses(before, [pass], { registry }).model.graph);
  }
  const { target } = prepared;
  if (target !== "reference" && prepared.stoppedAfter === undefined)
    await measure(
      name,
      `to ${target}`,
      () => size(model.graph),
      () => emit(prepared),
    );
  steps.stop();
  printCompileRows(rows, options.json);
}

function emit({ target, profile, device, model: { graph } }: Prepared): unknown {
  const model: Model = { graph, weights: new Map() };
  if (target === "webgpu") return emitWgslArtifact(model, { device: device.device, registry });
  return emitOnnx(model, { profile, registry }).encode();
}

/** `tamis bench run MODEL`: the model as it is, in turns with itself after its passes. */
export async function benchRunModel(text: string, options: BenchModelOptions): Promise<void> {
  const provider = readProvider(options.provider ?? "cpu");
  const { pass = [], ...plain } = { ...options, ...profileFor(provider, options) };
  const base = await openModel(text, plain, provider);
  try {
    const changed = pass.length === 0 ? undefined : await openModel(text, { ...plain, pass }, provider);
    try {
      const { inputs: wanted } = base.session;
      const texts = wanted.map(({ name }) => `${name}=random:1`);
      const inputs = await readInputs(wanted, { texts, pictures: {}, sizes: readBindings(options.bind) });
      const entries = [base, ...(changed === undefined ? [] : [changed])];
      const rows = await takeTurns(base.name, entries, inputs);
      printRows(
        rows,
        `inputs at random, ${base.adapter}`,
        { target: base.target, adapter: base.adapter },
        options.json,
      );
    } finally {
      await changed?.close();
    }
  } finally {
    await base.close();
  }
}

async function openModel(text: string, options: ModelOptions, provider: Provider) {
  const prepared = await prepare(text, options, { target: "onnx" });
  try {
    const { session, adapter } = await openSession(prepared, options, { provider, ort: noSpinning });
    const close = async (): Promise<void> => {
      await session.dispose();
      await prepared[Symbol.asyncDispose]();
    };
    const file = options.pass === undefined ? "as it is" : options.pass.join(" ");
    return { name: prepared.loaded.name, target: prepared.target, file, session, adapter, close };
  } catch (error) {
    await prepared[Symbol.asyncDispose]();
    throw error;
  }
}
