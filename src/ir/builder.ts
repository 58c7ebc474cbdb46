import { completeAttrs, formatAttr } from "./attrs.ts";
import {
  CompileError,
  compileError,
  diagnostic,
  didYouMean,
  formatLoc,
  InternalError,
  type Loc,
  type Note,
  OpError,
  unknownLoc,
} from "./diagnostic.ts";
import { parseDim } from "./dim.ts";
import type { Attrs, Graph, Node, Output, Value } from "./graph.ts";
import type { AnyOp, Registry } from "./op.ts";
import { builtinOps, type Ops } from "./ops/index.ts";
import {
  type Dim,
  type DType,
  elementsOf,
  formatType,
  isFloat,
  isNumberOf,
  type TensorData,
  type TensorType,
  tensorData,
} from "./type.ts";

type Signature<T> = T extends { readonly signature?: (operands: infer O, attrs: infer A) => infer R }
  ? { operands: O extends readonly Value[] ? O : never; attrs: A; result: R }
  : never;

/** Operands one by one (as one list where their number is open), then attributes. */
type Make<T> =
  Signature<T> extends { operands: infer O extends readonly Value[]; attrs: infer A; result: infer R }
    ? number extends O["length"]
      ? (operands: O, ...attrs: Trailing<A>) => R
      : (...args: [...operands: O, ...attrs: Trailing<A>]) => R
    : never;
type Trailing<A> = object extends A ? [attrs?: A] : [attrs: A];

/** What every builder has beside its methods for ops. */
export interface BuilderCore {
  readonly registry: Registry;
  input(name: string, type: TensorType): Value;
  parameter(name: string, type: TensorType): Value;
  constant(data: TensorData | { dtype: DType; shape: readonly number[]; numbers: ArrayLike<number> }): Value;
  /** One number in every place of a type: a scalar constant, broadcast. */
  full(type: TensorType, value: number): Value;
  /** An op by name: for parsers, passes that rebuild, and composites from outside the table. */
  make(op: string, operands: readonly Value[], attrs?: Readonly<Record<string, unknown>>): readonly Value[];
  /** Nodes made inside `body` carry this location and scope. */
  at<T>(place: { loc?: Loc | undefined; scope?: string | undefined }, body: () => T): T;
  readonly loc: Loc;
  readonly scope: string;
  /** The graph of what the outputs need; the builder can go on being used. */
  finish(name: string, outputs: Readonly<Record<string, Value>> | readonly Output[]): Graph;
}

/** One typed method per op, and sources. Equal pure nodes are made once. */
export type Builder = BuilderCore & { readonly [K in keyof Ops]: Make<Ops[K]> };

/** Constants up to this many bytes are interned by content, larger ones by identity. */
const internedConstantBytes = 1024;

class GraphBuilder implements BuilderCore {
  readonly registry: Registry;
  loc: Loc = unknownLoc;
  scope = "";
  readonly #nodes: Node[] = [];
  readonly #interned = new Map<string, Node>();
  readonly #constants = new Map<TensorData, Node>();
  readonly #names = new Map<string, Node>();

  constructor(registry: Registry) {
    this.registry = registry;
  }

  input(name: string, type: TensorType): Value {
    return this.#source("input", name, type);
  }

  parameter(name: string, given: TensorType): Value {
    const known = this.#names.get(name);
    if (known?.op === "parameter") {
      const type = this.#canonical(name, given);
      const value = known.results[0] as Value;
      if (formatType(value.type) !== formatType(type))
        throw compileError(
          "duplicate-name",
          `parameter ${name} is ${formatType(type)} here but ${formatType(value.type)} before`,
          { loc: this.loc, notes: placed("first declared here", known) },
        );
      return value;
    }
    return this.#source("parameter", name, given);
  }

