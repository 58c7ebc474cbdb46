import { describe, expect, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError, InternalError, type Loc } from "../../src/ir/diagnostic.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import { parametersOf, usesOf, type Value } from "../../src/ir/graph.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { type TensorType, tensorData } from "../../src/ir/type.ts";
import { verifyGraph } from "../../src/ir/verify.ts";

const vector: TensorType = { dtype: "f32", shape: [2] };
const at = (line: number): Loc => ({ kind: "file", file: "model.ts", line, column: 1 });

describe("interning", () => {
  test("equal applications are one node, whether defaults are stated or not", () => {
    const b = createBuilder();
    const x = b.input("x", vector);
    expect(b.exp(x)).toBe(b.exp(x));
    expect(b.reduceSum(x, { axes: [0] })).toBe(b.reduceSum(x, { axes: [0], keepDims: false }));
    expect(b.reshape(x, { shape: [2, 1] })).toBe(b.reshape(x, { shape: [2, 1] }));
    expect(b.sort(x, { axis: 0 })[1]).toBe(b.sort(x, { axis: 0 })[1]);
  });

  test("other operands, attributes or an order of operands are another node", () => {
    const b = createBuilder();
    const [x, y] = [b.input("x", vector), b.input("y", vector)];
    expect(b.sub(x, y)).not.toBe(b.sub(y, x));
    expect(b.reduceSum(x, { axes: [0] })).not.toBe(b.reduceSum(x, { axes: [0], keepDims: true }));
    expect(b.pad(x, { low: [1], high: [0], value: 0 })).not.toBe(b.pad(x, { low: [1], high: [0], value: -0 }));
    expect(b.exp(b.sort(x, { axis: 0 })[0])).not.toBe(b.exp(x));
  });

  test("symbolic dimensions are compared as polynomials", () => {
    const b = createBuilder();
    const x = b.input("x", { dtype: "f32", shape: ["n", 4] });
    expect(b.reshape(x, { shape: ["4*n"] })).toBe(b.reshape(x, { shape: ["n*4"] }));
  });

  test("place and scope are no part of what a node is; every place is kept, the first scope stays", () => {
    const b = createBuilder();
    const x = b.input("x", vector);
    const first = b.at({ loc: at(1), scope: "a" }, () => b.exp(x));
    expect(b.at({ loc: at(2), scope: "b" }, () => b.exp(x))).toBe(first);
    expect(b.exp(x)).toBe(first);
    expect(first.producer.locs).toEqual([at(1), at(2)]);
    expect(first.producer.scope).toBe("a");
  });

  test("place and scope hold inside their body only, also when it fails", () => {
    const b = createBuilder();
    expect(() =>
      b.at({ loc: at(1), scope: "a" }, () => {
        throw new Error("no");
      }),
    ).toThrow("no");
    expect([b.loc.kind, b.scope]).toEqual(["unknown", ""]);
    b.at({ scope: "a" }, () => b.at({ loc: at(3) }, () => expect([b.loc, b.scope]).toEqual([at(3), "a"])));
  });

  test("constants are one by contents up to 1 KB, by identity above", () => {
    const b = createBuilder();
    const make = (count: number) => tensorData("f32", [count], new Float32Array(count).fill(1.5));
    expect(b.constant(make(256))).toBe(b.constant(make(256)));
    const large = make(257);
    expect(b.constant(large)).toBe(b.constant(large));
    expect(b.constant(make(257))).not.toBe(b.constant(large));
  });

  test("constants of other bits, shape or dtype are others", () => {
    const b = createBuilder();
    const make = (dtype: "f32" | "i32", shape: readonly number[], numbers: readonly number[]) =>
      b.constant({ dtype, shape, numbers });
    expect(make("f32", [1], [0])).not.toBe(make("f32", [1], [-0]));
    expect(make("f32", [1], [0])).not.toBe(make("i32", [1], [0]));
    expect(make("f32", [1], [0])).not.toBe(make("f32", [], [0]));
    expect(make("f32", [], [Number.NaN])).toBe(make("f32", [], [Number.NaN]));
  });

  test("a parameter asked for twice is one, with one type", () => {
    const b = createBuilder();
    const w = b.at({ loc: at(4) }, () => b.parameter("w", vector));
    expect(b.parameter("w", { dtype: "f32", shape: [2] })).toBe(w);
    expect(() =>
      b.at({ loc: at(5) }, () => b.parameter("w", { dtype: "f32", shape: [3] })),
    ).toThrowErrorMatchingInlineSnapshot(`
      [CompileError: model.ts:5:1 error[duplicate-name]: parameter w is f32[3] here but f32[2] before
        note: model.ts:4:1 first declared here]
    `);
    expect(() => b.input("w", vector)).toThrow("error[duplicate-name]: there is already a parameter named w");
    b.input("x", vector);
    expect(() => b.input("x", vector)).toThrow("error[duplicate-name]: there is already an input named x");
    expect(() => b.parameter("x", vector)).toThrow(CompileError);
  });
});

