import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { tensorData } from "../../../src/ir/type.ts";
import { openDataSet, writeSafetensors } from "../../../src/runtime/node/index.ts";
import { freshFolder, refusal } from "../folder.ts";
import { evaluated, listed, pixelsOf, wanted, writePicture } from "./corner.ts";

const path = freshFolder();

/** Files of a fresh folder: a number is a picture that shows that corner, a text stands as it is. */
async function folderOf(name: string, files: Readonly<Record<string, number | string>>): Promise<string> {
  const folder = path(name);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  for (const [file, contents] of Object.entries(files)) {
    await mkdir(dirname(`${folder}/${file}`), { recursive: true });
    if (typeof contents === "number") await writePicture(`${folder}/${file}`, contents);
    else await writeFile(`${folder}/${file}`, contents);
  }
  return folder;
}

const short = async (folder: string): Promise<readonly string[]> =>
  (await listed(await openDataSet(folder, wanted))).map(([name, label]) => `${basename(name)} ${label}`);
const refused = async (data: string, as = wanted) => {
  const { code, diagnostics } = await refusal(openDataSet(data, as).then(listed));
  const { loc, message, help } = diagnostics[0] ?? {};
  const at = loc?.kind === "file" ? `${basename(loc.file)}:${loc.line}` : "";
  return { code, message, help, at };
};

describe("folders of classes", () => {
  test("are named as the classes are, whatever a folder's name cannot hold, and take turns", async () => {
    const folder = await folderOf("named", {
      "top_right/b.png": 1,
      "top_right/a.png": 1,
      "top_right/deep/c.png": 1,
      "Bottom Left/a.PNG": 2,
      "Bottom Left/notes.txt": "no picture",
      "Bottom Left/.hidden.png": "no picture either",
    });
    expect(await short(folder)).toEqual(["a.PNG 2", "a.png 1", "b.png 1", "c.png 1"]);
    const { top1 } = await evaluated(await openDataSet(folder, wanted));
    expect([top1.right, top1.count]).toEqual([4, 4]);
  });

  test("or are numbers, of which some may be missing", async () =>
    expect(await short(await folderOf("numbers", { "3/a.png": 3, "0/b.png": 0 }))).toEqual(["b.png 0", "a.png 3"]));

  test("or are classes by their order, which is said", async () => {
    const folder = await folderOf("ordered", { "n2/b.png": 1, "n1/a.png": 0, "n4/d.png": 3, "n3/c.png": 2 });
    expect(await short(folder)).toEqual(["a.png 0", "b.png 1", "c.png 2", "d.png 3"]);
    const { notes } = await openDataSet(folder, wanted);
    expect(notes).toEqual(["folders are taken as classes in the order of their names: n1 is class 0"]);
  });

  test("a link to a folder is one", async () => {
    const folder = await folderOf("linked", { "0/a.png": 0 });
    await symlink(await folderOf("elsewhere", { "b.png": 1 }), `${folder}/1`);
    expect(await short(folder)).toEqual(["a.png 0", "b.png 1"]);
  });

  test("that the model has no class for are refused by name", async () =>
    expect(await refused(await folderOf("misspelt", { "top left/a.png": 0, "top rihgt/a.png": 1 }))).toEqual({
      code: "data-label",
      message: 'the label is "top rihgt", which is no class of the model',
      help: "did you mean Top/right?",
      at: "top rihgt:1",
    }));

  test("more or fewer of them than the model has classes are refused", async () => {
    const { code, message } = await refused(await folderOf("five", { "a/a.png": 0, "b/a.png": 0 }));
    expect(code).toBe("data-classes");
    expect(message).toBe("the data set has 2 folders of classes, but the model tells 4 classes apart");
    expect((await refused(await folderOf("high", { "7/a.png": 0 }))).message).toBe(
      "label 7 is no class of the model, which has 0 to 3",
    );
  });

  test("without any picture are refused, as an empty folder is", async () => {
    expect((await refused(await folderOf("bare", { "0/a.txt": "" }))).code).toBe("data-empty");
    expect(await refused(await folderOf("empty", {}))).toMatchObject({
      code: "data-empty",
      message: expect.stringMatching(/holds nothing$/),
    });
    expect((await refused(await folderOf("files", { "a.png": 0 }))).message).toMatch(
      /no folders of classes and no labels/,
    );
  });

  test("with a picture that cannot be read are an error that names it", async () => {
    const folder = await folderOf("broken", { "0/a.png": 0, "0/b.png": "this is no picture" });
    const { code, message } = await refusal(evaluated(await openDataSet(folder, wanted)));
    expect(code).toBe("not-a-picture");
    expect(message).toContain("broken/0/b.png cannot be read as a picture");
  });
});

