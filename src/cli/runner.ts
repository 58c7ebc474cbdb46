import type { DType, OnnxArtifact, OnnxValue } from "../index.ts";
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

/** A module beside model.onnx that runs it: `NAME.js`, its types, and the package.json that makes it an ES module. */
export function runnerFiles(artifact: OnnxArtifact, modelName: string): readonly (readonly [string, string])[] {
  if ([...artifact.inputs, ...artifact.outputs].some(({ type }) => borderTypes[type.dtype] === undefined)) return [];
  const name = modelName.replace(/[^\w.-]/g, "-").replace(/^[.-]+/, "") || "model";
  const described = { private: true, type: "module", main: `./${name}.js`, types: `./${name}.d.ts` };
  return [
    [`${name}.js`, runnerSource(artifact)],
    [`${name}.d.ts`, runnerTypes(artifact, modelName)],
    ["package.json", `${JSON.stringify(described, null, 2)}\n`],
  ];
}

const imports = ['import { fileURLToPath } from "node:url";', 'import ort from "onnxruntime-node";'].join("\n");

function runnerSource({ inputs }: OnnxArtifact): string {
  const rows = inputs.map(
    ({ name, type }) =>
      `  ${JSON.stringify(name)}: { type: ${JSON.stringify(borderTypes[type.dtype]?.ort)}, shape: ${JSON.stringify(type.shape)} },`,
  );
  return `// Written by tamis ${version}: runs the model.onnx beside it with ONNX Runtime (npm install onnxruntime-node).
${imports}

const inputs = {
${rows.join("\n")}
};
const path = fileURLToPath(new URL("model.onnx", import.meta.url));
let session;

/** Loads the model; run() does so by itself. Options are those of ONNX Runtime's InferenceSession.create. */
export function load(options = {}) {
  session ??= ort.InferenceSession.create(path, options);
  return session;
}

/** Runs the model once. A shape may be left out where at most one of its sizes is open. */
export async function run(given) {
  const feeds = {};
  for (const [name, { type, shape }] of Object.entries(inputs)) {
    const value = given[name];
    if (value === undefined) throw new TypeError(\`input \${name} (\${type}[\${shape.join(",")}]) is missing\`);
    feeds[name] = new ort.Tensor(type, value.data, value.shape ?? completed(name, shape, value.data.length));
  }
  const results = await (await load()).run(feeds);
  return Object.fromEntries(Object.entries(results).map(([name, { data, dims }]) => [name, { data, shape: dims }]));
}

function completed(name, shape, elements) {
  const open = shape.filter((size) => typeof size !== "number");
  const known = shape.reduce((product, size) => (typeof size === "number" ? product * size : product), 1);
  if (open.length > 1) throw new TypeError(\`input \${name} needs its shape: [\${shape.join(",")}] has several open sizes\`);
  return shape.map((size) => (typeof size === "number" ? size : elements / known));
}
`;
}

function runnerTypes({ inputs, outputs }: OnnxArtifact, modelName: string): string {
  const field = (value: OnnxValue, optional: boolean): string => {
    const { array } = borderTypes[value.type.dtype] as { readonly array: string };
    return `  /** ${value.type.dtype}[${value.type.shape.join(",")}] */
  readonly ${JSON.stringify(value.name)}: { readonly data: ${array}; readonly shape${optional ? "?" : ""}: ${shapeType(value)} };`;
  };
  return `// Written by tamis ${version}.

/** Inputs of ${modelName}. Row-major. */
export interface Inputs {
${inputs.map((value) => field(value, true)).join("\n")}
}
export interface Outputs {
${outputs.map((value) => field(value, false)).join("\n")}
}

/** Loads the model; run() does so by itself. Options are those of ONNX Runtime's InferenceSession.create. */
export declare function load(options?: object): Promise<unknown>;

/** Runs the model once. A shape may be left out where at most one of its sizes is open. */
export declare function run(inputs: Inputs): Promise<Outputs>;
`;
}

const shapeType = ({ type }: OnnxValue): string =>
  `readonly [${type.shape.map((dim) => (typeof dim === "number" ? dim : "number")).join(", ")}]`;
