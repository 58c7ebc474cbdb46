import { compileError } from "../../ir/diagnostic.ts";
import { convertFloats } from "../../ir/packing.ts";
import { formatType, type TensorData } from "../../ir/type.ts";
import type { SessionValue } from "../session.ts";
import { type PictureOptions, pictureTensor, readPicture } from "./pictures.ts";
import type { RgbPixels } from "./resample.ts";

/** What a model says about its pictures; their size and channels are those of the input. */
export type PictureForm = Pick<PictureOptions, "mean" | "std" | "fit">;

/** A picture, of a file or in memory, as a model's input takes it: [1, channels, height, width]. */
export type PictureReader = (picture: string | RgbPixels) => Promise<TensorData>;

/** `given` names the pictures in messages. Fails with `bad-input` where the input takes none. */
export function pictureReader(value: SessionValue, form: PictureForm | undefined, given: string): PictureReader {
  const { name, dtype, shape } = value;
  const [, channels, height, width] = shape;
  const pictured = shape.length === 4 && typeof height === "number" && typeof width === "number";
  if (form === undefined || !pictured || (channels !== 1 && channels !== 3))
    throw compileError("bad-input", `input ${name} (${formatType(value)}) takes no pictures, got ${given}`, {
      help: "give a .safetensors, .npy or .json file, or say under `pictures` in the model how it reads them",
    });
  if (dtype !== "f32" && dtype !== "f16" && dtype !== "bf16" && dtype !== "f64")
    throw compileError("bad-input", `input ${name} is ${dtype}, but pictures are read as floats`);
  const options: PictureOptions = { width, height, channels, ...form };
  return async (picture) => {
    const read = typeof picture === "string" ? await readPicture(picture, options) : pictureTensor(picture, options);
    return dtype === "f32" ? read : convertFloats(read, dtype);
  };
}
