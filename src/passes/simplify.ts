import type { Builder } from "../ir/builder.ts";
import type { Value } from "../ir/graph.ts";
import { type DType, dtypes, isFloat, isInteger } from "../ir/type.ts";
import { allTraits } from "./pass.ts";
import { any, type NodePattern, pat, type Rule, rewritePass, rule, uniform } from "./rewrite.ts";
import { viewRules } from "./viewRules.ts";

/**
 * Local identities that hold in exact arithmetic and add no rounding. On floats two kinds change the sign of a zero:
 * `x + 0` and `0 - x` (0 where x is -0, and the other way round). `0 x` and `x - x` stay on floats, where x may be
 * infinite or NaN.
 */
export const simplify = rewritePass({
  name: "simplify",
  summary: "identities, double negations and views of views taken out",
  contract: "exact",
  requires: [],
  preserves: allTraits,
  example: {
    before: `
graph @scale(%x: f32[2,3]) {
  %0 = constant() {data=[1]} : f32[]
  %1 = broadcast(%0) {shape=[3,2], axes=[0,1]} : f32[3,2]
  %2 = transpose(%x) {perm=[1,0]} : f32[3,2]
  %3 = mul(%1, %2) : f32[3,2]
  %4 = transpose(%3) {perm=[1,0]} : f32[2,3]
  %5 = reshape(%4) {shape=[6]} : f32[6]
  %6 = reshape(%5) {shape=[1,6]} : f32[1,6]
  return y: %6
}`,
    after: `
graph @scale(%x: f32[2,3]) {
  %0 = reshape(%x) {shape=[1,6]} : f32[1,6]
  return y: %0
}`,
  },
  rules: [...neutralElements(), ...absorbingElements(), ...involutions(), ...repetitions(), ...casts(), ...viewRules()],
});

type X = { readonly x: Value };

/** A rule whose result is the value bound to x. */
function drop<A>(name: string, match: NodePattern<X, A>): Rule {
  return rule<X, A>({ name, match, build: (_, { x }) => x });
}

function neutralElements(): readonly Rule[] {
  const x = any("x");
  return [
    drop("addZero", pat.add([x, uniform(0)])),
    drop("subZero", pat.sub([x, uniform(0)])),
    drop("mulOne", pat.mul([x, uniform(1)])),
    drop("divOne", pat.div([x, uniform(1)])),
    drop("powOne", pat.pow([x, uniform(1)])),
    drop("maxLowest", pat.max([x, uniform(Number.NEGATIVE_INFINITY)])),
    drop("minHighest", pat.min([x, uniform(Number.POSITIVE_INFINITY)])),
    drop("andTrue", pat.and([x, uniform(1)])),
    drop("orFalse", pat.or([x, uniform(0)])),
    drop("xorFalse", pat.xor([x, uniform(0)])),
    drop("bitOrZero", pat.bitOr([x, uniform(0)])),
    drop("bitXorZero", pat.bitXor([x, uniform(0)])),
    drop("shiftLeftZero", pat.shiftLeft([x, uniform(0)])),
    drop("shiftRightZero", pat.shiftRight([x, uniform(0)])),
  ];
}

function absorbingElements(): readonly Rule[] {
  const fill = (number: number) => (b: Builder, m: X) => b.full(m.x.type, number);
  const onIntegers = ({ type }: Value, reason: string): true | string =>
    isInteger(type.dtype) || `x may be infinite or NaN, where ${reason}`;
  const x = any("x");
  return [
    rule({
      name: "mulZero",
      match: pat.mul([x, uniform(0)]),
      where: (m) => onIntegers(m.x, "0 x is NaN and not 0"),
      build: fill(0),
    }),
    rule({
      name: "subSelf",
      match: pat.sub([x, x]),
      where: (m) => onIntegers(m.x, "x - x is NaN and not 0"),
      build: fill(0),
    }),
    rule({ name: "andFalse", match: pat.and([x, uniform(0)]), build: fill(0) }),
    rule({ name: "orTrue", match: pat.or([x, uniform(1)]), build: fill(1) }),
    rule({ name: "bitAndZero", match: pat.bitAnd([x, uniform(0)]), build: fill(0) }),
  ];
}

