import { InternalError } from "../ir/diagnostic.ts";
import { strides } from "../ir/evaluate/forms.ts";
import { applyOp } from "../ir/evaluate/index.ts";
import { numberScalar } from "../ir/evaluate/scalar.ts";
import { type Attrs, type Graph, type Node, sourceName, type Value } from "../ir/graph.ts";
import type { Form, IntScalar, NumberTensor, Registry } from "../ir/op.ts";
import { allocate, type DType, elementsOf, isFloat, type TensorData, toNumbers } from "../ir/type.ts";

type FormOf<K extends Form<Attrs>["kind"]> = Extract<Form<Attrs>, { kind: K }>;
type Shape = readonly number[];
/** Elements as plain numbers; 64-bit integers have none and are refused. */
type Numbers = Exclude<TensorData["values"], BigInt64Array>;
interface Sized {
  readonly dtype: DType;
  readonly shape: Shape;
}
interface Tensor extends TensorData {
  readonly values: Numbers;
}

/**
 * Evaluates a graph of sizes over typed arrays, one tensor at a time: a parameter is read where it is first needed and
 * every tensor is let go after its last use. Floats are kept as their arrays hold them (f32 for f32 and below) and sums
 * are in f64. Views, elementwise ops, products and concatenations have loops of their own; every other op runs by the
 * reference. 64-bit integers are refused with an InternalError.
 */
export async function evaluateTensors(
  graph: Graph,
  read: (parameter: string) => Promise<TensorData>,
  registry: Registry,
): Promise<readonly TensorData[]> {
  const known = new Map<Value, Tensor>();
  const lastUse = new Map<Value, Node>();
  for (const node of graph.nodes) for (const operand of node.operands) lastUse.set(operand, node);
  const kept = new Set(graph.outputs.map((o) => o.value));
  for (const node of graph.nodes) {
    const operands = node.operands.map((value) => known.get(value) as Tensor);
    const results =
      node.op === "parameter"
        ? [{ ...plain(await read(sourceName(node))), shape: (node.results[0] as Value).type.shape as Shape }]
        : node.data !== undefined
          ? [plain(node.data)]
          : evaluateNode(node, operands, registry);
    node.results.forEach((value, i) => known.set(value, results[i] as Tensor));
    for (const operand of node.operands) if (lastUse.get(operand) === node && !kept.has(operand)) known.delete(operand);
  }
  return graph.outputs.map(({ value }) => known.get(value) as Tensor);
}

function plain(data: TensorData): Tensor {
  if (data.values instanceof BigInt64Array) throw new InternalError("64-bit integers cannot be folded");
  return data as Tensor;
}

function evaluateNode(node: Node, operands: readonly Tensor[], registry: Registry): readonly Tensor[] {
  const op = registry.get(node.op);
  const [x, y] = operands;
  const type = (node.results[0] as Value).type as Sized;
  const form = op?.kind === "structured" ? (op.form as Form<Attrs>) : undefined;
  const computed = (operands.length === 3 ? y : x)?.dtype ?? "i64"; // of a choice, what is chosen from
  if (form?.kind === "elementwise" && isFloat(computed)) return [elementwise(form, operands, node.attrs, type)];
  if (form?.kind === "view" && x !== undefined) {
    const seen = view(form, x, node.attrs, type);
    if (seen !== undefined) return [seen];
  }
  if (form?.kind === "concat") return [concat(operands, form.axis(node.attrs), type)];
  if (form?.kind === "contraction" && isFloat(type.dtype))
    return [contraction(form.spec(operands, node.attrs), x as Tensor, y as Tensor, type)];
  const numbers = operands.map((operand) => ({ ...operand, values: toNumbers(operand) }));
  return applyOp(node.op, registry, numbers, node.attrs).map(compact);
}

/** A result of the reference in the array of its dtype. */
function compact({ dtype, shape, values }: NumberTensor): Tensor {
  const stored = allocate(dtype, values.length);
  if (stored instanceof BigInt64Array) throw new InternalError("64-bit integers cannot be folded");
  stored.set(values);
  return { dtype, shape, values: stored };
}

function empty({ dtype, shape }: Sized): Tensor {
  return plain({ dtype, shape, values: allocate(dtype, elementsOf(shape)) });
}

