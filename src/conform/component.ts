import { type Builder, createBuilder } from "../ir/builder.ts";
import { compileError } from "../ir/diagnostic.ts";
import type { Graph, Value } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { builtinOps } from "../ir/ops/index.ts";
import type { TensorData } from "../ir/type.ts";

/** One reference vector: what its safetensors file says. */
export interface VectorCase {
  readonly file: string;
  readonly component: string;
  /** The file's `hyperparameters`. */
  readonly settings: Settings;
  /** Tensors by full name: `in.x`, `param.qkv.weight`, `out.y`, `grad.x`; those of `params_from` included. */
  readonly tensors: ReadonlyMap<string, TensorData>;
}

/** Hyperparameters, read with their kind checked. */
export class Settings {
  readonly #values: Readonly<Record<string, unknown>>;
  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }
  /** Every one, unchecked. */
  get all(): Readonly<Record<string, unknown>> {
    return this.#values;
  }
  has(name: string): boolean {
    return this.#values[name] !== undefined && this.#values[name] !== null;
  }
  number(name: string): number {
    return this.#read(name, "number");
  }
  boolean(name: string): boolean {
    return this.#read(name, "boolean");
  }
  text(name: string): string {
    return this.#read(name, "string");
  }
  numbers(name: string): readonly number[] {
    const value = this.#values[name];
    if (!Array.isArray(value)) throw compileError("bad-option", `hyperparameter ${name} is no list`);
    return value as readonly number[];
  }
  #read<T extends "number" | "boolean" | "string">(
    name: string,
    kind: T,
  ): { number: number; boolean: boolean; string: string }[T] {
    const value = this.#values[name];
    if (typeof value !== kind)
      throw compileError("bad-option", `hyperparameter ${name} is ${JSON.stringify(value)}, not a ${kind}`);
    return value as { number: number; boolean: boolean; string: string }[T];
  }
}

/** A case as a graph: outputs are named as the file's `out.*`; inputs and parameters carry the file's contents. */
export interface BuiltCase {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, TensorData>>;
  readonly parameters: ReadonlyMap<string, TensorData>;
  /** Results known at compile time, compared once. */
  readonly host?: Readonly<Record<string, TensorData>>;
}

export type Component = (vector: VectorCase) => BuiltCase;

/** Builds a case with one input per `in.*` and one parameter per `param.*`, read by name. */
export function caseGraph(
  vector: VectorCase,
  body: (
    b: Builder,
    read: { input(name: string): Value; parameter(name: string): Value },
  ) => Readonly<Record<string, Value>>,
  registry: Registry = builtinOps,
): BuiltCase {
  const b = createBuilder(registry);
  const inputs: Record<string, TensorData> = {};
  const parameters = new Map<string, TensorData>();
  const values = new Map<string, Value>();
  const fetch = (kind: "in" | "param", name: string): Value => {
    const key = `${kind}.${name}`;
    const known = values.get(key);
    if (known !== undefined) return known;
    const data = vector.tensors.get(key);
    if (data === undefined) throw compileError("tensor-missing", `${vector.file} has no tensor ${key}`);
    if (kind === "in") inputs[name] = data;
    else parameters.set(name, data);
    const value = kind === "in" ? b.input(name, data) : b.parameter(name, data);
    values.set(key, value);
    return value;
  };
  const outputs = body(b, { input: (name) => fetch("in", name), parameter: (name) => fetch("param", name) });
  return { graph: b.finish(vector.component.replaceAll("-", "_"), outputs), inputs, parameters };
}

/** x W^T + b for weights stored [out, in]. */
export function project(b: Builder, x: Value, weight: Value, bias?: Value): Value {
  const product = b.matmul(x, b.transpose(weight, { perm: [1, 0] }));
  if (bias === undefined) return product;
  const axes = product.type.shape.slice(0, -1).map((_, axis) => axis);
  return b.add(product, b.broadcast(bias, { shape: product.type.shape, axes }));
}

/** [batch, tokens, heads * channels] -> [batch, heads, tokens, channels] */
export function headsOf(b: Builder, x: Value, heads: number): Value {
  const [batch, tokens, width] = x.type.shape as readonly [number, number, number];
  return b.transpose(b.reshape(x, { shape: [batch, tokens, heads, width / heads] }), { perm: [0, 2, 1, 3] });
}

/** [batch, heads, tokens, channels] -> [batch, tokens, heads * channels] */
export function joinHeads(b: Builder, x: Value): Value {
  const [batch, heads, tokens, channels] = x.type.shape as readonly [number, number, number, number];
  return b.reshape(b.transpose(x, { perm: [0, 2, 1, 3] }), { shape: [batch, tokens, heads * channels] });
}
