import type { Builder } from "../../../ir/builder.ts";
import { productOfDims } from "../../../ir/dim.ts";
import type { Value } from "../../../ir/graph.ts";
import type { Dim } from "../../../ir/type.ts";
import type { Pass } from "../../../passes/pass.ts";
import { rebuildGraph } from "../../../passes/rebuild.ts";

/** Einsum kernels are slow or absent; views around one matmul are everywhere. */
export const contractByMatmul: Pass = {
  name: "contractByMatmul",
  summary: "einsum as transposes, reshapes and one matrix product",
  contract: "reassociates",
  example: {
    before: `
graph @pairs(%q: f32[2,5,8], %k: f32[2,7,8]) {
  %0 = contract(%q, %k) {spec="bqc,bkc->bqk"} : f32[2,5,7]
  return y: %0
}`,
    after: `
graph @pairs(%q: f32[2,5,8], %k: f32[2,7,8]) {
  %0 = transpose(%k) {perm=[0,2,1]} : f32[2,8,7]
  %1 = matmul(%q, %0) : f32[2,5,7]
  return y: %1
}`,
  },
  run(graph, context) {
    if (!graph.nodes.some((node) => node.op === "contract")) return graph;
    return rebuildGraph(graph, context.registry, "contractByMatmul", (node, { b, of }) => {
      if (node.op !== "contract") return undefined;
      context.fired("contractByMatmul", node);
      const [lhs, rhs] = node.operands.map(of) as [Value, Value];
      return [asMatmul(b, lhs, rhs, node.attrs["spec"] as string)];
    });
  },
};

function asMatmul(b: Builder, lhs: Value, rhs: Value, spec: string): Value {
  const [left, right, out] = spec.split(/,|->/) as [string, string, string];
  const alone = (letters: string, other: string) =>
    [...letters].flatMap((letter, axis) => (other.includes(letter) || out.includes(letter) ? [] : [axis]));
  const [x, leftLetters] = summed(b, lhs, left, alone(left, right));
  const [y, rightLetters] = summed(b, rhs, right, alone(right, left));
  const size = (letter: string): Dim =>
    (leftLetters.includes(letter)
      ? x.type.shape[leftLetters.indexOf(letter)]
      : y.type.shape[rightLetters.indexOf(letter)]) as Dim;
  const shared = [...leftLetters].filter((letter) => rightLetters.includes(letter));
  const batch = shared.filter((letter) => out.includes(letter));
  const inner = shared.filter((letter) => !out.includes(letter));
  const rows = [...leftLetters].filter((letter) => !shared.includes(letter));
  const columns = [...rightLetters].filter((letter) => !shared.includes(letter));
  const group = (letters: readonly string[]): Dim => productOfDims(letters.map(size));
  const arranged = (v: Value, from: string, first: readonly string[], second: readonly string[]) => {
    const order = [...batch, ...first, ...second];
    const perm = order.map((letter) => from.indexOf(letter));
    return shaped(b, permuted(b, v, perm), [...batch.map(size), group(first), group(second)]);
  };
  const product = b.matmul(arranged(x, leftLetters, rows, inner), arranged(y, rightLetters, inner, columns));
  const order = [...batch, ...rows, ...columns];
  const apart = shaped(b, product, order.map(size));
  return permuted(
    b,
    apart,
    [...out].map((letter) => order.indexOf(letter)),
  );
}

/** Letters of one operand alone that the result lacks are summed away first. */
function summed(b: Builder, x: Value, letters: string, axes: readonly number[]): readonly [Value, string] {
  if (axes.length === 0) return [x, letters];
  return [b.reduceSum(x, { axes }), [...letters].filter((_, axis) => !axes.includes(axis)).join("")];
}

const permuted = (b: Builder, x: Value, perm: readonly number[]): Value =>
  perm.every((from, to) => from === to) ? x : b.transpose(x, { perm });

const shaped = (b: Builder, x: Value, shape: readonly Dim[]): Value =>
  shape.length === x.type.shape.length && shape.every((dim, axis) => dim === x.type.shape[axis])
    ? x
    : b.reshape(x, { shape });
