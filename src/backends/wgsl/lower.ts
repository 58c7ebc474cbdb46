// One node that computes (or one stored expression) as kernels.

import { InternalError } from "../../ir/diagnostic.ts";
import { floorDivide, multiplyDims, productOfDims } from "../../ir/dim.ts";
import type { Attrs, Node, Value } from "../../ir/graph.ts";
import type { Form, WindowGeometry } from "../../ir/op.ts";
import type { Dim, TensorType } from "../../ir/type.ts";
import { type Expr, type Register, registerOf } from "./expr.ts";
import type { Fold, Kernel } from "./kernel.ts";
import { type Reader, weave } from "./reader.ts";
import { formOf } from "./rowwise.ts";
import type { Scheduler } from "./schedule.ts";

type FormOf<K extends Form<Attrs>["kind"]> = Extract<Form<Attrs>, { kind: K }>;

/** The kernel of a node that computes, or of a stored expression. */
export function lowerNode(scheduler: Scheduler, node: Node): Kernel {
  const label = { scope: node.scope, label: node.op };
  const epilogue = scheduler.epilogueOf(node);
  const ops = [node.op, ...epilogue.ops];
  const rows = scheduler.rowwiseOf(node);
  if (rows !== undefined) return lowerRowwise(scheduler, node, rows, { ...label, ops });
  if (node.op === "attention") return lowerAttention(scheduler, node, { ...label, ops });
  if (node.op === "sort") return lowerSort(scheduler, node, { ...label, ops });
  const form = formOf(node.op, scheduler.registry);
  switch (form?.kind) {
    case "reduction":
      return lowerReduction(scheduler, node, form, { ...label, ops });
    case "contraction":
      return lowerContraction(scheduler, node, form, { ...label, ops });
    case "window":
      return lowerWindow(scheduler, node, form, { ...label, ops });
    case "scan":
      return lowerScan(scheduler, node, form, { ...label, ops });
    case undefined:
      throw new InternalError(`wgsl: no kernel for ${node.op}`);
    default:
      return lowerMap(scheduler, node, { ...label, ops });
  }
}

interface Label {
  readonly scope: string;
  readonly label: string;
  readonly ops: readonly string[];
}

const resultOf = (node: Node): Value => node.results[0] as Value;

function lowerMap(scheduler: Scheduler, node: Node, label: Label): Kernel {
  const value = resultOf(node);
  const reader = scheduler.reader();
  const buffer = scheduler.bufferOf(value);
  if (buffer === undefined) throw new InternalError(`wgsl: ${node.op} has no memory`);
  const i = reader.variable("i", buffer.elements);
  // The value is read through its own arithmetic, not from the memory it is about to fill.
  const inner = reader.inlined(value, reader.unravel(i, value.type.shape));
  return { kind: "map", ...label, count: buffer.elements, results: [{ buffer, value: inner }] };
}

function foldOf(reader: Reader, form: FormOf<"reduction">, x: Expr, type: TensorType, count: Expr, place: Expr): Fold {
  const { pool } = reader;
  const register = registerOf(type.dtype) as Register;
  const s = pool.scalar(register);
  const init = form.init(type.dtype);
  const typed = (e: Expr, want: Register): Expr => (e.type === "number" ? pool.literal(e.value as number, want) : e);
  // A first step tells what each accumulator is: the element's type, or i32 for positions.
  const probe = form.step(
    s,
    init.map((n) => pool.literal(n)),
    x,
    place,
  );
  const registers = probe.map((e) => (e.type === "number" ? register : e.type));
  const variables = (prefix: string) => registers.map((r, k) => pool.variable(`${prefix}${k}`, r));
  const acc = variables("a");
  const each = (list: readonly Expr[]) => list.map((e, k) => typed(e, registers[k] as Register));
  return {
    registers,
    init: init.map((n, k) => pool.literal(n, registers[k] as Register)),
    step: each(form.step(s, acc, x, place)),
    merge: each(form.merge(s, variables("x"), variables("y"))),
    finish: typed(
      form.finish(s, acc, register === "f32" ? pool.make("to-f32", [count], "f32") : count),
      registers[0] as Register,
    ),
  };
}

