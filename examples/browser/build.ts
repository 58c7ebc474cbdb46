// Writes the demo page to a folder: the Fashion ViT compiled for several r, the page with its runtime in one file, and
// test pictures. Any static server can then serve it.
import { execFile } from "node:child_process";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { loadWeights } from "tamis/runtime";
import { fashionVit } from "../01-fashion-vit.ts";

export interface DemoOptions {
  /** Token pairs merged in each block. */
  readonly degrees: readonly number[];
  /** Of --target webgpu: portable for graphics cards, software where threads are emulated. */
  readonly profiles: readonly string[];
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const shownSamples = 24;

export async function buildDemo(folder: string, { degrees, profiles }: DemoOptions): Promise<void> {
  await mkdir(join(folder, "models"), { recursive: true });
  const models = profiles.flatMap((profile) => degrees.map((r) => compileModel(folder, profile, r)));
  await Promise.all([...models, bundle(folder)]);
  for (const name of ["index.html", "style.css"]) await copyFile(here(`page/${name}`), join(folder, name));
  const demo = { degrees, profiles, samples: await samples() };
  await writeFile(join(folder, "demo.json"), `${JSON.stringify(demo)}\n`);
}

/** `track` adds the output that says which patches each token stands for. */
async function compileModel(folder: string, profile: string, r: number): Promise<void> {
  const args = ["compile", here("../01-fashion-vit.ts"), "--target", "webgpu", "--profile", profile];
  args.push("--pass", `mergeTokens:r=${r},track=true`, "-o", join(folder, "models", `${profile}-r${r}`));
  await promisify(execFile)(process.execPath, [here("../../bin/tamis.js"), ...args]);
}

async function bundle(folder: string): Promise<void> {
  await build({
    entryPoints: [here("page/app.ts")],
    outfile: join(folder, "app.js"),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none",
    logLevel: "warning",
  });
}

async function samples(): Promise<readonly { readonly label: string; readonly pixels: string }[]> {
  await using data = await loadWeights(here("../data/fashion-test-500.safetensors"));
  const read = async (name: string) => (await data.tensors.get(name)?.read(0, undefined))?.values ?? [];
  const [pixels, labels] = [Uint8Array.from(await read("images"), Number), await read("labels")];
  return Array.from({ length: shownSamples }, (_, k) => ({
    label: fashionVit.labels?.[Number(labels[k])] ?? "",
    pixels: Buffer.from(pixels.subarray(k * 784, (k + 1) * 784)).toString("base64"),
  }));
}
