import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CompileError, compileError, diagnosticJson, InternalError, lower, parseGraph } from "../src/index.ts";

const root = fileURLToPath(new URL("../src/", import.meta.url));
const plain = /\bthrow (?:new )?(?:Type|Range|Syntax|Reference|Eval|URI|Aggregate)?Error\b/;

test("whatever is thrown in src has a class and a code of ours", () => {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  expect(files.length).toBeGreaterThan(200);
  const thrown = files.flatMap((file) =>
    readFileSync(root + file, "utf8")
      .split("\n")
      .flatMap((line, i) => (plain.test(line) ? [`${file}:${i + 1} ${line.trim()}`] : [])),
  );
  expect(thrown).toEqual([]);
  for (const line of ["throw new Error('x')", "throw TypeError(x)", "  throw new RangeError();"])
    expect(plain.test(line)).toBe(true);
  expect(plain.test("throw new InternalError(message)")).toBe(false);
});

function caught(body: () => unknown): unknown {
  try {
    return body();
  } catch (error) {
    return error;
  }
}

test("a mistake is data: code, place, notes and help", () => {
  const text = "graph @sum(%a: f32[2,3], %b: f32[3,2]) {\n  %0 = add(%a, %b) : f32[2,3]\n  return y: %0\n}";
  const error = caught(() => parseGraph(text, { file: "sum.ir" })) as CompileError;
  expect(error).toBeInstanceOf(CompileError);
  expect(error.code).toBe("shape-mismatch");
  expect(error.loc).toMatchObject({ kind: "file", file: "sum.ir", line: 2, column: 8 });
  expect(error.notes).toHaveLength(1);
  const typo = caught(() => parseGraph(text.replace("add(", "adde("))) as CompileError;
  expect(typo.help).toBe("did you mean add or and?");
});

test("JSON of an error is what --json prints", () => {
  const loc = { kind: "file", file: "vit.ts", line: 41, column: 28 } as const;
  const notes = [{ message: "declared here", loc: { ...loc, line: 12 } }];
  const error = compileError("shape-mismatch", "lhs has 768 columns", { loc, notes, help: "declare 768 rows" });
  const shown = {
    code: "shape-mismatch",
    severity: "error",
    message: "lhs has 768 columns",
    help: "declare 768 rows",
    loc: "vit.ts:41:28",
    file: "vit.ts",
    line: 41,
    column: 28,
    notes: [{ message: "declared here", loc: "vit.ts:12:28" }],
  };
  expect(JSON.parse(JSON.stringify(error))).toEqual({ name: "CompileError", diagnostics: [shown] });
  expect(error.diagnostics.map(diagnosticJson)).toEqual([shown]);
});

test("a defect of ours has a code too", () => {
  expect(new InternalError("x").code).toBe("internal-error");
  const graph = parseGraph("graph @g(%x: f32[2]) {\n  return y: %x\n}");
  const broken = { ...graph, outputs: [...graph.outputs] };
  const pass = { name: "p", summary: "", contract: "exact", example: { before: "", after: "" }, run: () => broken };
  expect(caught(() => lower(graph, { passes: [pass as never] }))).toMatchObject({ code: "internal-error" });
});
