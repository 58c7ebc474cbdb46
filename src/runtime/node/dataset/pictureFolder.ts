import { readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { compileError, type Loc } from "../../../ir/diagnostic.ts";
import { startOf } from "../files.ts";
import type { PictureReader } from "../pictureInput.ts";
import { classesOfFolders, labelReader } from "./classes.ts";
import { type DataSet, type Example, nothingOpen, type Wanted } from "./dataset.ts";
import { readLabels } from "./labelsFile.ts";

/** Files that a folder of a class may hold; others are passed over. */
const pictureEndings: ReadonlySet<string> = new Set(
  "png jpg jpeg jpe webp gif tif tiff avif bmp svg heif heic jp2 pgm ppm pnm".split(" ").map((ending) => `.${ending}`),
);

export interface PictureInputOf {
  /** The input that pictures are for. */
  readonly input: string;
  readonly reader: PictureReader;
}

/**
 * A folder with one folder of pictures per class. Classes take turns, so that the first examples are of all of them.
 * Fails with `data-empty`, `data-classes` and `data-label`.
 */
export async function openClassFolders(
  folder: string,
  folders: readonly string[],
  wanted: Wanted,
  picture: PictureInputOf,
): Promise<DataSet> {
  const { classOf, notes } = classesOfFolders(folders, wanted, (name) => startOf(join(folder, name)));
  const classes: { readonly label: number; readonly files: readonly string[] }[] = [];
  for (const name of folders)
    classes.push({ label: classOf.get(name) as number, files: await picturesBelow(join(folder, name)) });
  const count = classes.reduce((sum, { files }) => sum + files.length, 0);
  if (count === 0)
    throw compileError("data-empty", `the folders of ${folder} hold no pictures`, {
      loc: startOf(folder),
      help: `files that end in ${[...pictureEndings].join(", ")} are pictures`,
    });
  const longest = Math.max(...classes.map(({ files }) => files.length));
  return {
    count,
    notes,
    async *examples() {
      for (let turn = 0; turn < longest; turn++)
        for (const { label, files } of classes) {
          const file = files[turn];
          if (file !== undefined) yield pictureExample(file, label, picture);
        }
    },
    [Symbol.asyncDispose]: nothingOpen,
  };
}

/** In the order of their paths. */
async function picturesBelow(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder, { recursive: true });
  return names
    .filter((name) => pictureEndings.has(extname(name).toLowerCase()) && !basename(name).startsWith("."))
    .sort()
    .map((name) => join(folder, name));
}

const pictureExample = (file: string, label: number, { input, reader }: PictureInputOf): Example => ({
  name: file,
  label,
  read: async () => ({ [input]: await reader(file) }),
});

/** Pictures that a labels file names. Fails with `data-label`, `file-not-found` and as `readLabels`. */
export async function openLabelledPictures(path: string, wanted: Wanted, picture: PictureInputOf): Promise<DataSet> {
  const read = labelReader(wanted);
  const rows = (await readLabels(path)).map(({ file, label, loc }) => ({ file, label: read(label, loc), loc }));
  const folder = dirname(path);
  return {
    count: rows.length,
    notes: [],
    async *examples() {
      for (const { file, label, loc } of rows) {
        const found = resolve(folder, file);
        await mustExist(found, file, loc);
        yield pictureExample(found, label, picture);
      }
    },
    [Symbol.asyncDispose]: nothingOpen,
  };
}

async function mustExist(path: string, named: string, loc: Loc): Promise<void> {
  if ((await stat(path).catch(() => undefined)) !== undefined) return;
  throw compileError("file-not-found", `there is no picture ${named}`, {
    loc,
    help: `names are relative to ${dirname(path)}`,
  });
}
