import { compileError, formatLoc, unknownLoc } from "../../ir/diagnostic.ts";
import { type Attrs, type Graph, isSource, type Node, type Value } from "../../ir/graph.ts";
import type { Form, Registry } from "../../ir/op.ts";
import type { TensorData, TensorType } from "../../ir/type.ts";
import type { Body, Origin } from "./body.ts";
import { type AnyRow, rowOf } from "./opset.ts";
import type { Profile } from "./profile.ts";
import { Site } from "./site.ts";

/** Longest chain of ops without inputs that is written out again in every function that needs it. */
const repeatedDepth = 8;

/** What is known about a graph before its nodes are emitted. */
export class Plan {
  readonly graph: Graph;
  readonly profile: Profile;
  readonly opset: number;
  readonly docStrings: boolean;
  readonly #indexValues = new Set<Value>();
  /** Length of the chain of ops below a node that no input or parameter feeds; absent where one does. */
  readonly #constantDepth = new Map<Node, number>();
  /** Axes along which a value is known to repeat itself; absent where there are none. */
  readonly #repeated = new Map<Value, readonly number[]>();
  readonly #large = new Map<TensorData, number>();
  readonly #names: ReadonlyMap<Value, string>;

  /** `names`: those of inputs and parameters in the main graph. */
  constructor(
    graph: Graph,
    settings: { readonly profile: Profile; readonly opset: number; readonly docStrings: boolean },
    names: ReadonlyMap<Value, string>,
    registry: Registry,
  ) {
    this.graph = graph;
    this.profile = settings.profile;
    this.opset = settings.opset;
    this.docStrings = settings.docStrings;
    this.#names = names;
    for (const node of graph.nodes) {
      this.#noteConstant(node);
      if (isSource(node)) continue;
      this.#noteRepetition(node, registry);
      const indices = rowFor(node).indices?.(node, (value) => this.#indexValues.has(value)) ?? [];
      for (const at of indices) this.#indexValues.add(node.results[at] as Value);
    }
  }

  #noteConstant(node: Node): void {
    if (node.op === "input" || node.op === "parameter") return;
    const small = node.data === undefined || node.data.values.byteLength <= 1024;
    const below = node.operands.map((v) => this.#constantDepth.get(v.producer));
    const depth = 1 + Math.max(0, ...below.map((d) => d ?? Number.POSITIVE_INFINITY));
    if (small && depth <= repeatedDepth) this.#constantDepth.set(node, depth);
  }

  #noteRepetition(node: Node, registry: Registry): void {
    const [result] = node.results as readonly [Value];
    const axes = this.#repetitionOf(node, registry).filter((axis) => result.type.shape[axis] !== 1);
    if (axes.length > 0) this.#repeated.set(result, axes);
  }

  #repetitionOf(node: Node, registry: Registry): readonly number[] {
    const all = (node.results[0] as Value).type.shape.map((_, axis) => axis);
    if (node.op === "broadcast") return node.attrs["axes"] as readonly number[];
    if (node.op === "iota") return all.filter((axis) => axis !== node.attrs["axis"]);
    const op = registry.get(node.op);
    const form = op?.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
    if (form?.kind !== "elementwise") return [];
    return all.filter((axis) => node.operands.every((value) => this.repeatedAxes(value).includes(axis)));
  }

  /**
   * Axes longer than 1 along which all elements are equal: broadcasts, counts, and elementwise ops of such. They are
   * computed in short form, with size 1 there, and expanded only for a reader that needs the whole tensor.
   */
  repeatedAxes(value: Value): readonly number[] {
    return this.#repeated.get(value) ?? [];
  }

  /** Whether ONNX makes this i32 value as i64, so that i64 is its natural form. */
  isIndex(value: Value): boolean {
    return this.#indexValues.has(value);
  }

  /** Emitted where something needs it, in each function anew: no input feeds it, or it costs nothing. */
  repeatable(node: Node): boolean {
    return this.deferred(node) || this.#constantDepth.has(node);
  }

  deferred(node: Node): boolean {
    return node.op === "broadcast" || node.op === "iota" || node.op === "constant";
  }

  largeId(data: TensorData): number {
    const known = this.#large.get(data) ?? this.#large.size;
    this.#large.set(data, known);
    return known;
  }

  /** The input whose axis has the size of a symbol. */
  symbolSource(symbol: string): { readonly input: string; readonly axis: number; readonly type: TensorType } {
    for (const value of this.graph.inputs) {
      const axis = value.type.shape.indexOf(symbol);
      if (axis >= 0) return { input: this.#names.get(value) as string, axis, type: value.type };
    }
    throw compileError("unbound-symbol", `no input has an axis of size ${symbol}`, {
      loc: this.graph.inputs[0]?.producer.locs[0] ?? unknownLoc,
      help: `give some input an axis of just ${symbol}`,
    });
  }

  /** How the ONNX nodes of a node are named in a body, and the line of the model that they come from. */
  originOf(body: Body, node: Node): Origin {
    return {
      name: [body.relative(node.scope), node.op].filter((part) => part !== "").join("."),
      doc: this.docStrings ? formatLoc(node.locs[0] ?? unknownLoc) : "",
    };
  }

  emitNode(body: Body, node: Node): void {
    const origin = this.originOf(body, node);
    // What a function writes out again for a reader is the reader's: equal blocks then have equal names.
    const place = body.isFunction && this.repeatable(node) ? body.origin : origin;
    body.within(place, () => {
      const site = new Site(this, body, node);
      const made = rowFor(node).emit(site as Site<never>);
      const names = typeof made === "string" ? [made] : made;
      node.results.forEach((value, i) => {
        const name = names[i];
        if (name === undefined) return;
        const own = value.type.dtype === "bf16" ? body.cast(name, "f32", "bf16") : name;
        if (this.repeatedAxes(value).length > 0) body.defineShort(value, own);
        else body.define(value, own);
      });
    });
  }
}

function rowFor(node: Node): AnyRow {
  const row = rowOf(node.op);
  if (row !== undefined) return row;
  throw compileError("unsupported-op", `ONNX has no row for ${node.op}`, { loc: node.locs[0] ?? unknownLoc });
}
