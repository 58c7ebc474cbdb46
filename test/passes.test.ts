import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { randomGraph } from "../src/conform/randomGraph.ts";
import { compareTensors, tolerances } from "../src/conform/tolerance.ts";
import { CompileError } from "../src/ir/diagnostic.ts";
import { evaluateExact } from "../src/ir/evaluate/index.ts";
import { type Graph, type WeightSource } from "../src/ir/graph.ts";
import { parseGraph } from "../src/ir/parse.ts";
import { printGraph } from "../src/ir/print.ts";
import { verifyGraph } from "../src/ir/verify.ts";
import { type PassEntry, parsePassSpec, passEntry, passes } from "../src/passes/index.ts";
import { type Contract, type Pass, type PassReport, runPasses } from "../src/passes/pass.ts";

const withExampleOptions = ({ make, exampleOptions }: PassEntry): Pass => make(exampleOptions);
const run = (pass: Pass, graph: Graph): PassReport =>
  runPasses({ graph, weights: new Map<string, WeightSource>() }, [pass]).reports[0] as PassReport;
const all = [...passes.values()];
const keepsMeaning = (contract: Contract) => contract === "exact" || contract === "reassociates";

describe.each(all.map((entry) => [entry.name, entry] as const))("%s", (name, entry) => {
  const pass = withExampleOptions(entry);

  test("turns its example's before into its after", () => {
    const before = parseGraph(pass.example.before);
    const report = run(pass, before);
    verifyGraph(report.after);
    expect(printGraph(report.after).trim()).toBe(pass.example.after.trim());
    expect(report.changed).toBe(true);
    expect(report.fired.length).toBeGreaterThan(0);
  });

  test("states its example as it is printed", () => {
    for (const text of [pass.example.before, pass.example.after])
      expect(printGraph(parseGraph(text)).trim()).toBe(text.trim());
  });

  test("stands in a file named after it, which exports it under its name", () => {
    const places = [`../src/passes/${name}.ts`, `../src/passes/${name}/${name}.ts`];
    const texts = places.flatMap((place) => {
      try {
        return [readFileSync(new URL(place, import.meta.url), "utf8")];
      } catch {
        return [];
      }
    });
    expect(texts.length).toBe(1);
    expect(texts[0]).toMatch(new RegExp(`export (const|function) ${name}\\b`));
  });

  test("says what it does in one line, and what each option is", () => {
    expect(entry.summary).toMatch(/^[^A-Z].*[^.]$/);
    for (const { doc } of Object.values(entry.options)) expect(doc).toMatch(/[^.]$/);
  });

  test.runIf(keepsMeaning(entry.contract))("finds nothing left to do in what it made", () => {
    const once = run(pass, parseGraph(pass.example.before)).after;
    expect(run(pass, once).changed).toBe(false);
  });

  test.runIf(keepsMeaning(entry.contract))("keeps what random graphs compute", () => {
    for (let seed = 0; seed < randomGraphs; seed++) {
      const { graph, inputs } = randomGraph(seed);
      const { after } = run(pass, graph);
      const [was, is] = [evaluateExact(graph, inputs), evaluateExact(after, inputs)];
      for (const { name, value } of graph.outputs) {
        const { dtype } = value.type;
        const [actual, wanted] = [is[name], was[name]].map((t) => ({
          dtype,
          shape: t?.shape ?? [],
          values: t?.values ?? [],
        }));
        const allowed = dtype.startsWith("f") || dtype === "bf16" ? tolerances.f32Golden : tolerances.exact;
        const found = compareTensors(actual as never, wanted as never, allowed);
        if (!found.ok)
          expect.fail(`seed ${seed}, output ${name}: ${found.message}\n${printGraph(graph)}\n${printGraph(after)}`);
      }
    }
  });

  test.runIf(keepsMeaning(entry.contract))("leaves random graphs as they are when run again", () => {
    for (let seed = 0; seed < randomGraphs; seed++) {
      const once = run(pass, randomGraph(seed).graph).after;
      expect(printGraph(run(pass, once).after)).toBe(printGraph(once));
    }
  });
});

const randomGraphs = 200;

