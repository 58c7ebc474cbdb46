// Which folds and products are loops inside the expressions that read them, instead of kernels of their own.
import { isStatic, productOfDims, sameShape } from "../../ir/dim.ts";
import { type Attrs, isSource, type Node, type Use, type Value } from "../../ir/graph.ts";
import type { Form, Registry } from "../../ir/op.ts";
import type { Dim } from "../../ir/type.ts";
import { summedOf } from "./reader.ts";
import { formOf, rowwise } from "./rowwise.ts";

const mostTerms = 16; // of a fold repeated where it is read
const mostSelected = 32; // terms of a product with a selection matrix repeated where it is read
const mostScored = 128; // terms of a score that only row folds read

/** What the analysis has to know of a graph. */
export class LoopRules {
  readonly #uses: ReadonlyMap<Value, readonly Use[]>;
  readonly #outputs: ReadonlySet<Value>;
  readonly #registry: Registry;

  constructor(uses: ReadonlyMap<Value, readonly Use[]>, outputs: ReadonlySet<Value>, registry: Registry) {
    this.#uses = uses;
    this.#outputs = outputs;
    this.#registry = registry;
  }

  /** Whether a fold or product is better repeated where it is read than stored: short ones, and scores of row folds. */
  isLoop(node: Node): boolean {
    const form = formOf(node.op, this.#registry);
    const [value] = node.results as readonly [Value];
    if (this.#outputs.has(value) || (form?.kind !== "reduction" && form?.kind !== "contraction")) return false;
    const terms = termsOf(node, form);
    if (terms === undefined) return false;
    const users = (this.#uses.get(value) ?? []).map(({ user }) => user);
    if (form.kind === "reduction")
      return (
        terms <= mostTerms &&
        users.length === 1 &&
        users.every((user) => this.#readsFew(user)) &&
        form.init("f32").length === 1
      );
    if (terms <= mostSelected && node.operands.some((operand) => this.#selects(operand)))
      return users.length === 1 && users.every((user) => this.#readsFew(user));
    return terms <= mostScored && this.onlyRowFolds(value);
  }

  /** Whether an op reads each element of its operands at most a few times, and stays an expression itself. */
  #readsFew(user: Node): boolean {
    const form = formOf(user.op, this.#registry);
    if (user.op === "broadcast") return false;
    if (form?.kind === "elementwise") return true;
    if (form?.kind === "view" || form?.kind === "concat")
      return (this.#uses.get(user.results[0] as Value) ?? []).every((use) => this.#readsFew(use.user));
    return form === undefined && rowwise(user, this.#registry) !== undefined;
  }

  /** Whether a value is zeros and ones made from places: rows of a selection matrix. */
  #selects({ producer, type }: Value): boolean {
    const form = formOf(producer.op, this.#registry);
    if (form?.kind === "generate") return true;
    if (isSource(producer) || form === undefined) return false;
    const made = type.dtype === "bool" || producer.op === "cast" || form.kind === "view";
    return made && producer.operands.some((operand) => this.#selects(operand));
  }

  /** Whether nothing but folds along the last axis reads a value, possibly through arithmetic of its shape. */
  onlyRowFolds(value: Value): boolean {
    const rank = value.type.shape.length;
    const open = [value];
    let folds = 0;
    for (let v = open.pop(); v !== undefined; v = open.pop()) {
      if (this.#outputs.has(v)) return false;
      for (const { user } of this.#uses.get(v) ?? []) {
        const form = formOf(user.op, this.#registry);
        if (form?.kind === "reduction") {
          if (form.axes(user.attrs, rank).join() !== String(rank - 1)) return false;
          folds++;
        } else if (form?.kind === "elementwise" && sameShape((user.results[0] as Value).type.shape, value.type.shape))
          open.push(user.results[0] as Value);
        else return false;
      }
    }
    return folds > 0 && folds <= 2;
  }

  /** Whether a value is read more often than it has elements. */
  repeats(value: Value): boolean {
    const uses = this.#uses.get(value) ?? [];
    if (uses.length > 1) return true;
    return uses.some(({ user }) => {
      if (user.op === "broadcast") return true;
      return formOf(user.op, this.#registry)?.kind === "view" && this.repeats(user.results[0] as Value);
    });
  }
}

/** Terms of a fold or product where their number is known. */
function termsOf(node: Node, form: Extract<Form<Attrs>, { kind: "reduction" | "contraction" }>): number | undefined {
  const first = node.operands[0]?.type.shape ?? [];
  const terms =
    form.kind === "reduction"
      ? productOfDims(form.axes(node.attrs, first.length).map((axis) => first[axis] as Dim))
      : productOfDims(summedOf(node, form).map((letter) => letter.size));
  return isStatic(terms) ? terms : undefined;
}
