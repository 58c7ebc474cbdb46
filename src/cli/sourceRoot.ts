import { relative } from "node:path";

let root: string | undefined;

/** Names source files relative to a folder from now on; undefined: to the working folder. */
export function setSourceRoot(folder: string | undefined): void {
  root = folder;
}

/** The folder that places of source files are named relative to. */
export const sourceRoot = (): string => root ?? process.cwd();

/** Paths below the source root are named relative to it. */
export function shownPath(path: string): string {
  const below = relative(sourceRoot(), path);
  return below !== "" && !below.startsWith("..") ? below : path;
}
