import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OpError } from "../../src/ir/diagnostic.ts";
import {
  addDims,
  type Dim,
  divideDims,
  evaluateDim,
  floorDivide,
  isStatic,
  multiplyDims,
  parseDim,
  productOfDims,
  sameShape,
  substituteDim,
  subtractDims,
  symbolsOf,
} from "../../src/ir/dim.ts";

fc.configureGlobal({ seed: 20, numRuns: 300 });

/** 0 times a negative size is -0, which === and printing do not tell from 0. */
const plain = (dim: Dim): Dim => (typeof dim === "number" ? dim + 0 : dim);

/** Read as it would be elsewhere: with a blank, the text is none that arithmetic remembers. */
const reread = (dim: Dim): Dim => parseDim(` ${dim}`);

const symbols = ["batch", "n", "_m2"] as const;
const point = fc.record({
  batch: fc.integer({ min: 1, max: 50 }),
  n: fc.integer({ min: 1, max: 50 }),
  _m2: fc.integer({ min: 1, max: 50 }),
});
const bound = (at: Readonly<Record<string, number>>) => new Map(Object.entries(at));

/** A dimension built by the library's own operations, and the number it must be at any point. */
interface Built {
  readonly dim: Dim;
  readonly at: (values: ReadonlyMap<string, number>) => number;
}

const leaf: fc.Arbitrary<Built> = fc.oneof(
  fc.integer({ min: -20, max: 20 }).map((size) => ({ dim: size, at: () => size })),
  fc
    .constantFrom(...symbols)
    .map((name) => ({ dim: name, at: (v: ReadonlyMap<string, number>) => v.get(name) as number })),
);
const sums: fc.Arbitrary<Built> = fc.letrec<{ built: Built }>((tie) => ({
  built: fc.oneof(
    { maxDepth: 2, withCrossShrink: true },
    leaf,
    fc
      .tuple(tie("built"), tie("built"))
      .map(([a, b]) => ({ dim: addDims(a.dim, b.dim), at: (v: ReadonlyMap<string, number>) => a.at(v) + b.at(v) })),
    fc.tuple(tie("built"), tie("built")).map(([a, b]) => ({
      dim: subtractDims(a.dim, b.dim),
      at: (v: ReadonlyMap<string, number>) => a.at(v) - b.at(v),
    })),
    fc.tuple(tie("built"), tie("built")).map(([a, b]) => ({
      dim: multiplyDims(a.dim, b.dim),
      at: (v: ReadonlyMap<string, number>) => a.at(v) * b.at(v),
    })),
  ),
})).built;
/** A division over a polynomial that may hold divisions itself, and a polynomial over that. */
const divideAndAdd = (inner: fc.Arbitrary<Built>): fc.Arbitrary<Built> =>
  fc.tuple(inner, fc.integer({ min: 1, max: 6 }), fc.constantFrom(1, 3, -1), sums).map(([a, k, factor, b]) => ({
    dim: addDims(multiplyDims(floorDivide(a.dim, k), factor), b.dim),
    at: (v: ReadonlyMap<string, number>) => Math.floor(a.at(v) / k) * factor + b.at(v),
  }));
const divided = divideAndAdd(sums);
const nested = divideAndAdd(divided);
const anyDim = fc.oneof(sums, divided, nested);

