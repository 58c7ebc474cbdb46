import { type AnyOp, addOp, type NamedComposite, onnxOps, type Registry, registryWith } from "../index.ts";

const table = new Map<string, AnyOp>(registryWith(Object.entries(onnxOps)));
const open = new Map(table);

/**
 * Ops that graphs may hold in the command that runs: the table, what the ONNX backend makes of it, and composites of
 * the user's, once the config, a pass or a model has brought them.
 */
export const registry: Registry = open;

/** Makes composites of the user's known; fails with `duplicate-op`. */
export function registerComposites(composites: Iterable<NamedComposite>): void {
  for (const composite of composites) addOp(open, composite);
}

/** Makes every op of a traced graph known. */
export function registerOps(traced: Registry): void {
  for (const [name, op] of traced) addOp(open, { name, op });
}

/** Forgets what an earlier command of this process brought. */
export function resetRegistry(): void {
  open.clear();
  for (const [name, op] of table) open.set(name, op);
}
