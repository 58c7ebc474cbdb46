import { compileError } from "../diagnostic.ts";
import type { Attrs } from "../graph.ts";
import type { AnyOp, Form, NumberTensor, Scalar, WindowGeometry } from "../op.ts";
import { type DType, elementsOf, isFloat, type TensorType } from "../type.ts";
import { castNumber, indexScalar, integerScalar, numberScalar, wrap } from "./scalar.ts";

type FormOf<K extends Form<Attrs>["kind"]> = Extract<Form<Attrs>, { kind: K }>;
type Shape = readonly number[];

/** Evaluates one structured op on numbers, by its form alone. */
export function evaluateForm(
  op: Extract<AnyOp, { kind: "structured" }>,
  inputs: readonly NumberTensor[],
  attrs: Attrs,
  type: { dtype: DType; shape: Shape },
): NumberTensor {
  const form = op.form as Form<Attrs>;
  const values = new Float64Array(elementsOf(type.shape));
  evaluators[form.kind](form as never, inputs, attrs, { ...type, values });
  if (!isFloat(type.dtype)) for (let i = 0; i < values.length; i++) values[i] = wrap(values[i] as number, type.dtype);
  return { ...type, values };
}

const scalarOf = (dtype: DType): Scalar<number> => (isFloat(dtype) ? numberScalar : integerScalar(dtype));

type Evaluator<K extends Form<Attrs>["kind"]> = (
  form: FormOf<K>,
  inputs: readonly NumberTensor[],
  attrs: Attrs,
  out: NumberTensor,
) => void;