function involutions(): readonly Rule[] {
  const x = any("x");
  const y = any("y");
  return [
    drop("negTwice", pat.neg([pat.neg([x])])),
    drop("notTwice", pat.not([pat.not([x])])),
    drop("bitNotTwice", pat.bitNot([pat.bitNot([x])])),
    rule({ name: "addNegative", match: pat.add([x, pat.neg([y])]), build: (b, m) => b.sub(m.x, m.y) }),
    rule({ name: "subNegative", match: pat.sub([x, pat.neg([y])]), build: (b, m) => b.add(m.x, m.y) }),
    rule({
      name: "zeroMinus",
      match: pat.sub([uniform(0), x]),
      where: (m) => dtypes[m.x.type.dtype].kind !== "unsigned" || `${m.x.type.dtype} has no negative numbers`,
      build: (b, m) => b.neg(m.x),
    }),
    rule({ name: "absNegative", match: pat.abs([pat.neg([x])]), build: (b, m) => b.abs(m.x) }),
    rule({ name: "notEqual", match: pat.not([pat.equal([x, y])]), build: (b, m) => b.notEqual(m.x, m.y) }),
    rule({ name: "notNotEqual", match: pat.not([pat.notEqual([x, y])]), build: (b, m) => b.equal(m.x, m.y) }),
    rule({
      name: "selectNot",
      match: pat.select([pat.not([any("condition")]), x, y]),
      build: (b, m) => b.select(m.condition, m.y, m.x),
    }),
  ];
}

/** The same operand twice, or the same op twice. */
function repetitions(): readonly Rule[] {
  const x = any("x");
  return [
    drop("andSelf", pat.and([x, x])),
    drop("orSelf", pat.or([x, x])),
    drop("bitAndSelf", pat.bitAnd([x, x])),
    drop("bitOrSelf", pat.bitOr([x, x])),
    drop("minSelf", pat.min([x, x])),
    drop("maxSelf", pat.max([x, x])),
    rule({ name: "selectSame", match: pat.select([any("condition"), x, x]), build: (_, m) => m.x }),
    rule({ name: "selectTrue", match: pat.select([uniform(1), x, any("no")]), build: (_, m) => m.x }),
    rule({ name: "selectFalse", match: pat.select([uniform(0), any("yes"), x]), build: (_, m) => m.x }),
    rule({ name: "absTwice", match: pat.abs([pat.abs([x])]), build: (b, m) => b.abs(m.x) }),
    rule({ name: "signTwice", match: pat.sign([pat.sign([x])]), build: (b, m) => b.sign(m.x) }),
    rule({ name: "reluTwice", match: pat.relu([pat.relu([x])]), build: (b, m) => b.relu(m.x) }),
    rule({ name: "floorTwice", match: pat.floor([pat.floor([x])]), build: (b, m) => b.floor(m.x) }),
    rule({ name: "ceilTwice", match: pat.ceil([pat.ceil([x])]), build: (b, m) => b.ceil(m.x) }),
    rule({ name: "truncTwice", match: pat.trunc([pat.trunc([x])]), build: (b, m) => b.trunc(m.x) }),
    rule({ name: "roundTwice", match: pat.round([pat.round([x])]), build: (b, m) => b.round(m.x) }),
  ];
}

function casts(): readonly Rule[] {
  const x = any("x");
  return [
    drop(
      "castSame",
      pat.cast([x]).where(({ to }, { operands: [of] }) => of?.type.dtype === to),
    ),
    rule({
      name: "castThrough",
      match: pat.cast([pat.cast([x]).as("inner")]).as("outer"),
      where: ({ x: { type }, inner, outer }) => {
        const [from, via, to] = [type.dtype, inner.attrs.to, outer.attrs.to];
        if (!holdsEvery(via, from)) return `${via} does not hold every ${from}`;
        // Floats become integers by other rules than integers do (saturation against wrapping).
        const alike = from === "bool" || isFloat(from) === isFloat(via) || isFloat(to) || holdsEvery(to, from);
        return alike || `${via} and ${from} become ${to} by different rules`;
      },
      build: (b, m) => b.cast(m.x, m.outer.attrs),
    }),
  ];
}

/** Bits of a float's significand, the leading one included (IEEE 754; OCP 8-bit floating point). */
const significandBits = { f64: 53, f32: 24, f16: 11, bf16: 8, f8e4m3: 4, f8e5m2: 3 } as const;

/** Whether every number of one dtype is a number of another. */
function holdsEvery(wide: DType, narrow: DType): boolean {
  if (wide === narrow || narrow === "bool") return true;
  const [to, from] = [dtypes[wide], dtypes[narrow]];
  if (to.kind === "float") {
    const bits = from.kind === "signed" ? from.bits - 1 : from.bits; // the least number is a power of two
    return from.kind === "float" ? to.bits > from.bits : bits <= significandBits[wide as keyof typeof significandBits];
  }
  if (from.kind === "float" || to.kind === "bool") return false;
  return to.bits > from.bits && (to.kind === "signed" || from.kind === "unsigned");
}
