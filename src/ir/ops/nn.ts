import type { Builder } from "../builder.ts";
import { OpError } from "../diagnostic.ts";
import type { Value } from "../graph.ts";
import type { Composite } from "../op.ts";
import { type Dim, formatType, type TensorType } from "../type.ts";
import { wantAxis, wantDType, wantFloat, wantRank, wantShape } from "./rules.ts";

type Axis = { axis: number };

function overAxis(
  summary: string,
  source: string,
  decompose: (b: Builder, x: Value, axis: number) => Value,
): Composite<[x: Value], Axis> {
  return {
    kind: "composite",
    summary,
    source,
    operands: ["x"],
    attrs: { axis: { kind: "int" } },
    infer: ([x], { axis }) => {
      wantFloat(x as TensorType);
      wantAxis(axis, (x as TensorType).shape.length);
      return [x as TensorType];
    },
    decompose: (b, [x], { axis }) => decompose(b, x, axis),
  };
}

/** A reduced tensor repeated along the axes it lost, back to the shape of `like`. */
const spread = (b: Builder, x: Value, like: Value, axes: readonly number[]): Value =>
  b.broadcast(x, { shape: like.type.shape, axes });

/** A vector over one axis of `like`, repeated along all others. */
const alongAxis = (b: Builder, x: Value, like: Value, axis: number): Value =>
  b.broadcast(x, { shape: like.type.shape, axes: like.type.shape.map((_, a) => a).filter((a) => a !== axis) });

export const softmax: Composite<[x: Value], Axis> = overAxis(
  "e^x divided by its sum along an axis",
  "ONNX Softmax-13",
  (b, x, axis) => {
    const peak = spread(b, b.reduceMax(x, { axes: [axis] }), x, [axis]);
    const raised = b.exp(b.sub(x, peak));
    return b.div(raised, spread(b, b.reduceSum(raised, { axes: [axis] }), x, [axis]));
  },
);

export const logSoftmax: Composite<[x: Value], Axis> = overAxis(
  "x minus the log-sum-exp along an axis",
  "ONNX LogSoftmax-13",
  (b, x, axis) => b.sub(x, spread(b, b.logSumExp(x, { axes: [axis] }), x, [axis])),
);

export const l2Normalize: Composite<[x: Value], Axis> = overAxis(
  "x divided by its Euclidean length along an axis, without an epsilon: a zero vector gives NaN",
  "ONNX LpNormalization-1; ToMe matching",
  (b, x, axis) => b.div(x, spread(b, b.sqrt(b.reduceSum(b.mul(x, x), { axes: [axis] })), x, [axis])),
);

export interface NormAttrs {
  epsilon: number;
}
const epsilon = { kind: "number", doc: "added to the variance (or mean square)" } as const;

function wantVector(type: TensorType, x: TensorType, axis: number, operand: number, what: string): void {
  wantDType(type, x.dtype, operand);
  wantShape(type, [x.shape.at(axis) as Dim], operand, what);
}

export const layerNorm: Composite<[x: Value, gain: Value, bias: Value], NormAttrs> = {
  kind: "composite",
  summary: "zero mean and unit variance over the last axis, then gain and bias",
  source: "ONNX LayerNormalization-17",
  operands: ["x", "gain", "bias"],
  attrs: { epsilon },
  infer: ([x, gain, bias]) => {
    wantFloat(x as TensorType);
    wantVector(gain as TensorType, x as TensorType, -1, 1, "gain");
    wantVector(bias as TensorType, x as TensorType, -1, 2, "bias");
    return [x as TensorType];
  },
  decompose: (b, [x, gain, bias], { epsilon }) => {
    const axis = x.type.shape.length - 1;
    const centred = b.sub(x, spread(b, b.reduceMean(x, { axes: [axis] }), x, [axis]));
    const variance = b.reduceMean(b.mul(centred, centred), { axes: [axis] });
    const scale = b.rsqrt(b.add(variance, b.full(variance.type, epsilon)));
    const normed = b.mul(centred, spread(b, scale, x, [axis]));
    return b.add(b.mul(normed, alongAxis(b, gain, x, axis)), alongAxis(b, bias, x, axis));
  },
};

