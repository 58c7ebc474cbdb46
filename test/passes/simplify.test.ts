import { describe, expect, test } from "vitest";
import { randomGraph } from "../../src/conform/randomGraph.ts";
import { compareTensors, tolerances } from "../../src/conform/tolerance.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import { sourceName } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import type { OpName } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { elementsOf, isFloat, tensorData } from "../../src/ir/type.ts";
import { type PassReport, runPasses } from "../../src/passes/pass.ts";
import { simplify } from "../../src/passes/simplify.ts";

/** `x: f32[2] | %0 = neg(%x) : f32[2] | %0` as a graph. */
function graphOf(text: string) {
  const [inputs, ...rest] = text.split("|").map((part) => part.trim());
  return parseGraph(`graph @g(${inputs}) { ${rest.slice(0, -1).join("\n")} return y: ${rest.at(-1)} }`);
}
const run = (text: string) => runPasses({ graph: graphOf(text), weights: new Map() }, [simplify]);
const reasonsFor = (text: string) => (run(text).reports[0]?.refused ?? []).map((r) => `${r.rule}: ${r.refused}`);

const constantAt = (number: number, type: string, shape: string, axes: string, dtype = "f32") =>
  `%0 = constant() {data=[${number}]} : ${dtype}[] | %1 = broadcast(%0) {shape=${shape}, axes=${axes}} : ${type}`;
const zeros = constantAt(0, "f32[2,3]", "[2,3]", "[0,1]");
const ones = constantAt(1, "f32[2,3]", "[2,3]", "[0,1]");
const x = "%x: f32[2,3]";

