import { mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import {
  insideFolder,
  openFile,
  readBytes,
  writeAtomically,
  writeFileAtomically,
} from "../../src/runtime/node/files.ts";
import { freshFolder, refusal } from "./folder.ts";

const at = freshFolder();

test("a file is replaced whole", async () => {
  await writeFileAtomically(at("a.txt"), "old contents");
  await writeFileAtomically(at("a.txt"), Uint8Array.of(110, 101, 119));
  expect(await readFile(at("a.txt"), "utf8")).toBe("new");
  expect(await readdir(at())).toEqual(["a.txt"]);
});

test("a writer that throws leaves the old contents and no second file, and its error passes through", async () => {
  await writeFile(at("a.txt"), "old");
  const writing = writeAtomically(at("a.txt"), async (file) => {
    await file.writeFile("half of the new");
    throw new Error("stopped");
  });
  await expect(writing).rejects.toThrow("stopped");
  expect(await readFile(at("a.txt"), "utf8")).toBe("old");
  expect(await readdir(at())).toEqual(["a.txt"]);
});

test("a link stays a link and its target is replaced", async () => {
  await writeFile(at("target"), "old");
  await symlink(at("target"), at("link"));
  await writeFileAtomically(at("link"), "new");
  expect(await readlink(at("link"))).toBe(at("target"));
  expect(await readFile(at("target"), "utf8")).toBe("new");
});

test("a folder, and a path without one, cannot be written", async () => {
  await mkdir(at("folder"));
  const folder = await refusal(writeFileAtomically(at("folder"), "x"));
  expect(folder.message).toBe(`${at("folder")}:1:1 error[file-unwritable]: ${at("folder")} exists and is not a file`);
  const nowhere = await refusal(writeFileAtomically(at("none/x"), "x"));
  expect(nowhere.message).toContain("error[file-unwritable]");
  expect(nowhere.message).toContain("its folder does not exist");
});

test("a missing file is reported with what is near", async () => {
  await writeFile(at("weights.npy"), "");
  const error = await refusal(openFile(at("wieghts.npy")));
  expect(error.code).toBe("file-not-found");
  expect(error.diagnostics[0]?.help).toBe("did you mean weights.npy?");
  expect((await refusal(openFile(at("weights.npy/x")))).code).toBe("file-not-found");
  expect((await refusal(openFile(at("a\0b")))).code).toBe("file-not-found");
});

test("a folder and a device are no files", async () => {
  expect((await refusal(openFile(at()))).code).toBe("file-unreadable");
  expect((await refusal(openFile("/dev/zero"))).code).toBe("file-unreadable");
});

test("a file over the limit is not read", async () => {
  await writeFile(at("a"), "12345");
  expect((await readBytes(at("a"), 5)).toString()).toBe("12345");
  expect((await refusal(readBytes(at("a"), 4))).code).toBe("file-too-large");
});

test("only plain relative names lie inside a folder", () => {
  expect(insideFolder("/m", "a/b.bin")).toBe("/m/a/b.bin");
  expect(insideFolder("/m", "..a/b..bin")).toBe("/m/..a/b..bin");
  for (const name of ["", "..", "a/../b", "/a", "a\\b", "C:/a", "a\0"])
    expect(insideFolder("/m", name)).toBeUndefined();
});