function lowerReduction(scheduler: Scheduler, node: Node, form: FormOf<"reduction">, label: Label): Kernel {
  const [operand] = node.operands as readonly [Value];
  const { shape } = operand.type;
  const axes = form.axes(node.attrs, shape.length);
  const keptShape = shape.filter((_, axis) => !axes.includes(axis));
  const foldedShape = axes.map((axis) => shape[axis] as Dim);
  const [rows, length] = [productOfDims(keptShape), productOfDims(foldedShape)];
  const reader = scheduler.reader();
  const [i, r] = [reader.variable("i", rows), reader.variable("r", length)];
  const x = reader.read(
    operand,
    weave(shape.length, axes, reader.unravel(i, keptShape), reader.unravel(r, foldedShape)),
  );
  const fold = foldOf(reader, form, x, operand.type, reader.pool.dim(length), r);
  const s0 = reader.pool.variable("s0", fold.finish.type as Register);
  const perRow = reader.results(scheduler.epilogueOf(node), i, s0);
  const place = reader.ravel(
    weave(shape.length, axes, reader.unravel(i, keptShape), reader.unravel(r, foldedShape)),
    shape,
  );
  return { kind: "rows", ...label, rows, length, place, first: [], before: [], folds: [fold], perRow, perElement: [] };
}

function lowerRowwise(
  scheduler: Scheduler,
  node: Node,
  { graph, axes }: NonNullable<ReturnType<Scheduler["rowwiseOf"]>>,
  label: Label,
): Kernel {
  const value = resultOf(node);
  const { shape } = value.type;
  const keptShape = shape.filter((_, axis) => !axes.includes(axis));
  const foldedShape = axes.map((axis) => shape[axis] as Dim);
  const [rows, length] = [productOfDims(keptShape), productOfDims(foldedShape)];
  const reader = scheduler.reader();
  const [i, r] = [reader.variable("i", rows), reader.variable("r", length)];
  const index = weave(shape.length, axes, reader.unravel(i, keptShape), reader.unravel(r, foldedShape));
  graph.inputs.forEach((inner, k) =>
    reader.alias(inner, node.operands[Number(inner.producer.attrs["name"]?.toString().slice(1) ?? k)] as Value),
  );
  const folds: Fold[] = [];
  for (const inner of graph.nodes) {
    const form = formOf(inner.op, scheduler.registry);
    if (form?.kind !== "reduction") continue;
    const [operand] = inner.operands as readonly [Value];
    const x = reader.read(operand, index);
    const fold = foldOf(reader, form, x, operand.type, reader.pool.dim(length), r);
    reader.override(resultOf(inner), reader.pool.variable(`s${folds.length}`, fold.finish.type as Register));
    folds.push(fold);
  }
  const result = reader.read(graph.outputs[0]?.value as Value, index);
  const at = reader.ravel(index, shape);
  const perElement = reader.results(scheduler.epilogueOf(node), at, result).map((r) => ({ ...r, at }));
  return { kind: "rows", ...label, rows, length, place: at, first: [], before: [], folds, perRow: [], perElement };
}

