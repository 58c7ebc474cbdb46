import { onnxOps, type Registry, registryWith } from "../index.ts";

/** Ops that IR text may hold on the command line: the table, and what the ONNX backend makes of it. */
export const registry: Registry = registryWith(Object.entries(onnxOps));
