import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import chromium from "@sparticuz/chromium";
import { type Browser, chromium as playwright } from "playwright-core";

const flags = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-unsafe-swiftshader",
];

/**
 * A headless Chromium with WebGPU in software. `libraries` is a folder for the shared libraries that a bare machine
 * lacks (nss, nspr, expat), which the npm package carries too.
 */
export async function openChromium(libraries: string): Promise<Browser> {
  await unpackLibraries(libraries);
  const paths = [join(libraries, "lib"), process.env["LD_LIBRARY_PATH"]].filter((path) => path !== undefined);
  return playwright.launch({
    executablePath: await chromium.executablePath(),
    args: flags,
    headless: true,
    env: { ...process.env, LD_LIBRARY_PATH: paths.join(":") } as Record<string, string>,
  });
}

const blockBytes = 512; // of a tar archive

async function unpackLibraries(folder: string): Promise<void> {
  const entry = createRequire(import.meta.url).resolve("@sparticuz/chromium");
  let root = dirname(entry);
  while (!existsSync(join(root, "bin"))) root = dirname(root);
  const tar = await promisify(brotliDecompress)(await readFile(join(root, "bin", "al2023.tar.br")));
  await mkdir(join(folder, "lib"), { recursive: true });
  for (let at = 0; at + blockBytes <= tar.length; ) {
    const name = tar.toString("latin1", at, at + 100).replace(/\0.*$/s, "");
    if (name === "") break;
    const size = Number.parseInt(tar.toString("latin1", at + 124, at + 136).trim(), 8);
    at += blockBytes;
    if (/^lib\/[\w.+-]+$/.test(name)) await writeFile(join(folder, name), tar.subarray(at, at + size), { mode: 0o755 });
    at += Math.ceil(size / blockBytes) * blockBytes;
  }
}
