import { allocate, type DType, type OnnxArtifact, type WgslArtifact } from "../index.ts";
import { runSignature, type Typed, valueTypes } from "./runnerTypes.ts";
import { version } from "./version.ts";

/** The JavaScript array and the ONNX Runtime name of a dtype that can cross a model's border. */
const borderTypes: Partial<Record<DType, { readonly array: string; readonly ort: string }>> = {
  // Absent: ONNX Runtime's JavaScript tensors do not hold it.
  f32: { array: "Float32Array", ort: "float32" },
  f64: { array: "Float64Array", ort: "float64" },
  f16: { array: "Uint16Array", ort: "float16" },
  i64: { array: "BigInt64Array", ort: "int64" },
  i32: { array: "Int32Array", ort: "int32" },
  i16: { array: "Int16Array", ort: "int16" },
  i8: { array: "Int8Array", ort: "int8" },
  u32: { array: "Uint32Array", ort: "uint32" },
  u16: { array: "Uint16Array", ort: "uint16" },
  u8: { array: "Uint8Array", ort: "uint8" },
  bool: { array: "Uint8Array", ort: "bool" },
};

type Files = readonly (readonly [name: string, contents: string])[];

/** A module beside model.onnx that runs it: `NAME.js`, its types, and the package.json that makes it a package. */
export function onnxRunner({ inputs, outputs }: OnnxArtifact, modelName: string): Files {
  if ([...inputs, ...outputs].some(({ type }) => borderTypes[type.dtype] === undefined)) return [];
  const typed = ({ name, type }: OnnxArtifact["inputs"][number]): Typed => ({ name, ...type });
  const [given, made] = [inputs.map(typed), outputs.map(typed)];
  const arrayOf = (dtype: DType): string => borderTypes[dtype]?.array as string;
  const name = moduleName(modelName);
  const types = `${header}${valueTypes(given, made, arrayOf)}
${onnxLoad}
${runComment}
export declare function ${runSignature(given)}
`;
  return [
    [`${name}.js`, onnxSource(given)],
    [`${name}.d.ts`, types],
    packageOf(name, { types: `./${name}.d.ts`, default: `./${name}.js` }),
  ];
}

/** Modules beside plan.json that run it in a browser, `NAME.js`, and in Node, `NAME.node.js`, in the same form. */
export function webGpuRunner({ program: { inputs, outputs } }: WgslArtifact, modelName: string): Files {
  const arrayOf = (dtype: DType): string => allocate(dtype, 0).constructor.name;
  const name = moduleName(modelName);
  const types = `${header}import type { BrowserModel, LoadOptions } from "tamis/browser";
${valueTypes(inputs, outputs, arrayOf)}
export interface Model extends Omit<BrowserModel, "run"> {
  ${runComment}
  ${runSignature(inputs)}
}

${browserLoad}
export declare function load(options?: LoadOptions): Promise<Model>;
`;
  const node = { types: `./${name}.node.d.ts`, default: `./${name}.node.js` };
  return [
    [`${name}.js`, browserSource],
    [`${name}.d.ts`, types],
    [`${name}.node.js`, nodeSource],
    [`${name}.node.d.ts`, nodeTypes(name)],
    packageOf(name, { node, types: `./${name}.d.ts`, default: `./${name}.js` }),
  ];
}

const header = `// Written by tamis ${version}.\n`;

/** Lets the folder be imported by name where it is linked or installed as a package, and its files by path. */
function packageOf(name: string, entry: Readonly<Record<string, unknown>>): Files[number] {
  const described = {
    name: name.toLowerCase().replace(/^[_.]+/, "") || "model",
    version: "0.0.0",
    private: true,
    type: "module",
    main: `./${name}.js`,
    types: `./${name}.d.ts`,
    exports: { ".": entry, "./*": "./*" },
  };
  return ["package.json", `${JSON.stringify(described, null, 2)}\n`];
}

const longestName = 64; // characters; file systems allow 255 bytes
const reservedNames = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i; // of Windows

