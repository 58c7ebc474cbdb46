// `npm run data:fashion`: fetches the whole of Fashion-MNIST (Debian package dataset-fashion-mnist, MIT) into the user's
// cache folder, without root and without touching the system's package lists. `--excerpt FILE` also writes the first
// 500 test pictures as safetensors.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { writeSafetensors } from "../src/runtime/node/safetensors.ts";

/** sha256 of each file as zalandoresearch/fashion-mnist published it. */
const checksums: Readonly<Record<string, string>> = {
  "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
  "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
  "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
  "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
};

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tamis", "fashion-mnist");

function verified(folder: string): boolean {
  return Object.entries(checksums).every(([name, wanted]) => {
    const path = join(folder, name);
    return existsSync(path) && createHash("sha256").update(readFileSync(path)).digest("hex") === wanted;
  });
}

/** apt with package lists, caches and locks of its own below `work`. */
function apt(work: string, args: readonly string[]): void {
  for (const folder of ["lists/partial", "archives/partial", "state"])
    mkdirSync(join(work, folder), { recursive: true });
  writeFileSync(join(work, "status"), "");
  const settings = {
    "Dir::State": join(work, "state"),
    "Dir::State::Lists": join(work, "lists"),
    "Dir::State::status": join(work, "status"),
    "Dir::Cache": work,
    "Debug::NoLocking": "1",
    "APT::Sandbox::User": "",
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  execFileSync("apt-get", ["-qq", ...options, ...args], { cwd: work, stdio: ["ignore", "ignore", "inherit"] });
}

function fetchPackage(): void {
  const work = mkdtempSync(join(tmpdir(), "tamis-fashion-"));
  try {
    apt(work, ["update"]);
    apt(work, ["download", "dataset-fashion-mnist"]);
    const archive = readdirSync(work).find((name) => name.endsWith(".deb"));
    if (archive === undefined) throw new Error("apt-get download left no package behind");
    execFileSync("dpkg-deb", ["-x", join(work, archive), join(work, "files")]);
    const unpacked = join(work, "files/usr/share/datasets/fashion-mnist");
    if (!verified(unpacked))
      throw new Error("the downloaded files do not have the published checksums; nothing was kept");
    mkdirSync(join(cache, ".."), { recursive: true });
    const fresh = `${cache}.new`;
    rmSync(fresh, { recursive: true, force: true });
    cpSync(unpacked, fresh, { recursive: true });
    rmSync(cache, { recursive: true, force: true });
    renameSync(fresh, cache);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The first `count` test pictures and labels; idx files have 16 and 8 header bytes. */
async function writeExcerpt(path: string, count: number): Promise<void> {
  const read = (name: string) => gunzipSync(readFileSync(join(cache, name)));
  const pictures = new Uint8Array(read("t10k-images-idx3-ubyte.gz").subarray(16, 16 + count * 784));
  const labels = Int32Array.from(read("t10k-labels-idx1-ubyte.gz").subarray(8, 8 + count));
  await writeSafetensors(
    path,
    [
      { name: "images", source: { dtype: "u8", shape: [count, 28, 28], values: pictures } },
      { name: "labels", source: { dtype: "i32", shape: [count], values: labels } },
    ],
    { source: "Fashion-MNIST test set, first 500 (zalandoresearch/fashion-mnist, MIT; Debian dataset-fashion-mnist)" },
  );
}

if (verified(cache)) console.log(`already there: ${cache}`);
else {
  try {
    fetchPackage();
  } catch (error) {
    console.error(
      `Fashion-MNIST could not be fetched: ${error instanceof Error ? error.message : String(error)}\n` +
        `It needs apt-get and dpkg-deb (Debian, Ubuntu). Elsewhere, put the four published .gz files into ${cache}.`,
    );
    process.exit(1);
  }
  console.log(`fetched and verified: ${cache}`);
}
const excerpt = process.argv.indexOf("--excerpt");
if (excerpt > 0) await writeExcerpt(process.argv[excerpt + 1] as string, 500);
