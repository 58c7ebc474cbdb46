import sharp from "sharp";
import { CompileError, compileError } from "../../ir/diagnostic.ts";
import type { TensorData } from "../../ir/type.ts";
import { readBytes, startOf } from "./files.ts";
import { type RgbPixels, resample } from "./resample.ts";

/** How a picture becomes a tensor. */
export interface PictureOptions {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** 1 is luma as ITU-R BT.601 weighs it (Pillow's "L"), 3 is sRGB. */
  readonly channels: 1 | 3;
  /** Per channel, of pixels scaled to 0..1. */
  readonly mean: readonly number[];
  /** Per channel, of pixels scaled to 0..1; not 0. */
  readonly std: readonly number[];
  /** "cover" (the default) cuts off what is too long, "contain" adds black, "fill" stretches. */
  readonly fit?: "cover" | "contain" | "fill";
}

/** A decoded picture. */
export interface Picture {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** 1 for a grey picture, 3 otherwise; transparency is dropped. */
  readonly channels: 1 | 3;
  /** Row-major [height, width, channels], 0..255, sRGB. */
  readonly pixels: Uint8Array;
}

const fileLimit = 256 * 2 ** 20; // bytes
const pixelLimit = 100_000_000; // 300 MB of RGB; a small file can claim more than memory holds

/**
 * A picture as a model takes it: (pixel / 255 - mean) / std. Turned as its EXIF orientation says, its first frame if it
 * is animated, and resized with a bicubic filter as Pillow does it. Result: f32[1, channels, height, width].
 * Fails with `file-not-found`, `not-a-picture`, `picture-too-large` or `picture-options`.
 */
export async function readPicture(path: string, options: PictureOptions): Promise<TensorData> {
  checkOptions(options);
  return pictureTensor(await decode(path), options);
}

function checkOptions({ width, height, channels, mean, std }: PictureOptions): void {
  const sized = [width, height].every((size) => Number.isInteger(size) && size > 0) && width * height <= pixelLimit;
  if (!sized)
    throw compileError("picture-options", `got ${width} x ${height} pixels, wanted 1 to ${pixelLimit} of them`);
  if (mean.length !== channels || std.length !== channels || std.includes(0))
    throw compileError(
      "picture-options",
      `got means [${mean.join(",")}] and deviations [${std.join(",")}], wanted ${channels} each, no deviation 0`,
    );
}

/** The same of pixels that are in memory already. Fails with `picture-options`. */
export function pictureTensor(picture: RgbPixels, options: PictureOptions): TensorData {
  checkOptions(options);
  const { width, height, channels, mean, std, fit = "cover" } = options;
  const rgb = fitted(picture, width, height, fit);
  const area = width * height;
  const values = new Float32Array(channels * area);
  for (let channel = 0; channel < channels; channel++) {
    const shift = mean[channel] as number;
    const scale = std[channel] as number;
    for (let i = 0; i < area; i++) {
      const value = channels === 1 ? luma(rgb, 3 * i) : (rgb[3 * i + channel] as number);
      values[channel * area + i] = (value / 255 - shift) / scale;
    }
  }
  return { dtype: "f32", shape: [1, channels, height, width], values };
}

/** Pixels [height, width, 3] of the wanted size. */
function fitted(picture: RgbPixels, width: number, height: number, fit: "cover" | "contain" | "fill"): Uint8Array {
  const whole = { left: 0, top: 0, width: picture.width, height: picture.height };
  if (fit === "fill") return resample(picture, whole, width, height);
  if (fit === "cover") {
    const scale = Math.min(picture.width / width, picture.height / height); // source pixels a pixel
    const box = { width: Math.min(picture.width, width * scale), height: Math.min(picture.height, height * scale) };
    const [left, top] = [(picture.width - box.width) / 2, (picture.height - box.height) / 2];
    return resample(picture, { left, top, ...box }, width, height);
  }
  const scale = Math.max(picture.width / width, picture.height / height);
  const innerWidth = Math.max(1, Math.min(width, Math.round(picture.width / scale)));
  const innerHeight = Math.max(1, Math.min(height, Math.round(picture.height / scale)));
  const inner = resample(picture, whole, innerWidth, innerHeight);
  const [left, top] = [Math.floor((width - innerWidth) / 2), Math.floor((height - innerHeight) / 2)];
  const padded = new Uint8Array(width * height * 3);
  for (let row = 0; row < innerHeight; row++)
    padded.set(inner.subarray(row * innerWidth * 3, (row + 1) * innerWidth * 3), ((top + row) * width + left) * 3);
  return padded;
}

/** Pixels as they are stored, in sRGB of 8 bits. Fails as `readPicture` does. */
export async function decodePicture(path: string): Promise<Picture> {
  const { rgb, width, height, grey } = await decode(path);
  if (!grey) return { width, height, channels: 3, pixels: rgb };
  const pixels = Uint8Array.from({ length: width * height }, (_, i) => rgb[3 * i] as number);
  return { width, height, channels: 1, pixels };
}

/** `grey`: the file is a grey picture, though its pixels are given as red, green and blue. */
async function decode(path: string): Promise<RgbPixels & { readonly grey: boolean }> {
  const bytes = await readBytes(path, fileLimit);
  try {
    const { width, height, space } = await sharp(bytes, { limitInputPixels: false }).metadata(); // header only
    if (width * height > pixelLimit) throw tooLarge(path, width, height);
    const { data: rgb, info: size } = await sharp(bytes, { limitInputPixels: pixelLimit })
      .autoOrient()
      .removeAlpha()
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (size.channels !== 3) throw notPicture(path, `it has ${size.channels} channels`);
    return { width: size.width, height: size.height, rgb, grey: space === "b-w" || space === "grey16" };
  } catch (error) {
    if (error instanceof CompileError) throw error;
    throw notPicture(path, (error as Error).message);
  }
}

/** Pillow's integer form of 0.299 R + 0.587 G + 0.114 B (libImaging/Convert.c, L24), so that grey stays as it is. */
const luma = (rgb: Uint8Array, at: number): number =>
  ((rgb[at] as number) * 19595 + (rgb[at + 1] as number) * 38470 + (rgb[at + 2] as number) * 7471 + 0x8000) >> 16;

const tooLarge = (path: string, width: number, height: number): CompileError =>
  compileError("picture-too-large", `${path} is ${width} x ${height}, more than ${pixelLimit} pixels`, {
    loc: startOf(path),
  });

const notPicture = (path: string, reason: string): CompileError =>
  compileError("not-a-picture", `${path} cannot be read as a picture: ${reason}`, { loc: startOf(path) });
