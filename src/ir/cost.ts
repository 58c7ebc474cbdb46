import { formatAttr } from "./attrs.ts";
import { CompileError, compileError, InternalError, type Loc, OpError } from "./diagnostic.ts";
import { addDims, floorDivide, multiplyDims, productOfDims, substituteDim } from "./dim.ts";
import { expansionOf } from "./expand.ts";
import { type Attr, type Attrs, type Graph, isSource, type Node, type Output, type Value } from "./graph.ts";
import type { AnyOp, Form, Registry, Scalar } from "./op.ts";
import { builtinOps } from "./ops/index.ts";
import { bytesOf, type Dim, dtypes, formatType, type Shape, type TensorType } from "./type.ts";

/** Arithmetic of a graph or a part of it; a polynomial in the symbols that are not bound. */
export interface Work {
  /** Multiply-accumulates of contractions and of windows that are dot products. */
  readonly macs: Dim;
  /** Scalar operations of everything else: elementwise, reductions, scans, pooling. Moves (views, gathers) count 0. */
  readonly elementOps: Dim;
}

/** What `costOf` counts; figures are polynomials in the symbols that are not bound. */
export interface Cost extends Work {
  readonly parameterCount: Dim;
  /** As stored, sub-byte kinds packed. */
  readonly parameterBytes: Dim;
  /** All results of the graph's own nodes, each once; composites count their results only. */
  readonly activationBytes: Dim;
  /** By the scope of the graph's nodes (`blocks.3.attn`), in order of appearance. */
  readonly byScope: ReadonlyMap<string, Work>;
  /** By the op of the graph's nodes, composites whole, in order of appearance. */
  readonly byOp: ReadonlyMap<string, Work>;
}

/** What `costOf` is told beside the graph. */
export interface CostOptions {
  /** Sizes or other dimensions for symbols. */
  readonly symbols?: ReadonlyMap<string, Dim>;
  readonly registry?: Registry;
  /** Ops that count nothing, whole or inside a composite: `tokenMatch` where a paper leaves matching out. */
  readonly exclude?: ReadonlySet<string>;
}

/**
 * Arithmetic, parameters and bytes of a graph. Composites count what their decomposition counts. A contraction with
 * a cast of booleans selects and sums (one-hot scatters): it counts an addition per element selected, no products.
 */
export function costOf(graph: Graph, options: CostOptions = {}): Cost {
  const counter = new Counter(options);
  const byScope = new Map<string, Work>();
  const byOp = new Map<string, Work>();
  let total = noWork;
  let [parameterCount, parameterBytes, activationBytes]: [Dim, Dim, Dim] = [0, 0, 0];
  for (const node of graph.nodes) {
    const types = node.results.map((value) => counter.bind(value.type));
    if (node.op === "parameter") {
      parameterCount = addDims(parameterCount, productOfDims((types[0] as TensorType).shape));
      parameterBytes = addDims(parameterBytes, bytesOfType(types[0] as TensorType));
    }
    if (isSource(node)) continue;
    for (const type of types) activationBytes = addDims(activationBytes, bytesOfType(type));
    const work = located(node, () => counter.ofNode(node));
    total = addWork(total, work);
    byScope.set(node.scope, addWork(byScope.get(node.scope) ?? noWork, work));
    byOp.set(node.op, addWork(byOp.get(node.op) ?? noWork, work));
  }
  return { ...total, parameterCount, parameterBytes, activationBytes, byScope, byOp };
}

const noWork: Work = { macs: 0, elementOps: 0 };
const addWork = (a: Work, b: Work): Work => ({
  macs: addDims(a.macs, b.macs),
  elementOps: addDims(a.elementOps, b.elementOps),
});