const evaluators: { readonly [K in Form<Attrs>["kind"]]: Evaluator<K> } = {
  elementwise(form, inputs, attrs, out) {
    const [first, second, third] = inputs as readonly [NumberTensor, NumberTensor?, NumberTensor?];
    const dtype = (inputs.length === 3 ? (second as NumberTensor) : first).dtype;
    const [a, b, c] = [first.values, second?.values, third?.values];
    const s = scalarOf(dtype);
    for (let i = 0; i < out.values.length; i++) {
      const xs =
        b === undefined
          ? [a[i] as number]
          : c === undefined
            ? [a[i] as number, b[i] as number]
            : [a[i] as number, b[i] as number, c[i] as number];
      out.values[i] = form.scalar(s, xs, attrs, dtype);
    }
  },

  reduction(form, [x], attrs, out) {
    const { shape, values, dtype } = x as NumberTensor;
    const axes = form.axes(attrs, shape.length);
    const folded = axes.map((axis) => shape[axis] as number);
    const count = elementsOf(folded);
    const steps = strides(shape);
    const outer = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const starts = offsets(
      outer.map((axis) => shape[axis] as number),
      outer.map((axis) => steps[axis] as number),
    );
    const within = offsets(
      folded,
      axes.map((axis) => steps[axis] as number),
    );
    const init = form.init(dtype);
    const s = scalarOf(dtype);
    starts.forEach((start, i) => {
      let acc = init;
      for (let k = 0; k < count; k++) acc = form.step(s, acc, values[start + (within[k] as number)] as number, k);
      out.values[i] = form.finish(s, acc, count);
    });
  },

  view(form, [x], attrs, out) {
    const { shape, values } = x as NumberTensor;
    if (elementsOf(shape) === out.values.length && isRowMajorView(form, shape, attrs, out.shape)) {
      out.values.set(values);
      return;
    }
    const steps = strides(shape);
    const fill = form.fill?.(attrs) ?? 0;
    forEachIndex(out.shape, (index, at) => {
      const inside = form.inside?.(indexScalar, index, shape, attrs);
      if (inside === 0) out.values[at] = fill;
      else {
        const from = form.index(indexScalar, index, shape, attrs);
        let position = 0;
        for (let axis = 0; axis < steps.length; axis++) position += (from[axis] as number) * (steps[axis] as number);
        out.values[at] = values[position] as number;
      }
    });
  },

  concat(form, inputs, attrs, out) {
    const axis = form.axis(attrs);
    const inner = elementsOf(out.shape.slice(axis + 1));
    const total = (out.shape[axis] as number) * inner;
    let offset = 0;
    for (const { shape, values } of inputs) {
      const run = (shape[axis] as number) * inner;
      for (let row = 0; run > 0 && row * run < values.length; row++)
        out.values.set(values.subarray(row * run, (row + 1) * run), row * total + offset);
      offset += run;
    }
  },

  generate(form, _inputs, attrs, out) {
    forEachIndex(out.shape, (index, at) => {
      out.values[at] = castNumber(form.value(numberScalar, index, attrs), out.dtype);
    });
  },

  gather(form, [x, indices], attrs, out) {
    const { shape, values } = x as NumberTensor;
    const axis = form.axis(attrs);
    const batch = form.batch(attrs);
    const size = shape[axis] as number;
    const inner = elementsOf(shape.slice(axis + 1));
    const outer = elementsOf(shape.slice(0, axis));
    const { values: places, shape: placeShape } = indices as NumberTensor;
    const perBatch = elementsOf(placeShape.slice(batch));
    let at = 0;
    for (let row = 0; row < outer; row++)
      for (let k = 0; k < perBatch; k++) {
        const place = places[(batch === 0 ? 0 : row * perBatch) + k] as number;
        if (place < 0 || place >= size)
          throw compileError("index-out-of-range", `gather reads index ${place} of an axis of ${size} elements`);
        const from = (row * size + place) * inner;
        out.values.set(values.subarray(from, from + inner), at);
        at += inner;
      }
  },

  contraction(form, inputs, attrs, out) {
    const [a, b] = inputs as readonly [NumberTensor, NumberTensor];
    const [left, right, result] = form.spec(inputs as readonly TensorType[], attrs).split(/,|->/) as [
      string,
      string,
      string,
    ];
    const size = (letter: string): number =>
      (left.includes(letter) ? a.shape[left.indexOf(letter)] : b.shape[right.indexOf(letter)]) as number;
    const step = (letters: string, shape: Shape, letter: string): number =>
      letters.includes(letter) ? (strides(shape)[letters.indexOf(letter)] as number) : 0;
    const summed = [...new Set(left + right)].filter((letter) => !result.includes(letter));
    const free = [...result];
    const tables = (letters: readonly string[]) =>
      [a, b].map((t, i) =>
        offsets(
          letters.map(size),
          letters.map((letter) => step(i === 0 ? left : right, t.shape, letter)),
        ),
      ) as [Float64Array, Float64Array];
    const [rowsA, rowsB] = tables(free);
    const [termsA, termsB] = tables(summed);
    const { mul } = scalarOf(out.dtype);
    for (let i = 0; i < out.values.length; i++) {
      const [baseA, baseB] = [rowsA[i] as number, rowsB[i] as number];
      let total = 0;
      for (let k = 0; k < termsA.length; k++)
        total += mul(
          a.values[baseA + (termsA[k] as number)] as number,
          b.values[baseB + (termsB[k] as number)] as number,
        );
      out.values[i] = total; // integers wrap at the end
    }
  },

  window(form, inputs, attrs, out) {
    const g = form.geometry(inputs as readonly TensorType[], attrs);
    if (g.reduce === "dot") convolve(g, inputs as readonly [NumberTensor, NumberTensor], out);
    else pool(g, inputs[0] as NumberTensor, out);
  },

  scan(form, [x], attrs, out) {
    const { shape, values } = x as NumberTensor;
    const axis = form.axis(attrs, shape.length);
    const size = shape[axis] as number;
    const inner = elementsOf(shape.slice(axis + 1));
    const s = scalarOf(out.dtype);
    const [exclusive, backwards] = [form.exclusive(attrs), form.reverse(attrs)];
    for (let start = 0; start < values.length; start += size * inner)
      for (let offset = 0; offset < inner; offset++) {
        let acc = form.init;
        for (let i = 0; i < size; i++) {
          const at = start + (backwards ? size - 1 - i : i) * inner + offset;
          const next = form.step(s, acc, values[at] as number);
          out.values[at] = exclusive ? acc : next;
          acc = next;
        }
      }
  },
};

/** Reshapes keep row-major order: probed at the last element and along each axis instead of element by element. */
function isRowMajorView(form: FormOf<"view">, shape: Shape, attrs: Attrs, out: Shape): boolean {
  if (form.inside !== undefined || out.length === 0 || elementsOf(out) < 2) return false;
  const [steps, outSteps] = [strides(shape), strides(out)];
  const position = (index: Shape): number =>
    form.index(indexScalar, index, shape, attrs).reduce((sum, i, axis) => sum + i * (steps[axis] as number), 0);
  return out.every((size, axis) => {
    for (let i = 0; i < size; i++) {
      const index = out.map((n, a) => (a === axis ? i : a > axis ? 0 : n - 1));
      const want = index.reduce((sum, k, a) => sum + k * (outSteps[a] as number), 0);
      if (position(index) !== want) return false;
    }
    return true;
  });
}

