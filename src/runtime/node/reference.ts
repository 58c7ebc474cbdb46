import { compileError } from "../../ir/diagnostic.ts";
import { evaluateGraph } from "../../ir/evaluate/index.ts";
import { type Model, parametersOf, sourceName, type Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { formatType, type TensorData } from "../../ir/type.ts";
import type { Session } from "../session.ts";

/** What the reference interpreter is told beside the model. */
export interface ReferenceSessionOptions {
  readonly registry?: Registry;
}

/**
 * Runs a model on the reference interpreter, floats in f64; reads every weight first. A parameter without weights is an
 * input, as it is in an ONNX file. Fails with `weights-mismatch`.
 */
export async function createReferenceSession(model: Model, options: ReferenceSessionOptions = {}): Promise<Session> {
  const { graph, weights } = model;
  const parameters = new Map<string, TensorData>();
  const open: { readonly name: string; readonly value: Value }[] = [];
  for (const node of parametersOf(graph)) {
    const [value] = node.results as readonly [Value];
    const source = weights.get(sourceName(node));
    if (source === undefined) open.push({ name: sourceName(node), value });
    else parameters.set(sourceName(node), await source.read());
  }
  return {
    inputs: [
      ...graph.inputs.map((value) => ({ name: sourceName(value.producer), ...value.type })),
      ...open.map(({ name, value }) => ({ name, ...value.type })),
    ],
    outputs: graph.outputs.map(({ name, value }) => ({ name, ...value.type })),
    async run(inputs) {
      const given = new Map(parameters);
      for (const { name, value } of open) {
        const data = inputs[name];
        if (data === undefined) throw compileError("bad-input", `input ${name} (${formatType(value.type)}) is missing`);
        given.set(name, data);
      }
      return { ...evaluateGraph(graph, inputs, { ...options, parameters: given }) };
    },
    dispose: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
