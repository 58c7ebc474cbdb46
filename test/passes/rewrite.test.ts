import { describe, expect, expectTypeOf, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { InternalError } from "../../src/ir/diagnostic.ts";
import type { Graph, Value } from "../../src/ir/graph.ts";
import type { Composite } from "../../src/ir/op.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { registryWith } from "../../src/ir/registry.ts";
import type { TensorType } from "../../src/ir/type.ts";
import { foldQueryScale } from "../../src/passes/foldQueryScale.ts";
import { type Pass, type PassReport, runPasses } from "../../src/passes/pass.ts";
import { any, constant, pat, patOf, type Rule, rest, rewritePass, rule, uniform } from "../../src/passes/rewrite.ts";

/** The report of one pass over IR text. */
function run(pass: Pass, before: string | Graph): PassReport {
  const graph = typeof before === "string" ? parseGraph(before) : before;
  return runPasses({ graph, weights: new Map() }, [pass]).reports[0] as PassReport;
}
const textAfter = (pass: Pass, before: string): string => printGraph(run(pass, before).after);
const reasons = (report: PassReport): (string | undefined)[] => report.refused.map((r) => r.refused);

const passOf = (rules: readonly Rule[], sweeps?: number): Pass =>
  rewritePass({
    name: "tidy",
    summary: "a pass of the tests",
    contract: "exact",
    example: { before: "", after: "" },
    rules,
    ...(sweeps === undefined ? {} : { sweeps }),
  });

const undoNeg = rule({ name: "undoNeg", match: pat.neg([pat.neg([any("x")])]), build: (_, { x }) => x });

describe("patterns", () => {
  test("names that the pattern does not bind do not compile", () => {
    rule({
      match: pat.matmul([pat.mul([any("q"), any("scale")]), any("k")]),
      where: (m) => {
        expectTypeOf(m).toEqualTypeOf<{ readonly q: Value; readonly scale: Value; readonly k: Value }>();
        // @ts-expect-error the pattern has no name v
        return m.v === undefined ? true : "no";
      },
      // @ts-expect-error the pattern has no name keys
      build: (b, { q, keys }) => b.matmul(q, keys),
    });
  });

  test("a named node carries the attributes that its op declares", () => {
    rule({
      match: pat.transpose([any("x")]).as("outer"),
      build: (b, { x, outer }) => {
        expectTypeOf(outer.attrs.perm).toEqualTypeOf<readonly number[]>();
        // @ts-expect-error transpose has no attribute axis
        void outer.attrs.axis;
        return b.transpose(x, outer.attrs);
      },
    });
  });

  test("an op wants as many operand patterns as it has operands", () => {
    // @ts-expect-error exp has one operand
    pat.exp([any("x"), any("y")]);
    pat.concat([any("first"), any("second"), rest("others")]);
  });

  test("operands of commutative ops match in both orders", () => {
    const pass = passOf([rule({ match: pat.add([any("x"), uniform(0)]), build: (_, { x }) => x })]);
    const added = (operands: string) => `
graph @g(%x: f32[2]) {
  %0 = constant() {data=[0,0]} : f32[2]
  %1 = add(${operands}) : f32[2]
  return y: %1
}`;
    for (const operands of ["%x, %0", "%0, %x"])
      expect(textAfter(pass, added(operands))).toBe("graph @g(%x: f32[2]) {\n  return y: %x\n}\n");
  });

  test("operands of other ops match in their order only", () => {
    const pass = passOf([rule({ match: pat.sub([any("x"), uniform(0)]), build: (_, { x }) => x })]);
    const text = `
graph @g(%x: f32[2]) {
  %0 = constant() {data=[0,0]} : f32[2]
  %1 = sub(%0, %x) : f32[2]
  return y: %1
}`;
    expect(run(pass, text).changed).toBe(false);
  });

  test("a name that stands twice wants the same value twice, in whatever order", () => {
    const pass = passOf([
      rule({
        match: pat.add([pat.mul([any("a"), any("x")]), pat.mul([any("b"), any("x")])]),
        build: (b, { a, b: other, x }) => b.mul(b.add(a, other), x),
      }),
    ]);
    const sum = (second: string) => `
graph @g(%a: f32[2], %b: f32[2], %x: f32[2], %y: f32[2]) {
  %0 = mul(%a, %x) : f32[2]
  %1 = mul(${second}) : f32[2]
  %2 = add(%0, %1) : f32[2]
  return y: %2
}`;
    expect(textAfter(pass, sum("%x, %b"))).toContain("add(%a, %b)");
    expect(run(pass, sum("%b, %y")).changed).toBe(false);
  });

  test("a constant pattern matches contents, a uniform one also through views", () => {
    const folded = passOf([rule({ match: pat.exp([constant("c")]), build: (_, { c }) => c })]);
    expect(
      run(folded, `graph @g(%x: f32[]) { %0 = constant() {data=[0]} : f32[] %1 = exp(%0) : f32[] return y: %1 }`)
        .changed,
    ).toBe(true);
    expect(run(folded, "graph @g(%x: f32[]) { %0 = exp(%x) : f32[] return y: %0 }").changed).toBe(false);
    const ones = passOf([rule({ match: pat.mul([any("x"), uniform(1)]), build: (_, { x }) => x })]);
    const times = (numbers: string) => `
graph @g(%x: f32[3,2]) {
  %0 = constant() {data=${numbers}} : f32[2]
  %1 = broadcast(%0) {shape=[3,2], axes=[0]} : f32[3,2]
  %2 = mul(%1, %x) : f32[3,2]
  return y: %2
}`;
    expect(run(ones, times("[1,1]")).changed).toBe(true);
    expect(run(ones, times("[1,2]")).changed).toBe(false);
  });

  test("an attribute predicate narrows the match, and rest binds what is left", () => {
    const pass = passOf([
      rule({
        match: pat.concat([any("first"), rest("others")]).where(({ axis }) => axis === 0),
        where: ({ others }) => others.length === 0 || "there are further parts",
        build: (_, { first }) => first,
      }),
    ]);
    const joined = (parts: string, axis: number, type: string) =>
      `graph @g(%x: f32[2,3]) { %0 = concat(${parts}) {axis=${axis}} : ${type} return y: %0 }`;
    expect(run(pass, joined("%x", 0, "f32[2,3]")).changed).toBe(true);
    expect(run(pass, joined("%x", 1, "f32[2,3]")).changed).toBe(false);
    expect(reasons(run(pass, joined("%x, %x", 0, "f32[4,3]")))).toEqual(["there are further parts"]);
  });

  test("an op from outside the table is matched by its name", () => {
    const twice: Composite<[x: Value]> = {
      kind: "composite",
      summary: "x + x",
      source: "a test",
      operands: ["x"],
      attrs: {},
      infer: ([x]) => [x as TensorType],
      decompose: (b, [x]) => b.add(x, x),
    };
    const registry = registryWith([["twice", twice]]);
    const graph = parseGraph("graph @g(%x: f32[2]) { %0 = twice(%x) : f32[2] return y: %0 }", { registry });
    const pass = passOf([rule({ match: patOf("twice", [any("x")]), build: (b, { x }) => b.add(x, x) })]);
    const { reports } = runPasses({ graph, weights: new Map() }, [pass], { registry });
    expect(printGraph((reports[0] as PassReport).after)).toContain("add(%x, %x)");
  });

  test("below the root, a pattern says which result of an op it means", () => {
    const firstOnly = passOf([rule({ match: pat.neg([pat.sort([any("x")])]), build: (_, { x }) => x })]);
    const negated = (result: string, type: string) => `
graph @g(%x: i32[4]) {
  %0, %1 = sort(%x) {axis=0} : i32[4], i32[4]
  %2 = neg(${result}) : ${type}
  return y: %2
}`;
    expect(run(firstOnly, negated("%0", "i32[4]")).changed).toBe(true);
    expect(run(firstOnly, negated("%1", "i32[4]")).changed).toBe(false);
  });
});

describe("the driver", () => {
  test("reports each firing, and each refusal with its reason", () => {
    const fired = run(foldQueryScale, foldQueryScale.example.before);
    expect(fired.fired.map((f) => f.rule)).toEqual(["foldQueryScale"]);
    expect(fired.refused).toEqual([]);
    const perRow = run(
      foldQueryScale,
      `
graph @scores(%q: f32[197,64], %kt: f32[64,197], %scale: f32[197]) {
  %0 = matmul(%q, %kt) : f32[197,197]
  %1 = broadcast(%scale) {shape=[197,197], axes=[0]} : f32[197,197]
  %2 = mul(%0, %1) : f32[197,197]
  return scores: %2
}`,
    );
    expect(perRow.changed).toBe(false);
    expect(reasons(perRow)).toEqual(["the scale differs between scores"]);
  });

  test("declines to scale a query that is wider than the scores, and scores that are read elsewhere", () => {
    const scores = (channels: number, outputs: string) => `
graph @scores(%q: f32[197,${channels}], %kt: f32[${channels},197], %scale: f32[]) {
  %0 = matmul(%q, %kt) : f32[197,197]
  %1 = broadcast(%scale) {shape=[197,197], axes=[0,1]} : f32[197,197]
  %2 = mul(%0, %1) : f32[197,197]
  return ${outputs}
}`;
    expect(reasons(run(foldQueryScale, scores(512, "scores: %2")))).toEqual([
      "the scores are no larger than the query",
    ]);
    expect(reasons(run(foldQueryScale, scores(64, "scores: %2, raw: %0")))).toEqual([
      "the scores are read without the scale too",
    ]);
  });

  test("leaves the graph object as it is when nothing fires", () => {
    const graph = parseGraph("graph @g(%x: f32[]) { %0 = neg(%x) : f32[] return y: %0 }");
    expect(run(passOf([undoNeg]), graph).after).toBe(graph);
  });

  test("the first rule of a node wins", () => {
    const special = rule({
      name: "special",
      match: pat.neg([pat.neg([pat.neg([any("x")])])]),
      build: (b, { x }) => b.neg(x),
    });
    const text = `graph @g(%x: f32[]) {
      %0 = neg(%x) : f32[]  %1 = exp(%0) : f32[]  %2 = neg(%1) : f32[]  %3 = neg(%2) : f32[]  %4 = neg(%3) : f32[]
      return y: %4 }`;
    expect(run(passOf([special, undoNeg]), text).fired.map((f) => f.rule)).toContain("undoNeg");
    const direct = run(passOf([special]), text);
    expect(direct.fired.map((f) => f.rule)).toEqual(["special"]);
  });

  test("a second way to match is tried when the first is declined", () => {
    const pass = passOf([
      rule({
        match: pat.mul([any("x"), any("factor")]),
        where: ({ factor }) => factor.producer.op === "broadcast" || "the factor is no broadcast",
        build: (b, { x }) => b.neg(x),
      }),
    ]);
    const text = `
graph @g(%x: f32[2], %s: f32[]) {
  %0 = broadcast(%s) {shape=[2], axes=[0]} : f32[2]
  %1 = mul(%0, %x) : f32[2]
  return y: %1
}`;
    expect(textAfter(pass, text)).toContain("neg(%x)");
  });

  test("applies all matches of a sweep that do not overlap, and repeats", () => {
    const text = `graph @g(%x: f32[]) {
      %0 = neg(%x) : f32[]  %1 = neg(%0) : f32[]  %2 = neg(%1) : f32[]  %3 = neg(%2) : f32[]  %4 = neg(%3) : f32[]
      return y: %4 }`;
    const report = run(passOf([undoNeg], 3), text);
    expect(printGraph(report.after)).toBe("graph @g(%x: f32[]) {\n  %0 = neg(%x) : f32[]\n  return y: %0\n}\n");
  });

  test("new nodes say that the pass made them, and from where", () => {
    const text = `graph @g(%x: f32[]) {
  %0 = neg(%x) : f32[] in head loc("vit.ts":4:1)
  %1 = exp(%0) : f32[] in head loc("vit.ts":5:1)
  return y: %1
}`;
    const pass = passOf([rule({ match: pat.exp([pat.neg([any("x")])]), build: (b, { x }) => b.sigmoid(x) })]);
    expect(printGraph(run(pass, text).after, { locations: true })).toContain(
      '%0 = sigmoid(%x) : f32[] in head loc(made "tidy" from ["vit.ts":5:1, "vit.ts":4:1])',
    );
  });

  test("rules that run for ever are a defect that names the pass and the rules", () => {
    const flip = rule({ name: "flip", match: pat.add([any("a"), any("c")]), build: (b, { a, c }) => b.add(c, a) });
    const text = "graph @g(%x: f32[], %y: f32[]) { %0 = add(%x, %y) : f32[] return y: %0 }";
    expect(() => run(passOf([flip]), text)).toThrow(InternalError);
    expect(() => run(passOf([flip]), text)).toThrow("tidy: still rewriting after 100 sweeps, rules flip");
  });

  test("a rule that gives another type is a defect that names the rule", () => {
    const wrong = rule({ name: "wrong", match: pat.neg([any("x")]), build: (b, { x }) => b.isNan(x) });
    const text = "graph @g(%x: f32[2]) { %0 = neg(%x) : f32[2] return y: %0 }";
    expect(() => run(passOf([wrong]), text)).toThrow("tidy: rule wrong makes bool[2] of neg, which is f32[2]");
  });

  test("a chain of 10,000 nodes is rewritten in linear time and without recursion", () => {
    const chain = (length: number): Graph => {
      const b = createBuilder();
      let x = b.input("x", { dtype: "f32", shape: [4] });
      for (let i = 0; i < length; i++) x = b.neg(x);
      return b.finish("chain", { y: x });
    };
    const time = (length: number): number => {
      const graph = chain(length);
      const start = performance.now();
      const { after } = run(passOf([undoNeg]), graph);
      expect(after.nodes.length).toBe(1);
      return performance.now() - start;
    };
    time(1_000);
    const [short, long] = [Math.min(time(2_500), time(2_500)), Math.min(time(10_000), time(10_000))];
    expect(long).toBeLessThan(16 * short + 50); // quadratic time would be above 16 times; ms of noise allowed
  });
});
