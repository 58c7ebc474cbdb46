import type { Node, Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { ExprPool, type Register, registerOf, walk } from "./expr.ts";
import { formOf } from "./rowwise.ts";

const costly: ReadonlySet<string> = new Set([
  "exp",
  "log",
  "log1p",
  "expm1",
  "sin",
  "cos",
  "tanh",
  "erf",
  "pow",
  "sqrt",
  "rsqrt",
  "div",
]);

/** The function that an elementwise op calls which costs many multiplications, if it does. */
export function costlyIn(node: Node, registry: Registry): string | undefined {
  const form = formOf(node.op, registry);
  if (form?.kind !== "elementwise") return undefined;
  const pool = new ExprPool();
  const xs = node.operands.map((operand, i) => pool.variable(`x${i}`, registerOf(operand.type.dtype) as Register));
  const own = (node.operands.at(-1) as Value).type.dtype;
  const result = form.scalar(pool.scalar(registerOf(own) as Register), xs, node.attrs, own);
  let called: string | undefined;
  walk([result], ({ op }) => {
    if (costly.has(op)) called ??= op;
  });
  return called;
}
