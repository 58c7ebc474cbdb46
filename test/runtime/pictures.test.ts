import { writeFile } from "node:fs/promises";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { decodePicture, readPicture } from "../../src/runtime/node/pictures.ts";
import { freshFolder, refusal } from "./folder.ts";
import pillow from "./pillow.json" with { type: "json" };

const at = freshFolder();

async function writePicture(
  name: string,
  pixels: readonly number[],
  width: number,
  channels: 1 | 2 | 3 | 4 = 3,
): Promise<string> {
  const raw = { width, height: pixels.length / channels / width, channels };
  const picture = sharp(Uint8Array.from(pixels), { raw });
  await (channels < 3 ? picture.toColourspace("b-w") : picture).toFile(at(name));
  return at(name);
}

const asIs = { channels: 3, mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] } as const;
const pixelsOf = (values: Iterable<number>) => Array.from(values, Math.round);

describe("readPicture", () => {
  test("gives planes of (pixel / 255 - mean) / std", async () => {
    const path = await writePicture("a.png", [255, 0, 51, 0, 255, 102], 2);
    const options = { width: 2, height: 1, channels: 3, mean: [0.5, 0, 0.2], std: [0.5, 1, 0.1] } as const;
    const { dtype, shape, values } = await readPicture(path, options);
    expect([dtype, shape]).toEqual(["f32", [1, 3, 1, 2]]);
    expect(values).toEqual(Float32Array.of(1, -1, 0, 1, (51 / 255 - 0.2) / 0.1, (102 / 255 - 0.2) / 0.1));
  });

  test("leaves grey as it is and weighs colours as BT.601 does", async () => {
    const grey = { width: 2, height: 1, channels: 1, mean: [0], std: [1 / 255] } as const;
    const read = async (path: string) => pixelsOf((await readPicture(path, grey)).values as Float32Array);
    expect(await read(await writePicture("g.png", [3, 250], 2, 1))).toEqual([3, 250]);
    expect(await read(await writePicture("c.png", pillow.colours.slice(0, 2).flat(), 2))).toEqual(
      pillow.luma.slice(0, 2),
    );
    expect(await read(await writePicture("d.png", pillow.colours.slice(3, 5).flat(), 2))).toEqual(
      pillow.luma.slice(3, 5),
    );
  });

  test("drops transparency without blending", async () => {
    const path = await writePicture("t.png", [10, 20, 30, 128], 1, 4);
    expect(pixelsOf((await readPicture(path, { ...asIs, width: 1, height: 1 })).values as Float32Array)).toEqual([
      10, 20, 30,
    ]);
  });

  test("covers, contains or fills the wanted size", async () => {
    const row = [0, 0, 0, 100, 100, 100, 200, 200, 200];
    const path = await writePicture("f.png", row, 3);
    const red = async (fit: "cover" | "contain" | "fill" | undefined, width: number, height: number) => {
      const options = { ...asIs, width, height, ...(fit === undefined ? {} : { fit }) };
      return pixelsOf((await readPicture(path, options)).values as Float32Array).slice(0, width * height);
    };
    expect(await red(undefined, 1, 1)).toEqual([100]);
    expect(await red("cover", 1, 1)).toEqual([100]);
    expect(await red("contain", 3, 3)).toEqual([0, 0, 0, 0, 100, 200, 0, 0, 0]);
    expect(await red("contain", 2, 1)).toEqual([31, 169]); // Pillow 12.3.0
    expect(await red("fill", 3, 2)).toEqual([0, 100, 200, 0, 100, 200]);
  });

  test("turns a picture as its orientation says", async () => {
    await sharp(Uint8Array.of(1, 1, 1, 2, 2, 2), { raw: { width: 2, height: 1, channels: 3 } })
      .withMetadata({ orientation: 6 }) // the first row is the right column
      .toFile(at("o.png"));
    const { width, height } = await decodePicture(at("o.png"));
    expect([width, height]).toEqual([1, 2]);
  });

  test("refuses options that contradict themselves", async () => {
    const path = await writePicture("a.png", [1, 2, 3], 1);
    const code = async (options: object) =>
      (await refusal(readPicture(path, { ...asIs, width: 1, height: 1, ...options }))).code;
    expect(await code({ mean: [0] })).toBe("picture-options");
    expect(await code({ std: [1, 0, 1] })).toBe("picture-options");
    expect(await code({ width: 0 })).toBe("picture-options");
    expect(await code({ width: 1e6, height: 1e6 })).toBe("picture-options");
  });
});

describe("decodePicture", () => {
  test("gives the pixels of colour and of grey pictures", async () => {
    const colour = await decodePicture(await writePicture("c.png", [1, 2, 3, 4, 5, 6], 1));
    expect({ ...colour, pixels: [...colour.pixels] }).toEqual({
      width: 1,
      height: 2,
      channels: 3,
      pixels: [1, 2, 3, 4, 5, 6],
    });
    const grey = await decodePicture(await writePicture("g.png", [7, 8], 2, 1));
    expect({ ...grey, pixels: [...grey.pixels] }).toEqual({ width: 2, height: 1, channels: 1, pixels: [7, 8] });
  });

  test("brings 16 bits a channel down to 8", async () => {
    const raw = { width: 1, height: 1, channels: 3 } as const;
    await sharp(Uint16Array.of(0, 0x8080, 0xffff), { raw })
      .toColourspace("rgb16")
      .toFile(at("d.png"));
    expect((await sharp(at("d.png")).metadata()).depth).toBe("ushort");
    expect([...(await decodePicture(at("d.png"))).pixels]).toEqual([0, 0x80, 0xff]);
  });
});

describe("what is no picture", () => {
  test("is named: text, half a picture, nothing at all", async () => {
    await writeFile(at("text.png"), "not a picture");
    const error = await refusal(decodePicture(at("text.png")));
    expect(error.code).toBe("not-a-picture");
    expect(error.message).toContain(`${at("text.png")} cannot be read as a picture`);
    const whole = await sharp({ create: { width: 64, height: 64, channels: 3, background: "red" } })
      .jpeg()
      .toBuffer();
    await writeFile(at("half.jpg"), whole.subarray(0, whole.length / 2));
    expect((await refusal(decodePicture(at("half.jpg")))).code).toBe("not-a-picture");
    await writeFile(at("empty.jpg"), "");
    expect((await refusal(decodePicture(at("empty.jpg")))).code).toBe("not-a-picture");
  });

  test("is missing: file-not-found with the name that is near", async () => {
    await writePicture("cat.png", [1, 2, 3], 1);
    const error = await refusal(readPicture(at("cta.png"), { ...asIs, width: 1, height: 1 }));
    expect(error.code).toBe("file-not-found");
    expect(error.diagnostics[0]?.help).toBe("did you mean cat.png?");
  });

  test("claims more pixels than the limit: refused before it is decoded", async () => {
    await writeFile(at("bomb.svg"), '<svg xmlns="http://www.w3.org/2000/svg" width="30000" height="30000"></svg>');
    const error = await refusal(decodePicture(at("bomb.svg")));
    expect(error.code).toBe("picture-too-large");
    expect(error.message).toContain("30000 x 30000");
  });
});
