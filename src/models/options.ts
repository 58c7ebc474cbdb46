import { compileError } from "../dsl/index.ts";

/** A combination of options that no model of the family has. */
export function refuseOption(message: string): never {
  throw compileError("bad-option", message);
}

/** Checks that the named options are whole numbers, each from its least on. */
export function wantWholes<K extends string>(
  config: { readonly [P in NoInfer<K>]: number },
  least: { readonly [P in K]: number },
): void {
  for (const key in least) {
    const value = config[key];
    if (!Number.isInteger(value) || value < least[key])
      refuseOption(`${key} is a whole number from ${least[key]} on, got ${value}`);
  }
}
