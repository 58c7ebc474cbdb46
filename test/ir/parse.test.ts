import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { CompileError, type Loc } from "../../src/ir/diagnostic.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { type ParseOptions, parseGraph } from "../../src/ir/parse.ts";
import { largeConstants, printGraph } from "../../src/ir/print.ts";
import { type TensorType, tensorData } from "../../src/ir/type.ts";
import { verifyGraph } from "../../src/ir/verify.ts";

const f32 = (...shape: readonly (number | string)[]): TensorType => ({ dtype: "f32", shape });
const at = (line: number, column = 1, length?: number): Loc => ({
  kind: "file",
  file: "model.ts",
  line,
  column,
  ...(length === undefined ? {} : { length }),
});

/** Prints, reads, prints again; both texts must be equal. */
function roundTrip(graph: Graph, options: ParseOptions = {}): string {
  const text = printGraph(graph, { locations: true });
  const again = parseGraph(text, options);
  verifyGraph(again);
  expect(printGraph(again, { locations: true })).toBe(text);
  return text;
}

const attentionText = `graph @attention(%q: f32[batch,2,197,64], %k: f32[batch,2,197,64], %mask: bool[1,1,197,197]) {
  %0, %1 = attention(%q, %k, %k, %mask) {extras=["mask"], scale=0.125, logSumExp=true} : f32[batch,2,197,64], f32[batch,2,197] in blocks.0.attn
  %w.0 = parameter() : f32[64,8] in blocks.0
  %2 = matmul(%0, %w.0) : f32[batch,2,197,8] in blocks.0
  %3 = constant() {data=[1,-0,nan,inf,-inf,0.5,0.25,3]} : f32[8]
  %4 = broadcast(%3) {shape=["batch",2,197,8], axes=[0,1,2]} : f32[batch,2,197,8]
  %5 = add(%2, %4) : f32[batch,2,197,8] loc("vit.ts":41:28+7, "vit.ts":42:1, made "fuse \\"x\\"" from [unknown, "a.ts":1:2])
  return out: %5, "log sum": %1
}
`;

const windowText = `graph @window(%image: f32[1,3,8,8]) {
  %weight = parameter() : f32[4,3,3,3]
  %0 = conv2d(%image, %weight) {strides=[2,2], padding=[[1,1],[-1,2]]} : f32[1,4,4,4]
  %1 = pad(%0) {low=[0,0,1,1], high=[0,0,1,1], mode="edge"} : f32[1,4,6,6]
  %2, %3 = topK(%1) {axis=3, k=2, largest=false} : f32[1,4,6,2], i32[1,4,6,2]
  return values: %2, indices: %3
}
`;

