import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { type Browser, chromium } from "playwright-core";

const flags = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-unsafe-swiftshader",
];

/** A headless Chromium with WebGPU in software, from the npm package @sparticuz/chromium; nothing of the system's. */
export async function openChromium(): Promise<Browser> {
  const folder = await unpackedChromium();
  const libraries = [join(folder, "lib"), process.env["LD_LIBRARY_PATH"]].filter((path) => path !== undefined);
  const env = { LD_LIBRARY_PATH: libraries.join(":"), FONTCONFIG_FILE: join(folder, "fonts.conf") };
  return chromium.launch({
    executablePath: join(folder, "chromium"),
    args: flags,
    headless: true,
    env: { ...process.env, ...env } as Record<string, string>,
  });
}

/**
 * The browser, its graphics, and the libraries and fonts that a bare machine lacks, unpacked once to the user's cache
 * folder. (The package's own `executablePath` writes to /tmp, where two test files would meet half a browser.)
 */
async function unpackedChromium(): Promise<string> {
  const entry = createRequire(import.meta.url).resolve("@sparticuz/chromium");
  let root = dirname(entry);
  while (!existsSync(join(root, "bin"))) root = dirname(root);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folder = join(cache, "tamis", `chromium-${version}`);
  if (existsSync(folder)) return folder;
  const fresh = `${folder}.${process.pid}`;
  await mkdir(fresh, { recursive: true });
  const unbrotli = async (name: string): Promise<Buffer> =>
    promisify(brotliDecompress)(await readFile(join(root, "bin", `${name}.br`)));
  await writeFile(join(fresh, "chromium"), await unbrotli("chromium"));
  await chmod(join(fresh, "chromium"), 0o755);
  for (const archive of ["swiftshader.tar", "al2023.tar", "fonts.tar"]) await unpack(await unbrotli(archive), fresh);
  await writeFile(join(fresh, "fonts.conf"), fontsConfiguration(folder));
  try {
    await rename(fresh, folder);
  } catch {
    await rm(fresh, { recursive: true, force: true }); // another process was quicker
  }
  return folder;
}

const fontsConfiguration = (folder: string): string =>
  `<?xml version="1.0"?>
<fontconfig><dir>${folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>${folder}/fonts-cache</cachedir></fontconfig>
`;

const blockBytes = 512; // of a tar archive

/** Writes the plain files of a small tar archive. */
async function unpack(tar: Buffer, folder: string): Promise<void> {
  for (let at = 0; at + blockBytes <= tar.length; ) {
    const name = tar.toString("latin1", at, at + 100).replace(/\0.*$/s, "");
    if (name === "") break;
    const size = Number.parseInt(tar.toString("latin1", at + 124, at + 136).trim(), 8);
    const plain = tar[at + 156] === 0x30 && /^[\w.+-]+(\/[\w.+-]+)*$/.test(name);
    at += blockBytes;
    if (plain) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), tar.subarray(at, at + size), { mode: 0o755 });
    }
    at += Math.ceil(size / blockBytes) * blockBytes;
  }
}