function elementwise(form: FormOf<"elementwise">, operands: readonly Tensor[], attrs: Attrs, type: Sized): Tensor {
  const out = empty(type);
  const { values } = out;
  const [a, b, c] = operands.map((operand) => operand.values) as [Numbers, Numbers?, Numbers?];
  const dtype = (operands[operands.length === 3 ? 1 : 0] as Tensor).dtype;
  const xs: number[] = [0, 0, 0].slice(0, operands.length);
  for (let i = 0; i < values.length; i++) {
    xs[0] = a[i] as number;
    if (b !== undefined) xs[1] = b[i] as number;
    if (c !== undefined) xs[2] = c[i] as number;
    values[i] = form.scalar(numberScalar, xs, attrs, dtype);
  }
  return out;
}

/** A view whose position in the operand is linear in the result index: shared where the order stays, else copied. */
function view(form: FormOf<"view">, x: Tensor, attrs: Attrs, type: Sized): Tensor | undefined {
  if (form.inside !== undefined) return undefined;
  const position = positionOf(form, x.shape, type.shape, attrs);
  if (position === undefined) return undefined;
  const steps = type.shape.map((_, axis) => position.terms.get(`${axis}`)?.factor ?? 0);
  const ordered = strides(type.shape).every((step, axis) => step === steps[axis] || type.shape[axis] === 1);
  if (ordered && position.constant === 0 && elementsOf(type.shape) === x.values.length)
    return { ...type, values: x.values };
  const out = empty(type);
  copyStrided(x.values, position.constant, steps, out);
  return out;
}

/** constant + sum of factor * atom. An atom is a result index (its key is the axis) or a quotient or remainder. */
interface Linear {
  readonly constant: number;
  readonly terms: ReadonlyMap<string, Term>;
}
interface Term {
  readonly factor: number;
  readonly of?: { readonly what: "quotient" | "remainder"; readonly dividend: Linear; readonly divisor: number };
}

function combine(a: Linear, b: Linear, factor: number): Linear {
  const terms = new Map(a.terms);
  for (const [key, term] of b.terms) {
    const total = (terms.get(key)?.factor ?? 0) + factor * term.factor;
    if (total === 0) terms.delete(key);
    else terms.set(key, { ...term, factor: total });
  }
  return { constant: a.constant + factor * b.constant, terms };
}

/** Row-major position in the operand as a linear function of the result index; undefined where it is none. */
function positionOf(form: FormOf<"view">, dims: Shape, shape: Shape, attrs: Attrs): Linear | undefined {
  const lit = (constant: number): Linear => ({ constant, terms: new Map() });
  let linear = true;
  const unknown = (): Linear => {
    linear = false;
    return lit(0);
  };
  const part = (what: "quotient" | "remainder") => (dividend: Linear, by: Linear) => {
    const divisor = by.constant;
    if (by.terms.size > 0) return unknown();
    if (divisor === 1) return what === "quotient" ? dividend : lit(0);
    const key = `${what} ${keyOf(dividend)} / ${divisor}`;
    return { constant: 0, terms: new Map([[key, { factor: 1, of: { what, dividend, divisor } }]]) };
  };
  const s: IntScalar<Linear> = {
    lit,
    dim: (d) => (typeof d === "number" ? lit(d) : unknown()),
    add: (a, b) => combine(a, b, 1),
    sub: (a, b) => combine(a, b, -1),
    mul: (a, b) =>
      a.terms.size === 0
        ? combine(lit(0), b, a.constant)
        : b.terms.size === 0
          ? combine(lit(0), a, b.constant)
          : unknown(),
    div: part("quotient"),
    mod: part("remainder"),
    min: unknown,
    max: unknown,
    abs: unknown,
    less: unknown,
    lessEqual: unknown,
    and: unknown,
  };
  const axes = shape.map((_, axis): Linear => ({ constant: 0, terms: new Map([[`${axis}`, { factor: 1 }]]) }));
  const index = form.index(s, axes, dims.map(lit), attrs);
  const steps = strides(dims);
  let position = index.reduce((sum, at, axis) => combine(sum, at, steps[axis] as number), lit(0));
  // n (p / n) + p mod n = p: what a reshape comes to.
  for (let joined = joinOnce(position); joined !== undefined; joined = joinOnce(position)) position = joined;
  return linear && [...position.terms.values()].every((term) => term.of === undefined) ? position : undefined;
}

function joinOnce(position: Linear): Linear | undefined {
  for (const [key, { factor, of }] of position.terms) {
    if (of?.what !== "remainder") continue;
    const partner = `quotient ${keyOf(of.dividend)} / ${of.divisor}`;
    if (position.terms.get(partner)?.factor !== factor * of.divisor) continue;
    const terms = new Map(position.terms);
    terms.delete(key);
    terms.delete(partner);
    return combine({ constant: position.constant, terms }, of.dividend, factor);
  }
  return undefined;
}