export const rmsNorm: Composite<[x: Value, gain: Value], NormAttrs> = {
  kind: "composite",
  summary: "x over its root mean square along the last axis, then gain",
  source: "ONNX RMSNormalization-23",
  operands: ["x", "gain"],
  attrs: { epsilon },
  infer: ([x, gain]) => {
    wantFloat(x as TensorType);
    wantVector(gain as TensorType, x as TensorType, -1, 1, "gain");
    return [x as TensorType];
  },
  decompose: (b, [x, gain], { epsilon }) => {
    const axis = x.type.shape.length - 1;
    const square = b.reduceMean(b.mul(x, x), { axes: [axis] });
    const scale = b.rsqrt(b.add(square, b.full(square.type, epsilon)));
    return b.mul(b.mul(x, spread(b, scale, x, [axis])), alongAxis(b, gain, x, axis));
  },
};

/** x: [batch, channels, ...]; statistics over each group of channels and all later axes. */
export const groupNorm: Composite<[x: Value, gain: Value, bias: Value], NormAttrs & { groups: number }> = {
  kind: "composite",
  summary: "zero mean and unit variance over each group of channels, then gain and bias per channel",
  source: "ONNX GroupNormalization-21",
  operands: ["x", "gain", "bias"],
  attrs: { epsilon, groups: { kind: "int" } },
  infer: ([x, gain, bias], { groups }) => {
    const type = x as TensorType;
    wantFloat(type);
    if (type.shape.length < 3)
      throw new OpError("rank-mismatch", `wants [batch, channels, ...], got ${formatType(type)}`);
    const channels = type.shape[1] as Dim;
    if (typeof channels !== "number" || groups < 1 || channels % groups !== 0)
      throw new OpError("shape-mismatch", `${channels} channels do not divide into ${groups} groups`);
    wantVector(gain as TensorType, { ...type, shape: [channels] }, 0, 1, "gain");
    wantVector(bias as TensorType, { ...type, shape: [channels] }, 0, 2, "bias");
    return [type];
  },
  decompose: (b, [x, gain, bias], { groups, epsilon }) => {
    const [batch, channels, ...rest] = x.type.shape as readonly [Dim, number, ...Dim[]];
    const grouped = b.reshape(x, { shape: [batch, groups, channels / groups, ...rest] });
    const axes = grouped.type.shape.map((_, axis) => axis).slice(2);
    const centred = b.sub(grouped, spread(b, b.reduceMean(grouped, { axes }), grouped, axes));
    const variance = b.reduceMean(b.mul(centred, centred), { axes });
    const scale = b.rsqrt(b.add(variance, b.full(variance.type, epsilon)));
    const normed = b.reshape(b.mul(centred, spread(b, scale, grouped, axes)), { shape: x.type.shape });
    return b.add(b.mul(normed, alongAxis(b, gain, x, 1)), alongAxis(b, bias, x, 1));
  },
};

/** Inference form: statistics are operands. x: [batch, channels, ...]. */
export const batchNorm: Composite<[x: Value, gain: Value, bias: Value, mean: Value, variance: Value], NormAttrs> = {
  kind: "composite",
  summary: "per-channel normalization with given mean and variance, then gain and bias",
  source: "ONNX BatchNormalization-15, inference",
  operands: ["x", "gain", "bias", "mean", "variance"],
  attrs: { epsilon },
  infer: (types) => {
    const [x, ...vectors] = types as [TensorType, ...TensorType[]];
    wantFloat(x);
    if (x.shape.length < 2) throw new OpError("rank-mismatch", `wants [batch, channels, ...], got ${formatType(x)}`);
    vectors.forEach((v, i) => wantVector(v, { ...x, shape: [x.shape[1] as Dim] }, 0, i + 1, "each statistic"));
    return [x];
  },
  decompose: (b, [x, gain, bias, mean, variance], { epsilon }) => {
    const scale = b.mul(gain, b.rsqrt(b.add(variance, b.full(variance.type, epsilon))));
    const shift = b.sub(bias, b.mul(mean, scale));
    return b.add(b.mul(x, alongAxis(b, scale, x, 1)), alongAxis(b, shift, x, 1));
  },
};

function activation(
  summary: string,
  source: string,
  decompose: (b: Builder, x: Value) => Value,
): Composite<[x: Value]> {
  return {
    kind: "composite",
    summary,
    source,
    operands: ["x"],
    attrs: {},
    infer: ([x]) => {
      wantFloat(x as TensorType);
      return [x as TensorType];
    },
    decompose: (b, [x]) => decompose(b, x),
  };
}

