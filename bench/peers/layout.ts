// Tensors reordered on the host, so that each framework gets operands in the layout that it prefers.

/** Axis i of the result is axis order[i] of x. */
export function transposed(x: ArrayLike<number>, shape: readonly number[], order: readonly number[]): Float32Array {
  const out = order.map((axis) => shape[axis] as number);
  const steps = order.map((axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));
  return Float32Array.from({ length: x.length }, (_, i) => {
    let [rest, at] = [i, 0];
    for (let axis = out.length - 1; axis >= 0; axis--) {
      const size = out[axis] as number;
      at += (rest % size) * (steps[axis] as number);
      rest = Math.floor(rest / size);
    }
    return x[at] as number;
  });
}
