import { describe, expect, test } from "vitest";
import { createBuilder } from "../../src/ir/builder.ts";
import { InternalError } from "../../src/ir/diagnostic.ts";
import type { Graph, Node, Value } from "../../src/ir/graph.ts";
import type { Composite } from "../../src/ir/op.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { registryWith } from "../../src/ir/registry.ts";
import { verifyGraph } from "../../src/ir/verify.ts";

const chain = parseGraph(`graph @chain(%x: f32[2,n]) {
  %w = parameter() : f32[2,n]
  %0 = exp(%x) : f32[2,n]
  %1 = softmax(%0) {axis=1} : f32[2,n]
  %2 = add(%1, %w) : f32[2,n]
  return y: %2
}`);

/** A copy of a node that may break any rule, with results of its own. */
function altered(node: Node, change: Partial<Node>, types?: readonly Value["type"][]): Node {
  const results: Value[] = [];
  const copy: Node = { ...node, results, ...change };
  (types ?? node.results.map((v) => v.type)).forEach((type, index) => results.push({ type, producer: copy, index }));
  Object.freeze(results);
  return Object.freeze(copy);
}

/** The chain with its last node altered: nothing reads it but the output. */
function withLast(change: Partial<Node>, types?: readonly Value["type"][]): Graph {
  const last = altered(chain.nodes.at(-1) as Node, change, types);
  const nodes = Object.freeze([...chain.nodes.slice(0, -1), last]);
  const outputs = Object.freeze([{ name: "y", value: last.results[0] as Value }]);
  return Object.freeze({ ...chain, nodes, outputs });
}

const withNodes = (nodes: readonly Node[]): Graph => Object.freeze({ ...chain, nodes: Object.freeze(nodes) });

/** Operand and attribute lists of copies are frozen, so that only the rule under test is broken. */
const attrs = (entries: Node["attrs"]): Pick<Node, "attrs"> => ({ attrs: Object.freeze(entries) });
const nodeOf = (op: string): Node => chain.nodes.find((node) => node.op === op) as Node;

function broken(graph: Graph, before?: Graph): string {
  try {
    verifyGraph(graph, { by: "somePass", before });
  } catch (error) {
    expect(error).toBeInstanceOf(InternalError);
    return (error as InternalError).message;
  }
  throw new Error("the graph was accepted");
}

test("a graph from the builder is accepted", () => {
  verifyGraph(chain, { before: chain });
});

