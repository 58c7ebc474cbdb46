import { allocate, type DType, type TensorData } from "../ir/type.ts";

/** Significand bits with the leading one, least normal exponent, largest number (IEEE 754; OCP 8-bit floating point). */
const smallFloats = {
  f16: { bits: 11, least: -14, largest: 65504, saturates: false },
  bf16: { bits: 8, least: -126, largest: 3.3895313892515355e38, saturates: false },
  f8e4m3: { bits: 4, least: -6, largest: 448, saturates: true },
  f8e5m2: { bits: 3, least: -14, largest: 57344, saturates: true },
} as const;

/** Numbers rounded to what their dtype holds, to nearest and halves to even, in the array of that dtype; shared where they are that already. */
export function rounded(
  dtype: DType,
  shape: readonly number[],
  numbers: Float64Array | Exclude<TensorData["values"], BigInt64Array>,
): TensorData {
  const small = dtype === "f16" || dtype === "bf16" || dtype === "f8e4m3" || dtype === "f8e5m2";
  if (!small && numbers.constructor === allocate(dtype, 0).constructor) return { dtype, shape, values: numbers };
  const values = allocate(dtype, numbers.length);
  if (values instanceof BigInt64Array)
    for (let i = 0; i < values.length; i++) values[i] = BigInt(Math.trunc(numbers[i] as number));
  else if (small) {
    const { bits, least, largest, saturates } = smallFloats[dtype];
    for (let i = 0; i < values.length; i++) {
      const x = numbers[i] as number;
      const unit = 2 ** (Math.max(least, exponentOf(x)) - bits + 1);
      const near = roundHalfEven(x / unit) * unit;
      const beyond = Math.abs(near) > largest;
      values[i] = !beyond ? near : Math.sign(near) * (saturates ? largest : Number.POSITIVE_INFINITY);
    }
  } else values.set(numbers);
  return { dtype, shape, values };
}

/** floor(log2 |x|), exactly; 0 for what has none. */
function exponentOf(x: number): number {
  if (x === 0 || !Number.isFinite(x)) return 0;
  const guess = Math.floor(Math.log2(Math.abs(x)));
  return 2 ** guess > Math.abs(x) ? guess - 1 : 2 ** (guess + 1) <= Math.abs(x) ? guess + 1 : guess;
}

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const share = x - below;
  if (share !== 0.5) return share < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
