import { extname } from "node:path";
import { compileError, type Loc } from "../../../ir/diagnostic.ts";
import { readBytes, startOf } from "../files.ts";

/** One row of a labels file: a picture, relative to the file's folder, and its label as it was written. */
export interface LabelRow {
  readonly file: string;
  readonly label: unknown;
  readonly loc: Loc;
}

const labelsLimit = 256 * 2 ** 20; // bytes

/**
 * Rows of a .csv file, with or without a line of headings, or of a .json file: `{ "a.png": "cat" }` or
 * `[{ "file": "a.png", "label": "cat" }]`. Fails with `data-format`, or `data-empty` where it holds none.
 */
export async function readLabels(path: string): Promise<readonly LabelRow[]> {
  const text = (await readBytes(path, labelsLimit)).toString("utf8").replace(/^\uFEFF/, "");
  const rows = extname(path).toLowerCase() === ".json" ? readJsonRows(text, path) : readCsvRows(text, path);
  if (rows.length === 0) throw compileError("data-empty", `${path} names no pictures`, { loc: startOf(path) });
  return rows;
}

const fileHeadings = ["file", "filename", "path", "image", "picture", "name"];
const labelHeadings = ["label", "class", "category", "target"];

function readCsvRows(text: string, path: string): readonly LabelRow[] {
  const lines = splitCsv(text, path);
  const headings = lines[0]?.cells.map((cell) => cell.trim().toLowerCase()) ?? [];
  const columnOf = (known: readonly string[]): number => headings.findIndex((heading) => known.includes(heading));
  const [file, label] = [columnOf(fileHeadings), columnOf(labelHeadings)];
  const headed = file >= 0 && label >= 0;
  return lines.slice(headed ? 1 : 0).map(({ cells, line }) => {
    const loc: Loc = { kind: "file", file: path, line, column: 1 };
    const [named, value] = headed ? [cells[file], cells[label]] : cells;
    if (named === undefined || named.trim() === "" || value === undefined)
      throw compileError("data-format", `the row has ${cells.length} columns, wanted a picture and its label`, {
        loc,
        help: "write a.png,3 or, under headings, file,label",
      });
    return { file: named.trim(), label: value.trim(), loc };
  });
}

/** Rows of cells as RFC 4180 writes them; empty lines are no rows. */
function splitCsv(text: string, path: string): readonly { readonly cells: string[]; readonly line: number }[] {
  const rows: { cells: string[]; line: number }[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y;
  let line = 1;
  let row: { cells: string[]; line: number } = { cells: [], line };
  while (cell.lastIndex < text.length) {
    const at = cell.lastIndex;
    const match = cell.exec(text);
    if (match === null)
      throw compileError("data-format", `the row cannot be read from ${JSON.stringify(text.slice(at, at + 20))} on`, {
        loc: { kind: "file", file: path, line, column: 1 },
        help: 'write cells that hold commas or quotes as "a ""b"", c"',
      });
    const [whole, quoted, bare = "", end] = match;
    row.cells.push(quoted === undefined ? bare : quoted.replaceAll('""', '"'));
    line += whole.split(/\r\n|\n|\r/).length - 1;
    if (end === ",") continue;
    if (row.cells.some((text) => text.trim() !== "")) rows.push(row);
    row = { cells: [], line };
  }
  if (row.cells.length > 0) rows.push(row); // the text ends in a comma
  return rows;
}

function readJsonRows(text: string, path: string): readonly LabelRow[] {
  const loc = startOf(path);
  const wrong = (what: string) =>
    compileError("data-format", what, {
      loc,
      help: 'write { "a.png": "cat", ... } or [{ "file": "a.png", "label": "cat" }, ...]',
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong("the labels are not JSON");
  }
  if (Array.isArray(value))
    return value.map((item: unknown, i) => {
      const { file, label } = (item ?? {}) as { readonly file?: unknown; readonly label?: unknown };
      if (typeof file !== "string") throw wrong(`item ${i} of the labels names no file`);
      return { file, label, loc };
    });
  if (typeof value !== "object" || value === null) throw wrong("the labels are neither an object nor a list");
  return Object.entries(value).map(([file, label]) => ({ file, label: label as unknown, loc }));
}
