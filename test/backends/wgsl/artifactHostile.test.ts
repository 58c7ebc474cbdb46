import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { openArtifact } from "../../../src/runtime/artifact/index.ts";
import { createFolderSession } from "../../../src/runtime/node/index.ts";
import { freshFolder, refusal } from "../../runtime/folder.ts";
import {
  changePlan,
  filesOf,
  inMemory,
  mixedModel,
  readAll,
  writeArtifactFolder,
  writeManifest,
} from "./artifactFolder.ts";

const place = freshFolder();
const folder = (): string => place("art");

/** Sets what lies at a path of a plan, to a value or to a function of what is there. */
function change(root: object, path: readonly string[], value: unknown): void {
  const [key = "", ...rest] = path;
  const here = root as Record<string, unknown>;
  if (rest.length > 0) change(here[key] as object, rest, value);
  else here[key] = typeof value === "function" ? value(here[key]) : value;
}

describe("a folder that is not what was written", () => {
  beforeEach(() => writeArtifactFolder(folder(), mixedModel, "mixed"));

  test("is told wherever one bit differs", async () => {
    const files = await filesOf(folder());
    const intact = await readAll(inMemory(files));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...files.keys()), fc.nat(), fc.nat({ max: 7 }), async (name, at, bit) => {
        const bytes = Uint8Array.from(files.get(name) as Uint8Array);
        const place = at % bytes.length;
        bytes[place] = (bytes[place] as number) ^ (1 << bit);
        const read = readAll(inMemory(new Map([...files, [name, bytes]])));
        if (name !== "manifest.json") {
          const error = await refusal(read);
          expect([error.code, error.message]).toEqual([
            "artifact-damaged",
            expect.stringContaining(`${name} of memory`),
          ]);
        } else {
          // It has no hash; what it says of other files has.
          const got = await read.catch((error: unknown) => error);
          if (!(got instanceof Error))
            expect([(got as typeof intact).program, (got as typeof intact).contents]).toEqual([
              intact.program,
              intact.contents,
            ]);
        }
      }),
      { numRuns: 200 },
    );
  });

  test.each(["plan.json", "kernels.wgsl", "weights.safetensors", "constants.safetensors"])(
    "%s that is shorter, longer or gone",
    async (name) => {
      const files = await filesOf(folder());
      const bytes = files.get(name) as Uint8Array;
      for (const other of [bytes.subarray(0, -1), bytes.subarray(0, 0), Buffer.concat([bytes, Buffer.from("x")])]) {
        // What follows the last tensor is not fetched at all.
        if (name === "weights.safetensors" && other.length > bytes.length) continue;
        const error = await refusal(readAll(inMemory(new Map([...files, [name, other]]))));
        expect(error.code).toBe("artifact-damaged");
      }
      await unlink(join(folder(), name));
      expect((await refusal(createFolderSession(folder()))).message).toContain(
        `there is no file ${join(folder(), name)}`,
      );
    },
  );

  const again = (value: unknown): unknown => [...(value as readonly unknown[]), (value as readonly unknown[])[0]];
  const add = (more: unknown) => (value: unknown) => (Array.isArray(value) ? [...value, more] : (value as number) + 4);
  const hostile: readonly (readonly [says: string, path: string, value: unknown])[] = [
    ["program.buffers[0].elements", "program.buffers.0.elements", "process.exit(1)"],
    ["program.buffers[0].elements", "program.buffers.0.elements", -4],
    ["program.buffers[0].elements", "program.buffers.0.elements", 1e300],
    ["program.buffers[0].elements", "program.buffers.0.elements", "(".repeat(5000)],
    ["program.buffers[0].elements", "program.buffers.0.elements", { valueOf: 1 }],
    ["there is no symbol", "program.buffers.0.elements", "other"],
    ["there is no size of symbol", "program.symbols", add("other")],
    ["program.symbols[0]", "program.symbols.0", "a b"],
    ["program.inputs[0].dtype", "program.inputs.0.dtype", "constructor"],
    ["program.outputs", "program.outputs", {}],
    ["there is no buffer", "program.outputs.0.buffer", "v99"],
    ["there is no buffer", "program.dispatches.0.buffers.0", "__proto__"],
    ["two are named alike", "program.buffers", again],
    ["two are named alike", "program.outputs", again],
    ["a dispatch names a shader too many", "program.dispatches.0.shader", 99],
    ["program.dispatches[0].shader", "program.dispatches.0.shader", 0.5],
    ["program.dispatches[0].groups.threads", "program.dispatches.0.groups.threads", 0],
    ["program.version", "program.version", 2],
    ["the texts of the shaders overlap", "kernels.shaders.0.bytes", 2 ** 40],
    ["kernels.sha256", "kernels.sha256", "0"],
    ["no tensor of weights.safetensors is parameter", "weights.tensors.0.name", "other"],
    ["no tensor of weights.safetensors is parameter", "weights", null],
    ["there is no constant", "constants", null],
    ["a tensor of weights has other bytes", "weights.tensors.0.bytes", add(4)],
    ["a tensor of weights has other bytes", "weights.tensors.0.shape", [2 ** 30, 2 ** 30]],
    ["tensors of weights overlap", "weights.tensors.1.offset", 8],
    ["tensors of weights overlap", "weights.tensors.3.offset", 2 ** 40],
    ["weights.chunkBytes", "weights.chunkBytes", 2 ** 50],
    ["weights has 0 hashes", "weights.sha256", []],
    ["weights.bytes", "weights.bytes", "1e9"],
    ["program.donate.y", "program.donate", { y: 1 }],
    ["states no format", "format", "1"],
  ];
  test.each(hostile)("a plan that says something else is refused: %s", async (says, path, value) => {
    await changePlan(folder(), (plan) => change(plan, path.split("."), value));
    const error = await refusal(createFolderSession(folder()));
    expect([error.code, error.message]).toEqual(["artifact-damaged", expect.stringContaining(says)]);
    expect(error.message.length).toBeLessThan(600);
  });

  test("sizes beyond all memory are not allocated before they are found wrong", async () => {
    const files = await filesOf(folder());
    const manifest = JSON.parse(Buffer.from(files.get("manifest.json") as Uint8Array).toString()) as {
      files: Record<string, { bytes: number }>;
    };
    (manifest.files["plan.json"] as { bytes: number }).bytes = 2 ** 52;
    files.set("manifest.json", Buffer.from(JSON.stringify(manifest)));
    expect((await refusal(openArtifact(inMemory(files)))).message).toContain("plan.json of memory is said to hold");
  });

  test("another version is told by its number, and another target by its name", async () => {
    const names = (await readdir(folder())).filter((name) => name !== "manifest.json");
    await writeManifest(folder(), names, { format: 2, tamis: "9.0.0" });
    const newer = await refusal(createFolderSession(folder()));
    expect([newer.code, newer.message]).toEqual([
      "artifact-version",
      expect.stringContaining("has format 2, written by tamis 9.0.0"),
    ]);
    await writeManifest(folder(), names, { target: "onnx" });
    expect((await refusal(createFolderSession(folder()))).code).toBe("model-format");
    await writeManifest(folder(), names, {});
    await changePlan(folder(), (plan) => Object.assign(plan, { format: 3 }));
    expect((await refusal(createFolderSession(folder()))).message).toContain("plan.json of ");
  });
});