describe("a labels file", () => {
  test.each([
    ["labels.csv", "b.png,3\na.png,top left\n"],
    ["labels.csv", 'label,set,filename\r\n3,x,b.png\r\n"Top left","a, ""b""",a.png\r\n'],
    ["labels.json", '{"b.png": 3, "a.png": "Top left"}'],
    ["labels.json", '[{"file": "b.png", "label": 3}, {"file": "a.png", "label": 0}]'],
  ])("as %s: %j", async (name, text) => {
    const folder = await folderOf("labelled", { "a.png": 0, "b.png": 3, [name]: text });
    expect(await short(folder)).toEqual(["b.png 3", "a.png 0"]);
    expect(await short(`${folder}/${name}`)).toEqual(["b.png 3", "a.png 0"]);
    expect((await evaluated(await openDataSet(folder, wanted))).top1.right).toBe(2);
  });

  test.each([
    ["a.png,0\na.png,4\n", "data-label", "labels.csv:2", "labels count from 0"],
    ["a.png,0\n\na.png,botom left\n", "data-label", "labels.csv:3", "did you mean bottom left"],
    ["a.png,-1\n", "data-label", "labels.csv:1", "the classes: Top left"],
    ["a.png\n", "data-format", "labels.csv:1", "write a.png,3"],
    ['a.png,"0\n', "data-format", "labels.csv:1", "write cells"],
    ["a.png,0\nc.png,0\n", "file-not-found", "labels.csv:2", "names are relative to"],
    ["file,label\n", "data-empty", "labels.csv:1", undefined],
  ])("%j is refused at its line", async (text, code, at, help) => {
    const folder = await folderOf("wrong", { "a.png": 0, "labels.csv": text });
    const found = await refused(folder);
    expect([found.code, found.at]).toEqual([code, at]);
    if (help !== undefined) expect(found.help).toContain(help);
  });

  test("that is no JSON of this form is refused", async () => {
    for (const text of ["{", "3", "[3]", '[{"label": 3}]'])
      expect((await refused(await folderOf("wrong", { "labels.json": text }))).code).toBe("data-format");
  });

  test("of another name, and two at once, are refused", async () => {
    const folder = await folderOf("two", { "labels.csv": "a.png,0", "labels.json": "{}" });
    expect((await refused(folder)).message).toMatch(/holds several data sets: labels\.csv, labels\.json$/);
    expect((await refused(path("two/lables.csv"))).help).toBe("did you mean labels.csv?");
  });
});