describe("IR text reads back as it was printed", () => {
  test.each([attentionText, windowText])("%s", (text) => {
    const graph = parseGraph(text);
    verifyGraph(graph);
    expect(printGraph(graph, { locations: true })).toBe(text);
  });

  test("with every place of a node, and its scope", () => {
    const b = createBuilder();
    const x = b.input("x", f32(2));
    const made: Loc = { kind: "made", by: "fold", from: [at(1), { kind: "made", by: "inner", from: [at(2, 3, 4)] }] };
    const exp = b.at({ loc: at(5, 6, 7), scope: "blocks.3.attn" }, () => b.exp(x));
    b.at({ loc: made }, () => b.exp(x));
    b.at({ loc: at(9) }, () => b.exp(x));
    const text = roundTrip(b.finish("g", { y: exp }));
    expect(text).toContain(
      'exp(%x) : f32[2] in blocks.3.attn loc("model.ts":5:6+7, made "fold" from ["model.ts":1:1, made "inner" from ["model.ts":2:3+4]], "model.ts":9:1)',
    );
    expect(parseGraph(text).nodes[1]?.locs).toEqual([at(5, 6, 7), made, at(9)]);
  });

  test("with names that need quotes", () => {
    const b = createBuilder();
    const x = b.input('a "b" \\ c', f32(2));
    const w = b.at({ scope: "im Ärmel/0" }, () => b.parameter("blocks/0:weight", f32(2)));
    const text = roundTrip(b.finish("my graph", { "to be, or": b.add(x, w), "%": x, "": w }));
    expect(text).toContain('graph @"my graph"(%"a \\"b\\" \\\\ c": f32[2])');
    expect(text).toContain('in "im Ärmel/0"');
  });

  test("with names that are words of the grammar", () => {
    const b = createBuilder();
    const x = b.input("return", f32(2));
    const y = b.parameter("graph", f32(2));
    roundTrip(b.finish("in", { loc: b.at({ scope: "loc" }, () => b.add(x, y)), true: x, constant: y }));
  });

  test("with names that are numbers, which are quoted", () => {
    const b = createBuilder();
    const [x, w] = [b.input("0", f32(2)), b.parameter("1", f32(2))];
    expect(roundTrip(b.finish("g", { y: b.add(b.exp(x), w), z: x }))).toMatchInlineSnapshot(`
      "graph @g(%"0": f32[2]) {
        %"1" = parameter() : f32[2]
        %0 = exp(%"0") : f32[2]
        %1 = add(%0, %"1") : f32[2]
        return y: %1, z: %"0"
      }
      "
    `);
  });

  test("with symbolic dimensions", () => {
    const b = createBuilder();
    const x = b.input("x", f32("batch", "n+1", 3));
    const y = b.slice(x, { axis: 1, start: 1, end: "n+1" });
    const text = roundTrip(b.finish("g", { y: b.reshape(y, { shape: ["3*batch*n"] }) }));
    expect(text).toContain('slice(%x) {axis=1, start=1, end="n+1"} : f32[batch,n,3]');
  });

  test("with dimensions that are floor divisions, not comments", () => {
    const b = createBuilder();
    const y = b.slice(b.input("x", f32("n", "(m+1)//2-1")), { axis: 0, end: "n", step: 2 });
    expect(roundTrip(b.finish("g", { y }))).toContain(": f32[(n+1)//2,(m+1)//2-1]");
  });

  test("with constants of every dtype", () => {
    const b = createBuilder();
    const outputs = Object.fromEntries(
      (["f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u32", "u16", "u8", "bool"] as const).map((dtype) => [
        dtype,
        b.constant(tensorData(dtype, [2], [0, 1])),
      ]),
    );
    const f64 = b.constant(tensorData("f64", [4], [0.1, -1e300, 5e-324, -0]));
    roundTrip(b.finish("g", { ...outputs, more: f64, empty: b.constant(tensorData("f32", [0, 3], [])) }));
  });

  test("with i64 constants beyond 2^53", () => {
    const b = createBuilder();
    const values = BigInt64Array.of(9223372036854775807n, -(2n ** 63n), 9007199254740993n);
    const text = roundTrip(b.finish("g", { y: b.constant({ dtype: "i64", shape: [3], values }) }));
    expect(text).toContain("{data=[9223372036854775807,-9223372036854775808,9007199254740993]}");
    expect(parseGraph(text).nodes[0]?.data?.values).toEqual(values);
  });

  test("with f32 constants in the fewest digits that give them back", () => {
    const b = createBuilder();
    const texts = "[0.1,-2.5,16777216,1e-45,3.4028235e+38,-0,0.33333334,nan,-inf]";
    const numbers = [0.1, -2.5, 2 ** 24, 2 ** -149, 2 ** 128 - 2 ** 104, -0, 1 / 3, NaN, -Infinity];
    const y = b.constant({ dtype: "f32", shape: [9], numbers });
    const half = b.constant({ dtype: "f16", shape: [1], numbers: [0.1] });
    const text = roundTrip(b.finish("g", { y, half }));
    expect(text).toContain(`{data=${texts}} : f32[9]`);
    expect(text).toContain("{data=[0.1]} : f16[1]");
    expect(parseGraph(text).nodes[0]?.data?.values).toEqual(Float32Array.from(numbers));
    fc.assert(
      fc.property(fc.float({ noDefaultInfinity: true, noNaN: true }), (x) => {
        const c = createBuilder();
        const one = c.finish("g", { y: c.constant(tensorData("f32", [1], [x])) });
        expect(parseGraph(printGraph(one)).nodes[0]?.data?.values[0]).toBe(x);
      }),
    );
  });

  test("with large constants by reference, which the reader is given", () => {
    const b = createBuilder();
    const [small, large] = [64, 65].map((count) => tensorData("f32", [count], new Float32Array(count).fill(count)));
    const graph = b.finish("g", { a: b.constant(small as never), b: b.constant(large as never) });
    const constants = new Map(largeConstants(graph).map(([ref, node]) => [ref, node.data as never]));
    expect(roundTrip(graph, { constants })).toContain('%1 = constant() {ref="c0"} : f32[65]');
    expect(parseGraph(printGraph(graph), { constants }).nodes[1]?.data).toBe(large);
    expect(() => parseGraph(printGraph(graph))).toThrow('the contents of constant "c0" are not at hand');
  });

  test("with outputs that have no name of their own", () => {
    const graph = parseGraph("graph @g(%x: f32[2]) { return %x, %x }");
    expect(graph.outputs.map((o) => o.name)).toEqual(["output0", "output1"]);
    roundTrip(graph);
  });

  test("without nodes, inputs or outputs", () => {
    roundTrip(parseGraph("graph @g() { return }"));
  });

  test("whatever blanks and comments stand between the words", () => {
    const text = 'graph@g(%x:f32[ 2 , n ]){// what\r\n\t%0=exp(%x):f32[2,n]in a.b loc("f" : 1 : 2)return y:%0}// end';
    expect(printGraph(parseGraph(text), { locations: true })).toMatchInlineSnapshot(`
      "graph @g(%x: f32[2,n]) {
        %0 = exp(%x) : f32[2,n] in a.b loc("f":1:2)
        return y: %0
      }
      "
    `);
  });

  test("and dead nodes and repeated ones are dropped", () => {
    const graph = parseGraph(`graph @g(%x: f32[2]) {
      %a = exp(%x) : f32[2]
      %b = exp(%x) : f32[2]
      %c = log(%x) : f32[2]
      %d = add(%a, %b) : f32[2]
      return y: %d
    }`);
    expect(graph.nodes.map((node) => node.op)).toEqual(["input", "exp", "add"]);
  });

  test("a node takes the place of its own text on request", () => {
    const graph = parseGraph("graph @g(%x: f32[2]) {\n  %0 = exp(%x) : f32[2]\n  return y: %0\n}", {
      file: "g.ir",
      locateByText: true,
    });
    expect(graph.nodes[1]?.locs).toEqual([{ kind: "file", file: "g.ir", line: 2, column: 3, length: 2 }]);
  });
});