/** A composite that cannot be written out for symbols is the caller's to bind. */
function located<T>(node: Node, body: () => T): T {
  try {
    return body();
  } catch (error) {
    const found = error instanceof CompileError ? error.diagnostics[0] : undefined;
    const placeless = error instanceof OpError || found?.loc.kind === "unknown";
    if (!placeless) throw error;
    const { code, message, help = "give a size for the symbol" } = (found ?? error) as OpError;
    throw compileError(code, `cost of ${message.startsWith(node.op) ? message : `${node.op}: ${message}`}`, {
      loc: node.locs[0] as Loc,
      help,
    });
  }
}

function bytesOfType({ dtype, shape }: TensorType): Dim {
  const count = productOfDims(shape);
  return typeof count === "number"
    ? bytesOf(dtype, count)
    : floorDivide(addDims(multiplyDims(count, dtypes[dtype].bits), 7), 8);
}

const deepestComposite = 16; // composites of composites; deeper means that one expands into itself

type CompositeOp = Extract<AnyOp, { kind: "composite" }>;

class Counter {
  readonly #registry: Registry;
  readonly #symbols: ReadonlyMap<string, Dim>;
  readonly #exclude: ReadonlySet<string>;
  /** Composites written out, by op, operand types and attributes: a model repeats its blocks. */
  readonly #expansions = new Map<string, { readonly graph: Graph; work: Work | undefined }>();

  constructor({ registry = builtinOps, symbols = new Map(), exclude = new Set() }: CostOptions) {
    this.#registry = registry;
    this.#symbols = symbols;
    this.#exclude = exclude;
  }

