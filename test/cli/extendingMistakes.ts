interface Mistake {
  readonly what: string;
  readonly says: RegExp;
}
interface Refusal extends Mistake {
  /** Written before the command runs. */
  readonly file?: string;
  readonly text?: string;
  readonly command: string;
}

const backendThat = (name: string, emit: string): string =>
  `import { backend } from "tamis";\nexport const ${name} = backend({ name: "${name}", summary: "", ${emit} });`;
const compositeOf = (name: string, decompose: string): string =>
  `composite({ name: "${name}", summary: "", operands: ["x"], infer: ([x]) => [x], decompose: (b, [x]) => ${decompose} })`;
const imports = 'import { composite, defineModel, input } from "tamis";';

/** What people do wrong with files of their own, in the project of docs/extending.md, and what they are told. */
export const refusals: readonly Refusal[] = [
  {
    what: "a name that a pass file does not export",
    command: "inspect model.ts --pass ./tanhGelu.ts:tanhGelo",
    says: /tanhGelu\.ts:1:1 error\[unknown-pass\]: .* exports no pass named "tanhGelo"\n {2}help: did you mean tanhGelu\?/,
  },
  {
    what: "a pass file without a pass named",
    command: "inspect model.ts --pass ./tanhGelu.ts",
    says: /error\[unknown-pass\]: .* names a file, but no pass of it\n {2}help: write \.\/tanhGelu\.ts:tanhGelu/,
  },
  {
    what: "an export that is no pass",
    command: "inspect model.ts --pass ./siluGate.ts:siluGate",
    says: /error\[unknown-pass\]: .*\n {2}help: its siluGate is a composite; rewritePass makes a pass/,
  },
  {
    what: "a file that exports no pass",
    file: "none.ts",
    text: "export const x = 1;",
    command: "inspect model.ts --pass ./none.ts:y",
    says: /error\[unknown-pass\]: .* exports no pass named "y"\n {2}help: its passes: none/,
  },
  {
    what: "a pass file that throws",
    file: "throws.ts",
    text: "const list: number[] = [];\nlist[0]!.toFixed();\nexport const p = 1;",
    command: "inspect model.ts --pass ./throws.ts:p",
    says: /^throws\.ts:2:\d+ error\[model-import\]: the file fails when it is imported/,
  },
  {
    what: "a function that makes no pass",
    file: "makes.ts",
    text: "export const make = () => 1;",
    command: "inspect model.ts --pass ./makes.ts:make",
    says: /^\.\/makes\.ts:1:1 error\[unknown-pass\]: make is a function that gives no pass/,
  },
  {
    what: "a backend that is not there",
    command: "compile model.ts --target ./graphviz.ts:graphvis -o out/x",
    says: /error\[unknown-target\]: .* exports no backend named "graphvis"\n {2}help: did you mean graphviz\?/,
  },
  {
    what: "running a backend",
    command: "run model.ts --target ./graphviz.ts:graphviz --input x=random:1",
    says: /error\[not-available\]: graphviz is a target of your own/,
  },
  {
    what: "a profile that a backend has not",
    command: "compile model.ts --target ./graphviz.ts:graphviz --profile fancy -o out/x",
    says: /error\[unknown-profile\]: graphviz has no profile "fancy"\n {2}help: one of plain/,
  },
  {
    what: "a backend that gives no files",
    file: "flat.ts",
    text: backendThat("flat", 'emit: () => "text" as never'),
    command: "compile model.ts --target ./flat.ts:flat -o out/flat",
    says: /error\[bad-backend\]: flat: emit gives string, not files/,
  },
  {
    what: "a backend that writes outside its folder",
    file: "outside.ts",
    text: backendThat("outside", 'emit: () => ({ "../x": "" })'),
    command: "compile model.ts --target ./outside.ts:outside -o out/outside",
    says: /error\[bad-backend\]: outside: emit names "\.\.\/x", which is no path below a folder/,
  },
  {
    what: "a backend that throws",
    file: "bad.ts",
    text: backendThat("bad", '\nemit() { throw new Error("oh"); }'),
    command: "compile model.ts --target ./bad.ts:bad -o out/bad",
    says: /^bad\.ts:3:\d+ error\[model-error\]: emit of bad fails: oh/,
  },
  {
    what: "a composite with a name of the table",
    file: "clash.ts",
    text: `${imports}\nexport const own = ${compositeOf("silu", "b.relu(x)")};`,
    command: "inspect clash.ts",
    says: /^clash\.ts:2:20 error\[duplicate-op\]: the name silu is taken by the op table/,
  },
  {
    what: "a composite whose halves disagree",
    file: "halves.ts",
    text: `${imports}\nconst sum = ${compositeOf("total", "b.reduceSum(x, { axes: [0] })")};
export const m = defineModel({ name: "m", build: () => ({ y: sum(input("x", "f32", [2])) }) });`,
    command: "inspect halves.ts",
    says: /^halves\.ts:3:\d+ error\[bad-composite\]: total is f32\[2\] by infer, but f32\[\] by decompose/,
  },
  {
    what: "a composite that nobody listed",
    file: "own.ir",
    text: "graph @g(%x: f32[2]) {\n  %0 = doubledTwice(%x) : f32[2]\n  return y: %0\n}\n",
    command: "inspect own.ir",
    says: /^own\.ir:2:8 error\[unknown-op\]: .*\n {2}help: an op of your own is one of the composites that tamis\.config\.ts lists/,
  },
];

export const configs: readonly (Mistake & { readonly text: string })[] = [
  {
    what: "a config that does not parse",
    text: "export default {\n  passes: [,\n",
    says: /^tamis\.config\.ts:\d+:\d+ error\[model-import\]: the file cannot be read/,
  },
  {
    what: "a config without a default export",
    text: "export const config = {};",
    says: /error\[bad-config\]: tamis\.config\.ts has no config as its default export/,
  },
  {
    what: "a key that is none",
    text: "export default { pass: [] };",
    says: /error\[bad-config\]: a config has no "pass"\n {2}help: did you mean passes\?/,
  },
  {
    what: "a pass that is none",
    text: "export default { passes: [1] };",
    says: /error\[bad-config\]: passes wants a list of passes, .* but its item 0 is none/,
  },
  {
    what: "a pass named as one of ours",
    text: 'import { simplify } from "tamis";\nexport default { passes: [simplify] };',
    says: /error\[duplicate-name\]: there is already a pass named simplify/,
  },
];
