import { InternalError } from "../../ir/diagnostic.ts";
import { type Dim, parseDim } from "../../ir/dim.ts";

/** A dimension text taken apart at its outermost operator, named as ONNX has it. */
export type DimParts =
  | { readonly kind: "symbol"; readonly name: string }
  | { readonly kind: "Add" | "Sub" | "Mul" | "Div"; readonly lhs: Dim; readonly rhs: Dim };

/** Splits canonical dimension text (`3*batch+n//2-1`): last sum first, then products, then division. */
export function dimParts(text: string): DimParts {
  if (/^[A-Za-z_]\w*$/.test(text)) return { kind: "symbol", name: text };
  const at = lastOutside(text, /[+-]/);
  if (at === 0) return { kind: "Sub", lhs: 0, rhs: part(text.slice(1)) };
  if (at > 0)
    return { kind: text[at] === "+" ? "Add" : "Sub", lhs: part(text.slice(0, at)), rhs: part(text.slice(at + 1)) };
  const star = lastOutside(text, /\*/);
  if (star > 0) return { kind: "Mul", lhs: part(text.slice(0, star)), rhs: part(text.slice(star + 1)) };
  const division = /^(.*)\/\/(\d+)$/.exec(text);
  if (division !== null) return { kind: "Div", lhs: part(division[1] as string), rhs: Number(division[2]) };
  throw new InternalError(`${text} is not a canonical dimension`);
}

/** A part is itself a dimension, without the parentheses around it. */
function part(text: string): Dim {
  const inner = text.startsWith("(") && text.endsWith(")") ? text.slice(1, -1) : text;
  return parseDim(inner);
}

function lastOutside(text: string, wanted: RegExp): number {
  let depth = 0;
  for (let i = text.length - 1; i >= 0; i--) {
    const char = text[i] as string;
    if (char === ")") depth++;
    else if (char === "(") depth--;
    else if (depth === 0 && wanted.test(char)) return i;
  }
  return -1;
}
