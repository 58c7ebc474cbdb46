import type { AttrSpec, NamedComposite } from "../ir/op.ts";
import { elementsOf } from "../ir/type.ts";
import { type Draw, kinds, type Operand } from "./draw.ts";
import type { Proposal, Row } from "./proposals.ts";

const float = kinds(["float"]);
const every = kinds(["float", "signed", "unsigned", "bool"]);

/**
 * Applications of a composite that nobody described: operands that are alike in some way, attributes of the declared
 * kinds. Its own `infer` decides which of them are well typed.
 */
export const ownProposal = ({ op }: NamedComposite): Row => ({
  propose: (draw) => {
    const operands: Operand[] = [];
    for (const name of op.operands) {
      const count = name.endsWith("...") ? draw.int(1, 3) : 1;
      for (let i = 0; i < count; i++) operands.push(drawOperand(draw, operands));
    }
    const attrs = Object.entries(op.attrs as Readonly<Record<string, AttrSpec>>).flatMap(([name, spec]) =>
      spec.default !== undefined && draw.chance(0.4) ? [] : [[name, drawAttr(draw, spec, operands[0])] as const],
    );
    return { operands, attrs: Object.fromEntries(attrs) } satisfies Proposal<Record<string, unknown>>;
  },
});

/** Most often of the first operand's dtype, and of its shape, its last axis, or a shape of its own. */
function drawOperand(draw: Draw, [first]: readonly Operand[]): Operand {
  if (first === undefined) return draw.tensor(draw.chance(0.8) ? float : every);
  const { dtype, shape } = first.exact;
  const dtypes = draw.chance(0.85) ? [dtype] : every;
  const form = draw.int(0, 3);
  if (form <= 1) return draw.tensor(dtypes, { shape });
  return draw.tensor(dtypes, form === 2 && shape.length > 0 ? { shape: shape.slice(-1) } : {});
}

function drawAttr(draw: Draw, { kind }: AttrSpec, first: Operand | undefined): unknown {
  const shape = first?.exact.shape ?? [];
  const list = <T>(item: () => T): readonly T[] => Array.from({ length: draw.int(0, 3) }, item);
  const int = (): number => draw.int(0, 3);
  const dim = (): number => (shape.length > 0 && draw.chance(0.7) ? draw.pick(shape) : draw.int(1, 4));
  if (typeof kind !== "string") return draw.pick(kind);
  switch (kind) {
    case "int":
      return int();
    case "ints":
      return list(int);
    case "pairs":
      return list(() => [int(), int()]);
    case "number":
      return draw.int(1, 12) / 4;
    case "boolean":
      return draw.chance(0.5);
    case "string":
      return draw.pick(["a", "b"]);
    case "strings":
      return list(() => draw.pick(["a", "b"]));
    case "dim":
      return dim();
    case "dims":
      return draw.chance(0.5) ? [elementsOf(shape)] : shape;
    case "dtype":
      return draw.pick(every);
    default:
      return kind satisfies never;
  }
}
