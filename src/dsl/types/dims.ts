// One dimension in types: a literal size (768), a literal symbol ("batch"), or unknown: `number` where it is some size,
// `Dim` where it may be an expression in symbols. Unknown dimensions agree with everything.
import type { Dim } from "../../ir/type.ts";
import type { AddDigits, DigitsOf, DivideDigits, MulDigits, NumberOf, SubDigits } from "./digits.ts";

/** Compared as a whole, so that two equal type parameters are seen to be equal before they are known. */
export type Box<T> = { readonly is: T };
export type Same<A, B> = Box<A> extends Box<B> ? (Box<B> extends Box<A> ? true : false) : false;
/** Whether a rule's step failed; not so for `any`, with which the compiler compares a signature to its body. */
export type IsFalse<A> = Box<A> extends Box<false> ? (0 extends 1 & A ? false : true) : false;
type IsUnion<A, All = A> = true extends (A extends unknown ? (Box<All> extends Box<A> ? false : true) : never)
  ? true
  : false;

/** Whether nothing can be checked of a dimension: any size, one of several, or an expression in symbols. */
export type IsWide<A> = number extends A
  ? true
  : string extends A
    ? true
    : IsUnion<A> extends true
      ? true
      : A extends `${string}${"+" | "-" | "*" | "/" | "(" | " "}${string}`
        ? true
        : false;

/** Whether two dimensions are known to differ. */
export type Clash<A, B> =
  Box<A> extends Box<B> ? false : IsWide<A> extends true ? false : IsWide<B> extends true ? false : true;

/** Of two that agree, the one that says more. */
export type Agreed<A, B> = Box<A> extends Box<B> ? A : IsWide<A> extends true ? B : A;

/** The dimension that both stretch to under numpy's rule; `false` where they are known to differ. */
export type Stretched<A, B> =
  Same<A, B> extends true
    ? A
    : Box<A> extends Box<1>
      ? B
      : Box<B> extends Box<1>
        ? A
        : IsWide<A> extends true
          ? IsWide<B> extends true
            ? A | B
            : B
          : IsWide<B> extends true
            ? A
            : false;

/** Whether it is a literal size, whose digits arithmetic works on. */
export type IsSize<A> = DigitsOf<A> extends string ? true : false;
/** The digits of two literal sizes, or `false`. B is asked first: a wide one decides before A is known. */
type Sizes<A, B> =
  DigitsOf<B> extends infer Y extends string ? (DigitsOf<A> extends infer X extends string ? [X, Y] : false) : false;
/** What arithmetic gives where one of the two is no literal size. */
export type Unknown<A, B = 0> = A extends number ? (B extends number ? number : Dim) : Dim;

export type Add<A, B> =
  Sizes<A, B> extends [infer X extends string, infer Y extends string]
    ? NumberOf<AddDigits<X, Y>>
    : Same<B, 0> extends true
      ? A
      : Same<A, 0> extends true
        ? B
        : Unknown<A, B>;

/** `false` where the difference is negative. */
export type Sub<A, B> =
  Sizes<A, B> extends [infer X extends string, infer Y extends string]
    ? SubDigits<X, Y> extends infer D extends string
      ? NumberOf<D>
      : false
    : Same<B, 0> extends true
      ? A
      : Unknown<A, B>;

export type Mul<A, B> =
  Sizes<A, B> extends [infer X extends string, infer Y extends string]
    ? NumberOf<MulDigits<X, Y>>
    : Same<B, 1> extends true
      ? A
      : Same<A, 1> extends true
        ? B
        : Unknown<A, B>;

/** floor(A / B). */
export type FloorDiv<A, B> = Quotient<A, B>[0];
/** A / B, or `false` where B does not divide A. */
export type ExactDiv<A, B> =
  Quotient<A, B> extends readonly [infer Q, infer Left] ? (Same<Left, "some"> extends true ? false : Q) : never;

/** [floor(A / B), what is left]: "none", "some", or unknown. Nothing divides by zero, so that leaves some. */
type Quotient<A, B> =
  Same<B, 1> extends true
    ? readonly [A, "none"]
    : Sizes<A, B> extends [infer X extends string, infer Y extends string]
      ? Y extends ""
        ? readonly [0, "some"]
        : DivideDigits<X, Y> extends readonly [infer Q extends string, infer Left]
          ? readonly [NumberOf<Q>, Left extends "" ? "none" : "some"]
          : never
      : readonly [Unknown<A, B>, "unknown"];

/** Whether A < B is known. */
export type IsLess<A, B> = Sub<A, B> extends false ? true : false;

/** A dimension, and a shape, as messages write them. */
export type Print<A> = IsWide<A> extends true ? "?" : A extends string | number ? `${A}` : "?";
export type Show<S> = S extends readonly []
  ? "[]"
  : S extends readonly [infer A, ...infer Rest]
    ? `[${Print<A>}${ShowRest<Rest>}]`
    : "[...]";
type ShowRest<S, Text extends string = ""> = S extends readonly [infer A, ...infer Rest]
  ? ShowRest<Rest, `${Text}, ${Print<A>}`>
  : Text;