describe("a finished graph", () => {
  test("holds the live nodes in order of making, and every input", () => {
    const b = createBuilder();
    const [x, unread] = [b.input("x", vector), b.input("unread", vector)];
    b.exp(unread);
    b.parameter("dead", vector);
    const y = b.add(b.exp(x), b.parameter("w", vector));
    b.log(y);
    const graph = b.finish("g", { y });
    expect(graph.nodes.map((node) => node.op)).toEqual(["input", "input", "exp", "parameter", "add"]);
    expect(graph.inputs).toEqual([x, unread]);
    expect(parametersOf(graph).map((node) => node.attrs["name"])).toEqual(["w"]);
    verifyGraph(graph);
  });

  test("leaves the builder open for another one", () => {
    const b = createBuilder();
    const y = b.exp(b.input("x", vector));
    const first = b.finish("first", { y });
    const second = b.finish("second", { z: b.exp(y) });
    expect([first.nodes.length, second.nodes.length]).toEqual([2, 3]);
    expect(second.nodes[1]).toBe(first.nodes[1]);
    [first, second].forEach((graph) => verifyGraph(graph));
  });

  test("knows who reads each value", () => {
    const b = createBuilder();
    const x = b.input("x", vector);
    const y = b.add(x, x);
    const graph = b.finish("g", { y });
    expect(usesOf(graph).get(x)).toEqual([
      { user: y.producer, operandIndex: 0 },
      { user: y.producer, operandIndex: 1 },
    ]);
    expect(usesOf(graph).has(y)).toBe(false);
    expect(usesOf(graph)).toBe(usesOf(graph));
  });

  test("is frozen through and through", () => {
    const b = createBuilder();
    const graph = b.finish("g", { y: b.exp(b.input("x", vector)) });
    const exp = graph.nodes[1] as unknown as { op: string; operands: Value[]; results: Value[] };
    for (const part of [graph, graph.nodes, graph.inputs, graph.outputs, exp, exp.operands, exp.results])
      expect(Object.isFrozen(part)).toBe(true);
    expect(() => exp.operands.push(graph.inputs[0] as Value)).toThrow(TypeError);
  });

  test("refuses an output of another builder", () => {
    const foreign = createBuilder().input("x", vector);
    expect(() => createBuilder().finish("g", { y: foreign })).toThrow(InternalError);
  });

  // Nodes are interned by the ids of their operands: another builder's value would pass for one of this builder.
  test("holds no operand of another builder", () => {
    const [one, other] = [createBuilder(), createBuilder()];
    const x = one.input("x", vector);
    other.exp(other.input("z", vector));
    expect(() => other.exp(x)).toThrow(InternalError);
  });
});

describe("constants and full", () => {
  test.each([
    ["u8", 300],
    ["i32", 1.5],
    ["bool", 2],
    ["i64", Number.NaN],
  ] as const)("%s has no %d", (dtype, number) => {
    const b = createBuilder();
    const refused = `model.ts:4:1 error[bad-attribute]: a constant of ${dtype} got ${number}`;
    expect(() => b.at({ loc: at(4) }, () => b.constant({ dtype, shape: [2], numbers: [1, number] }))).toThrow(refused);
    expect(() => b.at({ loc: at(4) }, () => b.full({ dtype, shape: [2] }, number))).toThrow(refused);
  });

  test("are refused where elements and shape differ in number", () => {
    expect(() => createBuilder().constant({ dtype: "f32", shape: [3], numbers: [1, 2] })).toThrow(
      "error[shape-mismatch]: a constant of [3] got 2 elements",
    );
  });

  test("full is one scalar, broadcast", () => {
    const b = createBuilder();
    const y = b.full({ dtype: "i32", shape: [2, 1] }, 7);
    expect(b.full({ dtype: "i32", shape: [] }, 7)).toBe(y.producer.operands[0]);
    expect(evaluateGraph(b.finish("g", { y }), {})["y"]).toEqual(tensorData("i32", [2, 1], [7, 7]));
  });
});

test("a chain of 100,000 nodes builds, verifies, prints, parses and runs", { timeout: 60_000 }, () => {
  const b = createBuilder();
  let y = b.input("x", { dtype: "f32", shape: [1] });
  for (let i = 0; i < 100_000; i++) y = i % 2 === 0 ? b.neg(y) : b.abs(y);
  const graph = b.finish("chain", { y });
  expect(graph.nodes.length).toBe(100_001);
  verifyGraph(graph);
  const text = printGraph(graph);
  const again = parseGraph(text);
  verifyGraph(again);
  expect(printGraph(again) === text).toBe(true);
  expect(evaluateGraph(again, { x: tensorData("f32", [1], [-3]) })["y"]?.values[0]).toBe(3);
});

describe("dimensions of inputs and parameters", () => {
  const f32 = (...shape: readonly (number | string)[]): TensorType => ({ dtype: "f32", shape });

  test("are brought into canonical form", () => {
    const b = createBuilder();
    expect(b.input("x", f32("n*2", "3", "m-m")).type.shape).toEqual(["2*n", 3, 0]);
    const w = b.parameter("w", f32("n*2"));
    expect(w.type.shape).toEqual(["2*n"]);
    expect(b.parameter("w", f32("n+n"))).toBe(w);
  });

  test.each([["n+"], ["2-3"], [-1], [1.5], [Number.NaN], [2 ** 53]])("%s is refused at the author's line", (dim) => {
    for (const kind of ["input", "parameter"] as const) {
      const b = createBuilder();
      expect(() => b.at({ loc: at(7) }, () => b[kind]("x", f32(dim)))).toThrow(
        "model.ts:7:1 error[bad-dimension]: x: ",
      );
    }
  });
});

test("results of a negative size are refused at the author's line", () => {
  const b = createBuilder();
  expect(() => b.at({ loc: at(3) }, () => b.iota({ shape: [-2], axis: 0 }))).toThrow(
    "model.ts:3:1 error[bad-dimension]: iota: -2 is no size",
  );
});