/** The diagnostic's line of a text that must be refused. */
function refusal(text: string): string {
  try {
    parseGraph(text, { file: "bad.ir" });
  } catch (error) {
    expect(error).toBeInstanceOf(CompileError);
    return (error as CompileError).message;
  }
  throw new Error("the text was accepted");
}

const graph = (body: string) => `graph @g(%x: f32[2,3], %i: i32[2]) {\n${body}\n}`;

describe("diagnostics stand at line and column", () => {
  test("of a word that does not fit", () => {
    expect(refusal(graph("  %0 = exp(%x) f32[2,3]\n  return y: %0"))).toMatchInlineSnapshot(
      `"bad.ir:2:16 error[ir-syntax]: expected :, got "f32""`,
    );
  });

  test("of a value that is not defined, with the nearest names", () => {
    expect(refusal(graph("  %hidden = exp(%x) : f32[2,3]\n  return y: %hiden"))).toMatchInlineSnapshot(`
      "bad.ir:3:13 error[unknown-value]: %hiden is not defined above
        help: did you mean %hidden?"
    `);
  });

  test("of a stated type that is not the inferred one", () => {
    expect(
      refusal(graph("  return y: %x\n").replace("return", "%0 = exp(%x) : f32[3,2]\n  return")),
    ).toMatchInlineSnapshot(`"bad.ir:2:8 error[ir-syntax]: exp gives f32[2,3], but f32[3,2] stands here"`);
  });

  test("of an op that does not exist", () => {
    expect(refusal(graph("  %0 = softMax(%x) {axis=1} : f32[2,3]\n  return y: %0"))).toMatchInlineSnapshot(`
      "bad.ir:2:8 error[unknown-op]: there is no op named softMax
        help: did you mean softmax?"
    `);
  });

  test("of an application that is not well typed", () => {
    expect(refusal(graph("\n    %0 = add(%x, %i) : f32[2,3]\n  return y: %0"))).toMatchInlineSnapshot(`
      "bad.ir:3:10 error[dtype-mismatch]: add: lhs is f32 but rhs is i32
        note: operand 1 is i32[2]
        help: cast one of them"
    `);
  });

  test.each([
    [
      "a second attribute",
      "%0 = softmax(%x) {axis=1, axis=1} : f32[2,3]\nreturn",
      "bad.ir:2:27 error[ir-syntax]: attribute axis stands twice",
    ],
    [
      "an attribute too many",
      "%0 = exp(%x) {axis=1} : f32[2,3]\nreturn",
      "bad.ir:2:6 error[unknown-attribute]: exp has no attribute axis",
    ],
    [
      "a bad attribute",
      "%0 = softmax(%x) {axis=[1]} : f32[2,3]\nreturn",
      "bad.ir:2:6 error[bad-attribute]: softmax: axis wants an integer, got [1]",
    ],
    [
      "operands of a constant",
      "%0 = constant(%x) {data=[1]} : f32[1]\nreturn",
      "bad.ir:2:6 error[ir-syntax]: constant takes no operands",
    ],
    ["an unfinished text", "%0 = exp(%x", 'bad.ir:3:1 error[ir-syntax]: expected ,, got "}"'],
    ["an unknown dtype", "%0 = exp(%x) : f33[2,3]\nreturn", 'bad.ir:2:16 error[ir-syntax]: "f33" is not a dtype'],
    ["a negative size", "%0 = exp(%x) : f32[-2,3]\nreturn", "bad.ir:2:16 error[ir-syntax]: a dimension of -2"],
    [
      "a bad dimension",
      "%0 = exp(%x) : f32[2;3]\nreturn",
      'bad.ir:2:16 error[bad-dimension]: "2;3" is not a dimension',
    ],
    ["two outputs of one name", "return y: %x, y: %x", "two outputs share a name"],
    ["text after the end", "return y: %x\n} graph", 'bad.ir:3:3 error[ir-syntax]: expected the end, got "graph"'],
  ])("of %s", (_, body, message) => {
    expect(refusal(graph(body))).toContain(message);
  });

  test.each([
    ["a second definition", "%x = exp(%x) : f32[2,3]\nreturn", "bad.ir:2:1 error[duplicate-name]: %x is defined twice"],
    [
      "a dimension that does not fit, at the op's name",
      '%0 = broadcast(%i) {shape=["-1",2], axes=[0]} : f32[2]\nreturn',
      "bad.ir:2:6 error[bad-dimension]: broadcast: -1 is no size",
    ],
    ["a fraction as u8", "%0 = constant() {data=[1.5]} : u8[1]\nreturn", "bad.ir:2:24 error[ir-syntax]: 1.5 is no u8"],
    [
      "a u8 that is too large",
      "%0 = constant() {data=[0,300]} : u8[2]\nreturn",
      "bad.ir:2:26 error[ir-syntax]: 300 is no u8",
    ],
    ["a negative u8", "%0 = constant() {data=[-1]} : u8[1]\nreturn", "bad.ir:2:24 error[ir-syntax]: -1 is no u8"],
    [
      "a bool that is neither 0 nor 1",
      "%0 = constant() {data=[2]} : bool[1]\nreturn",
      "error[ir-syntax]: 2 is no bool",
    ],
    ["an i4 that is too large", "%0 = constant() {data=[8]} : i4[1]\nreturn", "error[ir-syntax]: 8 is no i4"],
    ["an i32 that is no number", "%0 = constant() {data=[nan]} : i32[1]\nreturn", "error[ir-syntax]: nan is no i32"],
    [
      "an i64 that is too large",
      "%0 = constant() {data=[9223372036854775808]} : i64[1]\nreturn",
      "error[ir-syntax]: 9223372036854775808 is no i64",
    ],
    ["an i64 that is no integer", "%0 = constant() {data=[0.5]} : i64[1]\nreturn", "error[ir-syntax]: 0.5 is no i64"],
    ["an f32 that is too large", "%0 = constant() {data=[1e39]} : f32[1]\nreturn", "error[ir-syntax]: 1e39 is no f32"],
    [
      "an attribute of a constant",
      "%0 = constant() {dat=[1]} : f32[1]\nreturn",
      "bad.ir:2:18 error[unknown-attribute]: constant has no attribute dat",
    ],
    [
      "an attribute of a parameter",
      "%w = parameter() {axis=1} : f32[1]\nreturn",
      "bad.ir:2:6 error[unknown-attribute]: parameter has no attribute axis",
    ],
    [
      "too few results",
      "%0 = sort(%x) {axis=1} : f32[2,3]\nreturn",
      "bad.ir:2:1 error[ir-syntax]: sort has 2 result(s), but 1 name(s) and 1 type(s) stand here",
    ],
  ])("of %s", (_, body, message) => {
    expect(refusal(graph(body))).toContain(message);
  });
});

