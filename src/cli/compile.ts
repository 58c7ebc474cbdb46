import { dirname, join } from "node:path";
import {
  compileError,
  emitFiles,
  emitOnnx,
  emitWgslArtifact,
  type FileBackend,
  formatType,
  type Graph,
  inputSymbols,
  largeConstants,
  type Model,
  type OnnxArtifact,
  parametersOf,
  printGraph,
  providersOf,
  sourceName,
  symbolsOf,
  type TensorData,
  type TuningChoices,
  type WeightSource,
  type WgslArtifact,
} from "../index.ts";
import { writeFileAtomically, writeOnnx, writeSafetensors, writeWebGpu } from "../runtime/node/index.ts";
import { describeFiles, irName, type Manifest, makeFolder, manifestName, named, writeFolder } from "./artifact.ts";
import { readChoice } from "./choice.ts";
import { usageError } from "./failure.ts";
import { type ModelOptions, type Prepared, prepare } from "./prepare.ts";
import { registry } from "./registry.ts";
import { onnxRunner, webGpuRunner } from "./runner.ts";
import { print, printJson, progress, say, scaled } from "./terminal.ts";
import { theirsAsync } from "./theirs.ts";
import { choicesUsed, readChoices, withChoices } from "./tuning.ts";
import { version } from "./version.ts";

export interface CompileOptions extends ModelOptions {
  readonly output?: string;
  readonly externalData?: string;
  readonly tuning?: string;
}

/** `tamis compile MODEL -o DIR`; with --stop-after and no DIR it prints the IR text. */
export async function compileCommand(text: string, options: CompileOptions): Promise<void> {
  const externalData = readChoice("time for external data", options.externalData ?? "auto", [
    "auto",
    "always",
    "never",
  ]);
  const { output } = options;
  if (output === undefined && options.stopAfter === undefined)
    throw usageError("required option '-o, --output <dir>' not specified");
  await using prepared = await prepare(text, options, { target: "onnx", ownTargets: true });
  const { target, backend } = prepared;
  if (target === "reference" && backend === undefined)
    throw compileError("bad-option", "the reference target has no artefact", { help: "use --target onnx or webgpu" });
  if (backend !== undefined && options.externalData !== undefined)
    throw compileError("bad-option", "--external-data is an option of --target onnx");
  if (target === "webgpu" && options.externalData !== undefined)
    throw compileError("bad-option", "--external-data is an option of --target onnx", {
      help: "the webgpu target always keeps weights in a file of their own",
    });
  if (target !== "webgpu" && options.tuning !== undefined)
    throw compileError("bad-option", "--tuning is an option of --target webgpu", {
      help: "add --target webgpu, or leave it out",
    });
  const choices = options.tuning === undefined ? undefined : await readChoices(options.tuning, prepared.device.device);
  if (output === undefined) {
    const { graph, weights } = prepared.model;
    const ir = printGraph(graph, { locations: true, registry });
    const made = parametersOf(graph).filter(
      (node) => weights.get(sourceName(node)) !== prepared.given.get(sourceName(node)),
    );
    const lost = made.length + largeConstants(graph).length;
    if (lost > 0) say(`tamis: the text names ${lost} tensors that stand in no file; -o DIR writes them beside it`);
    return options.json === true ? printJson({ graph: ir, stoppedAfter: prepared.stoppedAfter }) : print(ir);
  }
  const manifest =
    backend === undefined || prepared.stoppedAfter !== undefined
      ? await writeArtifact(prepared, output, { externalData, choices })
      : await writeOwn(prepared, backend, output, options);
  if (choices !== undefined && choicesUsed(prepared.model.graph, prepared.device.device, choices) === 0)
    say(`tamis: no choice of ${options.tuning} is for a kernel of this model; the default tiles were used`);
  if (options.json === true) return printJson({ output, ...manifest });
  if (backend !== undefined) return print(summary(output, manifest));
  if (!prepared.weighted && prepared.stoppedAfter === undefined)
    say("tamis: compiled without weights: the parameters are inputs of the model (give --weights FILE)");
  const { meant, tested } = providersOf[prepared.profile];
  if (target === "onnx" && !(tested as readonly string[]).includes(meant))
    say(
      `tamis: files of profile ${prepared.profile} are tested on the ${tested.join(" and ")} provider, not on ${meant}`,
    );
  print(summary(output, manifest));
}

async function writeArtifact(prepared: Prepared, folder: string, settings: EmitSettings): Promise<Manifest> {
  const { model, stoppedAfter, loaded } = prepared;
  const steps = progress(`compile ${loaded.name}`, weightElements(model));
  const counted = { ...model, weights: countedWeights(model.weights, steps.advance) };
  const artifact = stoppedAfter === undefined ? emit(prepared, counted, settings) : undefined;
  let written: Manifest | undefined;
  try {
    await writeFolder(folder, async (unfinished) => {
      if (artifact !== undefined) await writeFiles(artifact, loaded.name, unfinished);
      else if (model.weights.size > 0)
        await writeSafetensors(join(unfinished, "weights.safetensors"), weightEntries(counted));
      await writeIr(unfinished, model.graph);
      written = manifestOf(prepared, artifact, await describeFiles(unfinished));
      await writeFileAtomically(join(unfinished, manifestName), `${JSON.stringify(written, null, 2)}\n`);
    });
  } finally {
    steps.stop();
  }
  return written as Manifest;
}

