// Every two passes of the registry, one after the other, on small versions of the standard models.
import { compareTensors, tolerances } from "../../src/conform/tolerance.ts";
import {
  add,
  defineModel,
  gelu,
  input,
  matmul,
  mean,
  mul,
  neg,
  nn,
  parameter,
  softmax,
  transpose,
} from "../../src/dsl/index.ts";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { evaluateExact } from "../../src/ir/evaluate/index.ts";
import type { Graph, Model, WeightSource } from "../../src/ir/graph.ts";
import type { NumberTensor } from "../../src/ir/op.ts";
import { printGraph } from "../../src/ir/print.ts";
import { elementsOf, type TensorData, tensorData } from "../../src/ir/type.ts";
import { clipVision, fashionVit, llama, vit } from "../../src/models/index.ts";
import { type PassOptionValues, passes } from "../../src/passes/index.ts";
import { allTraits, type GraphTrait, type Pass, runPasses } from "../../src/passes/pass.ts";
import { drawn, drawnParameters, sourceOf, traced } from "../models/plain.ts";

export interface Subject {
  readonly name: string;
  readonly model: Model;
  readonly inputs: Readonly<Record<string, TensorData>>;
  /** The output that is differentiated. */
  readonly output: string;
  /** The parameter whose gradient is taken. */
  readonly parameter: string;
}

const tinyBlocks = { dim: 8, depth: 2, heads: 2, mlpRatio: 2 } as const;
const image = (channels: number, size: number): Readonly<Record<string, TensorData>> => {
  const shape = [1, channels, size, size];
  return { image: tensorData("f32", shape, drawn(97, elementsOf(shape))) };
};

/** Something for every pass: scores scaled in a block written out, scaled weights, two signs; then a block as usual. */
const byHand = defineModel({
  name: "by-hand",
  options: {},
  build() {
    const x = input("x", "f32", ["batch", 9, 4]);
    const project = (name: string) => matmul(x, mul(parameter(name, [4, 4]), 0.5));
    const scores = mul(matmul(project("query"), transpose(project("key"), [0, 2, 1])), 0.7);
    const mixed = add(x, neg(neg(matmul(softmax(scores, 2), project("value")))));
    const [query, key, value] = nn.queryKeyValue("qkv", nn.layerNorm("norm1", mixed), { heads: 2 });
    const attended = add(mixed, nn.linear("proj", nn.mergeHeads(nn.attention(query, key, value)), { out: 4 }));
    const hidden = gelu(nn.linear("fc1", nn.layerNorm("norm2", attended), { out: 8 }));
    return { pooled: mean(add(attended, nn.linear("fc2", hidden, { out: 4 })), 1) };
  },
});

export const subjects: readonly Subject[] = [
  subject(
    "fashion-vit",
    vit({ ...fashionVit.options, ...tinyBlocks, imageSize: 12 }),
    image(1, 12),
    "logits",
    "pos_embed",
  ),
  subject(
    "deit",
    vit({ ...tinyBlocks, imageSize: 8, patch: 2, classes: 3, distillToken: true }),
    image(3, 8),
    "logits",
    "pos_embed",
  ),
  subject(
    "clip",
    clipVision({ ...tinyBlocks, imageSize: 6, patch: 2, channels: 2, projection: 5 }),
    image(2, 6),
    "embedding",
    "pos_embed",
  ),
  subject(
    "llama",
    llama({ vocabulary: 11, dim: 8, depth: 2, heads: 2, keyHeads: 1, headDim: 4, hidden: 10 }),
    { tokens: tensorData("i32", [1, 5], [3, 0, 10, 3, 7]) },
    "logits",
    "model.norm.weight",
  ),
  subject("by-hand", byHand, { x: tensorData("f32", [1, 9, 4], drawn(5, 36)) }, "pooled", "proj.weight"),
];

function subject(
  name: string,
  definition: Parameters<typeof traced>[0],
  inputs: Subject["inputs"],
  output: string,
  parameter: string,
): Subject {
  const graph = traced(definition);
  const weights = new Map([...drawnParameters(graph)].map(([key, data]) => [key, sourceOf(data)] as const));
  return { name, model: { graph, weights }, inputs, output, parameter };
}

/** The options of each pass; a new pass is tried with those of its example. */
const optionsFor = (name: string, { output, parameter }: Subject): PassOptionValues =>
  ({ mergeTokens: { r: 2 }, differentiate: { of: [output], wrt: [parameter], cotangents: true } })[name] ??
  passes.get(name)?.exampleOptions ??
  {};

export const passOf = (name: string, of: Subject): Pass => {
  const entry = passes.get(name);
  if (entry === undefined) throw new Error(`no pass ${name}`);
  return entry.make(optionsFor(name, of));
};

