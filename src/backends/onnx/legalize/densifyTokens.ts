import type { Builder } from "../../../ir/builder.ts";
import { productOfDims } from "../../../ir/dim.ts";
import type { Graph, Node, Value } from "../../../ir/graph.ts";
import { type Dim, isFloat } from "../../../ir/type.ts";
import type { Pass } from "../../../passes/pass.ts";
import { copyNode, type Rebuild, rebuildGraph } from "../../../passes/rebuild.ts";

/**
 * An index tensor [batch, k] into n places as matrix [batch, k, n] of f32, each row 1 at its place and 0 elsewhere.
 * `distinct`: no two rows of a batch name one place.
 */
interface Hot {
  readonly matrix: Value;
  readonly distinct: boolean;
}

/**
 * Gathers and scatters of tokens as products with permutation matrices. Ranks are counts of pairwise comparisons, ties
 * by index, so the order is that of a stable sort, on every target, without a single i64 tensor. Its cost is about n^2
 * channels multiply-adds a gather: for up to a thousand tokens.
 */
export const densifyTokens: Pass = {
  name: "densifyTokens",
  summary: "token indices as permutation matrices, gathers and scatters as products with them",
  source: "peers.md 4d.4",
  contract: "reassociates",
  example: {
    before: `
graph @best(%x: f32[1,4,3], %score: f32[1,4]) {
  %0, %1 = sort(%score) {axis=1, descending=true} : f32[1,4], i32[1,4]
  %2 = gather(%x, %1) {axis=1, batch=1} : f32[1,4,3]
  return y: %2
}`,
    after: `
graph @best(%x: f32[1,4,3], %score: f32[1,4]) {
  %0 = broadcast(%score) {shape=[1,4,4], axes=[1]} : f32[1,4,4]
  %1 = broadcast(%score) {shape=[1,4,4], axes=[2]} : f32[1,4,4]
  %2 = greater(%0, %1) : bool[1,4,4]
  %3 = iota() {shape=[1,4,4], axis=1, dtype="f32"} : f32[1,4,4]
  %4 = iota() {shape=[1,4,4], axis=2, dtype="f32"} : f32[1,4,4]
  %5 = less(%4, %3) : bool[1,4,4]
  %6 = equal(%0, %1) : bool[1,4,4]
  %7 = and(%6, %5) : bool[1,4,4]
  %8 = cast(%2) {to="f32"} : f32[1,4,4]
  %9 = cast(%7) {to="f32"} : f32[1,4,4]
  %10 = add(%8, %9) : f32[1,4,4]
  %11 = reduceSum(%10) {axes=[2]} : f32[1,4]
  %12 = broadcast(%11) {shape=[1,4,4], axes=[1]} : f32[1,4,4]
  %13 = equal(%12, %3) : bool[1,4,4]
  %14 = cast(%13) {to="f32"} : f32[1,4,4]
  %15 = matmul(%14, %x) : f32[1,4,3]
  return y: %15
}`,
  },
  run(graph, context) {
    const wanted = readAsMatrix(graph);
    if (wanted.size === 0) return graph;
    const hot = new Map<Value, Hot>();
    return rebuildGraph(graph, context.registry, "densifyTokens", (node, rebuild) => {
      const made = node.results.some((value) => wanted.has(value)) ? hotResults(node, rebuild, hot) : [];
      made.forEach((one, i) => one && hot.set(node.results[i] as Value, one));
      const product = byProduct(node, rebuild, hot);
      if (product !== undefined) return [product];
      if (made.every((one) => one === undefined)) return undefined;
      context.fired("densifyTokens", node);
      // Whoever still wants indices counts them off the matrix; nobody may.
      const plain = node.op === "gather" ? undefined : copyNode(node, rebuild);
      return node.results.map((value, i) => {
        const one = made[i];
        return one === undefined ? (plain?.[i] as Value) : asIndices(rebuild.b, one, value);
      });
    });
  },
};

type Hots = ReadonlyMap<Value, Hot>;
const rowsInBatch = (node: Node): boolean => node.attrs["axis"] === 1 && node.attrs["batch"] === 1;
const readers: ReadonlySet<string> = new Set(["gather", "scatterAdd", "scatterMax"]);

/** Index values [batch, k] that end as the indices of a gather or scatter of rows, and those they are made from. */
function readAsMatrix(graph: Graph): ReadonlySet<Value> {
  const wanted = new Set<Value>();
  const want = (value: Value | undefined) => {
    if (value?.type.dtype === "i32" && value.type.shape.length === 2) wanted.add(value);
  };
  for (const node of graph.nodes.toReversed()) {
    const [x, indices] = node.operands;
    if (readers.has(node.op) && rowsInBatch(node) && (node.op !== "gather" || isFloat((x as Value).type.dtype)))
      want(indices);
    const [first] = node.results as readonly [Value];
    if (!wanted.has(first)) continue;
    if (node.op === "slice" || node.op === "sort") want(x);
    if (node.op === "gather" && rowsInBatch(node)) {
      want(x);
      want(indices);
    }
  }
  return wanted;
}

