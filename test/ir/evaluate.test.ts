import { describe, expect, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { bindInputs, evaluateExact, evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { type TensorData, tensorData } from "../../src/ir/type.ts";

const f32 = (shape: readonly number[], numbers: readonly number[]): TensorData => tensorData("f32", shape, numbers);

function refusal(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(CompileError);
    return (error as CompileError).message;
  }
  throw new Error("nothing was refused");
}

describe("symbols take their sizes from the inputs", () => {
  const graph = parseGraph(`graph @g(%x: f32[n,2], %y: f32[2*n,m]) {
    %0 = broadcast(%y) {shape=["2*n","n","m"], axes=[1]} : f32[2*n,n,m]
    return z: %0
  }`);

  test("also inside attributes", () => {
    const inputs = { x: f32([1, 2], [1, 2]), y: f32([2, 1], [3, 4]) };
    expect([...bindInputs(graph, inputs)]).toEqual([
      ["n", 1],
      ["m", 1],
    ]);
    expect(evaluateGraph(graph, inputs)["z"]).toEqual(f32([2, 1, 1], [3, 4]));
  });

  test("and a size that does not fit is refused", () => {
    expect(
      refusal(() => evaluateGraph(graph, { x: f32([1, 2], [1, 2]), y: f32([3, 1], [1, 2, 3]) })),
    ).toMatchInlineSnapshot(`"error[bad-input]: input y has 3 elements on axis 0, the graph wants 2*n = 2"`);
  });

  test("and a symbol that no input binds alone is named", () => {
    const sums = parseGraph("graph @g(%x: f32[n+1,2*m]) { return y: %x }", { file: "g.ir", locateByText: true });
    expect(refusal(() => evaluateGraph(sums, { x: f32([1, 2], [1, 2]) }))).toMatchInlineSnapshot(
      `"g.ir:1:10 error[unbound-symbol]: dimension n+1 needs a value for n"`,
    );
  });

  const placed = { file: "g.ir", locateByText: true };
  test.each([
    ["alone", "graph @g() {", {}],
    ["beside others", "graph @g(%x: f32[m]) {", { x: f32([1], [1]) }],
  ])("and one that only an attribute names is refused, %s", (_, head, inputs) => {
    const free = parseGraph(`${head} %0 = iota() {shape=["n"], axis=0} : i32[n]\n return y: %0 }`, placed);
    expect(refusal(() => evaluateGraph(free, inputs))).toMatch(
      /^g.ir:1:\d+ error\[unbound-symbol\]: iota: dimension n needs a value for n$/,
    );
  });

  test("and a size that an op cannot take is refused at its line", () => {
    const two = { x: f32([2], [1, 2]) };
    const refused = (body: string) => {
      const graph = parseGraph(`graph @g(%x: f32[n]) {\n ${body}\n return y: %0 }`, placed);
      return refusal(() => evaluateGraph(graph, two));
    };
    expect(refused('%0 = slice(%x) {axis=0, end="n-8"} : f32[n-8]')).toContain("g.ir:2:2 error[slice-out-of-range]");
    expect(refused('%0 = iota() {shape=["n-8"], axis=0} : i32[n-8]')).toBe(
      "g.ir:2:2 error[bad-dimension]: iota: -6 is no size",
    );
  });
});

describe("inputs are checked against the graph", () => {
  const graph = parseGraph('graph @g(%x: f32[2,3] loc("model.ts":4:9)) { return y: %x }');
  test.each([
    ["a missing one", {}, "model.ts:4:9 error[bad-input]: input x (f32[2,3]) is missing"],
    [
      "another dtype",
      { x: tensorData("i32", [2, 3], [1, 2, 3, 4, 5, 6]) },
      "input x is i32[2,3], the graph wants f32[2,3]",
    ],
    ["another rank", { x: f32([6], [1, 2, 3, 4, 5, 6]) }, "input x is f32[6], the graph wants f32[2,3]"],
    ["another size", { x: f32([2, 2], [1, 2, 3, 4]) }, "input x has 2 elements on axis 1, the graph wants 3"],
  ])("%s is refused", (_, inputs, message) => {
    expect(refusal(() => evaluateGraph(graph, inputs as Readonly<Record<string, TensorData>>))).toContain(message);
  });

  test("parameters too", () => {
    const weighted = parseGraph("graph @g() { %w = parameter() : f32[2]\n return y: %w }");
    const run = (parameters: ReadonlyMap<string, TensorData>) => () => evaluateGraph(weighted, {}, { parameters });
    expect(refusal(run(new Map()))).toContain("error[missing-weights]: no contents for parameter w");
    expect(refusal(run(new Map([["w", f32([3], [1, 2, 3])]])))).toContain("error[weights-mismatch]");
    expect(run(new Map([["w", f32([2], [1, 2])]]))()["y"]).toEqual(f32([2], [1, 2]));
  });
});

describe("results", () => {
  const third = parseGraph("graph @g(%x: f32[1]) { %0 = reciprocal(%x) : f32[1]\n return y: %0 }");
  const inputs = { x: f32([1], [3]) };

  test("are rounded to their dtype, or left in f64 when asked for exactly", () => {
    expect(evaluateGraph(third, inputs)["y"]?.values[0]).toBe(Math.fround(1 / 3));
    expect(evaluateExact(third, inputs)["y"]?.values[0]).toBe(1 / 3);
  });

  test("are the same on every run, and nodes are reported in order", () => {
    const seen: string[] = [];
    const once = evaluateExact(third, inputs, { onNode: (node) => void seen.push(node.op) });
    expect(evaluateExact(third, inputs)).toEqual(once);
    expect(seen).toEqual(["input", "reciprocal"]);
  });

  test("of i64 are bigints", () => {
    const graph = parseGraph('graph @g(%x: f32[2]) { %0 = cast(%x) {to="i64"} : i64[2]\n return y: %0 }');
    expect(evaluateGraph(graph, { x: f32([2], [-2.5, 7]) })["y"]?.values).toEqual(BigInt64Array.of(-2n, 7n));
  });

  test("of casts saturate at 64 bits and wrap below; NaN is 0", () => {
    const outOfRange = f32([4], [Infinity, -1e30, NaN, 2 ** 40 + 2 ** 20]);
    const cast = (to: string) => {
      const graph = parseGraph(`graph @g(%x: f32[4]) { %0 = cast(%x) {to="${to}"} : ${to}[4]\n return y: %0 }`);
      return [...(evaluateGraph(graph, { x: outOfRange })["y"]?.values ?? [])];
    };
    expect(cast("i64")).toEqual([2n ** 63n - 1n, -(2n ** 63n), 0n, 2n ** 40n + 2n ** 20n]);
    expect(cast("i32")).toEqual([0, 0, 0, 2 ** 20]);
    expect(cast("u8")).toEqual([0, 0, 0, 0]);
  });

  test("of i64 arithmetic wrap, and none throws", () => {
    const graph = parseGraph(`graph @g(%a: i64[5], %b: i64[5]) {
      %0 = mul(%a, %b) : i64[5]
      %1 = div(%a, %b) : i64[5]
      %2 = mod(%a, %b) : i64[5]
      %3 = shiftLeft(%a, %b) : i64[5]
      %4 = neg(%a) : i64[5]
      return product: %0, quotient: %1, remainder: %2, shifted: %3, negated: %4
    }`);
    const i64 = (...values: bigint[]): TensorData => ({ dtype: "i64", shape: [5], values: BigInt64Array.from(values) });
    const least = -(2n ** 63n);
    const results = evaluateGraph(graph, {
      a: i64(2n ** 40n, least, -7n, 3n, 5n),
      b: i64(2n ** 40n, -1n, 2n, 0n, 62n),
    });
    expect(Object.fromEntries(Object.entries(results).map(([name, { values }]) => [name, [...values]]))).toEqual({
      product: [0n, least, -14n, 0n, 310n],
      quotient: [1n, 2n ** 63n - 1n, -3n, 2n ** 63n - 1n, 0n],
      remainder: [0n, 0n, 1n, 0n, 5n],
      shifted: [2n ** 40n, 0n, -28n, 3n, 2n ** 62n],
      negated: [-(2n ** 40n), least, 7n, -3n, -5n],
    });
  });

  test("an index outside its axis is refused at the node's line", () => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "f32", shape: [2] });
    const i = b.input("i", { dtype: "i32", shape: [1] });
    const loc = { kind: "file", file: "model.ts", line: 8, column: 2 } as const;
    const graph = b.finish("g", { y: b.at({ loc }, () => b.gather(x, i, { axis: 0 })) });
    const run = (index: number) => () =>
      evaluateGraph(graph, { x: f32([2], [1, 2]), i: tensorData("i32", [1], [index]) });
    expect(refusal(run(2))).toMatchInlineSnapshot(
      `"model.ts:8:2 error[index-out-of-range]: gather reads index 2 of an axis of 2 elements"`,
    );
    expect(refusal(run(-1))).toContain("index -1 of an axis of 2 elements");
  });
});