  bind({ dtype, shape }: TensorType): TensorType {
    return { dtype, shape: this.#symbols.size === 0 ? shape : shape.map((d) => substituteDim(d, this.#symbols)) };
  }

  ofNode(node: Node, depth = 0): Work {
    const op = this.#registry.get(node.op);
    if (op === undefined || this.#exclude.has(node.op)) return noWork;
    const operands = node.operands.map((value) => this.bind(value.type));
    const results = node.results.map((value) => this.bind(value.type));
    const attrs = this.#bindAttrs(op, node.attrs);
    if (op.kind === "routine") return { macs: 0, elementOps: productOfDims((results[0] as TensorType).shape) };
    if (op.kind === "composite") return this.#ofComposite(node.op, op, operands, attrs, depth);
    const form = op.form as Form<Attrs>;
    if (form.kind === "contraction") {
      const selected = node.operands.findIndex((_, i) => this.#selects(node.operands[1 - i] as Value, depth));
      if (selected >= 0) return { macs: 0, elementOps: productOfDims((operands[selected] as TensorType).shape) };
    }
    return counters[form.kind](form as never, operands, results[0] as TensorType, attrs);
  }

  #ofComposite(name: string, op: CompositeOp, operands: readonly TensorType[], attrs: Attrs, depth: number): Work {
    const { graph, work: known } = this.#expansion(name, op, operands, attrs, depth);
    if (known !== undefined) return known;
    let work = noWork;
    for (const node of graph.nodes) if (!isSource(node)) work = addWork(work, this.ofNode(node, depth + 1));
    this.#expansion(name, op, operands, attrs, depth).work = work;
    return work;
  }

  #expansion(
    name: string,
    op: CompositeOp,
    operands: readonly TensorType[],
    attrs: Attrs,
    depth: number,
  ): { readonly graph: Graph; work: Work | undefined } {
    const key = [name, ...operands.map(formatType), ...Object.values(attrs).map(formatAttr)].join("|");
    const known = this.#expansions.get(key);
    if (known !== undefined) return known;
    if (depth >= deepestComposite) throw new InternalError(`costOf: ${name} expands into itself`);
    const expansion = { graph: expansionOf(name, op, operands, attrs, this.#registry), work: undefined };
    this.#expansions.set(key, expansion);
    return expansion;
  }

  /** Whether every element is 0 or 1 by construction: booleans made numbers, or a composite that ends in that. */
  #selects({ producer, index }: Value, depth: number): boolean {
    const op = this.#registry.get(producer.op);
    if (op?.kind === "structured") {
      const [only, ...rest] = producer.operands;
      const elementwise = (op.form as Form<Attrs>).kind === "elementwise" && rest.length === 0;
      return elementwise && only?.type.dtype === "bool" && producer.results[0]?.type.dtype !== "bool";
    }
    if (op?.kind !== "composite") return false;
    const operands = producer.operands.map((value) => this.bind(value.type));
    const { graph } = this.#expansion(producer.op, op, operands, this.#bindAttrs(op, producer.attrs), depth);
    return this.#selects((graph.outputs[index] as Output).value, depth + 1);
  }

  #bindAttrs(op: AnyOp, attrs: Attrs): Attrs {
    if (this.#symbols.size === 0) return attrs;
    const bind = (value: Attr): Attr =>
      Array.isArray(value) ? value.map(bind) : substituteDim(value as Dim, this.#symbols);
    const specs = op.attrs as Readonly<Record<string, { readonly kind: unknown }>>;
    return Object.fromEntries(
      Object.entries(attrs).map(([key, value]) => {
        const kind = specs[key]?.kind;
        return [key, kind === "dim" || kind === "dims" ? bind(value) : value];
      }),
    );
  }
}

type FormOf<K extends Form<Attrs>["kind"]> = Extract<Form<Attrs>, { kind: K }>;
type CounterOf<K extends Form<Attrs>["kind"]> = (
  form: FormOf<K>,
  operands: readonly TensorType[],
  result: TensorType,
  attrs: Attrs,
) => Work;

const moves = (): Work => noWork;
const perElement = (shape: Shape, ops: number): Work => ({
  macs: 0,
  elementOps: multiplyDims(productOfDims(shape), ops),
});

const counters: { readonly [K in Form<Attrs>["kind"]]: CounterOf<K> } = {
  elementwise: (form, operands, result, attrs) => {
    const dtype = (operands[operands.length === 3 ? 1 : 0] as TensorType).dtype;
    const ops = countScalarOps((s) =>
      form.scalar(
        s,
        operands.map(() => 0),
        attrs,
        dtype,
      ),
    );
    return perElement(result.shape, ops);
  },
  reduction: (form, [x], result) => {
    const type = x as TensorType;
    const state = form.init(type.dtype);
    const step = countScalarOps((s) => form.step(s, state, 0, 0));
    const finish = countScalarOps((s) => form.finish(s, state, 0));
    return addWork(perElement(type.shape, step), perElement(result.shape, finish));
  },
  view: moves,
  concat: moves,
  generate: (form, _operands, result, attrs) =>
    perElement(
      result.shape,
      countScalarOps((s) =>
        form.value(
          s,
          result.shape.map(() => 0),
          attrs,
        ),
      ),
    ),
  gather: moves,
  contraction: (form, operands, _result, attrs) => {
    const [left, right] = form.spec(operands, attrs).split(/,|->/) as [string, string];
    const [a, b] = operands as readonly [TensorType, TensorType];
    const sizes = [...a.shape, ...b.shape.filter((_, axis) => !left.includes(right[axis] as string))];
    return { macs: productOfDims(sizes), elementOps: 0 };
  },
  window: (form, operands, result, attrs) => {
    const g = form.geometry(operands, attrs);
    const taps = multiplyDims(productOfDims(result.shape), productOfDims(g.kernel));
    if (g.reduce !== "dot") return { macs: 0, elementOps: taps };
    return { macs: multiplyDims(taps, (operands[1] as TensorType).shape[1] as Dim), elementOps: 0 };
  },
  scan: (form, [x]) =>
    perElement(
      (x as TensorType).shape,
      countScalarOps((s) => form.step(s, 0, 0)),
    ),
};

/** How many operations of `Scalar` a form performs, as it is written. */
function countScalarOps(body: (s: Scalar<number>) => unknown): number {
  let count = 0;
  const one = (): number => {
    count++;
    return 0;
  };
  const free = new Set(["lit"]);
  const scalar = new Proxy({} as Scalar<number>, {
    get: (_, name) => (free.has(name as string) ? (x: number) => x : one),
  });
  body(scalar);
  return count;
}
