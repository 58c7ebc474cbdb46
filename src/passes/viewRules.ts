import { addDims, floorDivide, multiplyDims, subtractDims } from "../ir/dim.ts";
import type { Node, Value } from "../ir/graph.ts";
import { type Dim, formatType } from "../ir/type.ts";
import { any, type Matched, type NodePattern, pat, type Rule, rest, rule } from "./rewrite.ts";

/** Exact rules over reshape, transpose, broadcast, reverse, pad, slice and concat; most specific first. */
export function viewRules(): readonly Rule[] {
  return [...sameView(), ...slices(), ...concats()];
}

function sameView(): readonly Rule[] {
  const x = any("x");
  const scalar = pat.broadcast([x]).where(({ axes, shape }) => axes.length === shape.length);
  const same = (_: unknown, node: Node) => unchanged(node);
  /** A view of one number repeated is that number repeated. */
  const viewOfScalar = <A>(name: string, match: NodePattern<X & { readonly view: Matched<A> }, A>) =>
    rule<X & { readonly view: Matched<A> }, A>({
      name,
      match,
      build: (b, m) => {
        const { shape } = m.view.type;
        return b.broadcast(m.x, { shape, axes: shape.map((_, axis) => axis) });
      },
    });
  return [
    drop("reshapeSame", pat.reshape([x]).where(same)),
    drop(
      "transposeNone",
      pat.transpose([x]).where(({ perm }) => perm.every((from, to) => from === to)),
    ),
    drop(
      "broadcastNone",
      pat.broadcast([x]).where(({ axes }) => axes.length === 0),
    ),
    drop(
      "reverseNone",
      pat.reverse([x]).where(({ axes }) => axes.length === 0),
    ),
    drop(
      "padNone",
      pat.pad([x]).where(({ low, high }) => [...low, ...high].every((added) => added === 0)),
    ),
    drop(
      "sliceAll",
      pat.slice([x]).where(({ start, step }, node) => start === 0 && step === 1 && unchanged(node)),
    ),
    viewOfScalar("reshapeOfScalar", pat.reshape([scalar]).as("view")),
    viewOfScalar("transposeOfScalar", pat.transpose([scalar]).as("view")),
    viewOfScalar("sliceOfScalar", pat.slice([scalar]).as("view")),
    viewOfScalar("reverseOfScalar", pat.reverse([scalar]).as("view")),
    rule({
      name: "reshapeTwice",
      match: pat.reshape([pat.reshape([x])]).as("outer"),
      build: (b, m) => b.reshape(m.x, m.outer.attrs),
    }),
    rule({
      name: "transposeTwice",
      match: pat.transpose([pat.transpose([x]).as("inner")]).as("outer"),
      build: (b, m) => b.transpose(m.x, { perm: m.outer.attrs.perm.map((axis) => m.inner.attrs.perm[axis] as number) }),
    }),
    rule({
      name: "broadcastTwice",
      match: pat.broadcast([pat.broadcast([x]).as("inner")]).as("outer"),
      build: (b, m) => {
        const { shape, axes } = m.outer.attrs;
        const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
        const all = [...axes, ...m.inner.attrs.axes.map((axis) => kept[axis] as number)].sort((a, b) => a - b);
        return b.broadcast(m.x, { shape, axes: all });
      },
    }),
    rule({
      name: "reverseTwice",
      match: pat.reverse([pat.reverse([x]).as("inner")]).as("outer"),
      build: (b, m) => {
        const [outer, inner] = [m.outer.attrs.axes, m.inner.attrs.axes];
        const once = [...outer.filter((a) => !inner.includes(a)), ...inner.filter((a) => !outer.includes(a))];
        return b.reverse(m.x, { axes: once.sort((a, b) => a - b) });
      },
    }),
    ...[pat.reduceSum, pat.reduceMean, pat.reduceMax, pat.reduceMin, pat.reduceProd].map((reduce) =>
      rule({
        name: "reduceOne",
        match: reduce([x])
          .where(({ axes }, { operands: [of] }) => axes.every((axis) => of?.type.shape[axis] === 1))
          .as("outer"),
        build: (b, m) => b.reshape(m.x, { shape: m.outer.type.shape }),
      }),
    ),
  ];
}

type X = { readonly x: Value };

function drop<A>(name: string, match: NodePattern<X, A>): Rule {
  return rule<X, A>({ name, match, build: (_, m) => m.x });
}

/** Whether a node of one operand has its operand's type. */
function unchanged({ operands, results }: Node): boolean {
  return formatType((operands[0] as Value).type) === formatType((results[0] as Value).type);
}

type SliceAttrs = { readonly axis: number; readonly start: Dim; readonly end: Dim; readonly step: number };

