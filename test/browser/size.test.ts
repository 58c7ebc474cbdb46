import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";

test("tamis/browser takes less than 60 KB in a page, and brings no compiler along", async () => {
  const { outputFiles, metafile } = await build({
    entryPoints: [new URL("../../src/runtime/browser/index.ts", import.meta.url).pathname],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  const [bundle] = outputFiles;
  expect(gzipSync(bundle?.contents ?? "", { level: 9 }).length).toBeLessThan(60_000);
  expect(outputFiles).toHaveLength(1);
  const folders = new Set(Object.keys(metafile.inputs).map((file) => file.replace(/^(src\/\w+(?:\/\w+)?)\/.*/, "$1")));
  expect([...folders].sort()).toEqual(["src/ir", "src/runtime/artifact", "src/runtime/browser", "src/runtime/webgpu"]);
  const compiler = ["builder", "parse", "print", "verify", "op"].map((name) => `src/ir/${name}.ts`);
  expect(compiler.filter((file) => file in metafile.inputs)).toEqual([]);
});
