// Gradients of products: products of the cotangent with the other operand.
import type { Builder } from "../builder.ts";
import { productOfDims } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { Dim } from "../type.ts";
import { vjp } from "../vjp.ts";

type Two = readonly [lhs: Value, rhs: Value];

const swapped = (b: Builder, x: Value): Value => {
  const last = x.type.shape.length - 1;
  const perm = x.type.shape.map((_, axis) => axis);
  return b.transpose(x, { perm: [...perm.slice(0, -2), last, last - 1] });
};

/** All rows of all leading axes under each other. */
const flat = (b: Builder, x: Value): Value =>
  b.reshape(x, { shape: [productOfDims(x.type.shape.slice(0, -1)), x.type.shape.at(-1) as Dim] });

/** The cotangent of the operand with letters `own`, in a product with `other`. */
function operandOf(b: Builder, ct: Value, out: string, other: Value, letters: string, own: Value, mine: string): Value {
  // A letter that stands in this operand alone was summed over: every place of it gets the same.
  const known = [...mine].filter((letter) => out.includes(letter) || letters.includes(letter)).join("");
  const gradient = b.contract(ct, other, { spec: `${out},${letters}->${known}` });
  if (known === mine) return gradient;
  const axes = [...mine].flatMap((letter, axis) => (known.includes(letter) ? [] : [axis]));
  return b.broadcast(gradient, { shape: own.type.shape, axes });
}

export const contractionVjps = {
  matmul: vjp((b, ct, [lhs, rhs]: Two) => {
    const left = b.matmul(ct, swapped(b, rhs));
    const shared = rhs.type.shape.length === 2 && lhs.type.shape.length > 2;
    const right = shared ? b.matmul(swapped(b, flat(b, lhs)), flat(b, ct)) : b.matmul(swapped(b, lhs), ct);
    return [left, right];
  }),
  contract: vjp<{ spec: string }>((b, ct, [lhs, rhs]: Two, { attrs: { spec } }) => {
    const [left, right, out] = spec.split(/,|->/) as [string, string, string];
    return [operandOf(b, ct, out, rhs, right, lhs, left), operandOf(b, ct, out, lhs, left, rhs, right)];
  }),
} as const;
