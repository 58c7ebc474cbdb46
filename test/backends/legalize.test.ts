import { describe, expect, test } from "vitest";
import { onnxBackend, type Profile } from "../../src/backends/onnx/index.ts";
import { legalize } from "../../src/backends/onnx/legalize/index.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import { evaluateGraph } from "../../src/ir/evaluate/index.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { builtinOps } from "../../src/ir/ops/index.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import type { TensorData } from "../../src/ir/type.ts";
import { type Pass, runPasses } from "../../src/passes/pass.ts";
import { inputsOf, smallVit, weighted } from "./models.ts";

const registry = legalize({ profile: "portable" }).withNative(builtinOps);
const all = (["portable", "ort-cuda", "ort-webgpu"] as const satisfies readonly Profile[]).flatMap((profile) =>
  onnxBackend.legalize({ profile, tokenForm: "dense" }),
);
const passes = [...new Map(all.map((pass) => [pass.name, pass])).values()];
const run = (pass: Pass, graph: Graph) => runPasses({ graph, weights: new Map() }, [pass], { registry });

describe.each(passes.map((pass) => [pass.name, pass] as const))("%s", (_, pass) => {
  test("turns its example's before into its after", () => {
    const { model, reports } = run(pass, parseGraph(pass.example.before));
    expect(printGraph(model.graph, { registry }).trim()).toBe(pass.example.after.trim());
    expect(reports[0]?.fired.length).toBeGreaterThan(0);
  });

  test("finds nothing left to do in what it made", () => {
    const once = run(pass, parseGraph(pass.example.before)).model.graph;
    expect(run(pass, once).reports[0]?.changed).toBe(false);
  });

  test("keeps what its example computes", () => {
    const before = parseGraph(pass.example.before);
    const after = run(pass, before).model.graph;
    expectSame(before, after);
  });
});

test.each(onnxBackend.profiles)("a network legalized for %s computes what it did, private ops and all", (profile) => {
  const { passes, withNative } = legalize({ profile, tokenForm: "dense" });
  const model = weighted(smallVit({ r: 2 }));
  const after = runPasses(model, passes, { registry: withNative(builtinOps) }).model.graph;
  expectSame(model.graph, after);
});

test("a window is declined with its reason", () => {
  const [fuseAttention] = onnxBackend.legalize({ profile: "ort-cuda" }).filter((pass) => pass.name === "fuseAttention");
  const graph = parseGraph(`
graph @local(%q: f32[1,2,5,4]) {
  %0 = attention(%q, %q, %q) {scale=0.5, left=2} : f32[1,2,5,4]
  return y: %0
}`);
  const { reports } = run(fuseAttention as Pass, graph);
  expect(reports[0]?.refused.map((f) => f.refused)).toEqual(["attention operators have no window"]);
});

function expectSame(before: Graph, after: Graph): void {
  const inputs = inputsOf(before, 2);
  const parameters = new Map(
    Object.entries(inputsOf(asInputs(before), 2)).filter(([name]) => !(name in inputs)),
  ) as ReadonlyMap<string, TensorData>;
  const [wanted, got] = [before, after].map((graph) => evaluateGraph(graph, inputs, { registry, parameters }));
  for (const [name, value] of Object.entries(wanted ?? {}))
    expect(
      compareTensors(got?.[name] as TensorData, value, tolerance(value.dtype, { target: "reference" })).message,
    ).toBe("");
}

/** The graph's parameters in the place of its inputs, to draw their contents. */
function asInputs(graph: Graph): Graph {
  return { ...graph, inputs: graph.nodes.filter((n) => n.op === "parameter").flatMap((n) => n.results) };
}