function lowerContraction(scheduler: Scheduler, node: Node, form: FormOf<"contraction">, label: Label): Kernel {
  const [lhs, rhs] = node.operands as readonly [Value, Value];
  const [left, right, out] = form.spec([lhs.type, rhs.type], node.attrs).split(/,|->/) as [string, string, string];
  const sizes = new Map<string, Dim>();
  [...left].forEach((letter, axis) => sizes.set(letter, lhs.type.shape[axis] as Dim));
  [...right].forEach((letter, axis) => sizes.set(letter, rhs.type.shape[axis] as Dim));
  const pick = (test: (l: boolean, r: boolean, o: boolean) => boolean) =>
    [...sizes.keys()].filter((c) => test(left.includes(c), right.includes(c), out.includes(c)));
  const batch = pick((l, r, o) => l && r && o);
  const rowsOf = pick((l, r, o) => l && !r && o);
  const columns = pick((l, r, o) => !l && r && o);
  const summed = pick((_l, _r, o) => !o);
  const dims = (letters: readonly string[]) => letters.map((c) => sizes.get(c) as Dim);
  const reader = scheduler.reader();
  const space = {
    batch: productOfDims(dims(batch)),
    m: productOfDims(dims(rowsOf)),
    n: productOfDims(dims(columns)),
    k: productOfDims(dims(summed)),
  };
  const at = new Map<string, Expr>();
  const place = (name: "batch" | "m" | "n" | "k", letters: readonly string[], variable: string) =>
    reader
      .unravel(reader.variable(variable, space[name]), dims(letters))
      .forEach((e, i) => at.set(letters[i] as string, e));
  place("batch", batch, "b");
  place("m", rowsOf, "m");
  place("n", columns, "n");
  place("k", summed, "k");
  const index = (letters: string) => [...letters].map((c) => at.get(c) as Expr);
  const register = registerOf(lhs.type.dtype) as Register;
  const [a, b] = [reader.read(lhs, index(left)), reader.read(rhs, index(right))];
  const linear = reader.ravel(index(out), resultOf(node).type.shape);
  const i = reader.variable("i", productOfDims(resultOf(node).type.shape));
  const results = reader.results(scheduler.epilogueOf(node), i, reader.pool.variable("acc", register));
  return { kind: "gemm", ...label, ...space, register, a, b, at: linear, results };
}

function lowerAttention(scheduler: Scheduler, node: Node, label: Label): Kernel {
  const [query, key, value, ...more] = node.operands as readonly [Value, Value, Value, ...Value[]];
  const { attrs } = node;
  const [batch, heads, queries, channels] = query.type.shape as readonly [Dim, number, Dim, number];
  const [, keyHeads, keys] = key.type.shape as readonly [Dim, number, Dim];
  const valueChannels = value.type.shape[3] as number;
  const reader = scheduler.reader();
  const { pool } = reader;
  const [b, h, i, j, c] = [
    reader.variable("b", batch),
    reader.variable("h", heads),
    reader.variable("i", queries),
    reader.variable("j", keys),
    reader.variable("c", Math.max(channels, valueChannels)),
  ] as [Expr, Expr, Expr, Expr, Expr];
  const keyHead = pool.index.div(h, pool.literal(heads / keyHeads, "i32"));
  const s = pool.scalar("f32");
  const hidden = pool.literal(Number.NEGATIVE_INFINITY, "f32");
  let score: Expr = pool.variable("score", "f32");
  (attrs["extras"] as readonly string[]).forEach((extra, k) => {
    const operand = more[k] as Value;
    const at = [b, h, i, j].map((e, axis) => (operand.type.shape[axis] === 1 && axis < 2 ? pool.literal(0, "i32") : e));
    if (extra === "mask") score = s.select(reader.read(operand, at), score, hidden);
    else score = s.add(score, reader.read(operand, extra === "bias" ? at : [b, j]));
  });
  // Query row i stands at position p = i + past and sees keys p - left .. p + right, none later than p if causal.
  const p = pool.index.add(i, pool.dim(attrs["past"] as Dim));
  const [left, right] = [attrs["left"] as number, attrs["right"] as number];
  const ahead = attrs["causal"] === true ? 0 : right;
  const reach = attrs["causal"] === true && right >= 0 ? Math.min(0, right) : ahead;
  const first =
    left < 0
      ? pool.literal(0, "i32")
      : pool.index.max(pool.literal(0, "i32"), pool.index.sub(p, pool.literal(left, "i32")));
  const end =
    reach < 0 ? pool.dim(keys) : pool.index.min(pool.dim(keys), pool.index.add(p, pool.literal(reach + 1, "i32")));
  const linear = reader.variable("o", productOfDims(resultOf(node).type.shape));
  const results = reader.results(scheduler.epilogueOf(node), linear, pool.variable("acc", "f32"));
  const lse = node.results[1];
  const lseBuffer = lse === undefined ? undefined : scheduler.bufferOf(lse);
  return {
    kind: "attention",
    ...label,
    batch,
    heads,
    queries,
    keys,
    channels,
    valueChannels,
    scale: attrs["scale"] as number,
    query: reader.read(query, [b, h, i, c]),
    key: reader.read(key, [b, keyHead, j, c]),
    value: reader.read(value, [b, keyHead, j, c]),
    score,
    first,
    end,
    results,
    logSumExp: lseBuffer === undefined ? [] : [{ buffer: lseBuffer, value: pool.variable("acc", "f32") }],
  };
}