describe("arithmetic agrees with evaluating", () => {
  test("for sums, differences, products and floor division", () => {
    fc.assert(
      fc.property(anyDim, point, ({ dim, at }, p) => {
        expect(plain(evaluateDim(dim, bound(p)))).toBe(at(bound(p)) + 0);
      }),
    );
  });

  test("for exact quotients, which give the dividend back", () => {
    fc.assert(
      fc.property(sums, sums, point, (a, b, p) => {
        const quotient = divideDims(a.dim, b.dim);
        if (quotient === undefined) return;
        expect(evaluateDim(quotient, bound(p)) * b.at(bound(p)) + 0).toBe(a.at(bound(p)) + 0);
      }),
    );
  });

  test("a product divides by its monomial factors", () => {
    fc.assert(
      fc.property(sums, fc.constantFrom<Dim>("n", "batch", 7, "3*n", "batch*n"), (a, factor) => {
        expect(divideDims(plain(multiplyDims(a.dim, factor)), factor)).toBe(plain(a.dim));
      }),
    );
  });

  test("an inexact quotient is none", () => {
    expect(divideDims("n+1", 2)).toBeUndefined();
    expect(divideDims("n", "batch")).toBeUndefined();
    expect(divideDims(7, 2)).toBeUndefined();
    expect(divideDims(7, 0)).toBeUndefined();
    expect(divideDims("n+1", "n")).toBeUndefined();
    expect(divideDims("2*n+2", "n+1")).toBe(2);
  });

  test("for substituting other dimensions", () => {
    fc.assert(
      fc.property(anyDim, leaf, leaf, point, ({ dim, at }, a, b, p) => {
        const other = { dim: addDims(a.dim, b.dim), at: (v: ReadonlyMap<string, number>) => a.at(v) + b.at(v) };
        const values = bound(p);
        const replaced = substituteDim(dim, new Map<string, Dim>([["n", other.dim]]));
        const inner = new Map([...values, ["n", other.at(values)]]);
        expect(plain(evaluateDim(replaced, values))).toBe(at(inner) + 0);
      }),
    );
  });
});

describe("canonical text", () => {
  test("reads back as itself", () => {
    fc.assert(
      fc.property(anyDim, ({ dim }) => {
        expect(reread(dim)).toBe(plain(dim));
      }),
    );
  });

  test("is equal for equal polynomials, however they were put together", () => {
    fc.assert(
      fc.property(sums, sums, sums, (a, b, c) => {
        expect(plain(addDims(a.dim, b.dim))).toBe(plain(addDims(b.dim, a.dim)));
        expect(plain(multiplyDims(a.dim, b.dim))).toBe(plain(multiplyDims(b.dim, a.dim)));
        const [left, right] = [
          multiplyDims(a.dim, addDims(b.dim, c.dim)),
          addDims(multiplyDims(a.dim, b.dim), multiplyDims(a.dim, c.dim)),
        ];
        expect(plain(left)).toBe(plain(right));
        expect(plain(subtractDims(addDims(a.dim, b.dim), b.dim))).toBe(plain(a.dim));
      }),
    );
  });

  test.each([
    ["batch", "batch"],
    ["1+n", "n+1"],
    ["n - 8", "n-8"],
    ["n*197", "197*n"],
    ["n*batch", "batch*n"],
    ["2*n+2*n", "4*n"],
    ["(n+1)*(n-1)", "n*n-1"],
    ["-n", "-n"],
    ["n-n+3", 3],
    ["0*n", 0],
    ["4*n//2", "4*n//2"],
    ["(4*n)//2", "2*n"],
    ["(4*n+1)//2", "2*n"],
    ["(n+5)//2", "(n+1)//2+2"],
    ["(2*n+3)//2", "n+1"],
    ["(n)//2", "n//2"],
    ["7//2", 3],
    ["  12 ", 12],
  ])("%s reads as %s", (text, dim) => {
    expect(parseDim(text)).toBe(text === "4*n//2" ? multiplyDims(4, floorDivide("n", 2)) : dim);
  });

  test("has no division by one", () => {
    expect(parseDim("n//1")).toBe(floorDivide("n", 1));
  });

  test("names its symbols once each", () => {
    expect(symbolsOf("(batch*n+1)//2+n")).toEqual(["batch", "n"]);
    expect(symbolsOf(3)).toEqual([]);
  });

  test("shapes and products compare by text", () => {
    expect(sameShape(["n", 2], ["n", 2])).toBe(true);
    expect(sameShape(["n"], ["n", 1])).toBe(false);
    expect(productOfDims(["n", 2, "n", 3])).toBe("6*n*n");
    expect(productOfDims([])).toBe(1);
    expect(isStatic("n")).toBe(false);
  });
});

