// Type rules that several op families share.

import { OpError } from "../diagnostic.ts";
import { sameShape } from "../dim.ts";
import { type DType, dtypes, formatType, isFloat, type TensorType } from "../type.ts";

export function sameTypes(types: readonly TensorType[], labels: readonly string[] = ["lhs", "rhs"]): TensorType {
  const [first, ...rest] = types as [TensorType, ...TensorType[]];
  rest.forEach((type, i) => {
    if (type.dtype !== first.dtype)
      throw new OpError("dtype-mismatch", `${labels[0]} is ${first.dtype} but ${labels[i + 1]} is ${type.dtype}`, {
        operand: i + 1,
        help: "cast one of them",
      });
    if (!sameShape(type.shape, first.shape))
      throw new OpError(
        "shape-mismatch",
        `${labels[0]} is ${formatType(first)} but ${labels[i + 1]} is ${formatType(type)}`,
        { operand: i + 1 },
      );
  });
  return first;
}

export function wantFloat(type: TensorType, operand = 0): void {
  if (!isFloat(type.dtype))
    throw new OpError("dtype-mismatch", `wants a float tensor, got ${formatType(type)}`, { operand, help: "cast it" });
}

export function wantKind(
  type: TensorType,
  kinds: readonly ("float" | "signed" | "unsigned" | "bool")[],
  operand = 0,
): void {
  if (!kinds.includes(dtypes[type.dtype].kind))
    throw new OpError("dtype-mismatch", `wants ${kinds.join(" or ")}, got ${formatType(type)}`, { operand });
}

export function wantDType(type: TensorType, dtype: DType, operand: number): void {
  if (type.dtype !== dtype)
    throw new OpError("dtype-mismatch", `wants ${dtype}, got ${formatType(type)}`, {
      operand,
      help: `cast it to ${dtype}`,
    });
}

export function wantRank(type: TensorType, rank: number, operand = 0): void {
  if (type.shape.length !== rank)
    throw new OpError("rank-mismatch", `wants rank ${rank}, got ${formatType(type)}`, { operand });
}

export function wantAxis(axis: number, rank: number): void {
  if (axis < 0 || axis >= rank) throw new OpError("bad-axis", `axis ${axis} is outside a tensor of rank ${rank}`);
}

export function wantAxes(axes: readonly number[], rank: number): void {
  axes.forEach((axis, i) => {
    wantAxis(axis, rank);
    if (i > 0 && axis <= (axes[i - 1] as number))
      throw new OpError("bad-axis", `axes must rise and be distinct, got [${axes.join(",")}]`);
  });
}

export function wantShape(type: TensorType, shape: readonly (number | string)[], operand: number, what: string): void {
  if (!sameShape(type.shape, shape))
    throw new OpError("shape-mismatch", `${what} wants [${shape.join(",")}], got ${formatType(type)}`, { operand });
}
