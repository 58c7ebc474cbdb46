/** Part of a picture in pixels, which may begin and end inside one. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface RgbPixels {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3], 0..255 */
  readonly rgb: Uint8Array;
}

/**
 * `box` of a picture, resized to `width` x `height` with a bicubic filter that is widened when shrinking: to the bit what
 * Pillow's `Image.resize((width, height), BICUBIC, box)` gives, because the models met were trained and measured on
 * that. (libvips moves a picture by half a source pixel when it enlarges it.) Source: Pillow, libImaging/Resample.c.
 */
export function resample(picture: RgbPixels, box: Box, width: number, height: number): Uint8Array {
  const across = weigh(box.left, box.width, picture.width, width);
  const down = weigh(box.top, box.height, picture.height, height);
  // Rows first, as Pillow does it, except in a strip so tall that this would take far more room than the picture.
  if (picture.height * width <= 4 * (picture.width * picture.height + width * height))
    return columns(rows(picture.rgb, across, picture.height), down, 3 * width);
  return rows(columns(picture.rgb, down, 3 * picture.width), across, height);
}

/** For each output position, the first source position that it averages and the weights from there on, of 22 bits. */
interface Weights {
  readonly first: Int32Array;
  readonly weights: readonly Int32Array[];
}

const precisionBits = 22;
const support = 2; // source pixels to each side of a bicubic filter that is not widened

function weigh(start: number, length: number, sourceSize: number, size: number): Weights {
  const scale = length / size;
  const widening = Math.max(1, scale);
  const first = new Int32Array(size);
  const weights = Array.from({ length: size }, (_, position) => {
    const centre = start + (position + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support * widening + 0.5));
    const to = Math.min(sourceSize, Math.trunc(centre + support * widening + 0.5));
    first[position] = from;
    const exact = Float64Array.from({ length: to - from }, (_, i) => bicubic((from + i - centre + 0.5) / widening));
    const sum = exact.reduce((a, b) => a + b, 0);
    return Int32Array.from(exact, (weight) => roundHalfAway((weight / sum) * 2 ** precisionBits));
  });
  return { first, weights };
}

const roundHalfAway = (value: number): number => Math.trunc(value + (value < 0 ? -0.5 : 0.5));

/** Keys' cubic convolution with a = -0.5. */
function bicubic(at: number): number {
  const a = -0.5;
  const x = Math.abs(at);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** Resizes each of `lines` rows of pixels. */
function rows(source: Uint8Array, { first, weights }: Weights, lines: number): Uint8Array {
  const rowBytes = source.length / lines;
  const result = new Uint8Array(lines * weights.length * 3);
  let to = 0;
  for (let line = 0; line < lines; line++)
    for (let position = 0; position < weights.length; position++) {
      const row = weights[position] as Int32Array;
      const from = line * rowBytes + 3 * (first[position] as number);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (precisionBits - 1);
        for (let i = 0; i < row.length; i++) sum += (source[from + 3 * i + channel] as number) * (row[i] as number);
        result[to++] = Math.max(0, Math.min(255, sum >> precisionBits));
      }
    }
  return result;
}

/** Resizes each column of bytes; `rowBytes` in each row. */
function columns(source: Uint8Array, { first, weights }: Weights, rowBytes: number): Uint8Array {
  const result = new Uint8Array(weights.length * rowBytes);
  for (let position = 0; position < weights.length; position++) {
    const row = weights[position] as Int32Array;
    const from = (first[position] as number) * rowBytes;
    for (let x = 0; x < rowBytes; x++) {
      let sum = 2 ** (precisionBits - 1);
      for (let i = 0; i < row.length; i++) sum += (source[from + i * rowBytes + x] as number) * (row[i] as number);
      result[position * rowBytes + x] = Math.max(0, Math.min(255, sum >> precisionBits));
    }
  }
  return result;
}
