import onnxProto from "onnx-proto";
import { type Diagnostic, diagnostic } from "../../ir/diagnostic.ts";
import { bytesOf, type DType } from "../../ir/type.ts";
import { elementType } from "./elements.ts";
import { operators, runtimeOperators } from "./operators.ts";
import { irVersionOf, ortDomain } from "./profile.ts";

const { onnx } = onnxProto;
type NodeProto = onnxProto.onnx.NodeProto;
type FunctionProto = onnxProto.onnx.FunctionProto;
type TensorProto = onnxProto.onnx.TensorProto;
type ModelProto = onnxProto.onnx.ModelProto;

const newestOpset = 25; // what this backend knows; ONNX Runtime 1.30 runs up to 25 as released
const newestIr = 13;

export interface CheckOptions {
  /** Size of the external file in bytes, where it is known. */
  readonly externalBytes?: number;
}

/**
 * Checks the bytes of an ONNX file against what ONNX wants and this backend promises: versions, single assignment,
 * order, types at the border, functions, attributes, imports and external ranges. No finding means a sound file. All
 * findings have code `onnx-invalid`.
 */
export function checkOnnx(bytes: Uint8Array, options: CheckOptions = {}): readonly Diagnostic[] {
  const findings: string[] = [];
  const model = decode(bytes, findings);
  if (model !== undefined) {
    const imports = checkVersions(model, findings);
    const functions = checkFunctions(model, imports, findings);
    const graph = onnx.GraphProto.create(model.graph ?? {});
    const known = new Set<string>();
    for (const value of [...graph.input, ...graph.output]) checkBorder(value, findings);
    for (const { name } of graph.input) define(name ?? "", known, "input", findings);
    for (const tensor of graph.initializer) {
      define(tensor.name ?? "", known, "initializer", findings);
      checkTensor(onnx.TensorProto.create(tensor), options, findings);
    }
    checkNodes(
      graph.node.map((n) => onnx.NodeProto.create(n)),
      { known, imports, functions, where: "the graph" },
      findings,
    );
    for (const { name } of graph.output) if (!known.has(name ?? "")) findings.push(`output ${name} is made by no node`);
  }
  return findings.map((message) => diagnostic("onnx-invalid", message));
}

type Imports = ReadonlyMap<string, number>;

function decode(bytes: Uint8Array, findings: string[]): ModelProto | undefined {
  try {
    const model = onnx.ModelProto.decode(bytes);
    if (model.graph !== null && model.graph !== undefined) return model;
    findings.push("the file holds no graph");
  } catch (error) {
    findings.push(`the file is not an ONNX model: ${error instanceof Error ? error.message : String(error)}`);
  }
  return undefined;
}

function checkVersions(model: ModelProto, findings: string[]): Imports {
  const imports = new Map(model.opsetImport.map(({ domain, version }) => [domain ?? "", Number(version)]));
  const ir = Number(model.irVersion);
  const opset = imports.get("");
  if (imports.size !== model.opsetImport.length) findings.push("a domain is imported twice");
  if (opset === undefined) findings.push("the operators of ai.onnx are not imported");
  else if (opset < 7 || opset > newestOpset) findings.push(`opset ${opset} is not known`);
  else if (ir < irVersionOf(opset)) findings.push(`opset ${opset} needs IR version ${irVersionOf(opset)}, not ${ir}`);
  if (ir > newestIr) findings.push(`IR version ${ir} is not known`);
  if (model.functions.length > 0 && ir < 8) findings.push(`functions need IR version 8, not ${ir}`);
  return imports;
}

const keyOf = (domain: string, name: string): string => `${domain}::${name}`;

function checkFunctions(model: ModelProto, imports: Imports, findings: string[]): ReadonlyMap<string, FunctionProto> {
  const functions = new Map<string, FunctionProto>();
  for (const proto of model.functions) {
    const f = onnx.FunctionProto.create(proto);
    const key = keyOf(f.domain, f.name);
    if (functions.has(key)) findings.push(`function ${f.name} is declared twice`);
    functions.set(key, f);
  }
  for (const f of functions.values()) {
    const own = new Map(f.opsetImport.map(({ domain, version }) => [domain ?? "", Number(version)]));
    for (const [domain, version] of own)
      if (imports.get(domain) !== version)
        findings.push(`function ${f.name} imports ${domain || "ai.onnx"} ${version}, the model ${imports.get(domain)}`);
    const known = new Set<string>();
    for (const name of f.input) define(name, known, `input of function ${f.name}`, findings);
    const nodes = f.node.map((n) => onnx.NodeProto.create(n));
    checkNodes(nodes, { known, imports: own, functions, where: `function ${f.name}` }, findings);
    for (const name of f.output)
      if (!known.has(name)) findings.push(`output ${name} of function ${f.name} is made by no node`);
  }
  for (const f of functions.values())
    if (calls(f, functions).has(keyOf(f.domain, f.name))) findings.push(`function ${f.name} calls itself`);
  return functions;
}

