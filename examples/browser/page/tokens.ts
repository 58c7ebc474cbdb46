// Which patches became one token, and how that is drawn.
import { type GreyPicture, side } from "./picture.ts";

const patchesAcross = 7;
const scale = 16; // canvas pixels a picture pixel

/**
 * The token that each patch ended in. source: f32[1, tokens, 50], 1 where a token (row) holds what an original token
 * (column) brought; column 0 is the class token.
 */
export function groupsOf(source: Float32Array, tokens: number): readonly number[] {
  const before = source.length / tokens;
  return Array.from({ length: before - 1 }, (_, patch) => {
    const column = Array.from({ length: tokens }, (_, row) => source[row * before + patch + 1] ?? 0);
    return column.indexOf(Math.max(...column));
  });
}

export const sizesOf = (groups: readonly number[]): ReadonlyMap<number, number> =>
  groups.reduce((sizes, group) => sizes.set(group, (sizes.get(group) ?? 0) + 1), new Map<number, number>());

/** The picture, each group of patches in a colour of its own and with a line around it; patches alone stay grey. */
export function drawGroups(canvas: HTMLCanvasElement, picture: GreyPicture, groups: readonly number[]): void {
  canvas.width = canvas.height = side * scale;
  const context = canvas.getContext("2d");
  if (context === null) return;
  const patch = (side / patchesAcross) * scale;
  for (let i = 0; i < side * side; i++) {
    const grey = picture.pixels[i] ?? 0;
    context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
    context.fillRect((i % side) * scale, Math.floor(i / side) * scale, scale, scale);
  }
  const sizes = sizesOf(groups);
  const merged = [...sizes].filter(([, size]) => size > 1).map(([group]) => group);
  const hueOf = new Map(merged.sort((a, b) => a - b).map((group, k) => [group, (k * 137.5) % 360]));
  groups.forEach((group, k) => {
    const hue = hueOf.get(group);
    if (hue === undefined) return;
    context.fillStyle = `hsl(${hue} 85% 55% / 0.5)`;
    context.fillRect((k % patchesAcross) * patch, Math.floor(k / patchesAcross) * patch, patch, patch);
  });
  context.strokeStyle = "rgb(255 255 255 / 0.9)";
  context.lineWidth = 3;
  context.beginPath();
  groups.forEach((group, k) => {
    const [x, y] = [(k % patchesAcross) * patch, Math.floor(k / patchesAcross) * patch];
    if (k % patchesAcross > 0 && groups[k - 1] !== group) line(context, x, y, x, y + patch);
    if (k >= patchesAcross && groups[k - patchesAcross] !== group) line(context, x, y, x + patch, y);
  });
  context.stroke();
}

function line(context: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
}
