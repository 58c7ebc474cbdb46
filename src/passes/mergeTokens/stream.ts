// Carries a shorter token axis through the rest of a graph: which axis of each value holds the tokens, and how every
// op downstream has to be written for fewer of them.
import { type Builder, createBuilder } from "../../ir/builder.ts";
import { CompileError, compileError, type Loc } from "../../ir/diagnostic.ts";
import { addDims, divideDims, multiplyDims, productOfDims, subtractDims } from "../../ir/dim.ts";
import { expansionOf } from "../../ir/expand.ts";
import type { Attrs, Node, Value } from "../../ir/graph.ts";
import type { AnyOp, Form, Registry } from "../../ir/op.ts";
import type { Dim, TensorType } from "../../ir/type.ts";
import { copyNode, type Rebuild } from "../rebuild.ts";

/** A set of tokens after merging. Values carry the same one as long as they index the same tokens. */
export interface Tokens {
  readonly before: Dim;
  readonly count: Dim;
  /** f32[batch, count, 1] in a network of any dtype: patches each token stands for; undefined while every one is 1. */
  readonly sizes: Value | undefined;
  /** f32[batch, count, before merging]: 1 where an original token ended up. */
  readonly source: Value | undefined;
}

/** Where a value holds tokens: its axis has outer * count * inner elements. */
export interface Place {
  readonly tokens: Tokens;
  readonly axis: number;
  readonly outer: Dim;
  readonly inner: Dim;
}

/** Thrown where the tokens cannot be followed; turned into a diagnostic at the node's line. */
export class CannotFollow extends Error {
  readonly help: string | undefined;
  constructor(reason: string, help?: string) {
    super(reason);
    this.name = "CannotFollow";
    this.help = help;
  }
}

const packed = (place: Place): boolean => place.outer !== 1 || place.inner !== 1;
const samePlace = (a: Place, b: Place): boolean =>
  a.tokens === b.tokens && a.axis === b.axis && a.outer === b.outer && a.inner === b.inner;
const sizeAt = ({ tokens, outer, inner }: Place): Dim => multiplyDims(multiplyDims(outer, tokens.count), inner);

/** Sizes in the dtype of what they weigh. */
export function castTo(b: Builder, sizes: Value, { type: { dtype } }: Value): Value {
  return sizes.type.dtype === dtype ? sizes : b.cast(sizes, { to: dtype });
}

export class TokenStreams {
  readonly #places = new Map<Value, Place>();
  readonly #slices = new Map<Tokens, Map<number, Tokens>>();
  readonly #protect: number;
  readonly #proportional: boolean;
  readonly #registry: Registry;
  /** The composite that tokens are followed through, where they are. */
  readonly #within: string | undefined;

  constructor(options: { protect: number; proportional: boolean; registry: Registry; within?: string }) {
    this.#protect = options.protect;
    this.#proportional = options.proportional;
    this.#registry = options.registry;
    this.#within = options.within;
  }

  placeOf(value: Value): Place | undefined {
    return this.#places.get(value);
  }

  set(value: Value, place: Place): void {
    this.#places.set(value, place);
  }

  /** The node written for its new operands, or undefined where no operand has lost tokens. */
  rewrite(node: Node, rebuild: Rebuild): readonly Value[] | undefined {
    const places = node.operands.map((operand) => this.#places.get(operand));
    if (places.every((place) => place === undefined)) return undefined;
    try {
      return this.#follow(node, places, rebuild);
    } catch (error) {
      if (!(error instanceof CannotFollow)) throw error;
      throw compileError("cannot-merge", `mergeTokens: ${error.message}`, {
        loc: node.locs[0] as Loc,
        help: error.help,
      });
    }
  }

  #follow(node: Node, places: readonly (Place | undefined)[], rebuild: Rebuild): readonly Value[] {
    if (node.op === "attention") return this.#attention(node, places, rebuild);
    const op = this.#registry.get(node.op) as AnyOp;
    if (op.kind === "routine") {
      const [place] = places as readonly [Place];
      if (node.attrs["axis"] === place.axis) throw new CannotFollow(`${node.op} orders tokens by position`);
      const results = copyNode(node, rebuild);
      for (const result of node.results) this.set(result, place);
      return results;
    }
    if (op.kind === "composite") return this.#composite(node, op, rebuild);
    const form = op.form as Form<Attrs>;
    return followers[form.kind](this, node, form as never, places, rebuild);
  }

