// Arithmetic of non-negative integers in types. A number is its decimal digits, the lowest first ("768" is "867"),
// without zeros at the high end, so that zero is "". Every step takes a digit off an argument and is a tail call.

/** A tuple as long as the digit: digits are added by laying tuples end to end. */
type Units = {
  0: [];
  1: [0];
  2: [0, 0];
  3: [0, 0, 0];
  4: [0, 0, 0, 0];
  5: [0, 0, 0, 0, 0];
  6: [0, 0, 0, 0, 0, 0];
  7: [0, 0, 0, 0, 0, 0, 0];
  8: [0, 0, 0, 0, 0, 0, 0, 0];
  9: [0, 0, 0, 0, 0, 0, 0, 0, 0];
};
type Digit = `${keyof Units}`;
type Carry = 0 | 1;
type UnitsOf<D> = D extends `${infer N extends keyof Units}` ? Units[N] : never;
/** Two digits and a carry: 0 to 19. */
type Total<A, B, C extends Carry> = [...UnitsOf<A>, ...UnitsOf<B>, ...Units[C]]["length"] & keyof Sums;
/** The low digit of such a total and what it carries on. */
type Sums = {
  0: ["0", 0];
  1: ["1", 0];
  2: ["2", 0];
  3: ["3", 0];
  4: ["4", 0];
  5: ["5", 0];
  6: ["6", 0];
  7: ["7", 0];
  8: ["8", 0];
  9: ["9", 0];
  10: ["0", 1];
  11: ["1", 1];
  12: ["2", 1];
  13: ["3", 1];
  14: ["4", 1];
  15: ["5", 1];
  16: ["6", 1];
  17: ["7", 1];
  18: ["8", 1];
  19: ["9", 1];
};
type Nines = { 0: "9"; 1: "8"; 2: "7"; 3: "6"; 4: "5"; 5: "4"; 6: "3"; 7: "2"; 8: "1"; 9: "0" };
type NineLess<D> = D extends `${infer N extends keyof Nines}` ? Nines[N] : never;
type Next = { 0: "1"; 1: "2"; 2: "3"; 3: "4"; 4: "5"; 5: "6"; 6: "7"; 7: "8"; 8: "9"; 9: never };
type After<D> = D extends `${infer N extends keyof Next}` ? Next[N] : never;

/** The characters turned round; `false` where one is no digit, as in "-1", "1.5" and "1e+21". */
type Turned<S extends string, R extends string = ""> = S extends `${infer D}${infer Rest}`
  ? D extends Digit
    ? Turned<Rest, `${D}${R}`>
    : false
  : R;

/** Without zeros at the high end. */
type Trimmed<A> = A extends `${infer Rest}0` ? Trimmed<Rest> : A;

/** The digits of a literal whole number; `false` for a wide or negative number and for anything else. */
export type DigitsOf<N> = [N] extends [never]
  ? false
  : N extends number
    ? number extends N
      ? false
      : Trimmed<Turned<`${N}`>>
    : false;

/** The literal number; `number` beyond what a double holds exactly. */
export type NumberOf<A extends string> = A extends "" ? 0 : Turned<A> extends `${infer N extends number}` ? N : number;

export type AddDigits<
  A extends string,
  B extends string,
  C extends Carry = 0,
  R extends string = "",
> = A extends `${infer a}${infer A1}`
  ? B extends `${infer b}${infer B1}`
    ? AddDigits<A1, B1, Sums[Total<a, b, C>][1], `${R}${Sums[Total<a, b, C>][0]}`>
    : C extends 0
      ? `${R}${A}`
      : AddDigits<A1, "", Sums[Total<a, "0", C>][1], `${R}${Sums[Total<a, "0", C>][0]}`>
  : B extends ""
    ? C extends 1
      ? `${R}1`
      : R
    : C extends 0
      ? `${R}${B}`
      : AddDigits<B, "", C, R>;

/** A - B by the nine's complement of B; `false` where it is negative, which the carry that is left over says. */
export type SubDigits<
  A extends string,
  B extends string,
  C extends Carry = 1,
  R extends string = "",
> = A extends `${infer a}${infer A1}`
  ? B extends `${infer b}${infer B1}`
    ? SubDigits<A1, B1, Sums[Total<a, NineLess<b>, C>][1], `${R}${Sums[Total<a, NineLess<b>, C>][0]}`>
    : SubDigits<A1, "", Sums[Total<a, "9", C>][1], `${R}${Sums[Total<a, "9", C>][0]}`>
  : B extends ""
    ? C extends 1
      ? Trimmed<R>
      : false
    : false;

/** A times one digit, by adding A that often. */
type Times<A extends string, D extends string> = D extends "0"
  ? ""
  : D extends "1"
    ? A
    : AddDigits<Times<A, Preceding<D>>, A>;
type Before = { 2: "1"; 3: "2"; 4: "3"; 5: "4"; 6: "5"; 7: "6"; 8: "7"; 9: "8" };
type Preceding<D> = D extends `${infer N extends keyof Before}` ? Before[N] : never;

export type MulDigits<A extends string, B extends string, R extends string = ""> = A extends ""
  ? ""
  : B extends `${infer b}${infer B1}`
    ? MulDigits<`0${A}`, B1, AddDigits<R, Times<A, b>>>
    : R;

/** How often D goes into R (less than ten times), and what is left. */
type Often<R extends string, D extends string, Q extends string = "0"> =
  SubDigits<R, D> extends infer Left ? (Left extends string ? Often<Left, D, After<Q>> : [Q, R]) : never;

/** Long division of digits with the highest first: quotient and remainder. */
type Divided<
  N extends string,
  D extends string,
  R extends string = "",
  Q extends string = "",
> = N extends `${infer n}${infer N1}`
  ? Often<Trimmed<`${n}${R}`>, D> extends [infer q extends string, infer r extends string]
    ? Divided<N1, D, r, `${q}${Q}`>
    : never
  : [quotient: Trimmed<Q>, remainder: R];

/** [quotient, remainder]; never where B is zero. */
export type DivideDigits<A extends string, B extends string> = B extends ""
  ? never
  : Turned<A> extends infer N extends string
    ? Divided<N, B>
    : never;