function lowerWindow(scheduler: Scheduler, node: Node, form: FormOf<"window">, label: Label): Kernel {
  const g: WindowGeometry = form.geometry(
    node.operands.map((operand) => operand.type),
    node.attrs,
  );
  return g.reduce === "dot" && g.featureGroups === 1 && g.batchGroups === 1
    ? lowerConvolution(scheduler, node, g, label)
    : lowerTaps(scheduler, node, g, label);
}

/** Where the taps of a window lie in the input: rows and columns, and whether they are inside it. */
function windowPlace(
  { pool }: Reader,
  g: WindowGeometry,
  out: readonly [Expr, Expr],
  tap: readonly [Expr, Expr],
  sizes: readonly [Dim, Dim],
): { readonly place: readonly [Expr, Expr]; readonly inside: Expr } {
  const s = pool.index;
  let inside: Expr = pool.literal(1, "bool");
  const along = (axis: 0 | 1): Expr => {
    const lit = (value: number) => pool.literal(value, "i32");
    const reach = s.add(
      s.mul(out[axis], lit(g.strides[axis] as number)),
      s.mul(tap[axis], lit(g.kernelDilation[axis] as number)),
    );
    const [low, high] = g.padding[axis] as readonly [number, number];
    const place = low === 0 ? reach : s.sub(reach, lit(low));
    const base = g.baseDilation[axis] as number;
    const at = base === 1 ? place : s.div(place, lit(base));
    if (low > 0) inside = s.and(inside, s.lessEqual(lit(0), place));
    if (base > 1) inside = s.and(inside, pool.make("equal", [s.mod(place, lit(base)), lit(0)], "bool"));
    if (low > 0 || high > 0 || base > 1) inside = s.and(inside, s.less(at, pool.dim(sizes[axis])));
    return at;
  };
  return { place: [along(0), along(1)], inside };
}

/** A convolution of one group as a product: filters by taps times taps by places. */
function lowerConvolution(scheduler: Scheduler, node: Node, g: WindowGeometry, label: Label): Kernel {
  const [x, weight] = node.operands as readonly [Value, Value];
  const { shape } = resultOf(node).type;
  const [batch, filters, rows, columns] = shape as readonly [Dim, Dim, Dim, Dim];
  const [, channels, height, width] = x.type.shape as readonly [Dim, Dim, Dim, Dim];
  const [kernelRows, kernelColumns] = g.kernel as readonly [number, number];
  const reader = scheduler.reader();
  const { pool } = reader;
  const places = multiplyDims(rows, columns);
  const taps = productOfDims([channels, kernelRows, kernelColumns]);
  const [b, m, n, k] = [
    reader.variable("b", batch),
    reader.variable("m", filters),
    reader.variable("n", places),
    reader.variable("k", taps),
  ];
  const [c, p, q] = reader.unravel(k, [channels, kernelRows, kernelColumns]) as readonly [Expr, Expr, Expr];
  const [row, column] = reader.unravel(n, [rows, columns]) as readonly [Expr, Expr];
  const { place, inside } = windowPlace(reader, g, [row, column], [p, q], [height, width]);
  const tap = reader.read(x, [b, c, ...place]);
  const outside = pool.literal(0, tap.type);
  const i = reader.variable("i", productOfDims(shape));
  const register = registerOf(x.type.dtype) as Register;
  return {
    kind: "gemm",
    ...label,
    batch,
    m: filters,
    n: places,
    k: taps,
    register,
    a: reader.read(weight, [m, c, p, q]),
    b: inside.op === "literal" ? tap : pool.make("select", [inside, tap, outside], tap.type),
    at: reader.ravel([b, m, row, column], shape),
    results: reader.results(scheduler.epilogueOf(node), i, pool.variable("acc", register)),
  };
}