/** Functions that are reached from one, itself only by a cycle. */
function calls(from: FunctionProto, functions: ReadonlyMap<string, FunctionProto>): ReadonlySet<string> {
  const reached = new Set<string>();
  const queue = [from];
  for (let next = queue.pop(); next !== undefined; next = queue.pop())
    for (const node of next.node) {
      const key = keyOf(node.domain ?? "", node.opType ?? "");
      const called = functions.get(key);
      if (called === undefined || reached.has(key)) continue;
      reached.add(key);
      queue.push(called);
    }
  return reached;
}

function define(name: string, known: Set<string>, what: string, findings: string[]): void {
  if (name === "") findings.push(`${what} has no name`);
  else if (known.has(name)) findings.push(`${what} ${name} is assigned twice`);
  known.add(name);
}

interface Surroundings {
  readonly known: Set<string>;
  readonly imports: Imports;
  readonly functions: ReadonlyMap<string, FunctionProto>;
  readonly where: string;
}

function checkNodes(nodes: readonly NodeProto[], around: Surroundings, findings: string[]): void {
  const { known, where } = around;
  const later = new Set(nodes.flatMap((node) => node.output));
  for (const node of nodes) {
    const what = `${node.opType} ${node.name} in ${where}`;
    for (const name of node.input)
      if (name !== "" && !known.has(name))
        findings.push(`${what} reads ${name}, which ${later.has(name) ? "is made after it" : "nothing makes"}`);
    checkOperator(node, what, around, findings);
    checkAttributes(node, what, findings);
    for (const name of node.output) define(name, known, `result of ${what}`, findings);
  }
}

function checkOperator(node: NodeProto, what: string, { imports, functions }: Surroundings, findings: string[]): void {
  const { domain, opType } = node;
  const called = functions.get(keyOf(domain, opType));
  if (called !== undefined) {
    if (node.input.length !== called.input.length || node.output.length !== called.output.length)
      findings.push(`${what} does not fit the signature of the function`);
    return;
  }
  const opset = imports.get(domain);
  if (opset === undefined) findings.push(`${what} is of domain ${domain || "ai.onnx"}, which is not imported`);
  else if (domain === "") {
    const since = operators[opType];
    if (since === undefined) findings.push(`${what} is no operator of ai.onnx that this backend writes`);
    else if (since > opset) findings.push(`${what} needs opset ${since}, the model has ${opset}`);
  } else if (domain !== ortDomain || !runtimeOperators.has(opType))
    findings.push(`${what} is no known operator of ${domain}`);
}

const plainTypes: ReadonlySet<number> = new Set([1, 2, 3, 4, 6, 7, 8]); // float to strings, not graphs

function checkAttributes(node: NodeProto, what: string, findings: string[]): void {
  const names = new Set<string>();
  for (const { name, type, refAttrName } of node.attribute) {
    if (name === null || name === undefined || name === "") findings.push(`an attribute of ${what} has no name`);
    else if (names.has(name)) findings.push(`${what} has attribute ${name} twice`);
    names.add(name ?? "");
    if (!plainTypes.has(Number(type)) || (refAttrName ?? "") !== "")
      findings.push(`attribute ${name} of ${what} is not plain data`);
  }
}

function checkBorder({ name, type }: onnxProto.onnx.IValueInfoProto, findings: string[]): void {
  const tensor = type?.tensorType;
  if (!tensor?.elemType || !dtypeOf.has(tensor.elemType)) findings.push(`${name} has no element type`);
  if (!tensor?.shape) findings.push(`${name} has no shape`);
}

const dtypeOf = new Map<number, DType>(Object.entries(elementType).map(([dtype, code]) => [code, dtype as DType]));

function checkTensor(tensor: TensorProto, { externalBytes }: CheckOptions, findings: string[]): void {
  const { name } = tensor;
  const dtype = dtypeOf.get(tensor.dataType);
  if (dtype === undefined) return void findings.push(`initializer ${name} has no element type`);
  const wanted = bytesOf(
    dtype,
    tensor.dims.reduce<number>((product, dim) => product * Number(dim), 1),
  );
  const place = new Map(tensor.externalData.map(({ key, value }) => [key ?? "", value ?? ""]));
  if ((tensor.dataLocation as number) !== 1) {
    if (tensor.rawData.length !== wanted)
      findings.push(`initializer ${name} holds ${tensor.rawData.length} bytes instead of ${wanted}`);
    return;
  }
  const [location, offset, length] = [
    place.get("location") ?? "",
    Number(place.get("offset")),
    Number(place.get("length")),
  ];
  if (location === "" || location.startsWith("/") || location.split(/[/\\]/).includes(".."))
    findings.push(`initializer ${name} lies in ${JSON.stringify(location)}, not beside the model`);
  if (length !== wanted) findings.push(`initializer ${name} has ${length} external bytes instead of ${wanted}`);
  if (!(offset >= 0)) findings.push(`initializer ${name} has no offset`);
  else if (externalBytes !== undefined && offset + length > externalBytes)
    findings.push(`initializer ${name} ends at byte ${offset + length} of ${externalBytes} external bytes`);
}