  #source(op: "input" | "parameter", name: string, type: TensorType): Value {
    const known = this.#names.get(name);
    if (known !== undefined)
      throw compileError(
        "duplicate-name",
        `there is already ${known.op === "input" ? "an input" : "a parameter"} named ${name}`,
        {
          loc: this.loc,
          notes: placed("the first one is here", known),
        },
      );
    const node = this.#add(op, [], { name }, [this.#canonical(name, type)]);
    this.#names.set(name, node);
    return node.results[0] as Value;
  }

  /** The type with canonical dimensions; sizes are whole and not negative. */
  #canonical(name: string, { dtype, shape }: TensorType): TensorType {
    try {
      return { dtype, shape: shape.map((given) => wantSize(typeof given === "string" ? parseDim(given) : given)) };
    } catch (error) {
      if (error instanceof OpError) throw compileError(error.code, `${name}: ${error.message}`, { loc: this.loc });
      throw error;
    }
  }

  constant(given: TensorData | { dtype: DType; shape: readonly number[]; numbers: ArrayLike<number> }): Value {
    if ("numbers" in given) this.#wantNumbers(given);
    const data: TensorData = "values" in given ? given : tensorData(given.dtype, given.shape, given.numbers);
    if (data.values.length !== elementsOf(data.shape))
      throw compileError(
        "shape-mismatch",
        `a constant of [${data.shape.join(",")}] got ${data.values.length} elements`,
        {
          loc: this.loc,
        },
      );
    const type = { dtype: data.dtype, shape: data.shape };
    if (data.values.byteLength > internedConstantBytes) {
      const known = this.#constants.get(data);
      const node = known ?? this.#add("constant", [], {}, [type], data);
      this.#constants.set(data, node);
      return node.results[0] as Value;
    }
    const bits = new Uint8Array(data.values.buffer, data.values.byteOffset, data.values.byteLength);
    const key = `constant|${formatType(type)}|${String.fromCharCode(...bits)}`;
    return this.#intern(key, () => this.#add("constant", [], {}, [type], data)).results[0] as Value;
  }

  #wantNumbers({ dtype, numbers }: { dtype: DType; numbers: ArrayLike<number> }): void {
    if (isFloat(dtype)) return;
    const wrong = Array.prototype.find.call(numbers, (x: number) => !isNumberOf(x, dtype)) as number | undefined;
    if (wrong !== undefined)
      throw compileError("bad-attribute", `a constant of ${dtype} got ${wrong}`, { loc: this.loc });
  }

  full(type: TensorType, value: number): Value {
    const scalar = this.constant({ dtype: type.dtype, shape: [], numbers: [value] });
    if (type.shape.length === 0) return scalar;
    return this.make("broadcast", [scalar], { shape: type.shape, axes: type.shape.map((_, axis) => axis) })[0] as Value;
  }

  make(name: string, operands: readonly Value[], given: Readonly<Record<string, unknown>> = {}): readonly Value[] {
    const op = this.registry.get(name);
    if (op === undefined)
      throw compileError("unknown-op", `there is no op named ${name}`, {
        loc: this.loc,
        help: didYouMean(name, this.registry.keys()) ?? ownOpsHelp,
      });
    try {
      const attrs = completeAttrs(name, op, given);
      let key = name;
      for (const { producer, index } of operands) {
        if (this.#nodes[producer.id] !== producer)
          throw new InternalError(`${name}: an operand made by ${producer.op} is another builder's`);
        key += `|${producer.id}.${index}`;
      }
      for (const attr of Object.keys(attrs)) key += `|${formatAttr(attrs[attr] as never)}`;
      return this.#intern(key, () => this.#add(name, operands, attrs, inferTypes(name, op, operands, attrs))).results;
    } catch (error) {
      if (error instanceof OpError) throw this.#located(name, error, operands);
      throw error;
    }
  }

  #located(name: string, error: OpError, operands: readonly Value[]): CompileError {
    const culprit = error.operand === undefined ? undefined : operands[error.operand];
    return new CompileError([
      diagnostic(error.code, error.message.startsWith(name) ? error.message : `${name}: ${error.message}`, {
        loc: this.loc,
        notes: culprit === undefined ? [] : [origin(`operand ${error.operand}`, culprit)],
        help: error.help,
      }),
    ]);
  }

  at<T>(place: { loc?: Loc | undefined; scope?: string | undefined }, body: () => T): T {
    const [loc, scope] = [this.loc, this.scope];
    if (place.loc !== undefined) this.loc = place.loc;
    if (place.scope !== undefined) this.scope = place.scope;
    try {
      return body();
    } finally {
      this.loc = loc;
      this.scope = scope;
    }
  }

  #intern(key: string, make: () => Node): Node {
    const known = this.#interned.get(key);
    if (known === undefined) {
      const node = make();
      this.#interned.set(key, node);
      return node;
    }
    // The node is frozen but its list of places stays open: a place is never part of what a node is.
    if (!known.locs.includes(this.loc) && this.loc.kind !== "unknown") (known.locs as Loc[]).push(this.loc);
    return known;
  }

  #add(op: string, operands: readonly Value[], attrs: Attrs, types: readonly TensorType[], data?: TensorData): Node {
    const results: Value[] = [];
    const node: Node = {
      id: this.#nodes.length,
      op,
      operands: Object.freeze([...operands]),
      attrs: Object.freeze(attrs),
      results,
      locs: [this.loc],
      scope: this.scope,
      ...(data === undefined ? {} : { data }),
    };
    types.forEach((type, index) => results.push(Object.freeze({ type, producer: node, index })));
    Object.freeze(results);
    Object.freeze(node);
    this.#nodes.push(node);
    return node;
  }

  finish(name: string, outputs: Readonly<Record<string, Value>> | readonly Output[]): Graph {
    const list: readonly Output[] = Array.isArray(outputs)
      ? (outputs as readonly Output[])
      : Object.entries(outputs as Readonly<Record<string, Value>>).map(([name, value]) => ({ name, value }));
    const live = new Uint8Array(this.#nodes.length);
    for (const { value } of list) {
      if (this.#nodes[value.producer.id] !== value.producer)
        throw new InternalError(`output of ${name} was made by another builder`);
      live[value.producer.id] = 1;
    }
    for (let id = this.#nodes.length - 1; id >= 0; id--) {
      const node = this.#nodes[id] as Node;
      if (node.op === "input") live[id] = 1;
      if (live[id] === 1) for (const operand of node.operands) live[operand.producer.id] = 1;
    }
    const nodes = this.#nodes.filter((node) => live[node.id] === 1);
    return Object.freeze({
      name,
      inputs: Object.freeze(nodes.filter((n) => n.op === "input").map((n) => n.results[0] as Value)),
      nodes: Object.freeze(nodes),
      outputs: Object.freeze(list.map((o) => Object.freeze({ ...o }))),
    });
  }
}

/** What helps where a name is near no op's. */
export const ownOpsHelp = "an op of your own is one of the composites that tamis.config.ts lists";

/** Says what a value is and, where that is known, at its place. */
function origin(what: string, { type, producer }: Value): Note {
  const loc = producer.locs[0] ?? unknownLoc;
  return formatLoc(loc) === ""
    ? { message: `${what} is ${formatType(type)}`, loc }
    : { message: `${what} (${formatType(type)}) comes from here`, loc };
}

/** A note that says nothing without its place. */
function placed(message: string, { locs }: Node): readonly Note[] {
  const loc = locs.find((l) => formatLoc(l) !== "");
  return loc === undefined ? [] : [{ message, loc }];
}

function wantSize(dim: Dim): Dim {
  if (typeof dim === "string" || (Number.isSafeInteger(dim) && dim >= 0)) return dim;
  throw new OpError("bad-dimension", `${dim} is no size`);
}

/** Result types of one application, operands counted; throws OpError. */
export function inferTypes(
  name: string,
  op: AnyOp,
  operands: readonly { readonly type: TensorType }[],
  attrs: Attrs,
): readonly TensorType[] {
  const open = op.operands.at(-1)?.endsWith("...") === true;
  const fixed = op.operands.length - (open ? 1 : 0);
  if (open ? operands.length < fixed : operands.length !== fixed)
    throw new OpError(
      "operand-count",
      `${name} wants ${open ? "at least " : ""}${fixed} operands, got ${operands.length}`,
    );
  const types = op.infer(
    operands.map((operand) => operand.type),
    attrs,
  );
  for (const { shape } of types) shape.forEach(wantSize);
  return types;
}

for (const [name, op] of builtinOps) {
  const open = op.operands.at(-1)?.endsWith("...") === true;
  const count = op.operands.length;
  Object.defineProperty(GraphBuilder.prototype, name, {
    value(this: GraphBuilder, ...args: unknown[]) {
      const operands = open ? (args[0] as readonly Value[]) : (args.slice(0, count) as Value[]);
      const results = this.make(name, operands, (args[open ? 1 : count] ?? {}) as Record<string, unknown>);
      return manyResults.has(name) ? results : results[0];
    },
  });
}

/** Ops whose builder method gives the list of results, as their type says. */
const manyResults: ReadonlySet<string> = new Set<keyof Ops>(["sort", "topK", "attention", "tokenMatch"]);

/** A builder of a graph of its own, over the op table unless another registry is given. */
export function createBuilder(registry: Registry = builtinOps): Builder {
  return new GraphBuilder(registry) as unknown as Builder;
}