/** A model's name as that of a file, on every system and whatever it holds. */
export function moduleName(modelName: string): string {
  const name = modelName
    .replace(/[^A-Za-z0-9_.-]/g, "-")
    .replace(/^[.-]+/, "")
    .slice(0, longestName)
    .replace(/[.]+$/, "");
  if (name === "") return "model";
  return reservedNames.test(name) ? `model-${name}` : name;
}

const imports = ['import { fileURLToPath } from "node:url";', 'import ort from "onnxruntime-node";'].join("\n");

// Names stand in JSON texts alone, and in lists of pairs: a literal { "__proto__": x } would set a prototype.
function onnxSource(inputs: readonly Typed[]): string {
  const rows = inputs.map(
    ({ name, dtype, shape }) => `  ${JSON.stringify([name, { type: borderTypes[dtype]?.ort, shape }])},`,
  );
  return `// Written by tamis ${version}: runs the model.onnx beside it with ONNX Runtime (npm install onnxruntime-node).
${imports}

const inputs = [
${rows.join("\n")}
];
const path = fileURLToPath(new URL("model.onnx", import.meta.url));
let session;

/** Loads the model; run() does so by itself. Options are those of ONNX Runtime's InferenceSession.create. */
export function load(options = {}) {
  session ??= ort.InferenceSession.create(path, options);
  return session;
}

/** Runs the model once. A shape may be left out where at most one of its sizes is open. Throws with code bad-input. */
export async function run(given) {
  const unknown = Object.keys(given).find((name) => inputs.every(([known]) => known !== name));
  if (unknown !== undefined)
    throw badInput(\`there is no input \${unknown}; the inputs: \${inputs.map(([name]) => name).join(", ")}\`);
  const feeds = inputs.map(([name, { type, shape }]) => {
    const value = Object.hasOwn(given, name) ? given[name] : undefined;
    if (value === undefined) throw badInput(\`input \${name} (\${type}[\${shape.join(",")}]) is missing\`);
    return [name, new ort.Tensor(type, value.data, value.shape ?? completed(name, shape, value.data.length))];
  });
  const results = await (await load()).run(Object.fromEntries(feeds));
  return Object.fromEntries(Object.entries(results).map(([name, { data, dims }]) => [name, { data, shape: dims }]));
}

const badInput = (message) => Object.assign(new TypeError(message), { code: "bad-input" });

function completed(name, shape, elements) {
  const open = shape.filter((size) => typeof size !== "number");
  const known = shape.reduce((product, size) => (typeof size === "number" ? product * size : product), 1);
  if (open.length > 1) throw badInput(\`input \${name} needs its shape: [\${shape.join(",")}] has several open sizes\`);
  return shape.map((size) => (typeof size === "number" ? size : elements / known));
}
`;
}

const browserLoad =
  "/** Loads the model: onProgress hears of bytes as they arrive, device is one to share, signal gives up. */";

const browserSource = `// Written by tamis ${version}: runs the files beside it with WebGPU, in a browser.
${'import { loadModel } from "tamis/browser";'}

${browserLoad}
export const load = (options) => loadModel(new URL("./", import.meta.url), options);
`;

const nodeLoad = "/** Loads the model: onProgress hears of bytes as they are read, device is one to share. */";

const nodeSource = `// Written by tamis ${version}: runs the files beside it with WebGPU, in Node.
${'import { loadModel } from "tamis/runtime";'}

${nodeLoad}
export const load = (options) => loadModel(new URL("./", import.meta.url), options);
`;

const nodeTypes = (name: string): string =>
  [
    `${header}import type { LoadOptions } from "tamis/runtime";`,
    `import type { Model } from "./${name}.js";\n`,
    `export type { Inputs, Model, Outputs } from "./${name}.js";\n`,
    nodeLoad,
    "export declare function load(options?: LoadOptions): Promise<Model>;\n",
  ].join("\n");

const runComment = "/** Runs the model once. A shape may be left out where at most one of its sizes is open. */";

const onnxLoad = `/** Loads the model; run() does so by itself. Options are those of ONNX Runtime's InferenceSession.create. */
export declare function load(options?: object): Promise<unknown>;
`;
