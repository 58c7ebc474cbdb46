// What each case should give, in f64 loops that share nothing with the compiler.
import { type Block, type Conv, sideOf, type Task } from "./cases.ts";
import { fashionLogits, type Operands, operand } from "./operands.ts";

/** Results of a case, in the order that every worker gives them. */
export async function referenceOf(task: Task, operands: Operands): Promise<readonly Float64Array[]> {
  const values = (name: string): Float32Array => operand(operands, name).values;
  switch (task.kind) {
    case "matmul": {
      const { batch = 1, m, k, n } = task;
      return [product(values("lhs"), values("rhs"), { batch, m, k, n })];
    }
    case "attention":
      return [attention(values("query"), values("key"), values("value"), task)];
    case "layerNorm":
      return [layerNorm(values("x"), values("norm.weight"), values("norm.bias"))];
    case "softmax":
      return [softmax(values("x"), task.shape.at(-1) ?? 1)];
    case "conv":
      return [conv(values("x"), values("conv.weight"), values("conv.bias"), task)];
    case "topK":
      return topK(values("x"), task);
    case "block":
      return [block(values("x"), values, task)];
    case "fashionVit":
      return [await fashionLogits(task.batch)];
    default:
      return task satisfies never;
  }
}

type Numbers = Float32Array | Float64Array;
const at = (x: Numbers, i: number): number => x[i] as number;

/** [batch, m, k] x [batch, k, n]. */
function product(
  lhs: Numbers,
  rhs: Numbers,
  { batch, m, k, n }: Record<"batch" | "m" | "k" | "n", number>,
): Float64Array {
  const out = new Float64Array(batch * m * n);
  for (let row = 0; row < batch * m; row++) {
    const start = Math.floor(row / m) * k * n;
    for (let inner = 0; inner < k; inner++) {
      const factor = at(lhs, row * k + inner);
      for (let column = 0; column < n; column++)
        out[row * n + column] = at(out, row * n + column) + factor * at(rhs, start + inner * n + column);
    }
  }
  return out;
}

/** x [rows, inner] times weight [out, inner] turned, plus bias [out]. */
function linear(x: Numbers, weight: Numbers, bias: Numbers): Float64Array {
  const out = bias.length;
  const inner = weight.length / out;
  const y = new Float64Array((x.length / inner) * out);
  for (let i = 0; i < y.length; i++) {
    const [row, column] = [Math.floor(i / out), i % out];
    let sum = at(bias, column);
    for (let k = 0; k < inner; k++) sum += at(x, row * inner + k) * at(weight, column * inner + k);
    y[i] = sum;
  }
  return y;
}

/** Over rows as long as the gain. */
function layerNorm(x: Numbers, gain: Numbers, bias: Numbers): Float64Array {
  const channels = gain.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += channels) {
    const row = Float64Array.from(x.subarray(start, start + channels));
    const mean = row.reduce((sum, v) => sum + v, 0) / channels;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / channels;
    const scale = 1 / Math.sqrt(variance + epsilon);
    for (let c = 0; c < channels; c++) y[start + c] = (at(row, c) - mean) * scale * at(gain, c) + at(bias, c);
  }
  return y;
}

/** Of every layer norm measured. */
export const epsilon = 1e-6;

function softmax(x: Numbers, length: number): Float64Array {
  const y = Float64Array.from(x);
  for (let start = 0; start < x.length; start += length) {
    const row = y.subarray(start, start + length);
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const total = row.reduce((sum, v) => sum + Math.exp(v - most), 0);
    row.forEach((v, i) => {
      row[i] = Math.exp(v - most) / total;
    });
  }
  return y;
}

interface Heads {
  readonly heads: number;
  readonly tokens: number;
  readonly channels: number;
  readonly causal: boolean;
}

