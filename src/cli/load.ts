import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import {
  compileError,
  didYouMean,
  type Graph,
  type ModelDefinition,
  type PictureInput,
  parseGraph,
  type TensorData,
} from "../index.ts";
import { readBytes, readTensors, startOf } from "../runtime/node/index.ts";
import { checkFiles, inside, irName, type Manifest, manifestName, readManifest } from "./artifact.ts";
import { importModel } from "./importModel.ts";
import { registry } from "./registry.ts";

/** A MODEL of the command line: a definition from a .ts file, or a graph from IR text. */
export interface LoadedModel {
  readonly source:
    | { readonly kind: "definition"; readonly definition: ModelDefinition }
    | { readonly kind: "graph"; readonly graph: Graph };
  readonly name: string;
  /** The file as it was found, or the folder. */
  readonly path: string;
  /** Where the weights are unless the user names another file. */
  readonly weights?: string | undefined;
  /** That file is an artefact's, which holds constants beside the parameters. */
  readonly weightsHoldMore?: boolean;
  readonly pictures: Readonly<Record<string, PictureInput>>;
  readonly labels: readonly string[];
  readonly artifact?: { readonly folder: string; readonly manifest: Manifest };
}

/** Loads `file.ts`, `file.ts#name`, `file.ir` or a compiled folder. Fails with `file-not-found`, `model-format` and as each form. */
export async function loadModel(text: string): Promise<LoadedModel> {
  const { path, exportName } = await splitName(text);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw await notFound(path);
  if (found.isDirectory()) return loadFolder(path);
  if (/\.[cm]?[jt]s$/.test(path)) return loadDefinition(resolve(path), exportName);
  if (path.endsWith(".ir")) return loadIr(path);
  if (basename(path) === manifestName) return loadFolder(dirname(path));
  throw compileError("model-format", `${basename(path)} is no known kind of model`, {
    loc: startOf(path),
    help: "give a .ts file that exports a model, an .ir file, or a folder that tamis compile wrote",
  });
}

/** A file of a compiled folder, edited or not, keeps what the manifest says about it. */
async function loadIr(path: string): Promise<LoadedModel> {
  const graph = await readIr(path);
  const source = { kind: "graph", graph } as const;
  const manifest = basename(path) === irName ? await readManifest(dirname(path)) : undefined;
  if (manifest === undefined) return { source, name: graph.name, path, pictures: {}, labels: [] };
  const { name, pictures, labels } = manifest;
  return { source, name, path, ...weightsOf(dirname(path), manifest), pictures, labels };
}

const weightsOf = (folder: string, { weights }: Manifest) => ({
  weights: weights === null ? undefined : inside(folder, weights),
  weightsHoldMore: true,
});

/** `vit.ts#tiny` is the export `tiny`; a file whose own name has a # wins. */
export async function splitName(text: string): Promise<{ path: string; exportName: string | undefined }> {
  const hash = text.lastIndexOf("#");
  const whole = hash < 0 || (await stat(text).catch(() => undefined)) !== undefined;
  return whole
    ? { path: text, exportName: undefined }
    : { path: text.slice(0, hash), exportName: text.slice(hash + 1) };
}

async function notFound(path: string) {
  const neighbours = await readdir(dirname(path)).catch(() => []);
  const near = didYouMean(basename(path), neighbours.sort());
  return compileError("file-not-found", `there is no file ${path}`, { loc: startOf(path), help: near });
}

async function loadDefinition(file: string, exportName: string | undefined): Promise<LoadedModel> {
  const definition = await importModel(file, exportName);
  const { name, weights, pictures = {}, labels = [] } = definition;
  return {
    source: { kind: "definition", definition },
    name,
    path: file,
    weights: weightsPath(weights, dirname(file)),
    pictures,
    labels,
  };
}

function weightsPath(weights: string | URL | undefined, folder: string): string | undefined {
  if (weights === undefined) return undefined;
  const url = weights instanceof URL ? weights : weights.startsWith("file://") ? new URL(weights) : undefined;
  return url === undefined ? resolve(folder, weights as string) : decodeURIComponent(url.pathname);
}

/** IR text with its large constants, if any, in `FILE.safetensors`. */
export async function readIr(path: string): Promise<Graph> {
  const text = (await readBytes(path, irLimit)).toString("utf8");
  const companion = `${path}.safetensors`;
  const held = (await stat(companion).catch(() => undefined))?.isFile() === true;
  const constants: ReadonlyMap<string, TensorData> = held ? await readTensors(companion) : new Map();
  return parseGraph(text, { file: path, constants, locateByText: true, registry });
}

const irLimit = 2 ** 29; // bytes; JavaScript holds no longer text

async function loadFolder(folder: string): Promise<LoadedModel> {
  const manifest = await readManifest(folder);
  if (manifest === undefined)
    throw compileError("model-format", `folder ${folder} holds no ${manifestName} of a compiled model`, {
      loc: startOf(folder),
      help: "give the folder that tamis compile wrote",
    });
  await checkFiles(folder, manifest, [irName, `${irName}.safetensors`]);
  const graph = await readIr(join(folder, irName));
  return {
    source: { kind: "graph", graph },
    name: manifest.name,
    path: folder,
    ...weightsOf(folder, manifest),
    pictures: manifest.pictures,
    labels: manifest.labels,
    artifact: { folder, manifest },
  };
}
