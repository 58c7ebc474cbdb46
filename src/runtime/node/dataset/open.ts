import { type Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { compileError, didYouMean } from "../../../ir/diagnostic.ts";
import { formatType } from "../../../ir/type.ts";
import { startOf } from "../files.ts";
import { pictureReader } from "../pictureInput.ts";
import { openSafetensors } from "../safetensors.ts";
import { type Arrays, openArrays } from "./arrays.ts";
import type { DataSet, Wanted } from "./dataset.ts";
import { isIdxPictures, openIdx } from "./idx.ts";
import { openClassFolders, openLabelledPictures, type PictureInputOf } from "./pictureFolder.ts";

/**
 * A labelled data set for a model: a folder with one folder of pictures per class; a folder with pictures and a
 * labels.csv or labels.json, or that file; .safetensors with `labels` and either tensors by the names of the inputs or
 * pixels of u8; idx files as of MNIST, or a folder with one pair of them.
 * Fails with `file-not-found`, `data-format`, `data-empty`, `data-classes`, `data-label` and `bad-input`.
 */
export async function openDataSet(path: string, wanted: Wanted): Promise<DataSet> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    const neighbours = await readdir(dirname(path)).catch(() => []);
    const near = didYouMean(basename(path), neighbours.sort());
    throw compileError("file-not-found", `there is no data set ${path}`, { loc: startOf(path), help: near });
  }
  const pictureOf = () => pictureInputOf(wanted, path);
  if (found.isDirectory()) return openFolder(path, wanted, pictureOf);
  const ending = extname(path).toLowerCase();
  if (ending === ".safetensors") {
    const { tensors, close } = await openSafetensors(path);
    return closedOnFailure({ path, tensors, close }, wanted, pictureOf);
  }
  if (isIdxPictures(path)) return closedOnFailure(await openIdx(path), wanted, pictureOf);
  if (ending === ".csv" || ending === ".json") return openLabelledPictures(path, wanted, pictureOf());
  throw compileError("data-format", `${basename(path)} is no known kind of data set`, {
    loc: startOf(path),
    help: "give a folder of pictures, a labels file (.csv, .json), .safetensors, images-idx3-ubyte or a .ts module",
  });
}

async function closedOnFailure(arrays: Arrays, wanted: Wanted, pictureOf: () => PictureInputOf): Promise<DataSet> {
  try {
    return await openArrays(arrays, wanted, pictureOf);
  } catch (error) {
    await arrays.close();
    throw error;
  }
}

const labelsNames = ["labels.csv", "labels.json"];

async function openFolder(path: string, wanted: Wanted, pictureOf: () => PictureInputOf): Promise<DataSet> {
  const entries = (await readdir(path, { withFileTypes: true }))
    .filter(({ name }) => !name.startsWith("."))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = entries.map(({ name }) => name);
  const labels = labelsNames.filter((name) => names.includes(name));
  const [first] = labels;
  if (labels.length > 1) throw several(path, labels);
  if (first !== undefined) return openLabelledPictures(join(path, first), wanted, pictureOf());
  const idx = names.filter(isIdxPictures);
  const [pictures] = idx;
  if (idx.length > 1) throw several(path, idx);
  if (pictures !== undefined) return closedOnFailure(await openIdx(join(path, pictures)), wanted, pictureOf);
  const folders = await foldersOf(path, entries);
  if (folders.length > 0) return openClassFolders(path, folders, wanted, pictureOf());
  throw compileError(
    "data-empty",
    `${path} holds ${names.length === 0 ? "nothing" : "no folders of classes and no labels"}`,
    {
      loc: startOf(path),
      help: "give a folder with one folder of pictures per class, or with pictures and labels.csv or labels.json",
    },
  );
}

const several = (path: string, names: readonly string[]) =>
  compileError("data-format", `${path} holds several data sets: ${names.join(", ")}`, {
    loc: startOf(path),
    help: `give one of them, such as ${join(path, names[0] as string)}`,
  });

/** Links to folders count. */
async function foldersOf(path: string, entries: readonly Dirent[]): Promise<readonly string[]> {
  const folders: string[] = [];
  for (const entry of entries) {
    const linked = entry.isSymbolicLink() && (await stat(join(path, entry.name)).catch(() => undefined))?.isDirectory();
    if (entry.isDirectory() || linked === true) folders.push(entry.name);
  }
  return folders;
}

/** The one input of the model, which takes pictures. Fails with `bad-input`. */
function pictureInputOf({ inputs, pictures }: Wanted, path: string): PictureInputOf {
  const [input, ...others] = inputs;
  if (input === undefined || others.length > 0)
    throw compileError(
      "bad-input",
      `pictures are one input, but the model takes ${inputs.map((v) => `${v.name}: ${formatType(v)}`).join(", ") || "none"}`,
      { help: "give a .safetensors file or a .ts module with all inputs" },
    );
  return { input: input.name, reader: pictureReader(input, pictures[input.name], `the pictures of ${path}`) };
}
