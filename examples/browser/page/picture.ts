// Pictures as the model takes them: 28 x 28 grey pixels, bright on dark.

export const side = 28; // pixels

export interface GreyPicture {
  /** Row-major [28, 28], 0..255. */
  readonly pixels: Uint8Array;
  /** What it shows, where that is known. */
  readonly truth?: string;
}

const largestFile = 64 * 2 ** 20; // bytes

/** A file's picture: its middle square, shrunk. Throws where it is no picture. */
export async function readPicture(file: Blob): Promise<GreyPicture> {
  if (file.size > largestFile) throw new Error(`the file holds ${file.size} bytes, more than ${largestFile}`);
  const whole = await createImageBitmap(file).catch(() => undefined);
  if (whole === undefined) throw new Error("the file is not a picture that this browser can read");
  const edge = Math.min(whole.width, whole.height);
  const [left, top] = [(whole.width - edge) >> 1, (whole.height - edge) >> 1];
  const small =
    whole.width === side && whole.height === side
      ? whole
      : await createImageBitmap(whole, left, top, edge, edge, {
          resizeWidth: side,
          resizeHeight: side,
          resizeQuality: "high",
        });
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser gives no canvas to read pixels from");
  context.fillRect(0, 0, side, side); // black under what is transparent
  context.drawImage(small, 0, 0);
  const { data: rgba } = context.getImageData(0, 0, side, side);
  return { pixels: Uint8Array.from({ length: side * side }, (_, i) => luma(rgba, 4 * i)) };
}

/** ITU-R BT.601 in Pillow's integer form, so that grey stays as it is. */
const luma = (rgba: Uint8ClampedArray, at: number): number =>
  ((rgba[at] ?? 0) * 19595 + (rgba[at + 1] ?? 0) * 38470 + (rgba[at + 2] ?? 0) * 7471 + 0x8000) >> 16;

/** Whether the edge of a picture is brighter than half: the model knows dark grounds only. */
export function hasLightGround({ pixels }: GreyPicture): boolean {
  const edge = pixels.filter((_, i) => {
    const [x, y] = [i % side, Math.floor(i / side)];
    return x === 0 || y === 0 || x === side - 1 || y === side - 1;
  });
  return edge.reduce((sum, pixel) => sum + pixel, 0) / edge.length > 127;
}

export const inverted = ({ pixels }: GreyPicture): GreyPicture => ({ pixels: pixels.map((pixel) => 255 - pixel) });

export function drawGrey(canvas: HTMLCanvasElement, { pixels }: GreyPicture): void {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = new ImageData(side, side);
  pixels.forEach((pixel, i) => image.data.set([pixel, pixel, pixel, 255], 4 * i));
  context?.putImageData(image, 0, 0);
}