  /** A composite keeps whole if the tokens can be followed through what it stands for. */
  #composite(node: Node, op: Extract<AnyOp, { kind: "composite" }>, rebuild: Rebuild): readonly Value[] {
    const types = node.operands.map((operand) => operand.type);
    const graph = expansionOf(node.op, op, types, node.attrs, this.#registry);
    const trial = new TokenStreams({
      protect: this.#protect,
      proportional: this.#proportional,
      registry: this.#registry,
      within: node.op,
    });
    const scratch = createBuilder(this.#registry);
    const map = new Map<Value, Value>();
    const within: Rebuild = { b: scratch, of: (value) => map.get(value) as Value };
    graph.inputs.forEach((value, i) => {
      const operand = node.operands[i] as Value;
      map.set(value, scratch.input(`x${i}`, rebuild.of(operand).type));
      const place = this.#places.get(operand);
      if (place === undefined) return;
      const { tokens } = place;
      const sizes = tokens.sizes && scratch.input(`sizes${i}`, tokens.sizes.type);
      trial.set(value, { ...place, tokens: this.#trialTokens(tokens, sizes) });
    });
    for (const step of graph.nodes) {
      if (step.op === "input") continue;
      const places = step.operands.map((operand) => trial.placeOf(operand));
      const results = places.every((p) => p === undefined)
        ? copyNode(step, within)
        : trial.#follow(step, places, within);
      step.results.forEach((value, i) => map.set(value, results[i] as Value));
    }
    const results = copyNode(node, rebuild);
    node.results.forEach((result, i) => {
      const place = trial.placeOf(graph.outputs[i]?.value as Value);
      if (place === undefined) return;
      const original = this.#trials.get(place.tokens);
      if (original === undefined) throw new CannotFollow(`${node.op} takes tokens apart`);
      this.set(result, { ...place, tokens: original });
    });
    return results;
  }

  readonly #trials = new Map<Tokens, Tokens>();
  readonly #trialOf = new Map<Tokens, Tokens>();
  #trialTokens(tokens: Tokens, sizes: Value | undefined): Tokens {
    const known = this.#trialOf.get(tokens);
    if (known !== undefined) return known;
    const trial: Tokens = { ...tokens, sizes, source: undefined };
    this.#trials.set(trial, tokens);
    this.#trialOf.set(tokens, trial);
    return trial;
  }

  #attention(node: Node, places: readonly (Place | undefined)[], rebuild: Rebuild): readonly Value[] {
    const [query, key, value] = places;
    const extras = node.attrs["extras"] as readonly string[];
    if (extras.length > 0)
      throw new CannotFollow("attention has a mask or bias whose size is tied to the number of tokens");
    if (node.attrs["causal"] === true) throw new CannotFollow("merged tokens enter a causal attention");
    if ((node.attrs["left"] as number) >= 0 || (node.attrs["right"] as number) >= 0)
      throw new CannotFollow("merged tokens enter a windowed attention, which reads them by position");
    for (const place of [query, key, value])
      if (place !== undefined && (place.axis !== 2 || packed(place)))
        throw new CannotFollow("attention does not find its tokens on axis 2");
    if (key?.tokens !== value?.tokens) throw new CannotFollow("keys and values have lost different tokens");
    const { b } = rebuild;
    const operands = node.operands.map(rebuild.of);
    const sizes = this.#proportional && key !== undefined ? this.sizesOf(key.tokens) : undefined;
    const attrs: Record<string, unknown> = { ...node.attrs };
    if (sizes !== undefined) {
      const logSize = b.log(b.reshape(sizes, { shape: sizes.type.shape.slice(0, 2) }));
      operands.push(castTo(b, logSize, operands[0] as Value));
      attrs["extras"] = ["logSize"];
    }
    const results = b.make("attention", operands, attrs);
    if (query !== undefined) for (const result of node.results) this.set(result, query);
    return results;
  }

  /** Sizes to weigh tokens by. A composite that is kept whole could not take them in. */
  sizesOf({ sizes }: Tokens): Value | undefined {
    if (this.#within !== undefined && sizes !== undefined)
      throw new CannotFollow(
        `${this.#within} mixes tokens, and merged ones have to be weighed by size inside it`,
        "write it out with decompose before merging",
      );
    return sizes;
  }

  /** The tokens from `start` on; the same object for the same slice. */
  tail(tokens: Tokens, start: number, { b }: Rebuild): Tokens {
    const known = this.#slices.get(tokens) ?? new Map<number, Tokens>();
    this.#slices.set(tokens, known);
    const cached = known.get(start);
    if (cached !== undefined) return cached;
    const cut = (value: Value | undefined, axis: number) =>
      value === undefined ? undefined : b.slice(value, { axis, start, end: value.type.shape[axis] as Dim });
    const made: Tokens = {
      before: subtractDims(tokens.before, start),
      count: subtractDims(tokens.count, start),
      sizes: cut(tokens.sizes, 1),
      source: cut(cut(tokens.source, 1), 2), // protected tokens hold themselves alone
    };
    known.set(start, made);
    return made;
  }

  get protect(): number {
    return this.#protect;
  }
}

/**
 * Where the tokens of a stream [batch, tokens, channels] are at the end of a path of ops, all of them and in their
 * order; or why they cannot be followed. Nothing is merged yet: this is a trial.
 */
export function followTokens(registry: Registry, stream: Value, path: readonly Node[]): Place | string {
  const streams = new TokenStreams({ protect: 0, proportional: false, registry });
  const b = createBuilder(registry);
  const map = new Map<Value, Value>();
  const given = (value: Value): Value => {
    const known = map.get(value) ?? b.input(`x${map.size}`, value.type);
    map.set(value, known);
    return known;
  };
  const count = stream.type.shape[1] as Dim;
  const tokens: Tokens = { before: count, count, sizes: undefined, source: undefined };
  streams.set(stream, { tokens, axis: 1, outer: 1, inner: 1 });
  try {
    for (const node of path) {
      const results = streams.rewrite(node, { b, of: given }) ?? copyNode(node, { b, of: given });
      node.results.forEach((value, i) => map.set(value, results[i] as Value));
    }
  } catch (error) {
    if (error instanceof CompileError) return (error.diagnostics[0]?.message ?? "").replace(/^mergeTokens: /, "");
    throw error;
  }
  return streams.placeOf(path.at(-1)?.results[0] ?? stream) ?? "the tokens are lost";
}

type Follower<K extends Form<Attrs>["kind"]> = (
  streams: TokenStreams,
  node: Node,
  form: Extract<Form<Attrs>, { kind: K }>,
  places: readonly (Place | undefined)[],
  rebuild: Rebuild,
) => readonly Value[];

const followers: { readonly [K in Form<Attrs>["kind"]]: Follower<K> } = {
  elementwise(streams, node, _form, places, rebuild) {
    const place = places.find((p) => p !== undefined) as Place;
    const operands = node.operands.map((operand, i) => {
      const other = places[i];
      if (other === undefined) return fit(operand, place, rebuild);
      if (!samePlace(other, place)) throw new CannotFollow(`${node.op} meets tensors that have lost different tokens`);
      return rebuild.of(operand);
    });
    return keep(
      streams,
      node,
      place,
      rebuild.b.at({ loc: node.locs[0] }, () => rebuild.b.make(node.op, operands, node.attrs)),
    );
  },

  reduction(streams, node, form, places, rebuild) {
    const place = places[0] as Place;
    const axes = form.axes(node.attrs, node.operands[0]?.type.shape.length ?? 0);
    if (axes.includes(place.axis)) return reduceTokens(streams, node, place, axes, rebuild);
    const kept = node.attrs["keepDims"] === true ? 0 : axes.filter((axis) => axis < place.axis).length;
    return keep(streams, node, { ...place, axis: place.axis - kept }, copyNode(node, rebuild));
  },

  view(streams, node, _form, places, rebuild) {
    const place = places[0] as Place;
    const rule = viewRules[node.op];
    if (rule === undefined) throw new CannotFollow(`${node.op} along the token axis is not understood`);
    return rule(streams, node, place, rebuild);
  },

  concat(streams, node, form, places, rebuild) {
    const place = places.find((p) => p !== undefined) as Place;
    if (form.axis(node.attrs) === place.axis)
      throw new CannotFollow("further tokens are joined to tokens that were merged", "merge after they join");
    if (!places.every((p) => p?.tokens === place.tokens && p.axis === place.axis))
      throw new CannotFollow("concat meets tensors that have lost different tokens");
    return keep(streams, node, place, copyNode(node, rebuild));
  },

  generate() {
    throw new CannotFollow("unreachable: a generated tensor has no operands");
  },

  gather(streams, node, form, places, rebuild) {
    const place = places[0];
    const axis = form.axis(node.attrs);
    if (place === undefined || places[1] !== undefined || place.axis >= axis || form.batch(node.attrs) > 0)
      throw new CannotFollow("gather picks tokens by position");
    return keep(streams, node, place, copyNode(node, rebuild));
  },

  contraction(streams, node, form, places, rebuild) {
    const spec = form.spec(node.operands.map((operand) => operand.type) as readonly TensorType[], node.attrs);
    const [left, right, result] = spec.split(/,|->/) as [string, string, string];
    const letters = places.map((place, i) => (place === undefined ? undefined : [left, right][i]?.[place.axis]));
    const place = places.find((p) => p !== undefined) as Place;
    const other = places[0] === undefined ? undefined : places[1];
    const letter = letters.find((l) => l !== undefined) as string;
    const inBoth = left.includes(letter) && right.includes(letter);
    if (!result.includes(letter)) throw new CannotFollow(`${node.op} mixes tokens by their position`);
    if (inBoth && (other === undefined || other.tokens !== place.tokens || letters[0] !== letters[1]))
      throw new CannotFollow(`${node.op} joins merged tokens with a tensor of fixed size along them`);
    if (!inBoth && other !== undefined) throw new CannotFollow(`${node.op} compares tokens with tokens`);
    return keep(streams, node, { ...place, axis: result.indexOf(letter) }, copyNode(node, rebuild));
  },

  window() {
    throw new CannotFollow("tokens are laid out on a grid for a convolution or pooling");
  },

  scan(streams, node, form, places, rebuild) {
    const place = places[0] as Place;
    if (form.axis(node.attrs, node.operands[0]?.type.shape.length ?? 0) === place.axis)
      throw new CannotFollow(`${node.op} runs along tokens by position`);
    return keep(streams, node, place, copyNode(node, rebuild));
  },
};

function keep(streams: TokenStreams, node: Node, place: Place, results: readonly Value[]): readonly Value[] {
  for (const result of node.results) streams.set(result, place);
  return results;
}

/** An operand without tokens of its own, repeated over fewer. */
function fit(operand: Value, place: Place, rebuild: Rebuild): Value {
  const { producer } = operand;
  const axes = producer.attrs["axes"] as readonly number[] | undefined;
  if (producer.op !== "broadcast" || axes?.includes(place.axis) !== true)
    throw new CannotFollow(
      `a tensor of fixed size along the tokens (${operand.type.shape.join(" x ")}) meets merged tokens`,
      "tokens before a merge, or a table by position, cannot be added to tokens after it",
    );
  const shape = operand.type.shape.map((dim, axis) => (axis === place.axis ? sizeAt(place) : dim));
  return rebuild.b.at({ loc: producer.locs[0], scope: producer.scope }, () =>
    rebuild.b.broadcast(rebuild.of(producer.operands[0] as Value), { shape, axes }),
  );
}

/**
 * A mean over tokens becomes the mean over the patches they stand for: sum of size * token over the number before
 * merging (ToMe's MAE patch). A sum likewise. Without sizes the plain reduction stays.
 */
function reduceTokens(
  streams: TokenStreams,
  node: Node,
  place: Place,
  axes: readonly number[],
  rebuild: Rebuild,
): readonly Value[] {
  const { b } = rebuild;
  const { before } = place.tokens;
  const x = rebuild.of(node.operands[0] as Value);
  const averages = node.op === "reduceMean";
  if ((!averages && node.op !== "reduceSum") || packed(place) || x.type.shape.length !== 3 || place.axis !== 1)
    throw new CannotFollow(
      `${node.op} over merged tokens has no weighted form`,
      "only sums and means over [batch, tokens, channels] do",
    );
  const sizes = streams.sizesOf(place.tokens);
  if (sizes === undefined) return copyNode(node, rebuild);
  const wide = b.broadcast(b.reshape(castTo(b, sizes, x), { shape: sizes.type.shape.slice(0, 2) }), {
    shape: x.type.shape,
    axes: [2],
  });
  const total = b.reduceSum(b.mul(x, wide), { axes, keepDims: node.attrs["keepDims"] === true });
  if (!averages) return [total];
  const others = productOfDims(axes.filter((axis) => axis !== 1).map((axis) => x.type.shape[axis] as Dim));
  const count = multiplyDims(before, others);
  if (typeof count !== "number")
    throw new CannotFollow("a mean over tokens needs their number before merging", "bind it with bindSymbols");
  return [b.div(total, b.full(total.type, count))];
}

type ViewRule = (streams: TokenStreams, node: Node, place: Place, rebuild: Rebuild) => readonly Value[];

const viewRules: Readonly<Record<string, ViewRule>> = {
  transpose(streams, node, place, rebuild) {
    const axis = (node.attrs["perm"] as readonly number[]).indexOf(place.axis);
    return keep(streams, node, { ...place, axis }, copyNode(node, rebuild));
  },

  broadcast(streams, node, place, rebuild) {
    const axes = node.attrs["axes"] as readonly number[];
    const kept = (node.attrs["shape"] as readonly Dim[]).map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const axis = kept[place.axis] as number;
    const shape = (node.attrs["shape"] as readonly Dim[]).map((dim, a) => (a === axis ? sizeAt(place) : dim));
    return keep(streams, node, { ...place, axis }, copyNode(node, rebuild, { axes, shape }));
  },

  reshape(streams, node, place, rebuild) {
    const from = (node.operands[0] as Value).type.shape;
    const to = node.attrs["shape"] as readonly Dim[];
    const ahead = multiplyDims(productOfDims(from.slice(0, place.axis)), place.outer);
    const through = multiplyDims(ahead, place.tokens.before);
    let before: Dim = 1;
    for (let axis = 0; axis < to.length; axis++) {
      const after = multiplyDims(before, to[axis] as Dim);
      const outer = divideDims(ahead, before);
      const inner = divideDims(after, through);
      if (outer !== undefined && inner !== undefined) {
        const next: Place = { tokens: place.tokens, axis, outer, inner };
        const shape = to.map((dim, a) => (a === axis ? sizeAt(next) : dim));
        return keep(streams, node, next, copyNode(node, rebuild, { shape }));
      }
      before = after;
    }
    throw new CannotFollow(
      `reshape lays ${place.tokens.before} tokens out on a grid [${to.join(",")}], which fewer tokens do not fill`,
    );
  },

  slice(streams, node, place, rebuild) {
    const { axis, start, end, step } = node.attrs as { axis: number; start: Dim; end: Dim; step: number };
    if (axis !== place.axis) return keep(streams, node, place, copyNode(node, rebuild));
    const { before, count } = place.tokens;
    if (packed(place) || step !== 1 || typeof start !== "number")
      throw new CannotFollow("slice picks tokens by position");
    if (end === before) {
      if (start > streams.protect)
        throw new CannotFollow(
          `slice drops the first ${start} tokens by position, but only the first ${streams.protect} stay in place`,
          start <= 2 ? `protect=${start} keeps them in place` : undefined,
        );
      const tokens = start === 0 ? place.tokens : streams.tail(place.tokens, start, rebuild);
      return keep(streams, node, { ...place, tokens }, copyNode(node, rebuild, { ...node.attrs, end: count }));
    }
    if (typeof end !== "number" || end > streams.protect)
      throw new CannotFollow(
        `slice reads tokens ${start} to ${addDims(end, -1)} by position, but only the first ${streams.protect} stay in place`,
        typeof end === "number" && end <= 2 ? `protect=${end}` : undefined,
      );
    return copyNode(node, rebuild); // protected tokens stand for themselves: nothing is lost here
  },

  pad(streams, node, place, rebuild) {
    const [low, high] = [node.attrs["low"], node.attrs["high"]] as readonly (readonly number[])[];
    if (low?.[place.axis] !== 0 || high?.[place.axis] !== 0) throw new CannotFollow("pad adds tokens");
    return keep(streams, node, place, copyNode(node, rebuild));
  },

  reverse(streams, node, place, rebuild) {
    if ((node.attrs["axes"] as readonly number[]).includes(place.axis))
      throw new CannotFollow("reverse turns tokens round");
    return keep(streams, node, place, copyNode(node, rebuild));
  },
};
