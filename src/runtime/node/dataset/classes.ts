import { compileError, didYouMean, type Loc } from "../../../ir/diagnostic.ts";
import type { Wanted } from "./dataset.ts";

/** `T-shirt/top` and `t-shirt_top` name one class: a folder's name cannot hold every character. */
const plain = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim();

/** `of` names the example in messages, where its place does not. */
export type ReadLabel = (label: unknown, loc: Loc, of?: string) => number;

/** Reads a label as a class: its number, or its name where the model names its classes. Fails with `data-label`. */
export function labelReader({ classes, labels }: Wanted): ReadLabel {
  const byName = new Map(labels.map((name, i) => [plain(name), i] as const));
  return (label, loc, of) => {
    const whose = of === undefined ? "" : ` of ${of}`;
    const named = typeof label === "string" ? byName.get(plain(label)) : undefined;
    if (named !== undefined) return named;
    const number = typeof label === "string" && /^\d+$/.test(label.trim()) ? Number(label) : label;
    if (typeof number === "number" && Number.isInteger(number)) {
      if (number >= 0 && number < classes) return number;
      throw compileError(
        "data-label",
        `label ${number}${whose} is no class of the model, which has 0 to ${classes - 1}`,
        {
          loc,
          help: number === classes ? "labels count from 0" : undefined,
        },
      );
    }
    const shown = label === undefined ? "nothing" : JSON.stringify(label).slice(0, 60);
    throw compileError("data-label", `the label${whose} is ${shown}, which is no class of the model`, {
      loc,
      help:
        (typeof label === "string" ? didYouMean(label, labels) : undefined) ??
        (labels.length > 0
          ? `the classes: ${labels.join(", ").slice(0, 200)}`
          : "give the number of the class, from 0"),
    });
  };
}

/**
 * The class of each folder of a data set: by name where the model names its classes, by number where all folders are
 * numbers, else by order of the names, as torchvision's ImageFolder has it. Fails with `data-classes` and `data-label`.
 */
export function classesOfFolders(
  folders: readonly string[],
  wanted: Wanted,
  locOf: (folder: string) => Loc,
): { readonly classOf: ReadonlyMap<string, number>; readonly notes: readonly string[] } {
  const { classes, labels } = wanted;
  const known = new Set(labels.map(plain));
  const numbers = folders.every((folder) => /^\d+$/.test(folder));
  if (numbers || folders.some((folder) => known.has(plain(folder)))) {
    const read = labelReader(wanted);
    return { classOf: new Map(folders.map((folder) => [folder, read(folder, locOf(folder))])), notes: [] };
  }
  if (folders.length !== classes)
    throw compileError(
      "data-classes",
      `the data set has ${folders.length} folders of classes, but the model tells ${classes} classes apart`,
      {
        loc: locOf(folders[0] as string),
        help: "name the folders as the model names its classes, or by their numbers from 0, then some may be missing",
      },
    );
  return {
    classOf: new Map(folders.map((folder, i) => [folder, i])),
    notes: [`folders are taken as classes in the order of their names: ${folders[0]} is class 0`],
  };
}