/** Pooling and grouped convolutions: tap after tap. */
function lowerTaps(scheduler: Scheduler, node: Node, g: WindowGeometry, label: Label): Kernel {
  const [x, weight] = node.operands as readonly [Value, Value | undefined];
  const { shape } = resultOf(node).type;
  const [, , height, width] = x.type.shape as readonly [Dim, Dim, Dim, Dim];
  const reader = scheduler.reader();
  const { pool } = reader;
  const s = pool.index;
  const count = productOfDims(shape);
  const o = reader.variable("o", count);
  const [n, channel, row, column] = reader.unravel(o, shape) as readonly [Expr, Expr, Expr, Expr];
  const channels = weight === undefined ? 1 : (weight.type.shape[1] as Dim);
  const c = reader.variable("c", channels);
  const [p, q] = [reader.variable("p", g.kernel[0] as number), reader.variable("q", g.kernel[1] as number)];
  const { place, inside } = windowPlace(reader, g, [row, column], [p, q], [height, width]);
  let source: readonly Expr[] = [n, channel, ...place];
  let taps: Expr = pool.literal(1, "f32");
  if (weight !== undefined) {
    const outputs = weight.type.shape[0] as Dim;
    const group = s.div(channel, pool.dim(floorDivide(outputs, g.featureGroups)));
    const fromBatch = s.add(
      s.mul(s.div(channel, pool.dim(floorDivide(outputs, g.batchGroups))), pool.dim(shape[0] as Dim)),
      n,
    );
    source = [g.batchGroups === 1 ? n : fromBatch, s.add(s.mul(group, pool.dim(channels)), c), ...place];
    taps = reader.read(weight, [channel, c, p, q]);
  }
  const read = reader.read(x, source);
  const i = reader.variable("i", count);
  const results = reader.results(scheduler.epilogueOf(node), i, pool.variable("acc", "f32"));
  return {
    kind: "window",
    ...label,
    count,
    reduce: g.reduce,
    channels,
    kernel: g.kernel,
    inside,
    x: read,
    weight: taps,
    results,
  };
}

function lowerScan(scheduler: Scheduler, node: Node, form: FormOf<"scan">, label: Label): Kernel {
  const [operand] = node.operands as readonly [Value];
  const { shape, dtype } = operand.type;
  const axis = form.axis(node.attrs, shape.length);
  const keptShape = shape.filter((_, a) => a !== axis);
  const [rows, length] = [productOfDims(keptShape), shape[axis] as Dim];
  const reader = scheduler.reader();
  const register = registerOf(dtype) as Register;
  const [i, r] = [reader.variable("i", rows), reader.variable("r", length)];
  const index = weave(shape.length, [axis], reader.unravel(i, keptShape), [r]);
  const acc = reader.pool.variable("acc", register);
  const step = form.step(reader.pool.scalar(register), acc, reader.read(operand, index));
  const o = reader.variable("o", productOfDims(shape));
  const results = reader.results(scheduler.epilogueOf(node), o, reader.pool.narrow(acc, dtype));
  const init = reader.pool.literal(form.init, register);
  const [reverse, exclusive] = [form.reverse(node.attrs), form.exclusive(node.attrs)];
  return {
    kind: "scan",
    ...label,
    rows,
    length,
    reverse,
    exclusive,
    init,
    step,
    register,
    at: reader.ravel(index, shape),
    results,
  };
}

function lowerSort(scheduler: Scheduler, node: Node, label: Label): Kernel {
  const [operand] = node.operands as readonly [Value];
  const { shape, dtype } = operand.type;
  const axis = node.attrs["axis"] as number;
  const keptShape = shape.filter((_, a) => a !== axis);
  const [rows, length] = [productOfDims(keptShape), shape[axis] as Dim];
  const reader = scheduler.reader();
  const [i, r] = [reader.variable("i", rows), reader.variable("r", length)];
  const index = weave(shape.length, [axis], reader.unravel(i, keptShape), [r]);
  const [values, indices] = node.results as readonly [Value, Value];
  return {
    kind: "rank",
    ...label,
    rows,
    stages: [
      {
        length,
        needed: scheduler.neededAlong(node, axis) ?? length,
        descending: node.attrs["descending"] === true,
        register: registerOf(dtype) as Register,
        x: reader.read(operand, index),
        at: reader.ravel(index, shape),
        values: scheduler.bufferOf(values),
        indices: scheduler.bufferOf(indices),
      },
    ],
  };
}
