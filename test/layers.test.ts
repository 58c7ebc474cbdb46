import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

// Who may import whom, as docs/architecture.md states it. Paths are relative to the repository; one that ends in "/"
// is a folder. `types` may be imported with `import type` only. Tests, scripts and benchmarks may import anything.
interface Law {
  readonly may: readonly string[];
  readonly types?: readonly string[];
  readonly packages?: readonly string[];
  /** `node:*` modules. */
  readonly node?: true;
}

const ir = "src/ir/";
/** What a runtime needs of the IR to check and convert what it is given: no builder, parser or printer. */
const irOfRuntime = ["bindSizes", "diagnostic", "dim", "packing", "type", "graph"].map((name) => `${ir}${name}.ts`);
const passFramework = ["pass", "rewrite", "rebuild", "decompose"].map((name) => `src/passes/${name}.ts`);
const allButCli = [
  "src/index.ts",
  "src/compile.ts",
  "src/config.ts",
  ...folders("ir dsl models passes backends runtime"),
];

const laws: Readonly<Record<string, Law>> = {
  "src/ir/": { may: [ir] },
  "src/dsl/": { may: [ir, "src/dsl/"] },
  "src/models/": { may: ["src/dsl/", "src/models/"], types: [ir] },
  "src/passes/": { may: [ir, "src/passes/"] },
  "src/backends/backend.ts": { may: [ir, ...passFramework] },
  "src/backends/onnx/": {
    may: [ir, ...passFramework, "src/backends/backend.ts", "src/backends/onnx/"],
    packages: ["onnx-proto"],
  },
  "src/backends/wgsl/": { may: [ir, ...passFramework, "src/backends/backend.ts", "src/backends/wgsl/"] },
  // What runs in node and in a browser alike.
  "src/runtime/": {
    may: [...irOfRuntime, "src/ir/evaluate/", "src/runtime/session.ts", "src/runtime/webgpu/"],
    types: [ir, "src/backends/"],
  },
  "src/runtime/artifact/": {
    may: [...irOfRuntime, "src/runtime/session.ts", ...folders("runtime/webgpu runtime/artifact")],
    types: [ir, "src/backends/"],
  },
  "src/runtime/node/": {
    may: [...irOfRuntime, "src/ir/evaluate/", "src/runtime/"],
    types: [ir, "src/backends/"],
    packages: ["sharp", "onnx-proto", "onnxruntime-node", "onnxruntime-common", "webgpu"],
    node: true,
  },
  "src/runtime/browser/": {
    may: [...irOfRuntime, "src/runtime/session.ts", ...folders("runtime/webgpu runtime/artifact runtime/browser")],
    types: [ir, "src/backends/"],
  },
  "src/frontend/": { may: [ir, "src/dsl/", "src/frontend/"], packages: ["ts-morph"], node: true },
  "src/compile.ts": { may: allButCli },
  "src/config.ts": { may: [], types: allButCli },
  "src/index.ts": { may: allButCli },
  "src/conform/": { may: [...allButCli, "src/frontend/", "src/conform/"], packages: ["picocolors"], node: true },
  "src/cli/": {
    may: ["src/index.ts", ...folders("models runtime frontend conform cli")],
    packages: ["commander", "picocolors", "cli-table3", "cli-progress", "uplot", "tsx", "tsx/esm/api"],
    node: true,
  },
  "examples/": { may: ["examples/"], packages: ["tamis", "tamis/runtime", "tamis/models"] },
  // What a page loads, and the program that writes and serves it.
  "examples/browser/page/": { may: ["examples/browser/page/"], packages: ["tamis/browser"] },
  "examples/browser/": { may: ["examples/"], packages: ["tamis", "tamis/runtime", "esbuild"], node: true },
  // The demo is a program that writes files, not a model.
  "examples/demo": {
    may: ["examples/"],
    packages: ["tamis", "tamis/runtime", "tamis/models", "cli-progress", "cli-table3", "uplot"],
    node: true,
  },
};

function folders(names: string): readonly string[] {
  return names.split(" ").map((name) => `src/${name}/`);
}

interface Edge {
  readonly from: string;
  readonly line: number;
  /** A path relative to the repository, or a package. */
  readonly to: string;
  readonly types: boolean;
  /** `import("...")`: run time, but not while loading. */
  readonly lazy: boolean;
}

const root = fileURLToPath(new URL("../", import.meta.url));
const files = ["src", "examples"].flatMap(sourcesBelow);
const textOf = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
const edges = files.flatMap((file) => edgesOf(file, textOf.get(file) as string));