/** The files of a target of the user's own, and the IR. */
async function writeOwn(
  prepared: Prepared,
  backend: FileBackend,
  folder: string,
  { profile = backend.profiles[0] ?? "plain" }: CompileOptions,
): Promise<Manifest> {
  const { model } = prepared;
  const files = await theirsAsync(`emit of ${backend.name}`, () => emitFiles(backend, model, { profile, registry }));
  const reserved = Object.keys(files).find((name) => reservedFiles.has(name));
  if (reserved !== undefined)
    throw compileError("bad-backend", `${backend.name}: ${reserved} of a compiled folder is written by tamis itself`);
  let written: Manifest | undefined;
  await writeFolder(folder, async (unfinished) => {
    for (const [name, contents] of Object.entries(files)) {
      await makeFolder(dirname(join(unfinished, name)));
      await writeFileAtomically(join(unfinished, name), contents);
    }
    await writeIr(unfinished, model.graph);
    written = {
      ...manifestOf(prepared, undefined, await describeFiles(unfinished)),
      backend: backend.name,
      profile,
      weights: null,
    };
    await writeFileAtomically(join(unfinished, manifestName), `${JSON.stringify(written, null, 2)}\n`);
  });
  return written as Manifest;
}

const reservedFiles: ReadonlySet<string> = new Set([manifestName, irName, `${irName}.safetensors`]);

type Artifact = OnnxArtifact | WgslArtifact;

interface EmitSettings {
  /** Of onnx. */
  readonly externalData: "auto" | "always" | "never";
  /** Of webgpu. */
  readonly choices: TuningChoices | undefined;
}

const emit = (
  { target, profile, device: { device } }: Prepared,
  model: Model,
  { externalData, choices }: EmitSettings,
): Artifact =>
  target === "webgpu"
    ? emitWgslArtifact(model, { device, registry, ...(choices && { tuning: withChoices(device, choices) }) })
    : emitOnnx(model, { profile, externalData, registry });

/** The target's own files and the runner module. */
async function writeFiles(artifact: Artifact, name: string, folder: string): Promise<void> {
  if (artifact.kind === "webgpu") await writeWebGpu(artifact, folder, version);
  else await writeOnnx(artifact, join(folder, "model.onnx"));
  const files = artifact.kind === "webgpu" ? webGpuRunner(artifact, name) : onnxRunner(artifact, name);
  for (const [file, contents] of files) await writeFileAtomically(join(folder, file), contents);
}

/** model.ir, and its large constants beside it. */
async function writeIr(folder: string, graph: Graph): Promise<void> {
  await writeFileAtomically(join(folder, irName), printGraph(graph, { locations: true, registry }));
  const constants = largeConstants(graph);
  if (constants.length === 0) return;
  const entries = constants.map(([name, node]) => ({ name, source: node.data as TensorData }));
  await writeSafetensors(join(folder, `${irName}.safetensors`), entries);
}

function manifestOf(
  { loaded, model, profile, device, stoppedAfter, weighted, passTexts }: Prepared,
  artifact: Artifact | undefined,
  files: Manifest["files"],
): Manifest {
  const { graph } = model;
  const holder = artifact?.kind === "onnx" ? "model.onnx" : "weights.safetensors";
  return {
    format: 1,
    tamis: version,
    name: loaded.name,
    ...(artifact?.kind === "onnx" && { target: "onnx", profile, opset: artifact.opset }),
    ...(artifact?.kind === "webgpu" && { target: "webgpu", profile: device.profile }),
    ...(stoppedAfter !== undefined && { stoppedAfter }),
    passes: [...(loaded.artifact?.manifest.passes ?? []), ...passTexts],
    inputs: graph.inputs.map((value) => named(sourceName(value.producer), value)),
    outputs: graph.outputs.map(({ name, value }) => named(name, value)),
    symbols: inputSymbols(graph, symbolsOf),
    weights: weighted && model.weights.size > 0 ? holder : null,
    pictures: loaded.pictures,
    labels: loaded.labels,
    files,
  };
}

const weightElements = ({ weights }: Model): number =>
  [...weights.values()].reduce((sum, { type }) => sum + type.shape.reduce((size, dim) => size * dim, 1), 0);

/** The same weights, telling how many elements were read. */
function countedWeights(
  weights: ReadonlyMap<string, WeightSource>,
  advance: (elements: number) => void,
): ReadonlyMap<string, WeightSource> {
  const counted = ({ type, hash, read }: WeightSource): WeightSource => ({
    type,
    hash,
    read: async (start, end) => {
      const contents = await read(start, end);
      advance(contents.values.length);
      return contents;
    },
  });
  return new Map([...weights].map(([name, source]) => [name, counted(source)]));
}

const weightEntries = ({ graph, weights }: Model) =>
  graph.nodes.flatMap((node) => {
    const source = node.op === "parameter" ? weights.get(sourceName(node)) : undefined;
    return source === undefined ? [] : [{ name: sourceName(node), source }];
  });

function summary(folder: string, manifest: Manifest): string {
  const { name, target, backend, profile, opset, inputs, outputs, files, stoppedAfter } = manifest;
  const types = (values: Manifest["inputs"]): string => values.map((v) => `${v.name}: ${formatType(v)}`).join(", ");
  const title =
    stoppedAfter !== undefined
      ? `stopped after ${stoppedAfter}`
      : backend !== undefined
        ? `${backend}, profile ${profile}`
        : target === "webgpu"
          ? `WebGPU, profile ${profile}`
          : `ONNX opset ${opset}, profile ${profile}`;
  const shown = Object.entries(files).map(([file, { bytes }]) => `  ${file}  ${scaled(bytes, "B")}`);
  return [`${name}: ${title}`, `  ${types(inputs)} -> ${types(outputs)}`, `wrote ${folder}`, ...shown].join("\n");
}