export const traitsOf = (graph: Graph): readonly GraphTrait[] =>
  allTraits.filter(
    (trait) =>
      ({
        wholeAttention: graph.nodes.some(({ op }) => op === "attention"),
        separateTokens: !graph.nodes.some(({ op }) => op === "tokenMatch"),
        forwardOnly: !graph.outputs.some(({ name }) => name.startsWith("grad.")),
      })[trait],
  );

type Results = Readonly<Record<string, NumberTensor>>;
export type Outcome =
  /** `idle`: the second pass left what the first made as it was. */
  | { readonly kind: "equal" | "differs"; readonly reason: string; readonly idle: boolean }
  | { readonly kind: "refused"; readonly code: string; readonly reason: string };

/** Graphs and results of a subject by the names of the passes that were run, each made once. */
export class Trials {
  readonly #subject: Subject;
  readonly #models = new Map<string, Model | CompileError>();
  readonly #results = new Map<string, Results>();

  constructor(of: Subject) {
    this.#subject = of;
  }

  /** The model after some passes, verified after each; or why one of them refused. */
  after(names: readonly string[]): Model | CompileError {
    const key = names.join(" ");
    const known = this.#models.get(key);
    if (known !== undefined) return known;
    let made: Model | CompileError;
    try {
      // All in one list: a pass may be refused for what the list holds before it.
      made = runPasses(
        this.#subject.model,
        names.map((name) => passOf(name, this.#subject)),
      ).model;
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      made = error;
    }
    this.#models.set(key, made);
    return made;
  }

  /** Fails where a pass refuses. */
  async results(names: readonly string[]): Promise<Results> {
    const made = this.after(names);
    if (made instanceof CompileError) throw made;
    return this.#run(made);
  }

  /** Two passes against the same without those that promise to keep the results. */
  async judge(first: string, second: string): Promise<Outcome> {
    const made = this.after([first, second]);
    if (made instanceof CompileError) return { kind: "refused", code: made.code, reason: reasonOf(made) };
    const changing = [first, second].filter((name) => this.#changes(name));
    const approximate = changing.filter((name) => this.#contract(name) === "approximate");
    const wanted = await this.results(changing.length === 2 ? approximate : changing);
    const between = this.after([first]);
    const idle = !(between instanceof CompileError) && keyOf(between.graph) === keyOf(made.graph);
    const outcome = compared(await this.#run(made), wanted);
    return { ...outcome, idle };
  }

  readonly #contract = (name: string): Pass["contract"] => passOf(name, this.#subject).contract;

  /** What the results may differ by. A bound symbol does not change results on inputs of that size, which these are. */
  #changes(name: string): boolean {
    return this.#contract(name) === "approximate" || (this.#contract(name) === "constructs" && name !== "bindSymbols");
  }

  async #run({ graph, weights }: Model): Promise<Results> {
    const key = keyOf(graph);
    const known = this.#results.get(key);
    if (known !== undefined) return known;
    const read = async ([name, source]: readonly [string, WeightSource]) => [name, await source.read()] as const;
    const parameters = new Map(await Promise.all([...weights].map(read)));
    const results = evaluateExact(graph, this.#inputsOf(graph), { parameters });
    this.#results.set(key, results);
    return results;
  }

  /** Those of the subject, and cotangents for what differentiation asks. */
  #inputsOf(graph: Graph): Readonly<Record<string, TensorData>> {
    const { inputs } = this.#subject;
    const sizes: Readonly<Record<string, number>> = { batch: 1, sequence: 5 };
    const asked = graph.inputs.flatMap(({ type, producer }) => {
      const name = producer.attrs["name"] as string;
      if (inputs[name] !== undefined) return [];
      const shape = type.shape.map((dim) => (typeof dim === "number" ? dim : (sizes[dim] ?? Number.NaN)));
      return [[name, tensorData("f32", shape, drawn(3, elementsOf(shape)))] as const];
    });
    return { ...inputs, ...Object.fromEntries(asked) };
  }
}

const keyOf = (graph: Graph): string => printGraph(graph, { inlineElements: Number.POSITIVE_INFINITY });

export function compared(
  found: Results,
  wanted: Results,
): { readonly kind: "equal" | "differs"; readonly reason: string } {
  for (const [name, tensor] of Object.entries(wanted)) {
    const actual = found[name];
    if (actual === undefined) return { kind: "differs", reason: `output ${name} is gone` };
    const { ok, message } = compareTensors(
      { ...actual, dtype: "f32" },
      { ...tensor, dtype: "f32" },
      tolerances.f32Golden,
    );
    if (!ok) return { kind: "differs", reason: `output ${name}: ${message}` };
  }
  return { kind: "equal", reason: Object.keys(wanted).join(", ") };
}

/** The message, and where the first place is told apart, its reason. */
const reasonOf = ({ diagnostics }: CompileError): string =>
  [diagnostics[0]?.message, diagnostics[0]?.notes[0]?.message].filter((text) => text !== undefined).join(": ");