describe("a broken invariant is caught", () => {
  test("I1 where an operand comes later", () => {
    const [x, w, exp, softmax, add] = chain.nodes as readonly [Node, Node, Node, Node, Node];
    expect(broken(withNodes([x, w, softmax, exp, add]))).toContain("somePass: I1 broken: softmax reads a value");
  });

  test("I1 where an operand is no node of the graph", () => {
    const foreign = createBuilder().input("z", { dtype: "f32", shape: [2, "n"] });
    const operands = Object.freeze([foreign, foreign]);
    expect(broken(withLast({ operands }))).toContain("I1 broken: add reads a value that is not made before it");
  });

  test("I1 where an output is no node of the graph", () => {
    expect(broken(withNodes(chain.nodes.slice(0, -1)))).toContain("I1 broken: output y is not made by a node");
  });

  test("I2 where the op is not in the registry", () => {
    expect(broken(withLast({ op: "addd" }))).toContain("I2 broken: there is no op named addd");
  });

  test("I3 where a result's type is not the inferred one", () => {
    expect(broken(withLast({}, [{ dtype: "f32", shape: [2, "m"] }]))).toContain(
      "I3 broken: add states f32[2,m] but infers f32[2,n]",
    );
  });

  test("I3 where there are too many results or operands", () => {
    const type = { dtype: "f32", shape: [2, "n"] } as const;
    expect(broken(withLast({}, [type, type]))).toContain(
      "I3 broken: add states f32[2,n], f32[2,n] but infers f32[2,n]",
    );
    const operands = Object.freeze((chain.nodes.at(-1) as Node).operands.slice(0, 1));
    expect(broken(withLast({ operands }))).toContain("I3 broken: add wants 2 operands, got 1");
  });

  test("I4 where an attribute is unknown, missing, of another kind or not canonical", () => {
    expect(broken(withLast(attrs({ axis: 1 })))).toContain("I4 broken: add has no attribute axis");
    const softmax = (change: Node["attrs"]) =>
      withLast({ op: "softmax", operands: nodeOf("softmax").operands, ...attrs(change) });
    expect(broken(softmax({}))).toContain("I4 broken: softmax needs attribute axis");
    expect(broken(softmax({ axis: "1" }))).toContain('I4 broken: softmax: axis wants an integer, got "1"');
    const shape = [2, "0+n"];
    const reshape = { op: "reshape", operands: nodeOf("softmax").operands, ...attrs({ shape }) };
    expect(broken(withLast(reshape))).toContain("I4 broken: reshape: attribute shape is not in its canonical form");
  });

  test("I4 where a constant has no contents", () => {
    expect(broken(withLast({ op: "constant", operands: Object.freeze([]) }))).toContain(
      "I4 broken: a constant without contents",
    );
  });

  test("I5 where nothing reads a node", () => {
    const dead = altered(nodeOf("exp"), { id: 9 });
    expect(broken(withNodes([...chain.nodes, dead]))).toContain("I5 broken: exp is used by nothing");
  });

  test("I6 where names of inputs, parameters or outputs repeat", () => {
    const twin = altered(nodeOf("parameter"), { op: "input" });
    expect(broken(withNodes([...chain.nodes, twin]))).toContain("I6 broken: two inputs or parameters named w");
    const outputs = Object.freeze([...chain.outputs, ...chain.outputs]);
    expect(broken(Object.freeze({ ...chain, outputs }))).toContain("I6 broken: two outputs named y");
  });

  test("I7 where something is not frozen", () => {
    expect(broken({ ...chain })).toContain("I7 broken: the graph is not frozen");
    expect(broken(Object.freeze({ ...chain, nodes: [...chain.nodes] }))).toContain("I7 broken");
    const last = chain.nodes.at(-1) as Node;
    expect(broken(withLast({ operands: [...last.operands] }))).toContain("I7 broken: add is not frozen");
    expect(broken(withLast({ attrs: {} }))).toContain("I7 broken: add is not frozen");
    const open = { ...last };
    expect(broken(withNodes([...chain.nodes.slice(0, -1), open]))).toContain("I7 broken: add is not frozen");
  });

  test("I7 where results, inputs or outputs are not frozen", () => {
    expect(broken(Object.freeze({ ...chain, inputs: [...chain.inputs] }))).toContain("I7 broken");
    expect(broken(Object.freeze({ ...chain, outputs: [...chain.outputs] }))).toContain("I7 broken");
    expect(broken(withLast({ results: [...(chain.nodes.at(-1) as Node).results] }))).toContain("I7 broken: add");
  });

  test("I8 where inputs or outputs changed their name, type or order", () => {
    const variants = [
      "graph @g(%x: f32[2,n]) { return z: %x }",
      "graph @g(%z: f32[2,n]) { return y: %z }",
      "graph @g(%x: f16[2,n]) { return y: %x }",
      "graph @g(%x: f32[2,m]) { return y: %x }",
      "graph @g(%x: f32[2,n], %z: f32[1]) { return y: %x }",
      "graph @g(%x: f32[2,n]) { return y: %x, z: %x }",
    ];
    for (const text of variants)
      expect(broken(parseGraph(text), chain)).toContain("I8 broken: inputs and outputs changed");
    expect(broken(parseGraph(variants[0] as string), chain)).toMatchInlineSnapshot(`
      "somePass: I8 broken: inputs and outputs changed from
        x: f32[2,n] -> y: f32[2,n]
      to
        x: f32[2,n] -> z: f32[2,n]"
    `);
  });
});

describe("the report", () => {
  test("shows ten nodes either side of the culprit", () => {
    const lines = Array.from({ length: 30 }, (_, i) => `%${i + 1} = exp(%${i}) : f32[2]`);
    const long = parseGraph(`graph @g(%x: f32[2]) { %0 = exp(%x) : f32[2]\n ${lines.join("\n")}\n return y: %30 }`);
    const nodes = long.nodes.map((node) => (node.id === 16 ? Object.freeze({ ...node, op: "exq" }) : node));
    const message = broken(Object.freeze({ ...long, nodes: Object.freeze(nodes) }));
    const shown = message.split("\n").slice(1);
    // The copy's results name the original as producer, so the node after it is the first culprit.
    expect(shown.length).toBe(21);
    expect(shown.filter((line) => line.startsWith(">"))).toEqual(["> %15 = exq(%14) : f32[2]"]);
    expect(shown[0]).toBe("  %5 = exp(%4) : f32[2]");
  });

  test("is shorter at the ends of the graph", () => {
    expect(broken(withLast({ op: "addd" }))).toMatchInlineSnapshot(`
      "somePass: I2 broken: there is no op named addd
        %x = input() {name="x"} : f32[2,n]
        %w = parameter() : f32[2,n]
        %0 = exp(%x) : f32[2,n]
        %1 = softmax(%0) {axis=1} : f32[2,n]
      > %2 = addd(%1, %w) : f32[2,n]"
    `);
  });
});

test("composites from outside the table are known by their registry", () => {
  const double: Composite<[x: Value]> = {
    kind: "composite",
    summary: "twice x",
    source: "this test",
    operands: ["x"],
    attrs: {},
    infer: (types) => types,
    decompose: (b, [x]) => b.add(x, x),
  };
  const registry = registryWith([["double", double]]);
  const text = "graph @g(%x: f32[2]) {\n  %0 = double(%x) : f32[2]\n  return y: %0\n}\n";
  const graph = parseGraph(text, { registry });
  verifyGraph(graph, { registry });
  expect(broken(graph)).toContain("I2 broken: there is no op named double");
});
