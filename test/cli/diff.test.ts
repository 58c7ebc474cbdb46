import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { editScript } from "../../src/cli/align.ts";
import { diffGraphs, formatDiff } from "../../src/cli/diff.ts";
import { parseGraph } from "../../src/index.ts";

const diff = (before: string, after: string): string => formatDiff(diffGraphs(parseGraph(before), parseGraph(after)));

const chain = `
graph @g(%x: f32[4], %y: f32[4]) {
  %0 = exp(%x) : f32[4] in first
  %1 = add(%0, %y) : f32[4] in first
  %2 = tanh(%1) : f32[4] in second
  %3 = mul(%2, %y) : f32[4] in second
  return z: %3
}`;

describe("graphs", () => {
  test("equal graphs do not differ", () => expect(diff(chain, chain)).toBe(""));

  test("a node that is put in front renumbers the others, which is no change", () => {
    const after = `
graph @g(%x: f32[4], %y: f32[4]) {
  %0 = neg(%y) : f32[4] in extra
  %1 = exp(%x) : f32[4] in first
  %2 = add(%1, %y) : f32[4] in first
  %3 = tanh(%2) : f32[4] in second
  %4 = mul(%3, %y) : f32[4] in second
  return z: %4, n: %0
}`;
    expect(diff(chain, after)).toBe(`@@ extra @@
+ %0 = neg(%y) : f32[4]
@@ outputs @@
  return z: %4
+ return n: %0`);
  });

  test("another op is a removal and an addition, and so is what reads it", () => {
    const after = chain.replace("%2 = tanh(%1)", "%2 = sigmoid(%1)");
    expect(diff(chain, after)).toBe(`@@ second @@
- %old0 = tanh(%1) : f32[4]
+ %2 = sigmoid(%1) : f32[4]
- %3 = mul(%old0, %y) : f32[4]
+ %3 = mul(%2, %y) : f32[4]`);
  });

  test("another type keeps the pair, so that its name stays", () => {
    const sized = (n: number) => `
graph @g(%x: f32[9,4]) {
  %0 = slice(%x) {axis=0, end=${n}} : f32[${n},4] in s
  %1 = exp(%0) : f32[${n},4] in s
  return y: %1
}`;
    expect(diff(sized(8), sized(6))).toBe(`@@ s @@
- %0 = slice(%x) {axis=0, end=8} : f32[8,4]
+ %0 = slice(%x) {axis=0, end=6} : f32[6,4]
- %1 = exp(%0) : f32[8,4]
+ %1 = exp(%0) : f32[6,4]`);
  });

  test("unchanged lines are left out but for two on either side", () => {
    const long = (op: string) => `
graph @g(%x: f32[4]) {
  %0 = exp(%x) : f32[4]
  %1 = exp(%0) : f32[4]
  %2 = exp(%1) : f32[4]
  %3 = ${op}(%2) : f32[4]
  return y: %3, z: %2
}`;
    expect(diff(long("neg"), long("abs")).split("\n")).toEqual([
      "@@ (no scope) @@",
      "  %1 = exp(%0) : f32[4]",
      "  %2 = exp(%1) : f32[4]",
      "- %old0 = neg(%2) : f32[4]",
      "+ %3 = abs(%2) : f32[4]",
      "@@ outputs @@",
      "- return y: %old0",
      "+ return y: %3",
      "  return z: %2",
    ]);
  });
});

test("an edit script leads from one list to the other, and is no longer than needed", () => {
  const letters = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 12 });
  fc.assert(
    fc.property(letters, letters, (before, after) => {
      const script = editScript(before, after);
      const kept = script.flatMap((edit) => (edit.kind === "same" ? [[edit.before, edit.after] as const] : []));
      const [gone, come] = [
        script.flatMap((edit) => (edit.kind === "removed" ? [edit.before] : [])),
        script.flatMap((edit) => (edit.kind === "added" ? [edit.after] : [])),
      ];
      for (const [i, j] of kept) expect(before[i]).toBe(after[j]);
      expect([...kept.map(([i]) => i), ...gone].sort((a, b) => a - b)).toEqual(before.map((_, i) => i));
      expect([...kept.map(([, j]) => j), ...come].sort((a, b) => a - b)).toEqual(after.map((_, j) => j));
      expect(kept.map(([i]) => i)).toEqual(kept.map(([i]) => i).sort((a, b) => a - b));
      expect(kept.length).toBe(longestCommon(before, after));
    }),
  );
});

function longestCommon(a: readonly string[], b: readonly string[]): number {
  let row = Array.from({ length: b.length + 1 }, () => 0);
  for (const x of a) {
    const next = [0];
    b.forEach((y, j) => next.push(x === y ? (row[j] ?? 0) + 1 : Math.max(row[j + 1] ?? 0, next[j] ?? 0)));
    row = next;
  }
  return row.at(-1) ?? 0;
}
