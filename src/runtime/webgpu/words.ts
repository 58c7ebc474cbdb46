// Tensor elements as the 32-bit words that kernels read and write, little end first.
import { compileError } from "../../ir/diagnostic.ts";
import { allocate, type DType, type TensorData } from "../../ir/type.ts";

export const bytesPerWord = 4;

/** Elements as words: narrow integers and booleans widen, floats held as f32 stay. Fails with `unsupported-dtype`. */
export function toWords({ dtype, values }: TensorData): ArrayBufferView<ArrayBuffer> {
  if (values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint32Array)
    return values as ArrayBufferView<ArrayBuffer>;
  if (values instanceof Int8Array || values instanceof Int16Array) return Int32Array.from(values);
  if (values instanceof Uint8Array || values instanceof Uint16Array) return Uint32Array.from(values);
  throw compileError("unsupported-dtype", `${dtype} cannot be uploaded to WebGPU`);
}

/** A tensor from its words; keeps `words` where they already are its elements. Fails with `unsupported-dtype`. */
export function fromWords(dtype: DType, shape: readonly number[], words: ArrayBuffer): TensorData {
  const values = allocate(dtype, 0);
  const count = words.byteLength / bytesPerWord;
  if (values instanceof Float32Array) return { dtype, shape, values: new Float32Array(words) };
  if (values instanceof Int32Array) return { dtype, shape, values: new Int32Array(words) };
  if (values instanceof Uint32Array) return { dtype, shape, values: new Uint32Array(words) };
  const narrow = allocate(dtype, count);
  if (narrow instanceof Int16Array || narrow instanceof Int8Array) narrow.set(new Int32Array(words));
  else if (narrow instanceof Uint16Array || narrow instanceof Uint8Array) narrow.set(new Uint32Array(words));
  else throw compileError("unsupported-dtype", `${dtype} cannot be read from WebGPU`);
  return { dtype, shape, values: narrow };
}
