import { compileError, unknownLoc } from "../../ir/diagnostic.ts";
import { symbolsOf } from "../../ir/dim.ts";
import { type Graph, inputSymbols, isSource, sourceName, type Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import type { DType, TensorData } from "../../ir/type.ts";
import { Body } from "./body.ts";
import { dtypeSince } from "./elements.ts";
import { FunctionTable, unitsOf } from "./functions.ts";
import { rowOf } from "./opset.ts";
import { Plan } from "./plan.ts";
import { baseOpset, type Profile } from "./profile.ts";
import type { OnnxFunction, OnnxNode, OnnxValue } from "./proto.ts";

export interface EmitSettings {
  readonly profile: Profile;
  readonly functions: boolean;
  readonly docStrings: boolean;
  readonly registry: Registry;
  /** Parameters whose contents come with the model; the others become inputs. */
  readonly known: ReadonlySet<string>;
}

/** A legalized graph in ONNX's terms, weights apart. */
export interface EmittedGraph {
  readonly opset: number;
  readonly nodes: readonly OnnxNode[];
  readonly functions: readonly OnnxFunction[];
  /** Initializers that the graph itself holds. */
  readonly constants: ReadonlyMap<string, TensorData>;
  /** Initializer name to parameter name. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly symbols: readonly string[];
}

export function emitGraph(graph: Graph, settings: EmitSettings): EmittedGraph {
  const opset = opsetOf(graph, settings.profile);
  const outputNames = new Set(graph.outputs.map((o) => o.name));
  const names = new Map<Value, string>();
  const inputs: OnnxValue[] = [];
  const parameters = new Map<string, string>();
  for (const node of graph.nodes) {
    if (!isSource(node) || node.op === "constant") continue;
    const [value] = node.results as readonly [Value];
    const isInput = node.op === "input" || !settings.known.has(sourceName(node));
    const name = isInput ? sourceName(node) : unlike(sourceName(node), outputNames);
    if (isInput && outputNames.has(name))
      throw compileError(
        "duplicate-name",
        `${node.op} ${name} and an output have one name, which ONNX does not allow`,
        {
          loc: node.locs[0] ?? unknownLoc,
          help: "rename the output",
        },
      );
    names.set(value, name);
    if (isInput) inputs.push({ name, type: value.type });
    else parameters.set(name, sourceName(node));
  }
  const { profile, docStrings, registry } = settings;
  const plan = new Plan(graph, { profile, opset, docStrings }, names, registry);
  const body = new Body(plan, [...names.values(), ...outputNames]);
  for (const [value, name] of names) body.define(value, name);
  const table = new FunctionTable(plan);
  for (const unit of unitsOf(graph, plan, settings.functions))
    if ("nodes" in unit) table.call(body, unit);
    else plan.emitNode(body, unit);
  return {
    opset,
    nodes: nameOutputs(plan, body, names),
    functions: table.functions,
    constants: body.constants,
    parameters,
    inputs,
    outputs: graph.outputs.map(({ name, value }) => ({ name, type: value.type })),
    symbols: inputSymbols(graph, symbolsOf),
  };
}

const unlike = (name: string, taken: ReadonlySet<string>): string => {
  let free = name;
  while (taken.has(free)) free = `${free}.initializer`;
  return free;
};

/** The lowest opset that has every operator used, not below the profile's own. */
function opsetOf(graph: Graph, profile: Profile): number {
  let opset: number = baseOpset[profile];
  for (const node of graph.nodes) {
    for (const { type } of node.results) opset = Math.max(opset, dtypeSince[type.dtype as DType] ?? 0);
    const since = isSource(node) ? 0 : (rowOf(node.op)?.since ?? 0);
    opset = Math.max(opset, typeof since === "number" ? since : since(node));
  }
  return opset;
}

/** Gives the tensor of each output its name; one that is an input, an initializer or another output is copied. */
function nameOutputs(plan: Plan, body: Body, sources: ReadonlyMap<Value, string>): readonly OnnxNode[] {
  const fixed = new Set(sources.values());
  const renamed = new Map<string, string>();
  for (const { name, value } of plan.graph.outputs) {
    const tensor = body.within(plan.originOf(body, value.producer), () => body.plain(value));
    if (fixed.has(tensor) || body.constants.has(tensor) || renamed.has(tensor)) {
      body.within({ name: "", doc: "" }, () => {
        const [copy] = body.node("Identity", [tensor]) as readonly [string];
        renamed.set(copy, name);
      });
    } else renamed.set(tensor, name);
  }
  const rename = (tensor: string): string => renamed.get(tensor) ?? tensor;
  return body.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }));
}
