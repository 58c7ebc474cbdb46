import { compileError } from "../../ir/diagnostic.ts";

/** Tokens merged per block: one number for all, a list (padded with 0), or a mean with an inflection in [-1, 1]. */
export type Reduction = number | readonly number[] | { readonly r: number; readonly inflection: number };

/**
 * Tokens to merge in each of `layers` blocks. With inflection f the counts run linearly from r (1 - f) to r (1 + f),
 * cut toward zero: -1 falls from 2r to 0, 1 rises. Source: ToMe utils.py, parse_r.
 */
export function reductionSchedule(layers: number, reduction: Reduction): readonly number[] {
  if (isList(reduction)) {
    for (const r of reduction) wantCount(r);
    const list = [...reduction];
    while (list.length < layers) list.push(0);
    return list;
  }
  const { r, inflection } = typeof reduction === "number" ? { r: reduction, inflection: 0 } : reduction;
  wantCount(r);
  if (!(Math.abs(inflection) <= 1))
    throw compileError("bad-option", `the inflection of r must lie in [-1, 1], got ${inflection}`);
  if (inflection === 0) return Array.from({ length: layers }, () => Math.trunc(r));
  const low = Math.trunc(r * (1 - inflection));
  const high = 2 * r - low;
  const step = layers > 1 ? (high - low) / (layers - 1) : 0;
  return Array.from({ length: layers }, (_, layer) => Math.trunc(low + step * layer));
}

const isList = (reduction: Reduction): reduction is readonly number[] => Array.isArray(reduction);

function wantCount(r: number): void {
  if (!Number.isInteger(r) || r < 0) throw compileError("bad-option", `r wants whole numbers of tokens, got ${r}`);
}

/** Reads r as the authors write it: `8`, `[7, 0, 5]`, or `(6, -1.0)`. */
export function parseReduction(text: string): Reduction {
  const numbers = text
    .replace(/[[\]()\s]/g, " ")
    .split(/[,; ]+/)
    .filter((part) => part !== "")
    .map(Number);
  const bad = () =>
    compileError("bad-option", `r is a number, a list or a pair (r, inflection), got ${JSON.stringify(text)}`, {
      help: "r=8, r=[7,0,5] or r=(6,-1)",
    });
  if (numbers.length === 0 || numbers.some(Number.isNaN)) throw bad();
  const trimmed = text.trim();
  if (trimmed.startsWith("[")) return numbers;
  if (!trimmed.startsWith("(")) return numbers.length === 1 ? (numbers[0] as number) : numbers;
  if (numbers.length !== 2) throw bad();
  return { r: numbers[0] as number, inflection: numbers[1] as number };
}
