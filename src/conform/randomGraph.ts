import { completeAttrs } from "../ir/attrs.ts";
import { type Builder, createBuilder } from "../ir/builder.ts";
import { CompileError, OpError } from "../ir/diagnostic.ts";
import { applyOp } from "../ir/evaluate/index.ts";
import { type Graph, isSource, usesOf, type Value } from "../ir/graph.ts";
import type { AnyOp, NamedComposite, NumberTensor, Registry } from "../ir/op.ts";
import type { OpName } from "../ir/ops/index.ts";
import { registryWith } from "../ir/registry.ts";
import { type DType, elementsOf, isFloat, type TensorData, tensorData } from "../ir/type.ts";
import { Draw, type Operand } from "./draw.ts";
import { ownProposal } from "./ownProposal.ts";
import { type Proposal, proposals, type Row } from "./proposals.ts";
import { tolerance } from "./tolerance.ts";

export { shrinkGraph } from "./shrinkGraph.ts";

export interface RandomGraphOptions {
  /** How many ops are applied; 12 unless said otherwise. */
  readonly nodes?: number;
  /** Which ops are drawn from; all unless said otherwise. */
  readonly ops?: readonly OpName[];
  /** Of the user's own, which take turns with those. */
  readonly composites?: readonly NamedComposite[];
  /** What new sources hold; f32, i32 and bool unless said otherwise, which every target computes. */
  readonly dtypes?: readonly DType[];
}

export interface RandomGraph {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, TensorData>>;
}

const usualNodes = 12;
const usualDTypes: readonly DType[] = ["f32", "i32", "bool"];
const attempts = 8; // applications of one op that are tried before another op is drawn
const largestResult = 1024; // elements
const largestFloat = 1000;
const largestInteger = 2 ** 20; // stays exact when cast to f32
/** Below these magnitudes a judge may flush to zero. */
const smallestNormal = {
  f64: 2 ** -1022,
  f32: 2 ** -126,
  f16: 2 ** -14,
  bf16: 2 ** -126,
  f8e4m3: 2 ** -6,
  f8e5m2: 2 ** -14,
} as const;
const constantShare = 0.3; // of sources; the others are inputs

/**
 * Rounding units that a shadow is moved by at each op, and of which half the tolerance may be left at the end: so a
 * judge that rounds once per op is far inside its tolerance, and no comparison, rounding or order hangs on a rounding.
 */
const shadowUnits = { f64: 128, f32: 128, f16: 4, bf16: 4, f8e4m3: 1, f8e5m2: 1 } as const;
const roundingUnit = {
  f64: 2 ** -24,
  f32: 2 ** -24,
  f16: 2 ** -11,
  bf16: 2 ** -8,
  f8e4m3: 2 ** -4,
  f8e5m2: 2 ** -3,
} as const;

/**
 * A random well-typed graph with inputs for it, the same for the same seed. Every float result is finite and well
 * conditioned, every discrete one clear of ties that rounding could decide, so that all judges must agree on it.
 */
export function randomGraph(seed: number, options: RandomGraphOptions = {}): RandomGraph {
  const { composites = [] } = options;
  const registry = registryWith(composites);
  const names = options.ops ?? (Object.keys(proposals) as OpName[]);
  const own = composites.map((composite) => [composite.name, ownProposal(composite)] as const);
  const b = createBuilder(registry);
  const known: Operand[] = [];
  const inputs: Record<string, TensorData> = {};
  const draw = new Draw(seed, known, options.dtypes ?? usualDTypes);
  const wanted = options.nodes ?? usualNodes;
  for (let made = 0, tries = 0; made < wanted && tries < wanted * attempts; tries++) {
    const [name, row] = own.length > 0 && draw.chance(ownShare) ? draw.pick(own) : tableRow(draw.pick(names));
    for (let attempt = 0; attempt < attempts; attempt++) {
      const proposal = row.propose(draw);
      const results = applied(name, proposal, draw, registry);
      if (results === undefined) continue;
      const operands = proposal.operands.map((operand) => keep(b, operand, draw, known, inputs));
      const values = b.make(name, operands, proposal.attrs as Readonly<Record<string, unknown>>);
      results.forEach((result, i) => known.push({ ...result, value: values[i] as Value }));
      made++;
      break;
    }
  }
  const graph = b.finish(`random${seed}`, leaves(b, known));
  return { graph, inputs };
}

const tableRow = (name: OpName): readonly [string, Row] => [name, proposals[name]];
const ownShare = 0.4; // of the ops drawn, where there are composites of the user's

