import type { Value } from "../ir/graph.ts";
import type { NumberTensor } from "../ir/op.ts";
import { type DType, dtypes, elementsOf } from "../ir/type.ts";

/**
 * A tensor that an op may be given: a value of the graph, or (value undefined) a source that is made if the op is kept.
 * `shadows` are the same tensor after roundings that are `noise` large, up in one and down in the other.
 */
export interface Operand {
  readonly exact: NumberTensor;
  readonly shadows: readonly [NumberTensor, NumberTensor];
  readonly value?: Value;
}

export type Fill = (draw: Draw, at: number) => number;

export interface Want {
  readonly rank?: number;
  readonly minRank?: number;
  readonly maxRank?: number;
  readonly shape?: readonly number[];
  /** Elements of a new source; values of the graph are taken whatever they hold, unless `where` refuses them. */
  readonly fill?: Fill;
  readonly where?: (tensor: NumberTensor) => boolean;
  /** Never a value of the graph. */
  readonly fresh?: boolean;
}

const reuse = 0.85; // share of operands that are values of the graph where one fits
const largestSource = 256; // elements

/** Seeded choices over the values known so far. */
export class Draw {
  readonly #dtypes: readonly DType[];
  readonly #known: readonly Operand[];
  #state: number;

  constructor(seed: number, known: readonly Operand[], allowed: readonly DType[]) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 0;
    this.#known = known;
    this.#dtypes = allowed;
  }

  /** Uniform in [0, 1); mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)] as T;
  }

  shuffled<T>(list: readonly T[]): readonly T[] {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      [out[i], out[j]] = [out[j] as T, out[i] as T];
    }
    return out;
  }

  shape(rank: number): readonly number[] {
    const sizes = Array.from({ length: rank }, () => this.pick([1, 2, 2, 3, 3, 4, 5, 7]));
    while (elementsOf(sizes) > largestSource) sizes[this.int(0, rank - 1)] = 1;
    return sizes;
  }

  /** Of the wanted dtypes those that the graph may hold; the first wanted one where none is allowed. */
  dtype(wanted: readonly DType[]): DType {
    const allowed = wanted.filter((dtype) => this.#dtypes.includes(dtype));
    return allowed.length === 0 ? (wanted[0] as DType) : this.pick(allowed);
  }

  tensor(wanted: readonly DType[], want: Want = {}): Operand {
    const { shape, rank, minRank = 0, maxRank = 4, where = () => true } = want;
    if (want.fresh !== true && this.chance(reuse)) {
      const fitting = this.#known.filter(({ exact }) => {
        const fits =
          shape === undefined
            ? rank === undefined
              ? exact.shape.length >= minRank && exact.shape.length <= maxRank
              : exact.shape.length === rank
            : exact.shape.length === shape.length && exact.shape.every((d, axis) => d === shape[axis]);
        return fits && wanted.includes(exact.dtype) && exact.values.every(Number.isFinite) && where(exact);
      });
      // The last values first: deep graphs find more than wide ones.
      if (fitting.length > 0) return this.pick(this.chance(0.5) ? fitting.slice(-4) : fitting);
    }
    const dtype = this.dtype(wanted);
    return this.source(dtype, shape ?? this.shape(rank ?? this.int(minRank, maxRank)), want.fill);
  }

  source(dtype: DType, shape: readonly number[], fill: Fill = this.#usualFill(dtype)): Operand {
    const values = Float64Array.from({ length: elementsOf(shape) }, (_, at) => fill(this, at));
    const exact = { dtype, shape, values };
    return { exact, shadows: [exact, exact] };
  }

  #usualFill(dtype: DType): Fill {
    const { kind } = dtypes[dtype];
    if (kind === "bool") return fills.bool;
    if (kind === "unsigned") return (d) => d.int(0, 3);
    if (kind === "signed") return (d) => d.int(-4, 4);
    return this.pick([fills.signed, fills.signed, fills.positive, fills.whole]);
  }
}

/** Multiples of 1/64 are exact in every float kind of 16 bits and more, so that a source is the same for all judges. */
export const fills = {
  signed: (d) => d.int(-128, 128) / 64,
  positive: (d) => d.int(16, 128) / 64,
  nonzero: (d) => (d.chance(0.5) ? 1 : -1) * (d.int(1, 128) / 64),
  whole: (d) => d.int(-3, 3),
  bool: (d) => d.int(0, 1),
  special: (d) => d.pick([0, 1, -1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]),
} as const satisfies Record<string, Fill>;

/** Dtypes that ops compute in, by kind. */
export function kinds(wanted: readonly ("float" | "signed" | "unsigned" | "bool")[]): readonly DType[] {
  const computing: readonly DType[] = [
    "f32",
    "f64",
    "f16",
    "bf16",
    "i32",
    "i64",
    "i16",
    "i8",
    "u32",
    "u16",
    "u8",
    "bool",
  ];
  return computing.filter((dtype) => wanted.includes(dtypes[dtype].kind));
}