/** Calls `visit` with every output position of the window and each in-range input position under it. */
function forEachTap(
  g: WindowGeometry,
  [height, width]: readonly [number, number],
  [rows, columns]: readonly [number, number],
  visit: (out: number, tap: number, input: number) => void,
): void {
  const axis = (a: 0 | 1, size: number, out: number, tap: number): number => {
    const at =
      out * (g.strides[a] as number) +
      tap * (g.kernelDilation[a] as number) -
      ((g.padding[a] as readonly number[])[0] as number);
    const base = g.baseDilation[a] as number;
    return at >= 0 && at % base === 0 && at / base < size ? at / base : -1;
  };
  const [kernelRows, kernelColumns] = g.kernel as readonly [number, number];
  for (let y = 0; y < rows; y++)
    for (let ky = 0; ky < kernelRows; ky++) {
      const inY = axis(0, height, y, ky);
      if (inY < 0) continue;
      for (let x = 0; x < columns; x++)
        for (let kx = 0; kx < kernelColumns; kx++) {
          const inX = axis(1, width, x, kx);
          if (inX >= 0) visit(y * columns + x, ky * kernelColumns + kx, inY * width + inX);
        }
    }
}

function convolve(g: WindowGeometry, [x, weight]: readonly [NumberTensor, NumberTensor], out: NumberTensor): void {
  const [, channels, height, width] = x.shape as readonly [number, number, number, number];
  const [outputs, perGroup] = weight.shape as readonly [number, number];
  const [batch, , rows, columns] = out.shape as readonly [number, number, number, number];
  const taps = (g.kernel[0] as number) * (g.kernel[1] as number);
  const reads: number[] = [];
  forEachTap(g, [height, width], [rows, columns], (at, tap, input) => reads.push(at, tap, input));
  for (let n = 0; n < batch; n++)
    for (let o = 0; o < outputs; o++) {
      const featureGroup = Math.floor(o / (outputs / g.featureGroups));
      const row = Math.floor(o / (outputs / g.batchGroups)) * batch + n;
      const to = (n * outputs + o) * rows * columns;
      for (let c = 0; c < perGroup; c++) {
        const from = (row * channels + featureGroup * perGroup + c) * height * width;
        const kernel = (o * perGroup + c) * taps;
        for (let i = 0; i < reads.length; i += 3)
          out.values[to + (reads[i] as number)] =
            (out.values[to + (reads[i] as number)] as number) +
            (x.values[from + (reads[i + 2] as number)] as number) *
              (weight.values[kernel + (reads[i + 1] as number)] as number);
      }
    }
}

function pool(g: WindowGeometry, x: NumberTensor, out: NumberTensor): void {
  const [batch, channels, height, width] = x.shape as readonly [number, number, number, number];
  const [, , rows, columns] = out.shape as readonly [number, number, number, number];
  const largest = g.reduce === "max";
  if (largest) out.values.fill(Number.NEGATIVE_INFINITY);
  for (let plane = 0; plane < batch * channels; plane++)
    forEachTap(g, [height, width], [rows, columns], (at, _tap, input) => {
      const place = plane * rows * columns + at;
      const value = x.values[plane * height * width + input] as number;
      const before = out.values[place] as number;
      out.values[place] = largest ? Math.max(before, value) : before + value;
    });
}

/** Row-major element strides. */
export function strides(shape: Shape): readonly number[] {
  const out = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    out[axis] = step;
    step *= shape[axis] as number;
  }
  return out;
}

/** Offsets of all indices of `shape` in row-major order, under the given strides. */
function offsets(shape: Shape, steps: readonly number[]): Float64Array {
  let out = new Float64Array([0]);
  shape.forEach((size, axis) => {
    const next = new Float64Array(out.length * size);
    for (let i = 0; i < out.length; i++)
      for (let k = 0; k < size; k++) next[i * size + k] = (out[i] as number) + k * (steps[axis] as number);
    out = next;
  });
  return out;
}

function forEachIndex(shape: Shape, visit: (index: readonly number[], at: number) => void): void {
  const count = elementsOf(shape);
  const index = new Array<number>(shape.length).fill(0);
  for (let at = 0; at < count; at++) {
    visit(index, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] as number) + 1;
      if (next < (shape[axis] as number)) {
        index[axis] = next;
        break;
      }
      index[axis] = 0;
    }
  }
}
