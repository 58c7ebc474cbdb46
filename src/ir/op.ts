import type { Builder } from "./builder.ts";
import type { Loc } from "./diagnostic.ts";
import type { Attr, Value } from "./graph.ts";
import type { Dim, DType, TensorType } from "./type.ts";
import type { Vjp } from "./vjp.ts";

/**
 * The declared kind of one attribute, checked by the builder, the verifier and the parser, so that an op's own code
 * never sees an attribute of another kind. A list of words is a choice. `default` makes it optional.
 */
export type AttrKind =
  | "int"
  | "ints"
  | "pairs"
  | "number"
  | "boolean"
  | "string"
  | "strings"
  | "dim"
  | "dims"
  | "dtype";
export interface AttrSpec {
  readonly kind: AttrKind | readonly string[];
  readonly default?: Attr;
  /** One line for the op table, with units. */
  readonly doc?: string;
}

/** An entry per attribute; an optional one carries its default (a test asserts it). */
export type AttrSpecs<A> = { readonly [K in keyof A]-?: AttrSpec };

export type Operands = readonly Value[];
export type NoAttrs = Record<never, never>;

interface OpBase<O extends Operands, A extends object, C, R> {
  /** One line; the generated op table prints it. */
  readonly summary: string;
  /** "ONNX Softmax-13", "paper, equation 9". */
  readonly source: string;
  /** Names of the operands in order; one ending in "..." takes all that are left, possibly none. */
  readonly operands: readonly string[];
  readonly attrs: AttrSpecs<A>;
  /** Result types, or an OpError. Never called with a wrong number of operands or attributes of another kind. */
  readonly infer: (types: readonly TensorType[], attrs: C) => readonly TensorType[];
  /** Never present: carries O, A and R for the builder's types. */
  readonly signature?: (operands: O, attrs: A) => R;
}

/** One result element as arithmetic over operand elements; a backend writes, and may fuse, the loop nest. */
export interface StructuredOf<O extends Operands, A extends object, C, R> extends OpBase<O, A, C, R> {
  readonly kind: "structured";
  readonly form: Form<C>;
}
/** No loop nest (sort): every backend has a kernel; `evaluate` is the meaning. Keep these few. */
export interface RoutineOf<O extends Operands, A extends object, C, R> extends OpBase<O, A, C, R> {
  readonly kind: "routine";
  readonly evaluate: (inputs: readonly NumberTensor[], attrs: C) => readonly NumberTensor[];
}
/** Defined by other ops; a backend may claim it whole, otherwise `decompose` expands it. */
export interface CompositeOf<O extends Operands, A extends object, C, R> extends OpBase<O, A, C, R> {
  readonly kind: "composite";
  readonly decompose: (b: Builder, operands: O, attrs: C) => R;
  /** Its gradient in closed form; without one the decomposition is differentiated. General ops: src/ir/vjps. */
  readonly vjp?: Vjp<C>;
}

/** An op that is one loop nest, of which its form says the arithmetic. */
export type Structured<O extends Operands, A extends object = NoAttrs, R = Value> = StructuredOf<O, A, Required<A>, R>;
/** An op that is a function over whole tensors. */
export type Routine<O extends Operands, A extends object = NoAttrs, R = Value> = RoutineOf<O, A, Required<A>, R>;
/** An op that other ops define; `A` are its attributes as callers give them, `R` its result or results. */
export type Composite<O extends Operands, A extends object = NoAttrs, R = Value> = CompositeOf<O, A, Required<A>, R>;
/** An op of any kind, with operands, attributes and results of any type. */
export type AnyOp = StructuredOf<any, any, any, any> | RoutineOf<any, any, any, any> | CompositeOf<any, any, any, any>;