describe("texts that name a pass", () => {
  const example = passEntry({
    options: {
      r: { kind: ["int", "list", "tuple"], doc: "tokens per block" },
      keepRatio: { kind: "number", default: 0.7, doc: "share that stays, in (0, 1]" },
      protect: { kind: "boolean", default: false, doc: "keep the class token" },
      keep: { kind: "words", default: [], doc: "ops that stay" },
      by: { kind: "string", default: "rank", choices: ["rank", "random"], doc: "the order" },
      note: { kind: "string", optional: true, doc: "any text" },
    },
    exampleOptions: { r: 8 },
    make: (options) => ({
      name: "example",
      summary: JSON.stringify(options),
      contract: "exact",
      example: { before: "", after: "" },
      run: (graph) => graph,
    }),
  });
  const known = new Map([["example", example]]);
  const read = (text: string) => parsePassSpec(text, known).options;
  const errorOf = (text: string): string => {
    try {
      parsePassSpec(text, known);
      return "none";
    } catch (error) {
      return error instanceof CompileError ? error.message : String(error);
    }
  };

  test("every pass is known by its name", () => {
    expect([...passes.keys()]).toEqual(all.map((entry) => withExampleOptions(entry).name));
    expect(parsePassSpec("simplify").make().name).toBe("simplify");
    expect(parsePassSpec("bindSymbols:batch=4,n=16").options).toEqual({ batch: 4, n: 16 });
    expect(parsePassSpec("decompose:keep=attention;layerNorm").options).toEqual({ keep: ["attention", "layerNorm"] });
  });

  test("options are read by their kind", () => {
    expect(read("example:r=8,keepRatio=.5,protect=1,keep=a;b,by=random,note=x=y")).toEqual({
      r: 8,
      keepRatio: 0.5,
      protect: true,
      keep: ["a", "b"],
      by: "random",
      note: "x=y",
    });
    expect(read("example: r = 3 , protect ")).toEqual({ r: 3, protect: true });
    expect(read("example:r=1,protect=false,keepRatio=1e-1")).toEqual({ r: 1, protect: false, keepRatio: 0.1 });
  });

  test("a list and a tuple keep their commas, and stay apart", () => {
    expect(read("example:r=[7,0,5],protect=1")).toEqual({ r: [7, 0, 5], protect: true });
    expect(read("example:r=7;0;5")).toEqual({ r: [7, 0, 5] });
    expect(read("example:r=(6,-1.0),keep=[]")).toEqual({ r: { tuple: [6, -1] }, keep: [] });
  });

  test("what is not given takes its default when the pass is made", () => {
    expect(JSON.parse(parsePassSpec("example:r=2", known).make().summary)).toEqual({
      r: 2,
      keepRatio: 0.7,
      protect: false,
      keep: [],
      by: "rank",
    });
  });

  test.each([
    ["exmple:r=1", 'error[unknown-pass]: there is no pass named "exmple"\n  help: did you mean example?'],
    ["zzzzzzzzz", 'error[unknown-pass]: there is no pass named "zzzzzzzzz"\n  help: the passes: example'],
    [
      "example:r=1,keepRato=1",
      'error[unknown-option]: example has no option "keepRato"\n  help: did you mean keepRatio?',
    ],
    ["example:r=1,toString=1", 'error[unknown-option]: example has no option "toString"'],
    ["example", "error[bad-option]: example: option r (tokens per block) is missing\n  help: write example:r=..."],
    [
      "example:r=x",
      'error[bad-option]: example: option r wants an integer or a list of numbers such as [1,2,3] or 1;2;3 or a tuple of numbers such as (6,-1.0), got "x"',
    ],
    ["example:r", "error[bad-option]: example: option r wants a value: r=..."],
    ["example:r=1,r=2", "error[bad-option]: example: option r is given twice"],
    ["example:r=1.5,keepRatio=x", 'option keepRatio wants a number, got "x"'],
    ["example:r=1,protect=maybe", 'option protect wants true or false, got "maybe"'],
    ["example:r=1,by=rnak", 'option by is one of rank, random, got "rnak"\n  help: did you mean rank?'],
    ["example:r=[1,2", 'error[bad-option]: example: "r=[1,2" lacks a ]'],
    ["example:r=1)", 'error[bad-option]: example: "r=1)" has a stray )'],
    ["example:r=[1,(2]", "has a stray ]"],
  ])("%s is refused", (text, message) => {
    expect(errorOf(text)).toContain(message);
  });
});
