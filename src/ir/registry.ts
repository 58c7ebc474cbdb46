import { type CompileError, compileError, type Loc, unknownLoc } from "./diagnostic.ts";
import type { AnyOp, NamedComposite, Registry } from "./op.ts";
import { builtinOps } from "./ops/index.ts";

/**
 * Registry of the built-in ops and further ones: composites made by `composite`, or pairs of a name and an op. Fails
 * with `duplicate-op` where two differ under one name.
 */
export function registryWith(
  further: Iterable<NamedComposite | readonly [string, AnyOp]>,
  base: Registry = builtinOps,
): Registry {
  const registry = new Map(base);
  for (const one of further) addOp(registry, "op" in one ? one : { name: one[0], op: one[1] });
  return registry;
}

/** Adds an op to a registry that may have it already; fails with `duplicate-op` where another one has its name. */
export function addOp(
  registry: Map<string, AnyOp>,
  { name, op, loc = unknownLoc }: { readonly name: string; readonly op: AnyOp; readonly loc?: Loc },
): void {
  const known = registry.get(name);
  if (known !== undefined && known !== op)
    throw duplicateOp(name, builtinOps.has(name) ? "the op table" : "another composite", loc);
  registry.set(name, op);
}

export const duplicateOp = (name: string, holder: string, loc: Loc): CompileError =>
  compileError("duplicate-op", `the name ${name} is taken by ${holder}`, {
    loc,
    help: "give the composite a name of its own",
  });