/** A tensor while it is interpreted: every dtype as f64 numbers, already wrapped to the dtype's range. */
export interface NumberTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Meaning of a structured op. Each kind is a loop nest that a backend knows how to write and fuse. */
export type Form<A> =
  /** result[i] = scalar(operands[i]) */
  | {
      readonly kind: "elementwise";
      /** `dtype` is that of the first operand of equal type (the arithmetic's own type). */
      readonly scalar: <E>(s: Scalar<E>, xs: readonly E[], attrs: A, dtype: DType) => E;
    }
  /** Fold along axes with tuple state; order of `step` calls is free up to `merge`. */
  | {
      readonly kind: "reduction";
      readonly axes: (attrs: A, rank: number) => readonly number[];
      readonly init: (dtype: DType) => readonly number[];
      readonly step: <E>(s: Scalar<E>, acc: readonly E[], x: E, index: E) => readonly E[];
      readonly merge: <E>(s: Scalar<E>, a: readonly E[], b: readonly E[]) => readonly E[];
      readonly finish: <E>(s: Scalar<E>, acc: readonly E[], count: E) => E;
      /** The fold needs the position along its (single) axis as `index`. */
      readonly indexed?: true;
    }
  /** result[out] = operand[index(out)]; where `inside` is false, `fill`. */
  | {
      readonly kind: "view";
      readonly index: <I>(s: IntScalar<I>, out: readonly I[], dims: readonly I[], attrs: A) => readonly I[];
      readonly inside?: <I>(s: IntScalar<I>, out: readonly I[], dims: readonly I[], attrs: A) => I | undefined;
      readonly fill?: (attrs: A) => number;
    }
  /** Operands laid end to end along an axis. */
  | { readonly kind: "concat"; readonly axis: (attrs: A) => number }
  /** result[out] = value(out): no operand. */
  | { readonly kind: "generate"; readonly value: <E>(s: Scalar<E>, out: readonly E[], attrs: A) => E }
  /** Operand 0 read along `axis` where operand 1 says; the first `batch` axes go together. */
  | { readonly kind: "gather"; readonly axis: (attrs: A) => number; readonly batch: (attrs: A) => number }
  /** Sum of products; `bij,bjk->bik`. Accumulates in f32 or wider for floats, i32 for integers. */
  | { readonly kind: "contraction"; readonly spec: (types: readonly TensorType[], attrs: A) => string }
  /** A sliding window over the last axes: dot product with a kernel, maximum or sum. */
  | { readonly kind: "window"; readonly geometry: (types: readonly TensorType[], attrs: A) => WindowGeometry }
  /** Running fold along one axis. */
  | {
      readonly kind: "scan";
      readonly axis: (attrs: A, rank: number) => number;
      readonly exclusive: (attrs: A) => boolean;
      readonly reverse: (attrs: A) => boolean;
      readonly init: number;
      readonly step: <E>(s: Scalar<E>, acc: E, x: E) => E;
    };

/** Per spatial axis unless said otherwise. Operand 0 is [batch, channels, ...spatial]; a dot's operand 1 [out, in/groups, ...kernel]. */
export interface WindowGeometry {
  readonly reduce: "dot" | "max" | "sum";
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  /** Elements added before and after; negative crops. */
  readonly padding: readonly (readonly [number, number])[];
  readonly kernelDilation: readonly number[];
  readonly baseDilation: readonly number[];
  readonly featureGroups: number;
  readonly batchGroups: number;
}

/** Arithmetic over an abstract element: a number (reference), WGSL text (kernel), a count (cost). */
export interface Scalar<E> {
  lit(x: number): E;
  add(a: E, b: E): E;
  sub(a: E, b: E): E;
  mul(a: E, b: E): E;
  /** IEEE division; see `intDiv` for integers. */
  div(a: E, b: E): E;
  /** Integer division toward zero. */
  intDiv(a: E, b: E): E;
  /** Remainder with the divisor's sign (floor modulo). */
  mod(a: E, b: E): E;
  pow(a: E, b: E): E;
  min(a: E, b: E): E;
  max(a: E, b: E): E;
  neg(a: E): E;
  abs(a: E): E;
  sign(a: E): E;
  exp(a: E): E;
  log(a: E): E;
  log1p(a: E): E;
  expm1(a: E): E;
  sqrt(a: E): E;
  rsqrt(a: E): E;
  sin(a: E): E;
  cos(a: E): E;
  tanh(a: E): E;
  erf(a: E): E;
  floor(a: E): E;
  ceil(a: E): E;
  trunc(a: E): E;
  /** To nearest, halves to even. */
  round(a: E): E;
  equal(a: E, b: E): E;
  less(a: E, b: E): E;
  lessEqual(a: E, b: E): E;
  isNan(a: E): E;
  isInf(a: E): E;
  and(a: E, b: E): E;
  or(a: E, b: E): E;
  xor(a: E, b: E): E;
  not(a: E): E;
  bitAnd(a: E, b: E): E;
  bitOr(a: E, b: E): E;
  bitXor(a: E, b: E): E;
  bitNot(a: E): E;
  shiftLeft(a: E, b: E): E;
  /** Arithmetic for signed, logical for unsigned types. */
  shiftRight(a: E, b: E, dtype: DType): E;
  select(condition: E, yes: E, no: E): E;
  cast(a: E, from: DType, to: DType): E;
}

/** Index arithmetic over non-negative integers (and booleans for `inside`). */
export interface IntScalar<I> {
  lit(x: number): I;
  /** A dimension of the op's attributes: symbols survive. */
  dim(d: Dim): I;
  add(a: I, b: I): I;
  sub(a: I, b: I): I;
  mul(a: I, b: I): I;
  div(a: I, b: I): I;
  mod(a: I, b: I): I;
  min(a: I, b: I): I;
  max(a: I, b: I): I;
  abs(a: I): I;
  less(a: I, b: I): I;
  lessEqual(a: I, b: I): I;
  and(a: I, b: I): I;
}

/** Reads ops by name: the built-in table plus composites from outside the tree. */
export type Registry = ReadonlyMap<string, AnyOp>;

/** A composite from outside the op table; `name` is its word in IR text. */
export interface NamedComposite {
  readonly name: string;
  readonly op: CompositeOf<any, any, any, any>;
  /** Where it is declared, if that is known. */
  readonly loc?: Loc;
}
