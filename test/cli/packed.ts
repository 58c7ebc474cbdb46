import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../../", import.meta.url));
export const compiler = `${repository}node_modules/typescript/bin/tsc`;

/**
 * Makes a folder a user's: the files of Tamis's tarball below node_modules, its dependencies beside it. What npm would
 * fetch is linked from the checkout, so that no network is asked.
 */
export async function installPacked(folder: string, packageJson: object): Promise<void> {
  const own = join(folder, "node_modules/tamis");
  const built = await mkdtemp(join(tmpdir(), "tamis-packed-"));
  try {
    for (const name of ["bin", "docs", "examples", "CHANGELOG.md", "README.md", "LICENSE", "package.json"])
      await cp(`${repository}${name}`, join(built, name), { recursive: true });
    build(join(built, "dist"));
    const [tarball = ""] = execFileSync("npm", ["pack", "--silent", "--offline"], { cwd: built, encoding: "utf8" })
      .trim()
      .split("\n");
    await mkdir(own, { recursive: true });
    execFileSync("tar", ["-xzf", join(built, tarball), "-C", own, "--strip-components=1"]);
  } finally {
    await rm(built, { recursive: true });
  }
  for (const name of await readdir(`${repository}node_modules`))
    if (name !== "tamis" && !name.startsWith("."))
      await symlink(`${repository}node_modules/${name}`, join(folder, "node_modules", name));
  await writeFile(join(folder, "package.json"), JSON.stringify(packageJson));
}

function build(dist: string): void {
  try {
    execFileSync(process.execPath, [compiler, "-p", `${repository}tsconfig.build.json`, "--outDir", dist]);
  } catch {
    // Type errors are another test's matter; what it writes all the same is run here.
  }
}
