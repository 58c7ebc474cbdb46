import { compileError, concatWeights } from "../../dsl/index.ts";
import type { WeightSource } from "../../ir/graph.ts";

export type Weights = ReadonlyMap<string, WeightSource>;

/** A checkpoint's spelling of a name, and ours; undefined leaves the tensor out. `$1` is the first group. */
export type Spelling = readonly [theirs: RegExp, ours: string | undefined];

/**
 * Tensors under new names. Of the spellings the first that matches counts; a name that none matches stays.
 * Fails with `weights-duplicate` where two tensors get one name.
 */
export function rename(tensors: Weights, spellings: readonly Spelling[]): Map<string, WeightSource> {
  const named = new Map<string, WeightSource>();
  const heldAs = new Map<string, string>();
  for (const [name, source] of tensors) {
    const spelling = spellings.find(([theirs]) => theirs.test(name));
    const ours = spelling === undefined ? name : spelling[1] && name.replace(spelling[0], spelling[1]);
    if (ours === undefined) continue;
    const other = heldAs.get(ours);
    if (other !== undefined)
      throw compileError("weights-duplicate", `weights ${other} and ${name} would both be ${ours}`);
    heldAs.set(ours, name);
    named.set(ours, source);
  }
  return named;
}

/**
 * `X.query.weight`, `X.key.weight` and `X.value.weight` as `X.qkv.weight`, one below the other, and their biases alike.
 * Fails with `weights-missing` where some of the three are there and some not.
 */
export function joinQueryKeyValue(tensors: Weights): Map<string, WeightSource> {
  const joined = new Map<string, WeightSource>();
  for (const [name, source] of tensors) {
    const match = /^(.*\.)?(query|key|value)\.(weight|bias)$/.exec(name);
    if (match === null) {
      joined.set(name, source);
      continue;
    }
    const [, prefix = "", , kind] = match;
    const ours = `${prefix}qkv.${kind}`;
    if (joined.has(ours)) continue;
    const part = (which: string): WeightSource => {
      const found = tensors.get(`${prefix}${which}.${kind}`);
      if (found === undefined)
        throw compileError(
          "weights-missing",
          `${ours} joins query, key and value, but the ${which}'s ${kind} is missing`,
        );
      return found;
    };
    joined.set(ours, concatWeights(ours, [part("query"), part("key"), part("value")]));
  }
  return joined;
}

/** Replaces the tensor of a name, where there is one. */
export function adapt(
  tensors: Map<string, WeightSource>,
  name: string,
  change: (source: WeightSource) => WeightSource,
): void {
  const source = tensors.get(name);
  if (source !== undefined) tensors.set(name, change(source));
}
