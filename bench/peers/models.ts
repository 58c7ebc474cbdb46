// The cases as our models; ONNX Runtime gets them as the files that we emit.

import { fashionVit } from "../../examples/01-fashion-vit.ts";
import {
  add,
  defineModel,
  gelu,
  input,
  type ModelDefinition,
  matmul,
  nn,
  parameter,
  scope,
  softmax,
  topK,
} from "../../src/dsl/index.ts";
import { traceModel } from "../../src/dsl/model.ts";
import type { Graph, Model, WeightSource } from "../../src/ir/graph.ts";
import { bindSymbols } from "../../src/passes/bindSymbols.ts";
import { runPasses } from "../../src/passes/pass.ts";
import type { Block, Case, Task } from "./cases.ts";
import type { Operands } from "./operands.ts";
import { epsilon } from "./reference.ts";

/** Inputs are named as the case's operands, parameters too, and outputs come in the reference's order. */
export function modelOf({ task }: Case, operands: Operands): Model {
  const weights = new Map<string, WeightSource>();
  for (const { name, role, shape, values } of operands.values())
    if (role === "weight") {
      const read = async (start = 0, end = values.length) => ({
        dtype: "f32" as const,
        shape: start === 0 && end === values.length ? shape : [end - start],
        values: values.subarray(start, end),
      });
      weights.set(name, { type: { dtype: "f32", shape }, hash: name, read });
    }
  return { graph: graphOf(task), weights };
}

function graphOf(task: Task): Graph {
  if (task.kind !== "fashionVit") return traceModel(definitionOf(task));
  return runPasses({ graph: traceModel(fashionVit), weights: new Map() }, [bindSymbols({ batch: task.batch })]).model
    .graph;
}

function definitionOf(task: Exclude<Task, { readonly kind: "fashionVit" }>): ModelDefinition {
  const define = (build: ModelDefinition["build"]): ModelDefinition => defineModel({ name: task.kind, build });
  switch (task.kind) {
    case "matmul": {
      const { batch, m, k, n } = task;
      if (batch === undefined)
        return define(() => ({ y: matmul(input("lhs", "f32", [m, k]), parameter("rhs", [k, n])) }));
      return define(() => ({ y: matmul(input("lhs", "f32", [batch, m, k]), input("rhs", "f32", [batch, k, n])) }));
    }
    case "attention": {
      const heads = (name: string) => input(name, "f32", [1, task.heads, task.tokens, task.channels]);
      return define(() => ({
        y: nn.attention(heads("query"), heads("key"), heads("value"), { causal: task.causal }),
      }));
    }
    case "layerNorm":
      return define(() => ({ y: nn.layerNorm("norm", input("x", "f32", [task.rows, task.channels]), { epsilon }) }));
    case "softmax":
      return define(() => ({ y: softmax(input("x", "f32", task.shape)) }));
    case "conv": {
      const { channels, side, out, kernel, stride, padding } = task;
      return define(() => ({
        y: nn.conv2d("conv", input("x", "f32", [1, channels, side, side]), { out, kernel, stride, padding }),
      }));
    }
    case "topK":
      return define(() => topK(input("x", "f32", [task.rows, task.length]), task.k));
    case "block":
      return define(() => ({ y: block(task) }));
    default:
      return task satisfies never;
  }
}

function block({ tokens, dim, heads }: Block) {
  const x = input("x", "f32", [1, tokens, dim]);
  const first = nn.layerNorm("norm1", x, { epsilon });
  const attended = scope("attn", () => {
    const [query, key, value] = nn.queryKeyValue("qkv", first, { heads });
    return nn.linear("proj", nn.mergeHeads(nn.attention(query, key, value)), { out: dim });
  });
  const middle = add(x, attended);
  const normed = nn.layerNorm("norm2", middle, { epsilon });
  return add(
    middle,
    scope("mlp", () => nn.linear("fc2", gelu(nn.linear("fc1", normed, { out: 4 * dim })), { out: dim })),
  );
}