/** All [heads, tokens, channels]. */
function attention(query: Numbers, key: Numbers, value: Numbers, { heads, tokens, channels, causal }: Heads) {
  const turned = new Float64Array(key.length);
  for (let i = 0; i < key.length; i++) {
    const [head, token, channel] = [
      Math.floor(i / (tokens * channels)),
      Math.floor(i / channels) % tokens,
      i % channels,
    ];
    turned[(head * channels + channel) * tokens + token] = at(key, i);
  }
  const scores = product(query, turned, { batch: heads, m: tokens, k: channels, n: tokens }).map((score, i) => {
    const [row, column] = [Math.floor(i / tokens) % tokens, i % tokens];
    return causal && column > row ? -Infinity : score / Math.sqrt(channels);
  });
  return product(softmax(scores, tokens), value, { batch: heads, m: tokens, k: tokens, n: channels });
}

function conv(x: Numbers, weight: Numbers, bias: Numbers, task: Conv): Float64Array {
  const { channels, out, side, kernel, stride, padding } = task;
  const across = sideOf(task);
  const y = new Float64Array(out * across ** 2);
  for (let i = 0; i < y.length; i++) {
    const [o, top, left] = [
      Math.floor(i / across ** 2),
      (Math.floor(i / across) % across) * stride - padding,
      (i % across) * stride - padding,
    ];
    let sum = at(bias, o);
    for (let tap = 0; tap < channels * kernel ** 2; tap++) {
      const [c, p, q] = [
        Math.floor(tap / kernel ** 2),
        top + (Math.floor(tap / kernel) % kernel),
        left + (tap % kernel),
      ];
      if (p >= 0 && p < side && q >= 0 && q < side)
        sum += at(x, (c * side + p) * side + q) * at(weight, o * channels * kernel ** 2 + tap);
    }
    y[i] = sum;
  }
  return y;
}

/** Values, then places; of equal values the first comes first. */
function topK(
  x: Numbers,
  { rows, length, k }: Record<"rows" | "length" | "k", number>,
): readonly [Float64Array, Float64Array] {
  const [values, places] = [new Float64Array(rows * k), new Float64Array(rows * k)];
  for (let row = 0; row < rows; row++) {
    const ranked = Array.from({ length }, (_, i) => i).sort(
      (a, b) => at(x, row * length + b) - at(x, row * length + a) || a - b,
    );
    for (let i = 0; i < k; i++) {
      const place = ranked[i] as number;
      places[row * k + i] = place;
      values[row * k + i] = at(x, row * length + place);
    }
  }
  return [values, places];
}

function block(x: Numbers, weight: (name: string) => Numbers, { tokens, dim, heads }: Block): Float64Array {
  const apply = (name: string, input: Numbers): Float64Array =>
    linear(input, weight(`${name}.weight`), weight(`${name}.bias`));
  const norm = (name: string, input: Numbers): Float64Array =>
    layerNorm(input, weight(`${name}.weight`), weight(`${name}.bias`));
  const channels = dim / heads;
  const packed = apply("attn.qkv", norm("norm1", x));
  const part = (which: number): Float64Array =>
    Float64Array.from({ length: tokens * dim }, (_, i) => {
      const [head, token, channel] = [
        Math.floor(i / (tokens * channels)),
        Math.floor(i / channels) % tokens,
        i % channels,
      ];
      return at(packed, token * 3 * dim + which * dim + head * channels + channel);
    });
  const mixed = attention(part(0), part(1), part(2), { heads, tokens, channels, causal: false });
  const merged = Float64Array.from({ length: tokens * dim }, (_, i) => {
    const [token, head, channel] = [Math.floor(i / dim), Math.floor((i % dim) / channels), i % channels];
    return at(mixed, (head * tokens + token) * channels + channel);
  });
  const attended = apply("attn.proj", merged);
  const middle = Float64Array.from(x, (v, i) => v + at(attended, i));
  const hidden = apply("mlp.fc1", norm("norm2", middle)).map((v) => 0.5 * v * (1 + erf(v / Math.SQRT2)));
  const widened = apply("mlp.fc2", hidden);
  return middle.map((v, i) => v + at(widened, i));
}

/** To 1e-15: the series near zero, the continued fraction of erfc beyond. Source: Abramowitz and Stegun, 7.1.6 and 7.1.14. */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 2.5) {
    let [term, sum] = [x, x];
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = z;
  for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction);
}