const keyOf = ({ constant, terms }: Linear): string =>
  `(${[constant, ...[...terms].map(([key, { factor }]) => `${factor} ${key}`).sort()].join(" + ")})`;

const tile = 64; // elements; a tile of rows and one of columns stay in the first-level cache together

/** out[i, j, ...] = from[start + i outSteps[0] + j outSteps[1] + ...]. */
function copyStrided(from: Numbers, start: number, outSteps: Shape, out: Tensor): void {
  const shape = [1, 1, ...out.shape];
  const steps = [0, 0, ...outSteps];
  const [rows, columns] = shape.slice(-2) as [number, number];
  const [rowStep, columnStep] = steps.slice(-2) as [number, number];
  const { values } = out;
  const outer = shape.slice(0, -2);
  const index = outer.map(() => 0);
  for (let base = 0; base < values.length; base += rows * columns) {
    let at = start;
    for (let axis = 0; axis < outer.length; axis++) at += (index[axis] as number) * (steps[axis] as number);
    for (let top = 0; top < rows; top += tile)
      for (let left = 0; left < columns; left += tile) {
        const [bottom, right] = [Math.min(rows, top + tile), Math.min(columns, left + tile)];
        for (let row = top; row < bottom; row++)
          for (let column = left; column < right; column++)
            values[base + row * columns + column] = from[at + row * rowStep + column * columnStep] as number;
      }
    for (let axis = outer.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (outer[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

function concat(parts: readonly Tensor[], axis: number, type: Sized): Tensor {
  const out = empty(type);
  const inner = elementsOf(type.shape.slice(axis + 1));
  const total = (type.shape[axis] as number) * inner;
  let offset = 0;
  for (const { shape, values } of parts) {
    const run = (shape[axis] as number) * inner;
    const rows = run === 0 ? 0 : values.length / run;
    for (let row = 0; row < rows; row++)
      out.values.set(values.subarray(row * run, (row + 1) * run), row * total + offset);
    offset += run;
  }
  return out;
}

/** Sums of products in f64, a row of the right operand at a time. */
function contraction(spec: string, a: Tensor, b: Tensor, type: Sized): Tensor {
  const [left, right, result] = spec.split(/,|->/) as [string, string, string];
  const sizes = new Map([...left].map((letter, axis) => [letter, a.shape[axis] as number]));
  [...right].forEach((letter, axis) => sizes.set(letter, b.shape[axis] as number));
  const out = empty(type);
  const offsetsOf = (letters: readonly string[], of: string, shape: Shape): Float64Array => {
    const steps = strides(shape);
    let offsets = new Float64Array(1);
    for (const letter of letters) {
      const size = sizes.get(letter) as number;
      const step = of.includes(letter) ? (steps[of.indexOf(letter)] as number) : 0;
      const next = new Float64Array(offsets.length * size);
      for (let i = 0; i < next.length; i++) next[i] = (offsets[Math.floor(i / size)] as number) + (i % size) * step;
      offsets = next;
    }
    return offsets;
  };
  const letters = [...sizes.keys()];
  const columns = letters.filter((letter) => result.includes(letter) && !left.includes(letter));
  const rows = letters.filter((letter) => result.includes(letter) && left.includes(letter));
  const terms = letters.filter((letter) => !result.includes(letter));
  const [rowsA, rowsB, rowsOut] = [
    offsetsOf(rows, left, a.shape),
    offsetsOf(rows, right, b.shape),
    offsetsOf(rows, result, type.shape),
  ];
  const [termsA, termsB] = [offsetsOf(terms, left, a.shape), offsetsOf(terms, right, b.shape)];
  const [columnsB, columnsOut] = [offsetsOf(columns, right, b.shape), offsetsOf(columns, result, type.shape)];
  const adjacent = columnsB.every((offset, column) => offset === column);
  const sums = new Float64Array(columnsB.length);
  for (let row = 0; row < rowsA.length; row++) {
    sums.fill(0);
    for (let k = 0; k < termsA.length; k++) {
      const factor = a.values[(rowsA[row] as number) + (termsA[k] as number)] as number;
      const from = (rowsB[row] as number) + (termsB[k] as number);
      if (adjacent)
        for (let column = 0; column < sums.length; column++)
          sums[column] = (sums[column] as number) + factor * (b.values[from + column] as number);
      else
        for (let column = 0; column < sums.length; column++)
          sums[column] = (sums[column] as number) + factor * (b.values[from + (columnsB[column] as number)] as number);
    }
    const to = rowsOut[row] as number;
    for (let column = 0; column < sums.length; column++)
      out.values[to + (columnsOut[column] as number)] = sums[column] as number;
  }
  return out;
}
