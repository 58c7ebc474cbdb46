import { compileError } from "../../ir/diagnostic.ts";
import type { NamedComposite, Registry } from "../../ir/op.ts";
import { type Component, caseGraph } from "../component.ts";

/**
 * A composite of the user's own as a component: `in.NAME` feeds the operand of that name, `hyperparameters` are its
 * attributes, and its results are `out.0`, `out.1`, ..., or the only `out.*` of the file where it has one result.
 */
export const ownComponent =
  ({ name, op }: NamedComposite, registry: Registry): Component =>
  (vector) =>
    caseGraph(
      vector,
      (b, read) => {
        const operands = op.operands.flatMap((operand) => {
          const open = operand.endsWith("...") ? operand.slice(0, -3) : undefined;
          if (open === undefined) return [read.input(operand)];
          const given = [...vector.tensors.keys()].filter((key) => key.startsWith(`in.${open}`)).toSorted();
          return given.map((key) => read.input(key.slice("in.".length)));
        });
        const results = b.make(name, operands, vector.settings.all);
        const outputs = [...vector.tensors.keys()].filter((key) => key.startsWith("out."));
        if (results.length === 1 && outputs.length !== 1)
          throw compileError("tensor-missing", `${vector.file} wants one out.* for ${name}, got ${outputs.length}`);
        const only = outputs[0]?.slice("out.".length) ?? "0";
        return Object.fromEntries(results.map((value, i) => [results.length === 1 ? only : String(i), value]));
      },
      registry,
    );