export const gelu: Composite<[x: Value], { approximate?: "none" | "tanh" }> = {
  kind: "composite",
  summary: "x times the normal distribution function of x; by erf, or by its tanh approximation",
  source: "ONNX Gelu-20",
  operands: ["x"],
  attrs: { approximate: { kind: ["none", "tanh"], default: "none" } },
  infer: ([x]) => {
    wantFloat(x as TensorType);
    return [x as TensorType];
  },
  decompose: (b, [x], { approximate }) => {
    const c = (value: number) => b.full(x.type, value);
    const half = b.mul(x, c(0.5));
    if (approximate === "none") return b.mul(half, b.add(b.erf(b.mul(x, c(Math.SQRT1_2))), c(1)));
    const cubic = b.add(x, b.mul(c(0.044715), b.mul(x, b.mul(x, x))));
    return b.mul(half, b.add(b.tanh(b.mul(cubic, c(Math.sqrt(2 / Math.PI)))), c(1)));
  },
};
export const silu: Composite<[x: Value]> = activation("x sigmoid(x), also called swish", "ONNX Swish-24", (b, x) =>
  b.mul(x, b.sigmoid(x)),
);
export const quickGelu: Composite<[x: Value]> = activation("x sigmoid(1.702 x)", "CLIP QuickGELU", (b, x) =>
  b.mul(x, b.sigmoid(b.mul(x, b.full(x.type, 1.702)))),
);
export const softplus: Composite<[x: Value]> = activation("ln(1 + e^x), safe for large x", "ONNX Softplus-1", (b, x) =>
  b.add(b.relu(x), b.log1p(b.exp(b.neg(b.abs(x))))),
);

export interface RotaryAttrs {
  interleaved?: boolean;
}

/**
 * x: [batch, heads, tokens, head channels]; cos, sin: [tokens, rotary / 2]. Rotates the first `rotary` channels of each
 * head, pairing channel i with i + rotary / 2 or, interleaved, 2i with 2i + 1; later channels pass.
 */
export const rotaryEmbedding: Composite<[x: Value, cos: Value, sin: Value], RotaryAttrs> = {
  kind: "composite",
  summary: "rotary position embedding with given cosine and sine tables",
  source: "ONNX RotaryEmbedding-23; RoFormer equation 34",
  operands: ["x", "cos", "sin"],
  attrs: { interleaved: { kind: "boolean", default: false } },
  infer: ([x, cos, sin]) => {
    const type = x as TensorType;
    const table = cos as TensorType;
    wantFloat(type);
    wantRank(type, 4);
    wantRank(table, 2, 1);
    wantDType(table, type.dtype, 1);
    wantDType(sin as TensorType, type.dtype, 2);
    wantShape(sin as TensorType, table.shape, 2, "sin");
    const [tokens, half] = table.shape as readonly [Dim, Dim];
    if (tokens !== type.shape[2])
      throw new OpError("shape-mismatch", `the tables have ${tokens} tokens but x has ${type.shape[2]}`, {
        operand: 1,
      });
    const channels = type.shape[3] as Dim;
    if (typeof half !== "number" || typeof channels !== "number" || 2 * half > channels)
      throw new OpError("shape-mismatch", `tables of ${half} pairs do not fit ${channels} head channels`, {
        operand: 1,
      });
    return [type];
  },
  decompose: (b, [x, cos, sin], { interleaved }) => {
    const [batch, heads, tokens, channels] = x.type.shape as readonly [Dim, Dim, Dim, number];
    const half = cos.type.shape[1] as number;
    const rotated = b.slice(x, { axis: 3, end: 2 * half });
    const split = interleaved ? [half, 2] : [2, half];
    const pairAxis = interleaved ? 4 : 3;
    const pairs = b.reshape(rotated, { shape: [batch, heads, tokens, ...split] });
    const flat = [batch, heads, tokens, half];
    const part = (i: number) => b.reshape(b.slice(pairs, { axis: pairAxis, start: i, end: i + 1 }), { shape: flat });
    const [first, second] = [part(0), part(1)];
    const c = b.broadcast(cos, { shape: flat, axes: [0, 1] });
    const s = b.broadcast(sin, { shape: flat, axes: [0, 1] });
    const turned = [b.sub(b.mul(first, c), b.mul(second, s)), b.add(b.mul(second, c), b.mul(first, s))];
    const stacked = turned.map((t) => b.reshape(t, { shape: flat.toSpliced(interleaved ? 4 : 3, 0, 1) }));
    const joined = b.reshape(b.concat(stacked, { axis: pairAxis }), { shape: rotated.type.shape });
    return 2 * half === channels
      ? joined
      : b.concat([joined, b.slice(x, { axis: 3, start: 2 * half, end: channels })], { axis: 3 });
  },
};