/** Rule, before, after. */
const firings: readonly (readonly [string, string, string])[] = [
  ["addZero", `${x} | ${zeros} | %2 = add(%1, %x) : f32[2,3] | %2`, `${x} | %x`],
  ["subZero", `${x} | ${zeros} | %2 = sub(%x, %1) : f32[2,3] | %2`, `${x} | %x`],
  ["zeroMinus", `${x} | ${zeros} | %2 = sub(%1, %x) : f32[2,3] | %2`, `${x} | %0 = neg(%x) : f32[2,3] | %0`],
  ["mulOne", `${x} | ${ones} | %2 = mul(%x, %1) : f32[2,3] | %2`, `${x} | %x`],
  ["divOne", `${x} | ${ones} | %2 = div(%x, %1) : f32[2,3] | %2`, `${x} | %x`],
  ["powOne", `${x} | ${ones} | %2 = pow(%x, %1) : f32[2,3] | %2`, `${x} | %x`],
  ["mulOne", "%x: f32[2] | %0 = constant() {data=[1,1]} : f32[2] | %1 = mul(%0, %x) : f32[2] | %1", "%x: f32[2] | %x"],
  [
    "mulZero",
    `%x: i32[2] | ${constantAt(0, "i32[2]", "[2]", "[0]", "i32")} | %2 = mul(%x, %1) : i32[2] | %2`,
    `%x: i32[2] | ${constantAt(0, "i32[2]", "[2]", "[0]", "i32")} | %1`,
  ],
  [
    "subSelf",
    "%x: i32[2] | %0 = sub(%x, %x) : i32[2] | %0",
    `%x: i32[2] | ${constantAt(0, "i32[2]", "[2]", "[0]", "i32")} | %1`,
  ],
  ["andTrue", "%x: bool[] | %0 = constant() {data=[1]} : bool[] | %1 = and(%x, %0) : bool[] | %1", "%x: bool[] | %x"],
  ["negTwice", `${x} | %0 = neg(%x) : f32[2,3] | %1 = neg(%0) : f32[2,3] | %1`, `${x} | %x`],
  ["notTwice", "%x: bool[2] | %0 = not(%x) : bool[2] | %1 = not(%0) : bool[2] | %1", "%x: bool[2] | %x"],
  [
    "addNegative",
    `${x}, %z: f32[2,3] | %0 = neg(%z) : f32[2,3] | %1 = add(%0, %x) : f32[2,3] | %1`,
    `${x}, %z: f32[2,3] | %0 = sub(%x, %z) : f32[2,3] | %0`,
  ],
  [
    "selectNot",
    "%c: bool[2], %x: f32[2], %z: f32[2] | %0 = not(%c) : bool[2] | %1 = select(%0, %x, %z) : f32[2] | %1",
    "%c: bool[2], %x: f32[2], %z: f32[2] | %0 = select(%c, %z, %x) : f32[2] | %0",
  ],
  ["selectSame", "%c: bool[2], %x: f32[2] | %0 = select(%c, %x, %x) : f32[2] | %0", "%c: bool[2], %x: f32[2] | %x"],
  [
    "reluTwice",
    `${x} | %0 = relu(%x) : f32[2,3] | %1 = relu(%0) : f32[2,3] | %1`,
    `${x} | %0 = relu(%x) : f32[2,3] | %0`,
  ],
  ["castSame", `${x} | %0 = cast(%x) {to="f32"} : f32[2,3] | %0`, `${x} | %x`],
  [
    "castThrough",
    '%x: f16[2] | %0 = cast(%x) {to="f32"} : f32[2] | %1 = cast(%0) {to="f16"} : f16[2] | %1',
    "%x: f16[2] | %x",
  ],
  [
    "castThrough",
    '%x: i8[2] | %0 = cast(%x) {to="i16"} : i16[2] | %1 = cast(%0) {to="u8"} : u8[2] | %1',
    '%x: i8[2] | %0 = cast(%x) {to="u8"} : u8[2] | %0',
  ],
  ["reshapeSame", `${x} | %0 = reshape(%x) {shape=[2,3]} : f32[2,3] | %0`, `${x} | %x`],
  [
    "reshapeTwice",
    `${x} | %0 = reshape(%x) {shape=[6]} : f32[6] | %1 = reshape(%0) {shape=[3,2]} : f32[3,2] | %1`,
    `${x} | %0 = reshape(%x) {shape=[3,2]} : f32[3,2] | %0`,
  ],
  [
    "reshapeOfScalar",
    "%x: f32[] | %0 = broadcast(%x) {shape=[2,3], axes=[0,1]} : f32[2,3] | %1 = reshape(%0) {shape=[6]} : f32[6] | %1",
    "%x: f32[] | %0 = broadcast(%x) {shape=[6], axes=[0]} : f32[6] | %0",
  ],
  ["transposeNone", `${x} | %0 = transpose(%x) {perm=[0,1]} : f32[2,3] | %0`, `${x} | %x`],
  [
    "transposeTwice",
    "%x: f32[2,3,4] | %0 = transpose(%x) {perm=[1,2,0]} : f32[3,4,2] | %1 = transpose(%0) {perm=[1,0,2]} : f32[4,3,2] | %1",
    "%x: f32[2,3,4] | %0 = transpose(%x) {perm=[2,1,0]} : f32[4,3,2] | %0",
  ],
  [
    "broadcastTwice",
    "%x: f32[3] | %0 = broadcast(%x) {shape=[2,3], axes=[0]} : f32[2,3] | %1 = broadcast(%0) {shape=[2,4,3,5], axes=[1,3]} : f32[2,4,3,5] | %1",
    "%x: f32[3] | %0 = broadcast(%x) {shape=[2,4,3,5], axes=[0,1,3]} : f32[2,4,3,5] | %0",
  ],
  [
    "reverseTwice",
    `${x} | %0 = reverse(%x) {axes=[0,1]} : f32[2,3] | %1 = reverse(%0) {axes=[1]} : f32[2,3] | %1`,
    `${x} | %0 = reverse(%x) {axes=[0]} : f32[2,3] | %0`,
  ],
  ["padNone", `${x} | %0 = pad(%x) {low=[0,0], high=[0,0]} : f32[2,3] | %0`, `${x} | %x`],
  ["sliceAll", `${x} | %0 = slice(%x) {axis=1, end=3} : f32[2,3] | %0`, `${x} | %x`],
  [
    "sliceTwice",
    "%x: f32[20] | %0 = slice(%x) {axis=0, start=1, end=18, step=3} : f32[6] | %1 = slice(%0) {axis=0, start=1, end=6, step=2} : f32[3] | %1",
    "%x: f32[20] | %0 = slice(%x) {axis=0, start=4, end=17, step=6} : f32[3] | %0",
  ],
  [
    "sliceTwice",
    '%x: f32[n] | %0 = slice(%x) {axis=0, start=1, end="n"} : f32[n-1] | %1 = slice(%0) {axis=0, start=2, end="n-1"} : f32[n-3] | %1',
    '%x: f32[n] | %0 = slice(%x) {axis=0, start=3, end="n"} : f32[n-3] | %0',
  ],
  [
    "sliceOfConcat",
    '%c: f32[1,4], %x: f32[n,4] | %0 = concat(%c, %x) {axis=0} : f32[n+1,4] | %1 = slice(%0) {axis=0, start=2, end="n+1"} : f32[n-1,4] | %1',
    '%c: f32[1,4], %x: f32[n,4] | %0 = slice(%x) {axis=0, start=1, end="n"} : f32[n-1,4] | %0',
  ],
  [
    "sliceOfConcat",
    "%c: f32[1,4], %x: f32[n,4] | %0 = concat(%c, %x) {axis=0} : f32[n+1,4] | %1 = slice(%0) {axis=0, end=1} : f32[1,4] | %1",
    "%c: f32[1,4], %x: f32[n,4] | %c",
  ],
  ["concatOne", `${x} | %0 = concat(%x) {axis=0} : f32[2,3] | %0`, `${x} | %x`],
  [
    "concatTwice",
    `${x} | %0 = concat(%x, %x) {axis=0} : f32[4,3] | %1 = concat(%x, %0) {axis=0} : f32[6,3] | %1`,
    `${x} | %0 = concat(%x, %x, %x) {axis=0} : f32[6,3] | %0`,
  ],
  ["concatEmpty", `${x}, %e: f32[0,3] | %0 = concat(%e, %x) {axis=0} : f32[2,3] | %0`, `${x}, %e: f32[0,3] | %x`],
  [
    "concatSlices",
    `${x} | %0 = slice(%x) {axis=1, end=1} : f32[2,1] | %1 = slice(%x) {axis=1, start=1, end=3} : f32[2,2] | %2 = concat(%0, %1) {axis=1} : f32[2,3] | %2`,
    `${x} | %x`,
  ],
  [
    "reduceOne",
    "%x: f32[2,1,3] | %0 = reduceMean(%x) {axes=[1]} : f32[2,3] | %0",
    "%x: f32[2,1,3] | %0 = reshape(%x) {shape=[2,3]} : f32[2,3] | %0",
  ],
];