/** The results that nothing reads, as outputs. */
function leaves(b: Builder, known: readonly Operand[]): Readonly<Record<string, Value>> {
  const made = [...new Set(known.map((k) => k.value as Value))].filter((value) => !isSource(value.producer));
  const all = b.finish("all", Object.fromEntries(made.map((value, i) => [`y${i}`, value])));
  const uses = usesOf(all);
  const unread = made.filter((value) => !uses.has(value));
  return Object.fromEntries(unread.map((value, i) => [`y${i}`, value]));
}

/** A value for an operand: itself, or a new input or constant. */
function keep(b: Builder, operand: Operand, draw: Draw, known: Operand[], inputs: Record<string, TensorData>): Value {
  if (operand.value !== undefined) return operand.value;
  const { dtype, shape, values } = operand.exact;
  const contents = tensorData(dtype, shape, values);
  const asConstant = draw.chance(constantShare);
  const name = `x${Object.keys(inputs).length}`;
  const value = asConstant ? b.constant(contents) : b.input(name, { dtype, shape });
  if (!asConstant) inputs[name] = contents;
  known.push({ ...operand, value });
  return value;
}

/** The results of a proposal with their shadows, or undefined where it is not well typed or not well conditioned. */
function applied(
  name: string,
  { operands, attrs: given }: Proposal,
  draw: Draw,
  registry: Registry,
): readonly Operand[] | undefined {
  const op = registry.get(name) as AnyOp;
  try {
    const attrs = completeAttrs(name, op, (given ?? {}) as Readonly<Record<string, unknown>>);
    const types = op.infer(
      operands.map((o) => o.exact),
      attrs,
    );
    if (types.some(({ shape }) => !(elementsOf(shape) > 0 && elementsOf(shape) <= largestResult))) return undefined;
    const inputs = operands.map((o) => o.exact);
    const exact = applyOp(name, registry, inputs, attrs);
    if (!exact.every(isModerate)) return undefined;
    const before = isExact(name) ? [] : inputs.map((tensor) => wobble(tensor, draw));
    const within: Shares[][] = [];
    const shadows = ([1, -1] as const).map((sign, side) => {
      const noisy = operands.map((o, i) => moved(o.shadows[side] as NumberTensor, before[i], sign));
      let at = 0;
      return applyOp(name, registry, noisy, attrs, (op, results) => {
        if (isExact(op)) return results;
        const shares = (within[at] ??= results.map((tensor) => wobble(tensor, draw)));
        at++;
        return results.map((result, i) => moved(result, shares[i], sign));
      });
    });
    const results = exact.map((tensor, i) => ({
      exact: tensor,
      shadows: [shadows[0]?.[i], shadows[1]?.[i]] as unknown as readonly [NumberTensor, NumberTensor],
    }));
    return results.every(isSteady) ? results : undefined;
  } catch (error) {
    if (error instanceof OpError || error instanceof CompileError) return undefined;
    throw error;
  }
}

const isExact = (name: string): boolean => (proposals as Readonly<Record<string, Row>>)[name]?.exact === true;

/** By what share each element of a tensor moves, never by next to nothing; undefined where nothing rounds. */
type Shares = Float64Array | undefined;

function wobble({ dtype, values }: NumberTensor, draw: Draw): Shares {
  if (!isFloat(dtype)) return undefined;
  const most = shadowUnits[dtype] * roundingUnit[dtype];
  return values.map(() => (draw.chance(0.5) ? most : -most) * (1 - draw.next() / 2));
}

/**
 * Both shadows move by the same share, one up and one down: a tie falls apart in one of them. Below 1 the share is of 1,
 * as tolerances are: kernels of sigmoid, erf or softmax are exact to the scale of their range, not of a small result.
 * Composites are moved at every op inside, so that what cancels within them (a logSoftmax near 0) is no clearer than
 * their parts.
 */
const moved = (tensor: NumberTensor, shares: Shares, sign: 1 | -1): NumberTensor =>
  shares === undefined
    ? tensor
    : {
        ...tensor,
        values: tensor.values.map((x, i) =>
          Number.isFinite(x) ? x + sign * (shares[i] as number) * Math.max(1, Math.abs(x)) : x,
        ),
      };

function isModerate({ dtype, values }: NumberTensor): boolean {
  if (!isFloat(dtype)) return values.every((x) => Math.abs(x) <= largestInteger);
  const least = smallestNormal[dtype];
  return values.every((x) => x === 0 || (Math.abs(x) >= least && Math.abs(x) <= largestFloat));
}

/** Whether the shadows stayed near; integers and booleans must not have moved at all. */
function isSteady({ exact, shadows }: Operand): boolean {
  const { dtype, values } = exact;
  const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
  const units = isFloat(dtype) ? shadowUnits[dtype] : 0;
  const most = (tolerance(dtype, { target: "onnx" }).error * units * scale) / 2;
  return shadows.every((shadow) => shadow.values.every((x, i) => Math.abs(x - (values[i] as number)) <= most));
}
