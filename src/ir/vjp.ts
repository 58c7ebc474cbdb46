import type { Builder } from "./builder.ts";
import type { Value } from "./graph.ts";

/** Where an op is differentiated: its operands and results as values of the builder's graph. */
export interface VjpSite<A = Readonly<Record<string, never>>> {
  readonly b: Builder;
  readonly operands: readonly Value[];
  readonly results: readonly Value[];
  /** Of each result; undefined where nothing that is differentiated depends on it. */
  readonly cotangents: readonly (Value | undefined)[];
  readonly attrs: A;
}

/**
 * Vector-Jacobian product: the cotangent of every operand from those of the results, each of its operand's type;
 * undefined for an operand through which nothing flows (indices, masks).
 */
export type Vjp<A = never> = (site: VjpSite<A>) => readonly (Value | undefined)[];

/** Why an op passes no gradient on: its results are integers or booleans, or piecewise constant. */
export interface NoGradient {
  readonly none: string;
}

/** The same for the many ops of one result. */
export const vjp =
  <A>(
    rule: (
      b: Builder,
      ct: Value,
      operands: never,
      site: VjpSite<A> & { readonly result: Value },
    ) => readonly (Value | undefined)[],
  ): Vjp<A> =>
  (site) => {
    const [ct] = site.cotangents;
    if (ct === undefined) return site.operands.map(() => undefined);
    return rule(site.b, ct, site.operands as never, { ...site, result: site.results[0] as Value });
  };

/** A number in every place of a value's type. */
export const like = (b: Builder, x: Value, value: number): Value => b.full(x.type, value);
