import { type Loc, unknownLoc } from "../ir/diagnostic.ts";

// Frames of these folders are the library's, not the author's.
const ownFolders = [new URL("./", import.meta.url).href, new URL("../ir/", import.meta.url).href];
const frames = 16; // deep enough for layers within layers; a deeper chain is captured once more in full

const known = new Map<string, Loc>();

/**
 * Where the author called the DSL: the first frame outside dsl/ and ir/. Raw positions are read without formatting a
 * stack; each distinct one is mapped once, by whatever loader is in charge of source maps.
 */
export function callerLoc(root: string | undefined): Loc {
  if (typeof Error.captureStackTrace !== "function") return unknownLoc;
  const found = rawCaller(frames) ?? rawCaller(100);
  if (found === undefined) return unknownLoc;
  const key = `${root ?? ""}|${found.key}`;
  const cached = known.get(key);
  if (cached !== undefined) return cached;
  const loc = mappedFrame(found.depth, root) ?? unknownLoc;
  known.set(key, loc);
  return loc;
}

function rawCaller(limit: number): { key: string; depth: number } | undefined {
  const [savedLimit, savedHook] = [Error.stackTraceLimit, Error.prepareStackTrace];
  Error.stackTraceLimit = limit;
  Error.prepareStackTrace = (_error, sites) => sites;
  const holder: { stack?: unknown } = {};
  Error.captureStackTrace(holder, callerLoc);
  const sites = holder.stack as readonly NodeJS.CallSite[];
  Error.stackTraceLimit = savedLimit;
  Error.prepareStackTrace = savedHook;
  for (let depth = 0; depth < sites.length; depth++) {
    const site = sites[depth] as NodeJS.CallSite;
    const file = site.getFileName();
    if (file === null || file === undefined || isOwn(file) || file.startsWith("node:")) continue;
    return { key: `${file}:${site.getLineNumber()}:${site.getColumnNumber()}`, depth };
  }
  return undefined;
}

const isOwn = (file: string): boolean => {
  const url = file.startsWith("/") ? `file://${file}` : file;
  return ownFolders.some((folder) => url.startsWith(folder));
};

/** The frame at `depth`, captured again with the loader's own hook so that its position is mapped. */
function mappedFrame(depth: number, root: string | undefined): Loc | undefined {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = depth + 4;
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder, callerLoc);
  const text = holder.stack;
  Error.stackTraceLimit = limit;
  const lines = typeof text === "string" ? text.split("\n").filter((line) => /^\s+at /.test(line)) : [];
  const match = /\(?((?:file:\/\/)?[^()\s][^()]*):(\d+):(\d+)\)?$/.exec(lines[depth] ?? "");
  if (match === null) return undefined;
  const [, place, line, column] = match as unknown as [string, string, string, string];
  const path = decodeURIComponent(
    place
      .replace(/^\s*at (async )?/, "")
      .replace(/^file:\/\//, "")
      .replace(/\?.*$/, ""),
  );
  const file = root !== undefined && path.startsWith(`${root}/`) ? path.slice(root.length + 1) : path;
  return Object.freeze({ kind: "file", file, line: Number(line), column: Number(column) });
}
