import { Script } from "node:vm";
import { transform } from "esbuild";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emitOnnx } from "../../../src/backends/onnx/index.ts";
import { emitWgslArtifact } from "../../../src/backends/wgsl/artifact.ts";
import { moduleName, onnxRunner, webGpuRunner } from "../../../src/cli/runner.ts";
import { createBuilder } from "../../../src/ir/builder.ts";
import type { Graph, Model, WeightSource } from "../../../src/ir/graph.ts";
import { tensorData } from "../../../src/ir/type.ts";
import { readPlan } from "../../../src/runtime/artifact/plan.ts";
import { createFolderSession, type NodeDevice, openWebGpu } from "../../../src/runtime/node/index.ts";
import { freshFolder } from "../../runtime/folder.ts";
import { writeArtifactFolder } from "./artifactFolder.ts";

interface Names {
  readonly model: string;
  readonly scope: string;
  readonly input: string;
  readonly parameter: string;
  readonly output: string;
}

const plain: Names = { model: "m", scope: "s", input: "x", parameter: "w", output: "y" };
const hostile = [
  '"',
  "'",
  "*/",
  "/*",
  "//",
  "\n",
  "a\r\nb",
  "\u2028",
  "\0",
  "\ud800",
  "💥 ü",
  "`${alert(1)}`",
  "</script>",
  "../../etc/passwd",
  "C:\\con",
  "__proto__",
  "constructor",
  "toString",
  "fn main() {}",
  "var<storage>",
  "@group(0)",
  "m0",
  "",
  " ",
  "x".repeat(5000),
];
const name = fc.oneof(fc.constantFrom(...hostile), fc.string({ unit: "binary", maxLength: 40 }));
const allNames: fc.Arbitrary<Names> = fc
  .record({ model: name, scope: name, input: name, parameter: name, output: name })
  .filter(({ input, parameter, output }) => new Set([input, parameter, output]).size === 3); // ONNX wants them apart

/** softmax(x w) + 1 over user names; w is [3, 4]. */
function graphOf({ model, scope, input, parameter, output }: Names): Graph {
  const b = createBuilder();
  const y = b.at({ scope }, () => {
    const x = b.input(input, { dtype: "f32", shape: ["batch", 3] });
    const w = b.parameter(parameter, { dtype: "f32", shape: [3, 4] });
    const scores = b.softmax(b.matmul(x, w), { axis: 1 });
    return b.add(scores, b.full(scores.type, 1));
  });
  return b.finish(model, [{ name: output, value: y }]);
}

const contents = tensorData(
  "f32",
  [3, 4],
  Array.from({ length: 12 }, (_, i) => Math.sin(i)),
);
const weight: WeightSource = {
  type: { dtype: "f32", shape: [3, 4] },
  hash: "w",
  read: async (start = 0, end = 12) => ({ ...contents, values: contents.values.subarray(start, end) }),
};
const modelOf = (names: Names): Model => ({ graph: graphOf(names), weights: new Map([[names.parameter, weight]]) });
const written = { tamis: "0", kernelsSha256: "0".repeat(64), constants: null, weights: null };
const reference = emitWgslArtifact(modelOf(plain));

describe("whatever users call things", () => {
  test("kernels and files are the same", () =>
    fc.assert(
      fc.property(allNames, (names) => {
        const artifact = emitWgslArtifact(modelOf(names));
        expect(artifact.kernels).toBe(reference.kernels);
        const files = webGpuRunner(artifact, names.model).map(([file]) => file);
        const module = moduleName(names.model);
        const endings = ["js", "d.ts", "node.js", "node.d.ts"];
        expect(files).toEqual([...endings.map((ending) => `${module}.${ending}`), "package.json"]);
        expect(moduleName(names.model)).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,69}$/);
      }),
      { numRuns: 60 },
    ));

  test("plans and modules hold the names as they are, and nothing else of them", () =>
    fc.assert(
      fc.asyncProperty(allNames, async (names) => {
        const artifact = emitWgslArtifact(modelOf(names));
        const tensor = { name: names.parameter, dtype: "f32", shape: [3, 4], offset: 0, bytes: 48 } as const;
        const weights = { bytes: 48, chunkBytes: 48, sha256: ["0".repeat(64)], tensors: [tensor] };
        const { program } = readPlan(JSON.stringify(artifact.plan({ ...written, weights })), "here");
        expect(program.name).toBe(names.model);
        expect([program.inputs, program.parameters, program.outputs].map(([value]) => value?.name)).toEqual([
          names.input,
          names.parameter,
          names.output,
        ]);
        for (const [file, text] of [
          ...webGpuRunner(artifact, names.model),
          ...onnxRunner(emitOnnx(modelOf(names)), names.model),
        ]) {
          if (file.endsWith(".json")) expect(Object.keys(JSON.parse(text) as object)).toContain("main");
          else await transform(text, { loader: file.endsWith(".ts") ? "ts" : "js", logLevel: "silent" });
          const outsideTexts = text.replace(/"(?:[^"\\\n]|\\.)*"/g, '""');
          expect(outsideTexts).not.toMatch(/alert|passwd|fn main|<\/script|💥/);
        }
      }),
      { numRuns: 60 },
    ));

  test("a module's list of inputs is read as it was written, __proto__ too", () => {
    for (const input of hostile.filter((text) => text !== plain.parameter)) {
      const [, source] = onnxRunner(emitOnnx(modelOf({ ...plain, input })), "m")[0] as readonly [string, string];
      const list = /^const inputs = (\[\n[\s\S]*?\n\]);$/m.exec(source)?.[1] ?? "";
      const inputs = new Script(`(${list})`).runInNewContext() as readonly (readonly [string, unknown])[];
      expect(inputs.map(([given]) => given)).toEqual([input]);
    }
  });

  test("a file is called after the model as far as file systems allow", () => {
    const cases = {
      "fashion-vit": "fashion-vit",
      "../../x": "x",
      "": "model",
      "..": "model",
      "a b": "a-b",
      con: "model-con",
    };
    for (const [model, file] of Object.entries(cases)) expect(moduleName(model)).toBe(file);
    expect(moduleName("CON.js")).toBe("model-CON.js");
    expect(moduleName("x".repeat(500))).toHaveLength(64);
  });
});

describe("a compiled folder of hostile names", () => {
  const folder = freshFolder();
  test("runs as one of plain names", async () => {
    const opened: NodeDevice = await openWebGpu();
    try {
      const x = tensorData("f32", [2, 3], [1, 2, 3, -1, 0, 0.5]);
      const results: unknown[] = [];
      const last = { model: "*/", scope: "\n", input: "__proto__", parameter: '"', output: "__proto__" };
      const others = hostile
        .slice(0, 6)
        .map((text) => ({ model: text, scope: text, input: `${text}1`, parameter: `${text}2`, output: text }));
      for (const names of [plain, ...others, last]) {
        const place = folder(String(results.length));
        await writeArtifactFolder(place, modelOf(names), names.model);
        await using session = await createFolderSession(place, opened);
        const inputs = Object.fromEntries([[names.input, x]]);
        const outputs = await session.run(inputs);
        expect(Object.keys(outputs)).toEqual([names.output]);
        results.push([...(Object.entries(outputs)[0]?.[1].values ?? [])]);
      }
      for (const result of results) expect(result).toEqual(results[0]);
    } finally {
      opened.close();
    }
  });
});
