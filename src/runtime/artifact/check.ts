// What a value from a file has to be, field by field. A check gives what is wrong, with its path, or undefined.
import { OpError } from "../../ir/diagnostic.ts";
import { evaluateDim, symbolsOf } from "../../ir/dim.ts";
import { isDType } from "../../ir/type.ts";

export type Check = (value: unknown, path: string) => string | undefined;

const plain =
  (what: string, is: (value: unknown) => boolean): Check =>
  (value, path) =>
    is(value) ? undefined : `${path} is not ${what}`;

export const text = plain("a text", (value) => typeof value === "string");
export const count = plain("a count", (value) => Number.isSafeInteger(value) && (value as number) >= 0);
export const positive = plain("a positive count", (value) => Number.isSafeInteger(value) && (value as number) > 0);
export const number = plain("a number", (value) => typeof value === "number");
export const hash = plain("a SHA-256", (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value));
export const dtype = plain("a dtype", (value) => typeof value === "string" && isDType(value));
export const symbol = plain("a symbol", (value) => typeof value === "string" && /^[A-Za-z_]\w*$/.test(value));
export const literal = (wanted: string | number): Check => plain(JSON.stringify(wanted), (value) => value === wanted);

/** A size, or a polynomial in symbols as text: read by the dimensions' own reader, never run. */
export const dim: Check = (value, path) => {
  if (typeof value === "number") return count(value, path);
  if (typeof value !== "string") return `${path} is not a dimension`;
  try {
    evaluateDim(value, new Map(symbolsOf(value).map((name) => [name, 1])));
    return undefined;
  } catch (error) {
    if (error instanceof OpError) return `${path}: ${error.message}`;
    throw error;
  }
};

export const nullable =
  (check: Check): Check =>
  (value, path) =>
    value === null ? undefined : check(value, path);

export const optional =
  (check: Check): Check =>
  (value, path) =>
    value === undefined ? undefined : check(value, path);

export const list =
  (item: Check): Check =>
  (value, path) =>
    Array.isArray(value) ? first(value.map((entry, k) => () => item(entry, `${path}[${k}]`))) : `${path} is not a list`;

/** An object that has these fields; others pass. */
export const record =
  (fields: Readonly<Record<string, Check>>): Check =>
  (value, path) =>
    isRecord(value)
      ? first(
          Object.entries(fields).map(
            ([name, check]) =>
              () =>
                check(Object.hasOwn(value, name) ? value[name] : undefined, path === "" ? name : `${path}.${name}`),
          ),
        )
      : `${path === "" ? "it" : path} is not an object`;

/** An object whose own values all pass. */
export const mapOf =
  (item: Check): Check =>
  (value, path) =>
    isRecord(value)
      ? first(
          Object.entries(value).map(
            ([name, entry]) =>
              () =>
                item(entry, `${path}.${name.slice(0, 60)}`),
          ),
        )
      : `${path} is not an object`;

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The first thing that is wrong. */
export function first(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const wrong = check();
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}
