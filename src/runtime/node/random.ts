import type { WeightSource } from "../../ir/graph.ts";
import { allocate, dtypes, elementsOf, isFloat, type TensorData, type TensorType } from "../../ir/type.ts";

/** A source of uniform numbers in [0, 1), the same on every machine. Source: mulberry32, Tommy Ettinger, public domain. */
export function uniformNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Floats of a normal distribution, integers from 0 to 7 (what any embedding table has), booleans even. */
export function randomTensor(
  { dtype, shape }: { readonly dtype: TensorType["dtype"]; readonly shape: readonly number[] },
  seed: number,
  deviation = 1,
): TensorData {
  const next = uniformNumbers(seed);
  const values = allocate(dtype, elementsOf(shape));
  if (values instanceof BigInt64Array)
    for (let i = 0; i < values.length; i++) values[i] = BigInt(Math.floor(next() * 8));
  else if (isFloat(dtype))
    for (let i = 0; i < values.length; i += 2) {
      // Box and Muller: two normal numbers from two uniform ones.
      const radius = deviation * Math.sqrt(-2 * Math.log(1 - next()));
      const angle = 2 * Math.PI * next();
      values[i] = radius * Math.cos(angle);
      if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
    }
  else {
    const kinds = dtypes[dtype].kind === "bool" ? 2 : Math.min(8, 2 ** (dtypes[dtype].bits - 1));
    for (let i = 0; i < values.length; i++) values[i] = Math.floor(next() * kinds);
  }
  return { dtype, shape, values };
}

/** A weight of random numbers, made anew at each read; `name` and `seed` decide them. */
export function randomSource(
  name: string,
  type: { readonly dtype: TensorType["dtype"]; readonly shape: readonly number[] },
  seed: number,
): WeightSource {
  let hash = seed;
  for (const character of name) hash = (Math.imul(hash, 31) + (character.codePointAt(0) as number)) >>> 0;
  return {
    type,
    hash: `random ${seed} ${name}`,
    read: async (start = 0, end = elementsOf(type.shape)) => {
      const whole = randomTensor(type, hash, weightDeviation);
      if (start === 0 && end === whole.values.length) return whole;
      return { dtype: type.dtype, shape: [end - start], values: whole.values.slice(start, end) };
    },
  };
}

const weightDeviation = 0.02; // as transformers are initialised: activations stay finite through many layers