/** The matrix of each result that has one. */
function hotResults(node: Node, { b, of }: Rebuild, hot: Hots): readonly (Hot | undefined)[] {
  const [x, indices] = node.operands;
  const known = x === undefined ? undefined : hot.get(x);
  const { axis } = node.attrs;
  if (node.op === "slice" && known !== undefined && axis === 1)
    return [{ matrix: b.slice(known.matrix, node.attrs as never), distinct: known.distinct }];
  if (node.op === "gather" && known !== undefined && indices !== undefined) {
    const places = hot.get(indices);
    const distinct = known.distinct && places?.distinct === true;
    return places === undefined || !fits(places, known.matrix)
      ? []
      : [{ matrix: b.matmul(places.matrix, known.matrix), distinct }];
  }
  if (node.op === "argMax" && (x as Value).type.shape.length === 3 && axis === 2)
    return [{ matrix: firstMaximum(b, of(x as Value)), distinct: false }];
  if (node.op !== "sort" || axis !== 1) return [];
  const descending = node.attrs["descending"] === true;
  if (known === undefined) return [undefined, { matrix: permutation(b, of(x as Value), descending), distinct: true }];
  return known.distinct && !descending ? [{ matrix: inOrder(b, known.matrix), distinct: true }] : [];
}

/** [batch, n] scores -> [batch, n, n]: row k is 1 where the score of rank k stands. */
function permutation(b: Builder, scores: Value, descending: boolean): Value {
  const [batch, n] = scores.type.shape as readonly [Dim, Dim];
  const shape = [batch, n, n];
  const other = b.broadcast(scores, { shape, axes: [1] });
  const own = b.broadcast(scores, { shape, axes: [2] });
  const better = descending ? b.greater(other, own) : b.less(other, own);
  const rows = b.iota({ shape, axis: 1, dtype: "f32" });
  const earlier = b.less(b.iota({ shape, axis: 2, dtype: "f32" }), rows);
  const tied = b.and(b.equal(other, own), earlier);
  // A score is better or tied, never both; ONNX Runtime's WebGPU provider has no Or.
  const before = b.add(b.cast(better, { to: "f32" }), b.cast(tied, { to: "f32" }));
  const rank = b.reduceSum(before, { axes: [2] });
  return b.cast(b.equal(b.broadcast(rank, { shape, axes: [1] }), rows), { to: "f32" });
}

/** [batch, m, n] -> the same shape: 1 at the first maximum of each row. */
function firstMaximum(b: Builder, x: Value): Value {
  const { shape } = x.type;
  const peak = b.broadcast(b.reduceMax(x, { axes: [2] }), { shape, axes: [2] });
  const equal = b.cast(b.equal(x, peak), { to: "f32" });
  const first = b.equal(b.cumsum(equal, { axis: 2 }), b.full({ dtype: "f32", shape }, 1));
  return b.mul(equal, b.cast(first, { to: "f32" }));
}

/** Rows of distinct places, [batch, k, n], in the order of their places. */
function inOrder(b: Builder, matrix: Value): Value {
  const { shape } = matrix.type;
  const member = b.reduceSum(matrix, { axes: [1] });
  const position = b.broadcast(b.cumsum(member, { axis: 1, exclusive: true }), { shape, axes: [1] });
  const here = b.cast(b.equal(position, b.iota({ shape, axis: 1, dtype: "f32" })), { to: "f32" });
  return b.mul(here, b.broadcast(member, { shape, axes: [1] }));
}

/** A gather, scatter or one-hot of rows as a product with the matrix of its indices; undefined where there is none. */
function byProduct(node: Node, { b, of }: Rebuild, hot: Hots): Value | undefined {
  const [x, indices, updates] = node.operands;
  const known = indices === undefined ? undefined : hot.get(indices);
  if (known === undefined || !readers.has(node.op) || !rowsInBatch(node)) return undefined;
  const { dtype, shape } = (x as Value).type;
  if (!isFloat(dtype) || !fits(known, x as Value)) return undefined;
  const [batch, , ...rest] = shape as readonly [Dim, Dim, ...Dim[]];
  const matrix = dtype === "f32" ? known.matrix : b.cast(known.matrix, { to: dtype });
  const flat = (v: Value): Value =>
    rest.length === 1 ? v : b.reshape(v, { shape: [batch, v.type.shape[1] as Dim, productOfDims(rest)] });
  const apart = (v: Value): Value =>
    rest.length === 1 ? v : b.reshape(v, { shape: [batch, v.type.shape[1] as Dim, ...rest] });
  if (node.op === "gather") return apart(b.matmul(matrix, flat(of(x as Value))));
  const added = flat(of(updates as Value));
  if (node.op === "scatterAdd")
    return b.add(of(x as Value), apart(b.matmul(b.transpose(matrix, { perm: [0, 2, 1] }), added)));
  const wide = [batch, ...(matrix.type.shape.slice(1) as readonly Dim[]), productOfDims(rest)];
  const here = b.equal(b.broadcast(matrix, { shape: wide, axes: [3] }), b.full({ dtype, shape: wide }, 1));
  const spread = b.broadcast(added, { shape: wide, axes: [2] });
  const chosen = b.select(here, spread, b.full({ dtype, shape: wide }, Number.NEGATIVE_INFINITY));
  return b.max(of(x as Value), apart(b.reduceMax(chosen, { axes: [1] })));
}

/** Whether a matrix names as many places as x has rows; indices may be few of the rows of a longer tensor. */
const fits = ({ matrix }: Hot, x: Value): boolean => matrix.type.shape[2] === x.type.shape[1];

/** The matrix back as indices: each row times 0, 1, ... n - 1, exact in f32. */
function asIndices(b: Builder, { matrix }: Hot, { type }: Value): Value {
  const places = b.mul(matrix, b.iota({ shape: matrix.type.shape, axis: 2, dtype: "f32" }));
  return b.cast(b.reduceSum(places, { axes: [2] }), { to: type.dtype });
}
