import { didYouMean, OpError } from "./diagnostic.ts";
import { parseDim } from "./dim.ts";
import type { Attr, Attrs } from "./graph.ts";
import type { AnyOp, AttrSpec } from "./op.ts";
import { isDType } from "./type.ts";

/** Checks the given attributes against an op's declaration and fills in defaults, in declared order. */
export function completeAttrs(name: string, op: AnyOp, given: Readonly<Record<string, unknown>>): Attrs {
  const specs = op.attrs as Readonly<Record<string, AttrSpec>>;
  for (const key of Object.keys(given))
    if (!Object.hasOwn(specs, key))
      throw new OpError("unknown-attribute", `${name} has no attribute ${key}`, {
        ...withHelp(didYouMean(key, Object.keys(specs))),
      });
  const out: Record<string, Attr> = {};
  for (const [key, spec] of Object.entries(specs)) {
    const value = given[key];
    if (value === undefined) {
      if (spec.default === undefined) throw new OpError("missing-attribute", `${name} needs attribute ${key}`);
      out[key] = spec.default;
    } else out[key] = checkAttr(name, key, spec, value);
  }
  return out;
}

const withHelp = (help: string | undefined) => (help === undefined ? {} : { help });

function checkAttr(op: string, key: string, spec: AttrSpec, value: unknown): Attr {
  const want = (what: string) =>
    new OpError("bad-attribute", `${op}: ${key} wants ${what}, got ${JSON.stringify(value)?.slice(0, 80)}`);
  const list = <T extends Attr>(what: string, read: (item: unknown) => T | undefined): readonly T[] => {
    if (!Array.isArray(value)) throw want(what);
    return value.map((item) => {
      const one = read(item);
      if (one === undefined) throw want(what);
      return one;
    });
  };
  const int = (item: unknown) => (Number.isSafeInteger(item) ? (item as number) + 0 : undefined);
  const dim = (item: unknown) => (typeof item === "string" ? parseDim(item) : int(item));
  const single = <T extends Attr>(what: string, read: T | undefined): T => {
    if (read === undefined) throw want(what);
    return read;
  };
  if (typeof spec.kind !== "string") {
    const words = spec.kind;
    return single(
      `one of ${words.join(", ")}`,
      words.find((word) => word === value),
    );
  }
  switch (spec.kind) {
    case "int":
      return single("an integer", int(value));
    case "number":
      return single("a number", typeof value === "number" ? value : undefined);
    case "boolean":
      return single("true or false", typeof value === "boolean" ? value : undefined);
    case "string":
      return single("a text", typeof value === "string" ? value : undefined);
    case "dtype":
      return single("a dtype", typeof value === "string" && isDType(value) ? value : undefined);
    case "dim":
      return single("a dimension", dim(value));
    case "ints":
      return list("a list of integers", int);
    case "dims":
      return list("a list of dimensions", dim);
    case "strings":
      return list("a list of texts", (item) => (typeof item === "string" ? item : undefined));
    case "pairs":
      return list<readonly number[]>("a list of integer pairs", (item) => {
        const pair = Array.isArray(item) && item.length === 2 ? item.map(int) : [];
        return pair.length === 2 && pair.every((n) => n !== undefined) ? (pair as number[]) : undefined;
      });
    default:
      return spec.kind satisfies never;
  }
}

/** Attribute text as IR files have it; also the interning key. */
export function formatAttr(value: Attr): string {
  if (typeof value === "number") {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    return Object.is(value, -0) ? "-0" : String(value);
  }
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean") return String(value);
  return `[${value.map(formatAttr).join(",")}]`;
}

/** The attributes that differ from their defaults, in declared order. */
export function shownAttrs(op: AnyOp | undefined, attrs: Attrs): readonly (readonly [string, Attr])[] {
  const specs = (op?.attrs ?? {}) as Readonly<Record<string, AttrSpec>>;
  return Object.entries(attrs).filter(([key, value]) => {
    const standard = specs[key]?.default;
    return standard === undefined || formatAttr(standard) !== formatAttr(value);
  });
}
