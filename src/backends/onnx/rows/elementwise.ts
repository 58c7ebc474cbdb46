import { type DType, dtypes, isFloat } from "../../../ir/type.ts";
import { dtypeSince } from "../elements.ts";
import type { Row } from "../row.ts";
import type { Site } from "../site.ts";

const always = 13; // below every profile's base

/** One operator of the same meaning, computed and given in the operands' type. */
export const same = (op: string, since = always): Row => ({
  since,
  emit: (at) => at.typed(op, at.spread(), at.dtype()),
});

/** One operator whose result is bool. */
export const test = (op: string, since = always): Row => ({
  since,
  emit: (at) => at.typed(op, at.spread(), at.dtype(), {}, false),
});

export const notEqual: Row = {
  since: always,
  emit: (at) => at.make("Not", [at.typed("Equal", at.spread(), at.dtype(), {}, false)]),
};

export const rsqrt: Row = {
  since: always,
  emit: (at) => at.typed("Reciprocal", [at.typed("Sqrt", [at.only()], at.dtype())], at.dtype()),
};

export const trunc: Row = {
  since: always,
  emit: (at) => at.make("Mul", [at.make("Sign", [at.only()]), at.make("Floor", [at.make("Abs", [at.only()])])]),
};

/** ln(1 + x) by Kahan's correction: with u = 1 + x rounded, ln(u) x / (u - 1) is exact to rounding. */
export const log1p: Row = {
  since: always,
  emit: (at) => {
    const [x, one] = [at.only(), at.scalar(1)];
    const u = at.make("Add", [x, one]);
    const small = at.make("Equal", [u, one]);
    const ratio = at.make("Div", [x, at.make("Sub", [u, one])]);
    const large = at.make("Equal", [u, x]); // also where both are infinite
    const corrected = at.make("Mul", [at.make("Log", [u]), at.make("Where", [large, one, ratio])]);
    return at.make("Where", [small, x, corrected]);
  },
};

/** e^x - 1 = tanh(x / 2) (e^x + 1), which cancels nothing near 0. */
export const expm1: Row = {
  since: always,
  emit: (at) => {
    const half = at.make("Tanh", [at.make("Mul", [at.only(), at.scalar(0.5)])]);
    return at.make("Mul", [half, at.make("Add", [at.make("Exp", [at.only()]), at.scalar(1)])]);
  },
};

/** Floor modulo. Mod with fmod 0 is that for integers only. */
export const mod: Row = {
  since: always,
  emit: (at) => {
    const [x, y] = at.spread() as [string, string];
    if (!isFloat(at.dtype())) return at.typed("Mod", [x, y], at.dtype());
    const quotient = at.make("Floor", [at.make("Div", [x, y])]);
    return at.make("Sub", [x, at.make("Mul", [y, quotient])]);
  },
};

/** BitShift takes unsigned types only; bits move alike in two's complement. */
export const shiftLeft: Row = {
  since: always,
  emit: (at) => shifted(at, at.spread() as [string, string], "LEFT"),
};

/** Arithmetic shift of a negative x: with ~x = -1 - x, x >> n = ~(~x >>> n). */
export const shiftRight: Row = {
  since: always,
  emit: (at) => {
    const dtype = at.dtype();
    const [x, n] = at.spread() as [string, string];
    if (dtypes[dtype].kind === "unsigned") return shifted(at, [x, n], "RIGHT");
    const negative = at.typed("Less", [x, at.scalar(0)], dtype, {}, false);
    const flip = (v: string) => at.typed("Sub", [at.scalar(-1), v], dtype);
    const pick = (yes: string, no: string) => where(at, negative, yes, no, dtype);
    const moved = shifted(at, [pick(flip(x), x), n], "RIGHT");
    return pick(flip(moved), moved);
  },
};

function shifted(at: Site, [x, n]: readonly [string, string], direction: "LEFT" | "RIGHT"): string {
  const dtype = at.dtype();
  if (dtypes[dtype].bits > 32) at.workType("BitShift", dtype);
  const work = dtype === "u8" ? dtype : "u32";
  const y = at.make(
    "BitShift",
    [x, n].map((v) => at.body.cast(v, dtype, work)),
    { direction },
  );
  return at.body.cast(y, work, dtype);
}

function where(at: Site, condition: string, yes: string, no: string, dtype: DType): string {
  const work = at.workType("Where", dtype);
  const y = at.make("Where", [condition, at.body.cast(yes, dtype, work), at.body.cast(no, dtype, work)]);
  return at.body.cast(y, work, dtype);
}

export const select: Row = {
  since: always,
  emit: (at) => {
    const [condition, yes, no] = at.spread() as [string, string, string];
    return where(at, condition, yes, no, at.dtype(1));
  },
};

export const cast: Row<{ readonly to: DType }> = {
  since: (node) =>
    Math.max(always, sinceOf(node.attrs["to"] as DType), sinceOf((node.operands[0]?.type.dtype ?? "f32") as DType)),
  emit: (at) => {
    const to = at.attrs.to === "bf16" ? "f32" : at.attrs.to;
    const from = at.dtype();
    if (to === "i32" && at.plan.isIndex(at.operand(0))) return at.only();
    const x = at.only();
    if (!isFloat(from) || isFloat(to) || to === "bool" || to === "i64" || to === "i32")
      return at.body.cast(x, from, to);
    // A float outside a narrow integer's range has no defined conversion; it wraps by way of a wide one.
    const wide = to === "u32" ? "i64" : "i32";
    return at.body.cast(at.body.cast(x, from, wide), wide, to);
  },
};

const sinceOf = (dtype: DType): number => dtypeSince[dtype] ?? always;
