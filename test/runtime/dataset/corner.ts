// A model whose answer is the brightest corner of a picture of 2 x 2 pixels, and pictures for it.
import sharp from "sharp";
import { parseGraph } from "../../../src/ir/parse.ts";
import {
  createReferenceSession,
  type DataSet,
  type EvaluateModelOptions,
  type Evaluation,
  evaluateModel,
  type Session,
  type Wanted,
} from "../../../src/runtime/node/index.ts";

export const corners = ["Top left", "Top/right", "bottom left", "bottom right"] as const;

export const cornerSession = (batch: string | number = "batch"): Promise<Session> => {
  const graph = parseGraph(`graph @corner(%image: f32[${batch},1,2,2]) {
  %0 = reshape(%image) {shape=[${typeof batch === "string" ? `"${batch}"` : batch},4]} : f32[${batch},4]
  return logits: %0
}`);
  return createReferenceSession({ graph, weights: new Map() });
};

export const wanted: Wanted = {
  inputs: [{ name: "image", dtype: "f32", shape: ["batch", 1, 2, 2] }],
  pictures: { image: { mean: [0.5], std: [0.25] } },
  classes: 4,
  labels: corners,
};

/** Grey pixels of a picture that shows `corner`. */
export const pixelsOf = (corner: number): Uint8Array =>
  Uint8Array.from([0, 1, 2, 3], (at) => (at === corner ? 250 : 7));

export const writePicture = (path: string, corner: number): Promise<unknown> =>
  sharp(pixelsOf(corner), { raw: { width: 2, height: 2, channels: 1 } })
    .toColourspace("b-w")
    .png()
    .toFile(path);

export async function evaluated(dataSet: DataSet, options: EvaluateModelOptions = {}): Promise<Evaluation> {
  await using session = await cornerSession();
  await using _open = dataSet;
  return await evaluateModel(session, dataSet, options);
}

/** Names and labels of all examples, in order. */
export async function listed(dataSet: DataSet): Promise<readonly (readonly [name: string, label: number])[]> {
  const all: (readonly [string, number])[] = [];
  for await (const { name, label } of dataSet.examples()) all.push([name, label]);
  return all;
}
