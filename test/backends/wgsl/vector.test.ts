import { describe, expect, test } from "vitest";
import { ExprPool } from "../../../src/backends/wgsl/expr.ts";
import { Vectoriser } from "../../../src/backends/wgsl/vector.ts";

const pool = new ExprPool();
const s = pool.index;
const lit = (value: number) => pool.literal(value, "i32");
const v = pool.variable("v", "i32");
const row = pool.variable("row", "i32");
const buffer = { name: "x", register: "f32", elements: 96 } as const;

describe("four neighbours at once", () => {
  test.each([
    ["the variable itself", v, true],
    ["a row of a multiple of four", s.add(s.mul(row, lit(24)), v), true],
    ["a row of another length", s.add(s.mul(row, lit(25)), v), false],
    ["one place further", s.add(v, lit(1)), false],
    ["four places further", s.add(v, lit(4)), true],
    ["every other place", s.mul(v, lit(2)), false],
    ["the place in a head of sixteen channels", s.mod(v, lit(16)), true],
    ["the place in groups of six", s.mod(v, lit(6)), false],
    ["the head, the same for all four", s.div(v, lit(16)), false],
    ["heads apart and channels together", s.add(s.mul(s.div(v, lit(16)), lit(64)), s.mod(v, lit(16))), true],
  ])("%s: together %#", (_name, index, together) => {
    expect(new Vectoriser("v").contiguous(index)).toBe(together);
  });

  test("neighbours in memory are read together, others one by one, equal ones once", () => {
    const vectors = new Vectoriser("v");
    expect(vectors.of(pool.load(buffer, v)).op).toBe("load4");
    expect(vectors.of(pool.load(buffer, s.mul(v, lit(2)))).op).toBe("gather4");
    expect(vectors.of(pool.load(buffer, s.div(v, lit(4))))).toMatchObject({ op: "load" });
  });

  test("memory whose length is no multiple of four is read one by one", () => {
    expect(new Vectoriser("v").of(pool.load({ ...buffer, name: "y", elements: 95 }, v)).op).toBe("gather4");
  });

  test("an index taken apart and put together is the index again", () => {
    const i = pool.variable("i", "i32", 120);
    const rebuilt = s.add(
      s.mul(s.add(s.mul(s.div(s.div(i, lit(5)), lit(6)), lit(6)), s.mod(s.div(i, lit(5)), lit(6))), lit(5)),
      s.mod(i, lit(5)),
    );
    expect(rebuilt).toBe(i);
  });
});