describe("simplify", () => {
  test.each(firings)("%s: %s becomes %s", (name, before, after) => {
    const { model, reports } = run(before);
    expect(printGraph(model.graph)).toBe(printGraph(graphOf(after)));
    expect(reports[0]?.fired.map((f) => f.rule)).toContain(name);
  });

  test.each(firings)("%s: %s keeps its values", (_, before) => {
    const graph = graphOf(before);
    const inputs = Object.fromEntries(
      graph.inputs.map(({ type, producer }) => {
        const shape = type.shape.map((dim) => (dim === "n" ? 5 : (dim as number)));
        const numbers = Array.from({ length: elementsOf(shape) }, (_x, i) =>
          type.dtype === "bool" ? i % 2 : isFloat(type.dtype) ? ((i * 37) % 11) - 5.5 : ((i * 37) % 11) - 5,
        );
        return [sourceName(producer), tensorData(type.dtype, shape, numbers)];
      }),
    );
    const values = (g: typeof graph) => [...(evaluateExact(g, inputs)["y"]?.values ?? [])].map((v) => v + 0);
    expect(values(run(before).model.graph)).toEqual(values(graph));
  });

  test("keeps what random graphs of its ops compute, bit for bit but for the sign of zeros", () => {
    const views = "reshape transpose broadcast slice reverse pad concat reduceMax";
    const arithmetic = "cast select neg abs not add sub mul relu floor min max and or equal";
    const ops = `${views} ${arithmetic}`.split(" ") as OpName[];
    const fired = new Set<string>();
    for (let seed = 0; seed < 300; seed++) {
      const { graph, inputs } = randomGraph(seed, {
        ops,
        nodes: 30,
        dtypes: ["f32", "f16", "i32", "i8", "u8", "bool"],
      });
      const { after, fired: firings } = runPasses({ graph, weights: new Map() }, [simplify]).reports[0] as PassReport;
      for (const { rule } of firings) fired.add(rule);
      const [was, is] = [evaluateExact(graph, inputs), evaluateExact(after, inputs)];
      for (const { name } of graph.outputs) {
        const found = compareTensors(is[name] as NumberTensor, was[name] as NumberTensor, tolerances.exact);
        if (!found.ok) expect.fail(`seed ${seed}, output ${name}: ${found.message}\n${printGraph(graph)}`);
      }
    }
    expect(fired.size).toBeGreaterThan(35); // of 50 rules, most of the others are about ops that were not drawn
  });

  test("keeps products with 0 and differences of floats, which may be NaN", () => {
    expect(reasonsFor(`${x} | ${zeros} | %2 = mul(%x, %1) : f32[2,3] | %2`)).toEqual([
      "mulZero: x may be infinite or NaN, where 0 x is NaN and not 0",
    ]);
    expect(reasonsFor(`${x} | %0 = sub(%x, %x) : f32[2,3] | %0`)).toEqual([
      "subSelf: x may be infinite or NaN, where x - x is NaN and not 0",
    ]);
  });

  test("keeps a cast through a dtype that does not hold every number", () => {
    expect(
      reasonsFor('%x: i32[2] | %0 = cast(%x) {to="f32"} : f32[2] | %1 = cast(%0) {to="i32"} : i32[2] | %1'),
    ).toEqual(["castThrough: f32 does not hold every i32"]);
    expect(
      reasonsFor('%x: f16[2] | %0 = cast(%x) {to="bf16"} : bf16[2] | %1 = cast(%0) {to="f16"} : f16[2] | %1'),
    ).toEqual(["castThrough: bf16 does not hold every f16"]);
    expect(reasonsFor('%x: i8[2] | %0 = cast(%x) {to="f32"} : f32[2] | %1 = cast(%0) {to="u8"} : u8[2] | %1')).toEqual([
      "castThrough: f32 and i8 become u8 by different rules",
    ]);
  });

  test("keeps a slice across two parts, and one whose place is not known", () => {
    const parts = "%a: f32[n], %b: f32[4] | %0 = concat(%a, %b) {axis=0} : f32[n+4]";
    expect(reasonsFor(`${parts} | %1 = slice(%0) {axis=0, start=1, end="n+2"} : f32[n+1] | %1`)).toEqual([
      "sliceOfConcat: the slice is not known to lie in one part",
    ]);
    expect(reasonsFor(`${parts} | %1 = slice(%0) {axis=0, end=1} : f32[1] | %1`)).toEqual([
      "sliceOfConcat: the slice is not known to lie in one part",
    ]);
  });

  test("keeps 0 - x of unsigned numbers", () => {
    const text = `%x: u32[2] | ${constantAt(0, "u32[2]", "[2]", "[0]", "u32")} | %2 = sub(%1, %x) : u32[2] | %2`;
    expect(reasonsFor(text)).toEqual(["zeroMinus: u32 has no negative numbers"]);
  });

  test("leaves a graph alone where nothing is idle", () => {
    const { reports } = run(`${x} | %0 = exp(%x) : f32[2,3] | %1 = transpose(%0) {perm=[1,0]} : f32[3,2] | %1`);
    expect(reports[0]?.changed).toBe(false);
    expect(reports[0]?.refused).toEqual([]);
  });
});
