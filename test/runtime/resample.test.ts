import { describe, expect, test } from "vitest";
import { resample } from "../../src/runtime/node/resample.ts";
import pillow from "./pillow.json" with { type: "json" };

const picture = { ...pillow.picture, rgb: Uint8Array.from(pillow.picture.rgb) };

describe("resample", () => {
  for (const { width, height, box, rgb } of pillow.resized)
    test(`equals Pillow's bicubic filter from ${Object.values(box).join(" ")} to ${width} x ${height}`, () =>
      expect([...resample(picture, box, width, height)]).toEqual(rgb));

  test("shrinks a strip to a line without room for a wide copy of it", () => {
    const strip = { width: 1, height: 100_000, rgb: new Uint8Array(300_000).fill(9) };
    const box = { left: 0, top: 0, width: 1, height: 100_000 };
    expect([...resample(strip, box, 50, 1)]).toEqual(Array(150).fill(9));
  });
});
