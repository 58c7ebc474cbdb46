import { OpError } from "../diagnostic.ts";
import { sameShape } from "../dim.ts";
import type { Value } from "../graph.ts";
import type { Structured } from "../op.ts";
import { type Dim, formatType, type TensorType } from "../type.ts";
import { wantDType, wantKind } from "./rules.ts";

export const matmul: Structured<[lhs: Value, rhs: Value]> = {
  kind: "structured",
  summary: "matrix product over the last two axes; rhs is one matrix or has lhs's leading axes",
  source: "ONNX MatMul-13",
  operands: ["lhs", "rhs"],
  attrs: {},
  infer: ([lhs, rhs]) => {
    const a = lhs as TensorType;
    const b = rhs as TensorType;
    wantKind(a, ["float", "signed", "unsigned"]);
    wantDType(b, a.dtype, 1);
    if (a.shape.length < 2 || b.shape.length < 2)
      throw new OpError("rank-mismatch", `matmul wants matrices, got ${formatType(a)} and ${formatType(b)}`);
    const [rows, columns] = [a.shape.at(-1) as Dim, b.shape.at(-2) as Dim];
    if (rows !== columns)
      throw new OpError("shape-mismatch", `lhs has ${rows} columns but rhs has ${columns} rows`, { operand: 1 });
    const lead = a.shape.slice(0, -2);
    if (b.shape.length !== 2 && !sameShape(lead, b.shape.slice(0, -2)))
      throw new OpError("shape-mismatch", `leading axes differ: lhs is ${formatType(a)} and rhs is ${formatType(b)}`, {
        operand: 1,
      });
    return [{ dtype: a.dtype, shape: [...lead, a.shape.at(-2) as Dim, b.shape.at(-1) as Dim] }];
  },
  form: {
    kind: "contraction",
    spec: ([a, b]) => {
      const letters = "abcdefghijklmnop";
      const lead = letters.slice(0, (a as TensorType).shape.length - 2);
      return `${lead}xy,${(b as TensorType).shape.length === 2 ? "" : lead}yz->${lead}xz`;
    },
  },
};

/** Explicit two-operand einsum without repeated letters in a term: `bij,bjk->bik`. */
export const contract: Structured<[lhs: Value, rhs: Value], { spec: string }> = {
  kind: "structured",
  summary: "sum of products over the letters missing from the result",
  source: "ONNX Einsum-12",
  operands: ["lhs", "rhs"],
  attrs: { spec: { kind: "string", doc: "einsum of two operands, such as bij,bjk->bik" } },
  infer: ([lhs, rhs], { spec }) => {
    const parts = /^([a-z]*),([a-z]*)->([a-z]*)$/.exec(spec);
    if (parts === null) throw new OpError("bad-attribute", `${JSON.stringify(spec)} is not an einsum of two operands`);
    const [, left, right, out] = parts as unknown as [string, string, string, string];
    const sizes = new Map<string, Dim>();
    [left, right].forEach((letters, operand) => {
      const type = [lhs, rhs][operand] as TensorType;
      wantKind(type, ["float", "signed", "unsigned"], operand);
      if (letters.length !== type.shape.length || new Set(letters).size !== letters.length)
        throw new OpError("rank-mismatch", `term ${letters} does not fit ${formatType(type)}`, { operand });
      [...letters].forEach((letter, axis) => {
        const size = type.shape[axis] as Dim;
        const known = sizes.get(letter);
        if (known !== undefined && known !== size)
          throw new OpError("shape-mismatch", `${letter} is ${known} on the left but ${size} on the right`, {
            operand,
          });
        sizes.set(letter, size);
      });
    });
    wantDType(rhs as TensorType, (lhs as TensorType).dtype, 1);
    if (new Set(out).size !== out.length || [...out].some((letter) => !sizes.has(letter)))
      throw new OpError("bad-attribute", `result ${out} of ${spec} repeats a letter or names a new one`);
    return [{ dtype: (lhs as TensorType).dtype, shape: [...out].map((letter) => sizes.get(letter) as Dim) }];
  },
  form: { kind: "contraction", spec: (_, { spec }) => spec },
};
