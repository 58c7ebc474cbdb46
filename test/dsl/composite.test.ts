import { describe, expect, test } from "vitest";
import {
  CompileError,
  compile,
  composite,
  defineModel,
  input,
  isComposite,
  lower,
  parseGraph,
  printGraph,
  registryWith,
  runPasses,
  type Tensor,
  tensorData,
  toNumbers,
  verifyGraph,
} from "../../src/index.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import { differentiate } from "../../src/passes/differentiate.ts";

const cubed = composite({
  name: "cubed",
  summary: "x times x times x",
  operands: ["x"],
  infer: ([x]) => [x],
  decompose: (b, [x]) => b.mul(b.mul(x, x), x),
  vjp: ({ b, operands: [x], cotangents: [ct] }) => {
    if (x === undefined || ct === undefined) return [undefined];
    return [b.mul(ct, b.mul(b.full(x.type, 3), b.mul(x, x)))];
  },
});
const ordered = composite({
  name: "ordered",
  summary: "values in order, and where each came from",
  operands: ["x"],
  dtypes: ["f32", "i32"],
  attrs: { descending: { kind: "boolean", default: false } },
  infer: ([x]) => [x, { dtype: "i32", shape: x.shape }],
  decompose: (b, [x], { descending }) => b.sort(x, { axis: 0, descending }) as [never, never],
});
const total = composite({
  name: "total",
  summary: "the sum of all operands",
  operands: ["terms..."],
  infer: ([first]) => [first as NonNullable<typeof first>],
  decompose: (b, terms) => terms.reduce((sum, term) => b.add(sum, term)),
});
const model = (build: (x: Tensor<"f32">) => Record<string, Tensor>) =>
  defineModel({ name: "m", build: () => build(input("x", "f32", [3])) });

describe("a composite of one's own", () => {
  test("is one node, known to the registry that comes back, and reads back from text with it", () => {
    const { model: lowered, registry } = lower(model((x) => ({ y: cubed(x) })));
    const text = printGraph(lowered.graph, { registry });
    expect(text).toContain("%0 = cubed(%x) : f32[3]");
    expect(printGraph(parseGraph(text, { registry: registryWith([cubed]) }))).toBe(text);
    expect(() => parseGraph(text)).toThrow("there is no op named cubed");
    verifyGraph(lowered.graph, { registry });
    expect(isComposite(cubed)).toBe(true);
    expect(isComposite(model)).toBe(false);
  });

  test("compiles for both targets without a registry of the caller's", () => {
    const own = model((x) => ({ y: cubed(x) }));
    expect(compile(own, { target: "onnx" }).artifact.outputs.map(({ name }) => name)).toEqual(["y"]);
    expect(compile(own, { target: "webgpu" }).artifact.program.dispatches).toHaveLength(1);
  });

  test("gives several results as several tensors, of the dtypes that it states", () => {
    const own = model((x) => {
      const [values, indices] = ordered(x, { descending: true });
      const typed: readonly [Tensor<"f32">, Tensor<"i32">] = [values, indices];
      return { values: typed[0], indices: typed[1] };
    });
    const { model: lowered, registry } = lower(own);
    const results = evaluateExact(lowered.graph, { x: tensorData("f32", [3], [1, 3, 2]) }, { registry });
    expect(toNumbers(results["indices"] as never)).toEqual(Float64Array.of(1, 2, 0));
  });

  test("takes an open number of operands as one list", () => {
    const { model: lowered, registry } = lower(model((x) => ({ y: total([x, x, cubed(x)]) })));
    expect(printGraph(lowered.graph, { registry })).toContain("total(%x, %x, %0)");
  });

  test("is differentiated by its own rule where it has one, else through what it is made of", () => {
    const { graph } = lower(model((x) => ({ y: total([cubed(x), x]) }))).model;
    const registry = registryWith([cubed, total]);
    const pass = differentiate({ of: ["y"], wrt: ["x"], cotangents: true });
    const after = runPasses({ graph, weights: new Map() }, [pass], { registry }).model.graph;
    expect(printGraph(after, { registry })).toContain("data=[3]");
    const x = tensorData("f32", [3], [1, 2, -1]);
    const results = evaluateExact(after, { x, "cot.y": tensorData("f32", [3], [1, 1, 2]) }, { registry });
    expect(toNumbers(results["grad.x"] as never)).toEqual(Float64Array.of(4, 13, 8));
  });
});

describe("is refused", () => {
  const codeOf = (body: () => unknown): string => {
    try {
      body();
    } catch (error) {
      if (error instanceof CompileError) return error.code;
      throw error;
    }
    return "nothing was refused";
  };
  const about = { summary: "", operands: ["x"], infer: ([x]: readonly [never]) => [x] } as const;

  test("a name that is no word", () =>
    expect(codeOf(() => composite({ ...about, name: "a b", decompose: (_, [x]) => x }))).toBe("bad-composite"));
  test("two composites of one name", () => {
    const again = composite({ ...about, name: "cubed", decompose: (_, [x]) => x });
    expect(codeOf(() => lower(model((x) => ({ y: again(cubed(x)) }))))).toBe("duplicate-op");
    expect(codeOf(() => registryWith([cubed, again]))).toBe("duplicate-op");
    expect(registryWith([cubed, cubed]).get("cubed")).toBe(cubed.op);
  });
  test("dtypes that are not those of infer", () => {
    const wrong = composite({ ...about, name: "wrong", dtypes: ["i32"], decompose: (_, [x]) => x });
    expect(codeOf(() => lower(model((x) => ({ y: wrong(x) }))))).toBe("bad-composite");
  });
  test("a definition that gives other types, met in IR text alone", () => {
    const short = composite({ ...about, name: "short", decompose: (b, [x]) => b.reduceSum(x, { axes: [0] }) });
    const registry = registryWith([short]);
    const graph = parseGraph("graph @g(%x: f32[3]) {\n  %0 = short(%x) : f32[3]\n  return y: %0\n}", { registry });
    expect(codeOf(() => compile(graph, { target: "onnx", registry }))).toBe("bad-composite");
  });
});