describe("hostile text", () => {
  test.each([
    ["nothing", ""],
    ["one byte", "\u0000"],
    ["a string without end", 'graph @"g'],
    ["a bad escape", 'graph @"\\x"() { return }'],
    ["a shape without end", "graph @g(%x: f32[2"],
    ["deeply nested lists", graph(`%0 = exp(%x) {a=${"[".repeat(100_000)}`)],
    ["deeply nested locations", graph(`%0 = exp(%x) : f32[2,3] loc(${'made "a" from ['.repeat(100_000)}`)],
    ["deeply nested parentheses in a dimension", `graph @g(%x: f32[${"(".repeat(300)}n${")".repeat(300)}]) { return }`],
    ["a huge constant without contents", graph("%0 = constant() {data=[1]} : f32[99999999999]\nreturn y: %0")],
    [
      "a constant beyond all integers",
      graph("%0 = constant() {data=[1]} : f32[99999999999,99999999999]\nreturn y: %0"),
    ],
    ["a constant of symbols", graph("%0 = constant() {data=[1]} : f32[n]\nreturn y: %0")],
    ["a constant by an unknown reference", graph('%0 = constant() {ref="c9"} : f32[99999999999]\nreturn y: %0')],
    ["a constant of texts", graph('%0 = constant() {data=["1"]} : f32[1]\nreturn y: %0')],
    [
      "a broadcast to a shape beyond all integers",
      graph("%0 = broadcast(%i) {shape=[1e300,2], axes=[0]} : f32[2]\nreturn y: %0"),
    ],
    ["a number that is no integer", graph("%0 = softmax(%x) {axis=1e99} : f32[2,3]\nreturn y: %0")],
    ["a line number beyond nine digits", graph('%0 = exp(%x) : f32[2,3] loc("f":99999999999:1)\nreturn y: %0')],
    ["a dimension beyond 2^53", "graph @g(%x: f32[99999999999999999999]) { return }"],
    ["an attribute named __proto__", graph("%0 = exp(%x) {__proto__=1} : f32[2,3]\nreturn y: %0")],
    ["an op named constructor", graph("%0 = constructor(%x) : f32[2,3]\nreturn y: %0")],
    ["two inputs of one name", "graph @g(%x: f32[2], %x: f32[2]) { return }"],
    ["an input and a parameter of one name", graph("%x = parameter() : f32[2,3]\nreturn y: %x")],
    ["a name of a million letters", `graph @g(%${"x".repeat(1_000_000)}: f33[2]) { return }`],
  ])("%s is refused by a CompileError", (_, text) => {
    const message = refusal(text);
    expect(message.length).toBeLessThan(400);
  });

  test("a million blanks, commas or digits end soon", () => {
    for (const run of [" ".repeat(1_000_000), ",".repeat(1_000_000), "9".repeat(1_000_000), '"'.repeat(1_000_001)])
      expect(refusal(`graph @g(${run}`).length).toBeLessThan(400);
  });

  test("a graph of huge sizes is only a description", () => {
    const text =
      "graph @g(%x: f32[99999999999,99999999999]) {\n  %0 = exp(%x) : f32[99999999999,99999999999]\n  return y: %0\n}\n";
    expect(printGraph(parseGraph(text))).toBe(text);
  });

  const texts = [attentionText, windowText, printGraph(parseGraph(attentionText))];
  const byte = fc.oneof(
    fc.constantFrom(...'%@"\\[](){}=:,.-+/*0179eExn \n\u0000é'),
    fc.string({ minLength: 1, maxLength: 1 }),
  );
  const edit = fc.tuple(fc.constantFrom(...texts), fc.nat(), fc.constantFrom("change", "remove", "insert"), byte);

  test("one byte changed, removed or inserted gives a graph or a CompileError", () => {
    fc.assert(
      fc.property(edit, ([text, seed, kind, added]) => {
        const position = seed % text.length;
        const kept = kind === "insert" ? text.slice(position) : text.slice(position + 1);
        const edited = text.slice(0, position) + (kind === "remove" ? "" : added) + kept;
        try {
          const read = parseGraph(edited);
          verifyGraph(read);
          expect(printGraph(parseGraph(printGraph(read)))).toBe(printGraph(read));
        } catch (error) {
          expect(error).toBeInstanceOf(CompileError);
        }
      }),
      { numRuns: 1500, seed: 14 },
    );
  });
});