function sourcesBelow(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) return entry.name === "node_modules" ? [] : sourcesBelow(path);
      return /\.(ts|js|mjs)$/.test(entry.name) ? [path] : [];
    })
    .sort();
}

/**
 * Imports and re-exports at the start of a line, and `import("...")` anywhere. `import { type A }` is no type-only
 * edge: under verbatimModuleSyntax the module is still loaded.
 */
function edgesOf(from: string, text: string): readonly Edge[] {
  const clause = /^(?:import|export)\s+(type\s+)?(?:[\w*{][^"';=]*?\s*from\s+)?"([^"]+)"/gm;
  const call = /(?<![\w.])import\(\s*"([^"]+)"\s*\)(?!\.)/g;
  const edge = (at: number, name: string, types: boolean, lazy: boolean): Edge => ({
    from,
    line: text.slice(0, at).split("\n").length,
    to: name.startsWith(".") ? posix.normalize(`${dirname(from)}/${name}`) : name,
    types,
    lazy,
  });
  return [
    ...[...text.matchAll(clause)].map((m) => edge(m.index, m[2] as string, m[1] !== undefined, false)),
    ...[...text.matchAll(call)].map((m) => edge(m.index, m[1] as string, false, true)),
  ];
}

const below = (path: string, place: string): boolean =>
  path === place || (place.endsWith("/") && path.startsWith(place));

/** The law with the longest place that holds the file. */
function lawOf(file: string): readonly [place: string, law: Law] | undefined {
  const places = Object.keys(laws).filter(
    (place) => below(file, place) || (place === "examples/demo" && file.startsWith(place)),
  );
  const place = places.sort((a, b) => b.length - a.length)[0];
  return place === undefined ? undefined : [place, laws[place] as Law];
}

function broken({ from, line, to, types }: Edge): string | undefined {
  const found = lawOf(from);
  if (found === undefined) return `${from} is in no layer`;
  const [place, law] = found;
  const says = (what: string) => `${from}:${line} imports ${to}: ${place} may not import ${what}`;
  if (to.startsWith("node:")) return law.node || types ? undefined : says("node:* modules");
  if (!/^(src|examples)\//.test(to)) {
    if (law.packages?.includes(to)) return undefined;
    return says("this package");
  }
  if (law.may.some((target) => below(to, target))) return undefined;
  if (law.types?.some((target) => below(to, target))) return types ? undefined : says("it except with `import type`");
  return says("it");
}

test("imports keep to the layers", () => {
  expect(edges.map(broken).filter((reason) => reason !== undefined)).toEqual([]);
});

test("the import rules are seen to bite", () => {
  const refused = (from: string, text: string) => edgesOf(from, text).map((edge) => broken(edge) !== undefined);
  expect(refused("src/ir/x.ts", 'import { a } from "../passes/pass.ts";')).toEqual([true]);
  expect(refused("src/ir/x.ts", 'import { readFileSync } from "node:fs";')).toEqual([true]);
  expect(refused("src/models/x.ts", 'import type { Dim } from "../ir/type.ts";')).toEqual([false]);
  expect(refused("src/models/x.ts", 'import { type Dim } from "../ir/type.ts";')).toEqual([true]);
  expect(refused("src/models/x.ts", 'export * from "../passes/index.ts";')).toEqual([true]);
  expect(refused("src/backends/onnx/x.ts", 'import { a } from "../wgsl/y.ts";')).toEqual([true]);
  expect(refused("src/passes/x.ts", 'const a = await import("../dsl/index.ts");')).toEqual([true]);
  expect(refused("src/cli/x.ts", 'import {\n  a,\n  type B,\n} from "../ir/parse.ts";')).toEqual([true]);
  expect(refused("examples/01-x.ts", 'import { input } from "tamis";\nimport x from "../src/index.ts";')).toEqual([
    false,
    true,
  ]);
});

test("every import leads to a file", () => {
  const missing = edges.filter(({ to }) => /^(src|examples)\//.test(to) && !textOf.has(to));
  expect(missing.map(({ from, line, to }) => `${from}:${line} ${to}`)).toEqual([]);
});

test("no files import each other in a circle at run time", () => {
  expect(circles(edges.filter(({ types, lazy, to }) => !types && !lazy && textOf.has(to)))).toEqual([]);
  expect(circles([circleEdge("a", "b"), circleEdge("b", "c"), circleEdge("c", "b")])).toEqual(["b -> c -> b"]);
});

const circleEdge = (from: string, to: string): Edge => ({ from, to, line: 1, types: false, lazy: false });

/** One line per import that closes a circle, found by walking depth first. */
function circles(among: readonly Edge[]): readonly string[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of among) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  for (const start of next.keys()) {
    const path: string[] = [];
    const work: { readonly file: string; readonly leave: boolean }[] = [{ file: start, leave: false }];
    for (let step = work.pop(); step !== undefined; step = work.pop()) {
      const { file, leave } = step;
      if (leave) {
        path.pop();
        done.add(file);
        continue;
      }
      if (path.includes(file)) {
        found.push([...path.slice(path.indexOf(file)), file].join(" -> "));
        continue;
      }
      if (done.has(file)) continue;
      path.push(file);
      work.push({ file, leave: true });
      for (const to of next.get(file) ?? []) work.push({ file: to, leave: false });
    }
  }
  return found;
}

test("code that must run in a browser names no global of node", () => {
  const host = folders("ir dsl models passes backends runtime/webgpu runtime/artifact runtime/browser");
  const named = files
    .filter((file) => host.some((folder) => below(file, folder)))
    .filter((file) => /(?<![\w.])(process|Buffer|__dirname)\./.test(codeOnly(textOf.get(file) as string)));
  expect(named).toEqual([]);
});

test("a file that exports a pass is named after it", async () => {
  const seen = files
    .filter((file) => below(file, "src/passes/"))
    .flatMap((file) => {
      const declared =
        /^export (?:function (\w+)\([^{]*\): Pass\b|const (\w+)(?:: Pass)? = rewritePass\(|const (\w+): Pass\b)/gm;
      return [...(textOf.get(file) as string).matchAll(declared)]
        .map((m) => (m[1] ?? m[2] ?? m[3]) as string)
        .filter((name) => name !== "rewritePass")
        .map((name) => ({ name, file }));
    });
  const places = (name: string) => [
    `src/passes/${name}.ts`,
    `src/passes/${name}/${name}.ts`,
    `src/passes/${name}/index.ts`,
  ];
  expect(seen.filter(({ name, file }) => !places(name).includes(file))).toEqual([]);
  expect(seen.length).toBeGreaterThanOrEqual(5);
  const { passes } = await import("../src/passes/index.ts");
  for (const name of passes.keys())
    expect(
      places(name).filter((file) => textOf.has(file)),
      name,
    ).toHaveLength(1);
});

// A method is a pass; the op table and the backends know ops only. The papers' names may stand in texts and comments.
const methods =
  /ToMe|ToCom|EViT|OFA|DeLVM|ADEM|GeminiFusion|DiffSR|PanGu|AdaptConf|VideoLLM|^(tome|tocom|evit|ofa|delvm|adem|geminifusion|pangu|adaptconf)$/;
const words = (identifier: string): readonly string[] => [
  identifier,
  ...identifier.split(/(?=[A-Z])|_/).map((w) => w.toLowerCase()),
];

test("no identifier of the IR or of a backend carries a paper's name", () => {
  const named = files
    .filter((file) => below(file, ir) || below(file, "src/backends/"))
    .flatMap((file) => {
      const identifiers = new Set(codeOnly(textOf.get(file) as string).match(/[A-Za-z_$][\w$]*/g) ?? []);
      return [...identifiers]
        .filter((id) => words(id).some((word) => methods.test(word)))
        .map((id) => `${file}: ${id}`);
    });
  expect(named).toEqual([]);
  for (const id of ["applyToMe", "tomeMatch", "OFALoss"])
    expect(
      words(id).some((w) => methods.test(w)),
      id,
    ).toBe(true);
  for (const id of ["bottomEdge", "customer", "tokenMerge"])
    expect(
      words(id).some((w) => methods.test(w)),
      id,
    ).toBe(false);
});

/** Without comments and without the contents of strings; regular expressions are taken for code. */
function codeOnly(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, " ")
    .replace(/(^|[^:"'\\/])\/\/[^\n]*/g, "$1")
    .replace(/`(?:[^`\\]|\\.)*`|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""');
}

test("the files and imports read are those there are", () => {
  const count = (place: string) => files.filter((file) => below(file, place)).length;
  const least = {
    "src/ir/": 20,
    "src/dsl/": 6,
    "src/models/": 8,
    "src/passes/": 15,
    "src/backends/": 10,
    "src/runtime/": 10,
  };
  for (const [place, number] of Object.entries(least)) expect(count(place), place).toBeGreaterThanOrEqual(number);
  expect(files.length).toBeGreaterThanOrEqual(100);
  expect(edges.length).toBeGreaterThanOrEqual(400);
  const imports = [...textOf.values()].join("\n").match(/^import\b/gm)?.length;
  expect(edges.filter(({ lazy }) => !lazy).length).toBeGreaterThanOrEqual(imports ?? Number.POSITIVE_INFINITY);
});