function slices(): readonly Rule[] {
  return [
    rule({
      name: "sliceTwice",
      match: pat.slice([pat.slice([any("x")]).as("inner")]).as("outer"),
      where: (m) => {
        const joined = sliceOfSlice(m.outer.attrs, m.inner.attrs);
        if (joined === undefined) return "the slices are along different axes";
        const length = subtractDims(joined.end, joined.start);
        const count = floorDivide(addDims(length, joined.step - 1), joined.step);
        return (
          count === m.outer.type.shape[joined.axis] || `${count} is not known to be ${m.outer.type.shape[joined.axis]}`
        );
      },
      build: (b, m) => b.slice(m.x, sliceOfSlice(m.outer.attrs, m.inner.attrs) as SliceAttrs),
    }),
    rule({
      name: "sliceOfConcat",
      match: pat.slice([pat.concat([rest("parts")]).as("whole")]).as("slice"),
      where: (m) => {
        if (m.slice.attrs.axis !== m.whole.attrs.axis) return "the slice is along another axis than the parts";
        return partUnder(m.slice.attrs, m.parts) !== undefined || "the slice is not known to lie in one part";
      },
      build: (b, m) => {
        const { part, start, end } = partUnder(m.slice.attrs, m.parts) as PartUnder;
        return b.slice(part, { ...m.slice.attrs, start, end });
      },
    }),
  ];
}

/** The outer slice of the inner one as a slice of the whole; undefined along different axes. */
function sliceOfSlice(outer: SliceAttrs, inner: SliceAttrs): SliceAttrs | undefined {
  if (outer.axis !== inner.axis) return undefined;
  const at = (position: Dim) => addDims(inner.start, multiplyDims(position, inner.step));
  const start = at(outer.start);
  // One past the last element that the outer slice may take; nothing stays nothing.
  const end = outer.start === outer.end ? start : addDims(at(subtractDims(outer.end, 1)), 1);
  return { axis: outer.axis, start, end, step: outer.step * inner.step };
}

interface PartUnder {
  readonly part: Value;
  readonly start: Dim;
  readonly end: Dim;
}

/** The part of a concatenation that a slice falls into, and where in it. */
function partUnder({ axis, start, end }: SliceAttrs, parts: readonly Value[]): PartUnder | undefined {
  let offset: Dim = 0;
  for (const part of parts) {
    const next: Dim = addDims(offset, part.type.shape[axis] as Dim);
    const [before, beyond] = [subtractDims(start, offset), subtractDims(end, next)];
    if (typeof before === "number" && before >= 0 && typeof beyond === "number" && beyond <= 0)
      return { part, start: before, end: subtractDims(end, offset) };
    offset = next;
  }
  return undefined;
}

function concats(): readonly Rule[] {
  const whole = pat.concat([rest("parts")]).as("whole");
  const along = (axis: number) => (part: Value) => part.type.shape[axis] !== 0;
  return [
    rule({ name: "concatOne", match: pat.concat([any("x")]), build: (_, m) => m.x }),
    rule({
      name: "concatTwice",
      match: whole.where(({ axis }, { operands }) => operands.some((part) => isConcat(part, axis))),
      build: (b, m) => {
        const { axis } = m.whole.attrs;
        return b.concat(
          m.parts.flatMap((part) => (isConcat(part, axis) ? part.producer.operands : [part])),
          { axis },
        );
      },
    }),
    rule({
      name: "concatEmpty",
      match: whole.where(({ axis }, { operands }) => new Set(operands.map(along(axis))).size === 2),
      build: (b, m) => b.concat(m.parts.filter(along(m.whole.attrs.axis)), m.whole.attrs),
    }),
    rule({
      name: "concatSlices",
      match: whole.where(({ axis }, { operands }) => joinedSlices(operands, axis).length < operands.length),
      build: (b, m) => {
        const { axis } = m.whole.attrs;
        const parts = joinedSlices(m.parts, axis).map(({ of, start, end }) =>
          start === undefined ? of : b.slice(of, { axis, start, end }),
        );
        return b.concat(parts, { axis });
      },
    }),
  ];
}

const isConcat = ({ producer }: Value, axis: number): boolean =>
  producer.op === "concat" && producer.attrs["axis"] === axis;

type Piece =
  | { readonly of: Value; readonly start: Dim; readonly end: Dim }
  | { readonly of: Value; readonly start?: undefined; readonly end?: undefined };

/** Parts of a concatenation, where neighbouring slices of one value are one slice. */
function joinedSlices(parts: readonly Value[], axis: number): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const part of parts) {
    const { op, attrs, operands } = part.producer;
    const { start, end, step } = attrs as unknown as SliceAttrs;
    const sliced = op === "slice" && attrs["axis"] === axis && step === 1;
    const piece: Piece = sliced ? { of: operands[0] as Value, start, end } : { of: part };
    const before = pieces.at(-1);
    if (sliced && before?.start !== undefined && before.of === piece.of && before.end === start)
      pieces[pieces.length - 1] = { of: piece.of, start: before.start, end };
    else pieces.push(piece);
  }
  return pieces;
}