export interface AttentionAttrs {
  /** Which further operands follow query, key and value, in this order: mask, bias, logSize. */
  extras?: readonly ("mask" | "bias" | "logSize")[];
  scale: number;
  causal?: boolean;
  left?: number;
  right?: number;
  past?: Dim;
  logSumExp?: boolean;
}
export const attentionExtras = ["mask", "bias", "logSize"] as const;

/**
 * query: [batch, heads, queries, channels]; key: [batch, key heads, keys, channels]; value: [batch, key heads, keys,
 * value channels] -> [batch, heads, queries, value channels], and the log-sum-exp [batch, heads, queries] on request.
 * Query head h reads key head floor(h key heads / heads). Query row i stands at position i + past.
 * mask: bool and bias: float, [1 or batch, 1 or heads, queries, keys], true where a key may be read, bias added to the
 * scaled scores; logSize: [batch, keys], added to every score (ln of the patches a token stands for).
 */
export const attention: Composite<readonly Value[], AttentionAttrs, readonly [out: Value, logSumExp?: Value]> = {
  kind: "composite",
  summary: "scaled dot-product attention, whole: masks, bias, window, grouped heads",
  source: "ONNX Attention-25; ToMe section 3 (proportional attention)",
  operands: ["query", "key", "value", "extras..."],
  attrs: {
    extras: { kind: "strings", default: [], doc: "further operands: mask, bias, logSize, in this order" },
    scale: { kind: "number", doc: "of the query-key products" },
    causal: { kind: "boolean", default: false, doc: "keys up to the query's position" },
    left: { kind: "int", default: -1, doc: "keys before the position that are seen; -1: all" },
    right: { kind: "int", default: -1, doc: "keys after the position that are seen; -1: all" },
    past: { kind: "dim", default: 0, doc: "position of the first query row" },
    logSumExp: { kind: "boolean", default: false, doc: "second result: ln of the sum of e^score, per row" },
  },
  infer: (types, { extras, logSumExp, left, right, past }) => {
    const [query, key, value, ...more] = types as readonly [TensorType, TensorType, TensorType, ...TensorType[]];
    [query, key, value].forEach((type, operand) => {
      wantFloat(type, operand);
      wantRank(type, 4, operand);
      wantDType(type, query.dtype, operand);
    });
    const [batch, heads, queries, channels] = query.shape as readonly [Dim, Dim, Dim, Dim];
    const [, keyHeads, keys] = key.shape as readonly [Dim, Dim, Dim];
    wantShape(key, [batch, keyHeads, keys, channels], 1, "key");
    wantShape(value, [batch, keyHeads, keys, value.shape[3] as Dim], 2, "value");
    if (typeof heads !== "number" || typeof keyHeads !== "number" || keyHeads < 1 || heads % keyHeads !== 0)
      throw new OpError("shape-mismatch", `${heads} query heads do not divide among ${keyHeads} key heads`, {
        operand: 1,
      });
    if (left < -1 || right < -1 || (typeof past === "number" && past < 0))
      throw new OpError(
        "bad-attribute",
        `left and right are counts or -1, past is a position; got ${left}, ${right}, ${past}`,
      );
    const order = extras.map((extra) => attentionExtras.indexOf(extra));
    if (order.includes(-1) || order.some((at, i) => i > 0 && at <= (order[i - 1] as number)))
      throw new OpError(
        "bad-attribute",
        `extras are some of mask, bias, logSize in this order, got ${extras.join(", ")}`,
      );
    if (more.length !== extras.length)
      throw new OpError("operand-count", `extras name ${extras.length} operands but ${more.length} follow value`);
    more.forEach((type, i) => {
      const operand = 3 + i;
      const extra = extras[i];
      wantDType(type, extra === "mask" ? "bool" : query.dtype, operand);
      if (extra === "logSize") return wantShape(type, [batch, keys], operand, "logSize");
      wantRank(type, 4, operand);
      const want = [batch, heads, queries, keys];
      const fits = type.shape.every((d, axis) => d === want[axis] || (axis < 2 && d === 1));
      if (!fits)
        throw new OpError(
          "shape-mismatch",
          `${extra} wants [1 or ${batch}, 1 or ${heads}, ${queries}, ${keys}], got ${formatType(type)}`,
          {
            operand,
          },
        );
    });
    const out: TensorType = { dtype: query.dtype, shape: [batch, heads, queries, value.shape[3] as Dim] };
    return logSumExp ? [out, { dtype: query.dtype, shape: [batch, heads, queries] }] : [out];
  },
  decompose: (b, operands, attrs) => {
    const [query, key, value] = operands as readonly [Value, Value, Value];
    const [batch, heads, queries] = query.type.shape as readonly [Dim, number, Dim];
    const [, keyHeads, keys] = key.type.shape as readonly [Dim, number, Dim];
    const ofQueryHeads = (x: Value): Value => {
      if (keyHeads === heads) return x;
      const last = x.type.shape[3] as Dim;
      const wide = b.broadcast(x, { shape: [batch, keyHeads, heads / keyHeads, keys, last], axes: [2] });
      return b.reshape(wide, { shape: [batch, heads, keys, last] });
    };
    const scaled = attrs.scale === 1 ? query : b.mul(query, b.full(query.type, attrs.scale));
    let scores = b.matmul(scaled, b.transpose(ofQueryHeads(key), { perm: [0, 1, 3, 2] }));
    const { shape } = scores.type;
    const widen = (x: Value): Value => {
      const axes = [0, 1].filter((axis) => x.type.shape[axis] !== shape[axis]);
      const kept = x.type.shape.filter((_, axis) => !axes.includes(axis));
      return axes.length === 0 ? x : b.broadcast(b.reshape(x, { shape: kept }), { shape, axes });
    };
    const hidden = b.full(scores.type, Number.NEGATIVE_INFINITY);
    attrs.extras.forEach((extra, i) => {
      const operand = operands[3 + i] as Value;
      if (extra === "mask") scores = b.select(widen(operand), scores, hidden);
      else if (extra === "bias") scores = b.add(scores, widen(operand));
      else scores = b.add(scores, b.broadcast(operand, { shape, axes: [1, 2] }));
    });
    const visible = visibleKeys(b, queries, keys, attrs);
    if (visible !== undefined) scores = b.select(b.broadcast(visible, { shape, axes: [0, 1] }), scores, hidden);
    const out = b.matmul(b.softmax(scores, { axis: 3 }), ofQueryHeads(value));
    return attrs.logSumExp ? [out, b.logSumExp(scores, { axes: [3] })] : [out];
  },
};

/** bool[queries, keys] from causality and window, or undefined where every key is seen. */
function visibleKeys(b: Builder, queries: Dim, keys: Dim, attrs: Required<AttentionAttrs>): Value | undefined {
  const { causal, left, right, past } = attrs;
  if (!causal && left < 0 && right < 0) return undefined;
  const shape = [queries, keys];
  const type = { dtype: "i32", shape } as const;
  const rows = b.iota({ shape, axis: 0 });
  if (typeof past !== "number")
    throw new OpError("unbound-symbol", `plain operators need a known past, got ${past}`, {
      help: "bind it with bindSymbols",
    });
  const positions = past === 0 ? rows : b.add(rows, b.full(type, past));
  const key = b.iota({ shape, axis: 1 });
  const ahead = b.sub(key, positions); // negative: an earlier key
  let visible: Value | undefined;
  const require = (condition: Value) => {
    visible = visible === undefined ? condition : b.and(visible, condition);
  };
  if (causal) require(b.lessEqual(ahead, b.full(type, 0)));
  if (left >= 0) require(b.greaterEqual(ahead, b.full(type, -left)));
  if (right >= 0) require(b.lessEqual(ahead, b.full(type, right)));
  return visible;
}
