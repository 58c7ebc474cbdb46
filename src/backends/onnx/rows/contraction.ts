import type { Row } from "../row.ts";

export const matmul: Row = { since: 13, emit: (at) => at.typed("MatMul", [at.x(0), at.x(1)], at.dtype()) };

/** Met only where `contractByMatmul` has not run: Einsum kernels are slow. */
export const contract: Row<{ readonly spec: string }> = {
  since: 13,
  emit: (at) => at.typed("Einsum", [at.x(0), at.x(1)], at.dtype(), { equation: at.attrs.spec }),
};