describe("tensors", () => {
  const pixels = (...corners: readonly number[]) => corners.flatMap((corner) => [...pixelsOf(corner)]);
  const labels = { name: "labels", source: tensorData("i32", [3], [2, 0, 1]) };

  test.each([
    ["[n,h,w]", [3, 2, 2], pixels(2, 0, 1)],
    ["[n,c,h,w]", [3, 3, 2, 2], [2, 0, 1].flatMap((corner) => [1, 2, 3].flatMap(() => pixels(corner)))],
    ["[n,h,w,c]", [3, 2, 2, 3], pixels(2, 0, 1).flatMap((grey) => [grey, grey, grey])],
  ])("of pixels %s are pictures", async (_, shape, values) => {
    await writeSafetensors(path("pixels.safetensors"), [
      { name: "anything", source: tensorData("u8", shape, values) },
      labels,
    ]);
    const result = await evaluated(await openDataSet(path("pixels.safetensors"), wanted), { batch: 2 });
    expect([result.top1.right, result.top1.count]).toEqual([3, 3]);
  });

  test("by the names of the inputs go in as they are, from a model that knows no pictures", async () => {
    const image = tensorData("f16", [3, 1, 2, 2], [0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    await writeSafetensors(path("tensors.safetensors"), [{ name: "image", source: image }, labels]);
    const result = await evaluated(await openDataSet(path("tensors.safetensors"), { ...wanted, pictures: {} }));
    expect(result.pairs).toEqual([
      { actual: 1, answered: 0, count: 1 },
      { actual: 0, answered: 0, count: 1 },
      { actual: 2, answered: 2, count: 1 },
    ]);
  });

  test("that do not fit the labels or the model are refused", async () => {
    const write = async (...entries: Parameters<typeof writeSafetensors>[1][]) => {
      await writeSafetensors(
        path("bad.safetensors"),
        entries.flatMap((entry) => [...entry]),
      );
      return refused(path("bad.safetensors"));
    };
    const image = (shape: readonly number[], dtype: "u8" | "i32" = "u8") => ({
      name: "image",
      source: tensorData(dtype, shape, new Array(shape.reduce((a, b) => a * b, 1)).fill(0)),
    });
    expect((await write([image([3, 2, 2])])).message).toMatch(/holds no integers called labels/);
    expect((await write([image([2, 2, 2]), labels])).message).toMatch(/holds 3 labels but image is u8\[2,2,2\]/);
    expect((await write([image([3, 2, 2, 2]), labels])).message).toMatch(/are no pictures/);
    expect((await write([image([3, 2, 2], "i32"), labels])).message).toMatch(/i32\[3,2,2\] for input image: f32/);
    const high = { name: "labels", source: tensorData("i32", [3], [0, 9, 1]) };
    expect((await write([image([3, 2, 2]), high])).message).toBe(
      "label 9 of example 1 is no class of the model, which has 0 to 3",
    );
    expect((await write([labels])).message).toMatch(/holds no tensor called image/);
  });
});

describe("idx files", () => {
  const idx = (shape: readonly number[], bytes: readonly number[]): Buffer => {
    const header = Buffer.alloc(4 + 4 * shape.length);
    header.writeUInt32BE(0x0800 + shape.length);
    shape.forEach((dim, axis) => header.writeUInt32BE(dim, 4 + 4 * axis));
    return Buffer.concat([header, Buffer.from(bytes)]);
  };
  const pictures = idx([2, 2, 2], [...pixelsOf(3), ...pixelsOf(1)]);
  const labels = idx([2], [3, 1]);

  test("are read packed and plain, by their file or their folder", async () => {
    await mkdir(path("idx"));
    await writeFile(path("idx/t10k-images-idx3-ubyte.gz"), gzipSync(pictures));
    await writeFile(path("idx/t10k-labels-idx1-ubyte.gz"), gzipSync(labels));
    expect((await evaluated(await openDataSet(path("idx"), wanted))).top1.right).toBe(2);
    await writeFile(path("idx/train-images.idx3-ubyte"), pictures);
    await writeFile(path("idx/train-labels.idx1-ubyte"), labels);
    expect((await evaluated(await openDataSet(path("idx/train-images.idx3-ubyte"), wanted))).top1.right).toBe(2);
    expect((await refused(path("idx"))).help).toMatch(/give one of them, such as .*t10k-images-idx3-ubyte\.gz$/);
  });

  test.each([
    ["no idx file", Buffer.from("twelve bytes or more, but no idx"), "begins with 0x7477656c"],
    ["a file cut short", pictures.subarray(0, -1), "[2,2,2] takes 24 bytes, it holds 23"],
    ["a header cut short", pictures.subarray(0, 10), "it holds 10 bytes"],
    ["labels in place of pictures", labels, "it holds 10 bytes"],
  ])("%s is refused", async (_, bytes, says) => {
    await writeFile(path("x-images-idx3-ubyte"), bytes);
    await writeFile(path("x-labels-idx1-ubyte"), labels);
    const { code, message } = await refused(path("x-images-idx3-ubyte"));
    expect(code).toBe("data-format");
    expect(message).toContain(says);
  });

  test("that are no gzip, or lack their labels, are refused", async () => {
    await writeFile(path("y-images-idx3-ubyte.gz"), pictures);
    expect((await refused(path("y-images-idx3-ubyte.gz"))).message).toContain("cannot be unpacked");
    await writeFile(path("z-images-idx3-ubyte"), pictures);
    expect((await refused(path("z-images-idx3-ubyte"))).code).toBe("file-not-found");
  });
});

test("other files, absent ones, and models that pictures do not fit are refused", async () => {
  await writeFile(path("a.parquet"), "");
  expect((await refused(path("a.parquet"))).code).toBe("data-format");
  expect((await refused(path("nowhere"))).code).toBe("file-not-found");
  const folder = await folderOf("named", { "0/a.png": 0 });
  const two = { ...wanted, inputs: [...wanted.inputs, { name: "mask", dtype: "f32", shape: ["batch", 4] }] } as const;
  expect((await refused(folder, two)).message).toMatch(/but the model takes image: .*, mask: f32/);
  expect((await refused(folder, { ...wanted, pictures: {} })).code).toBe("bad-input");
});
