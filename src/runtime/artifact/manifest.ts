import { compileError } from "../../ir/diagnostic.ts";
import type { TensorType } from "../../ir/type.ts";
import { count, dim, dtype, hash, isRecord, list, mapOf, number, record, text } from "./check.ts";
import { damaged, type FileHash } from "./files.ts";

/** How a picture becomes an input: (pixel / 255 - mean) / std per channel. */
export interface PictureInput {
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly fit?: "cover" | "contain" | "fill";
}

/** What a manifest.json says that running needs. */
export interface RunManifest {
  readonly tamis: string;
  readonly name: string;
  readonly inputs: readonly (TensorType & { readonly name: string })[];
  readonly pictures: Readonly<Record<string, PictureInput>>;
  /** Names of the classes, by output position. */
  readonly labels: readonly string[];
  readonly files: Readonly<Record<string, FileHash>>;
}

export const manifestFile = "manifest.json";
const manifestFormat = 1;

/**
 * Reads the text of a manifest. Fails with `artifact-damaged`, with `artifact-version` where another version of Tamis
 * wrote it, and with `model-format` where it is for another target.
 */
export function readRunManifest(source: string, place: string): RunManifest {
  const value = parseJson(source, place, manifestFile);
  checkFormat(value, manifestFormat, place, manifestFile);
  const wrong = manifest(value, "");
  if (wrong !== undefined) throw damaged(place, manifestFile, `cannot be used: ${wrong}`);
  const { target } = value as { readonly target?: unknown };
  if (target !== "webgpu")
    throw compileError("model-format", `${place} holds a model for ${shown(target ?? "no target")}, not for webgpu`, {
      help: "tamis compile MODEL --target webgpu -o DIR",
    });
  return value as unknown as RunManifest;
}

const manifest = record({
  tamis: text,
  name: text,
  inputs: list(record({ name: text, dtype, shape: list(dim) })),
  pictures: mapOf(record({ mean: list(number), std: list(number) })),
  labels: list(text),
  files: mapOf(record({ bytes: count, sha256: hash })),
});

export function parseJson(source: string, place: string, file: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch {
    throw damaged(place, file, "is not JSON");
  }
  if (!isRecord(value)) throw damaged(place, file, "is not a JSON object");
  return value;
}

/** Fails with `artifact-version` where `format` is a number but not the one that this version reads. */
export function checkFormat(
  value: Readonly<Record<string, unknown>>,
  format: number,
  place: string,
  file: string,
): void {
  const { format: found, tamis } = value;
  if (found === format) return;
  if (typeof found !== "number") throw damaged(place, file, "states no format");
  const by = typeof tamis === "string" ? `, written by tamis ${shown(tamis)}` : "";
  throw compileError("artifact-version", `${file} of ${place} has format ${found}${by}; this version reads ${format}`, {
    help: "compile the model again, or run it with the version that wrote it",
  });
}

const shown = (value: unknown): string =>
  String(value)
    .replace(/[^\w.+ -]/g, "?")
    .slice(0, 40);