describe("nested floor divisions", () => {
  // A second strided convolution over a symbolic height makes one.
  test("can be added to", () => {
    expect(addDims(floorDivide("(n-1)//2", 3), 1)).toBe("(n+5)//6");
  });

  test("agree with evaluating", () => {
    const once = addDims(floorDivide(subtractDims("n", 1), 2), 1);
    const twice = addDims(floorDivide(subtractDims(once, 1), 2), 1);
    expect(evaluateDim(twice, new Map([["n", 224]]))).toBe(56);
  });

  test("are one division", () => {
    expect(parseDim("((n-1)//2)//3")).toBe(floorDivide("n-1", 6));
  });

  test("are one division in what is left of a multiple", () => {
    expect(floorDivide(multiplyDims(3, floorDivide("n", 2)), 2)).toBe("n//2+n//4");
  });
});

describe("evaluating", () => {
  test("names the symbols that have no value", () => {
    const attempt = () => evaluateDim("n*batch+m", new Map([["n", 2]]));
    expect(attempt).toThrow(OpError);
    expect(attempt).toThrow("dimension n*batch+m needs a value for batch, m");
  });
});

describe("text that is no dimension", () => {
  test.each([
    "",
    " ",
    "+",
    "n+",
    "*n",
    "n**2",
    "n 2",
    "2n",
    "(n",
    "n)",
    "()",
    "n//",
    "n//0",
    "n//-1",
    "n//m",
    "n//2//3",
    "n/2",
    "1.5",
    "1e3",
    "n.m",
    "-",
    "--n",
    "n,m",
    "é",
    "n-\u0000",
    "9007199254740993",
    "f(n)",
    "__proto__()",
    `${"(".repeat(17)}n${")".repeat(17)}`,
    "n+".repeat(300),
  ])("%j is refused as bad-dimension", (text) => {
    expect(() => parseDim(text)).toThrow(OpError);
    try {
      parseDim(text);
    } catch (error) {
      expect((error as OpError).code).toBe("bad-dimension");
      expect((error as OpError).message.length).toBeLessThan(120);
    }
  });

  test.each(["__proto__", "constructor", "toString"])("%s is an ordinary symbol", (name) => {
    expect(parseDim(`${name}+1`)).toBe(`${name}+1`);
    expect(evaluateDim(name, new Map([[name, 4]]))).toBe(4);
  });

  test("is refused with nothing but an OpError, whatever it is", () => {
    const piece = fc.constantFrom("n", "m", "(", ")", "+", "-", "*", "//", "2", "0", "17", " ", "_", "é");
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 12 }).map((list) => list.join("")),
        ),
        (text) => {
          try {
            const dim = parseDim(text);
            expect(reread(dim)).toBe(plain(dim));
          } catch (error) {
            expect(error).toBeInstanceOf(OpError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("coefficients that are no exact integers are refused", () => {
    expect(() => parseDim("9007199254740991*9007199254740991*n")).toThrow(OpError);
  });

  test("products that multiply out to thousands of terms are refused", () => {
    const factors = Array.from({ length: 14 }, (_, i) => `(a${i}+b${i})`);
    expect(() => parseDim(factors.join("*"))).toThrow(OpError);
  });

  test("text whose canonical form is too long to read back is refused", () => {
    let text = "n";
    for (let level = 0; level < 16; level++) text = `(3*${text}+m)//2+k`;
    expect(() => parseDim(text)).toThrow(OpError);
  });

  test("arithmetic that would give such a text is refused too", () => {
    const grown = (step: (dim: Dim) => Dim) => () => {
      let dim: Dim = "n";
      for (let i = 0; i < 600; i++) {
        dim = step(dim);
        expect(reread(dim)).toBe(dim);
      }
    };
    expect(grown((dim) => floorDivide(addDims(dim, "m"), 2))).toThrow("a division within 16 others");
    expect(grown((dim) => multiplyDims(dim, "n"))).toThrow("a product of more than 64 factors");
    expect(grown((dim) => multiplyDims(dim, "m+1"))).toThrow("a dimension of 57 terms and 4018 characters");
    expect(grown((dim) => multiplyDims(dim, "m+k+j+1"))).toThrow(OpError);
    let names = 0;
    expect(grown((dim) => addDims(dim, `s${names++}`))).toThrow("a dimension of 513 terms grew too long");
  });
});
