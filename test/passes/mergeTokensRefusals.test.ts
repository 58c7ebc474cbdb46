// What mergeTokens refuses, with the reason and at the author's line, beside the same model without the fault.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  add,
  amax,
  apply,
  concat,
  cumsum,
  einsum,
  expand,
  gather,
  gelu,
  input,
  type ModelDefinition,
  matmul,
  mean,
  mul,
  nn,
  pad,
  parameter,
  reshape,
  scope,
  sigmoid,
  slice,
  softmax,
  type Tensor,
  take,
  topK,
  traceModel,
  transpose,
} from "../../src/dsl/index.ts";
import { fileLoc, type Loc } from "../../src/ir/diagnostic.ts";
import type { Value } from "../../src/ir/graph.ts";
import type { Composite } from "../../src/ir/op.ts";
import { builtinOps } from "../../src/ir/ops/index.ts";
import { printGraph } from "../../src/ir/print.ts";
import { registryWith } from "../../src/ir/registry.ts";
import { llama } from "../../src/models/index.ts";
import { decompose } from "../../src/passes/decompose.ts";
import { findBlocks } from "../../src/passes/mergeTokens/blocks.ts";
import { type MergeTokensOptions, mergeTokens } from "../../src/passes/mergeTokens/mergeTokens.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { countOf, merge, refusal } from "./mergeTokensModels.ts";

type Tokens = Tensor<"f32", nn.Rank3>;
type Heads = Tensor<"f32", nn.Rank4>;

const [tokens, dim, heads] = [16, 8, 2];

// The author's lines: a comment marks each line that a refusal must name.

const here = fileURLToPath(import.meta.url);
const marked = (file: string, mark: string): string => {
  const lines = readFileSync(file, "utf8").split("\n");
  const found = lines.flatMap((text, i) => (text.endsWith(mark) ? [`${file}:${i + 1}`] : []));
  if (found.length !== 1) throw new Error(`${found.length} lines of ${file} hold ${mark}`);
  return found[0] ?? "";
};
const authorLine = (fault: string): string => marked(here, `/${"/"} at: ${fault}`);
const lineOf = (loc: Loc): string => {
  const file = fileLoc(loc);
  return file === undefined ? "nowhere" : `${file.file}:${file.line}`;
};

// Blocks of the author, whole or with one fault

const project = (name: string, x: Tokens): Heads => nn.splitHeads(nn.linear(name, x, { out: dim }), heads);
const joined = (mixed: Heads): Tokens => nn.linear("o", nn.mergeHeads(mixed), { out: dim });
const norm = (name: string, x: Tokens): Tokens => nn.layerNorm(name, x);
const mlp = (x: Tokens): Tokens => nn.linear("down", gelu(nn.linear("up", x, { out: 2 * dim })), { out: dim });
const selfAttention = (x: Tokens, options: nn.AttendOptions<"f32"> = {}): Tokens =>
  joined(nn.attention(project("q", x), project("k", x), project("v", x), options));

/** x + attend(norm(x)), then that + mlp(norm(that)). */
function block(x: Tokens, attend: (normed: Tokens) => Tokens = selfAttention): Tokens {
  const attended = add(x, attend(norm("norm1", x)));
  return add(attended, mlp(norm("norm2", attended)));
}
/** A second block after a first one that merges. */
const blockAfter = (x: Tokens, attend?: (normed: Tokens) => Tokens): Tokens =>
  scope("second", () =>
    block(
      scope("first", () => block(x)),
      attend,
    ),
  );

/** Builds on tokens; `faulty` puts the fault in. */
type Build = (x: Tokens, faulty: boolean) => Tensor;

function modelOf(build: Build, faulty: boolean): ModelDefinition {
  return {
    kind: "model",
    name: "author",
    options: {},
    build: () => ({ y: build(input("x", "f32", ["batch", tokens, dim]), faulty) }),
  };
}

const mask = (): Heads => expand(parameter("bias", [1, 1, tokens, tokens]), [1, 1, tokens, tokens]);
const allowed = () => input("allowed", "bool", [1, 1, tokens, tokens]);
const classToken = (x: Tokens): Tokens => concat([expand(parameter("class", [1, 1, dim]), [x.dim(0), 1, dim]), x], 1);
const windowsOf = (x: Heads): Heads => reshape(x, [-1, heads, tokens / 4, dim / heads]);

interface Fault {
  readonly build: Build;
  readonly reason: RegExp;
  readonly options?: MergeTokensOptions;
  readonly help?: RegExp;
}

/** Faults of a block itself: no block is left to merge in. */
const blockFaults: Readonly<Record<string, Fault>> = {
  "causal attention": {
    reason: /causal/,
    build: (x, causal) =>
      block(x, (y) => joined(nn.attention(project("q", y), project("k", y), project("v", y), { causal }))), // at: causal attention
  },
  "a post-norm block": {
    reason: /post-norm/,
    build: (x, faulty) => {
      if (!faulty) return block(x);
      const mixed = nn.attention(project("q", x), project("k", x), project("v", x)); // at: a post-norm block
      const attended = norm("norm1", add(x, joined(mixed)));
      return norm("norm2", add(attended, mlp(attended)));
    },
  },
  "queries and keys without a norm": {
    reason: /without a normalization|not a pre-norm block/,
    build: (x, faulty) => {
      if (!faulty) return block(x);
      const attended = add(x, joined(nn.attention(project("q", x), project("k", x), project("v", x)))); // at: queries and keys without a norm
      return add(attended, mlp(attended));
    },
  },
  "cross-attention to other tokens": {
    reason: /cross-attention/,
    build: (x, faulty) =>
      block(x, (y) => {
        const other: Tokens = faulty ? input("context", "f32", ["batch", 5, dim]) : y;
        return joined(nn.attention(project("q", y), project("k", other), project("v", other))); // at: cross-attention to other tokens
      }),
  },
  "cross-attention to as many tokens": {
    reason: /do not all come from the residual stream/,
    build: (x, faulty) =>
      block(x, (y) => {
        const other: Tokens = faulty ? norm("context", input("context", "f32", ["batch", tokens, dim])) : y;
        return joined(nn.attention(project("q", y), project("k", other), project("v", other))); // at: cross-attention to as many tokens
      }),
  },
  "attention within a distance": {
    reason: /window/,
    build: (x, faulty) =>
      block(x, (y) => {
        const near = faulty ? { left: 2, right: 2 } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), near)); // at: attention within a distance
      }),
  },
  "attention to keys on the left": {
    reason: /window/,
    build: (x, faulty) =>
      block(x, (y) => {
        const near = faulty ? { left: 3 } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), near)); // at: attention to keys on the left
      }),
  },
  "windows cut out of the tokens": {
    reason: /not \[batch, tokens, channels\]/,
    build: (x, faulty) =>
      block(x, (y) => {
        const [q, k, v] = [project("q", y), project("k", y), project("v", y)];
        if (!faulty) return joined(nn.attention(q, k, v));
        const mixed = nn.attention(windowsOf(q), windowsOf(k), windowsOf(v)); // at: windows cut out of the tokens
        return joined(reshape(mixed, q.shape));
      }),
  },
  "attention behind cached keys": {
    reason: /cached keys/,
    build: (x, faulty) =>
      block(x, (y) => {
        const past = faulty ? 4 : 0;
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), { past })); // at: attention behind cached keys
      }),
  },
  "masked attention": {
    reason: /mask or bias/,
    build: (x, faulty) =>
      block(x, (y) => {
        const some = faulty ? { mask: allowed() } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), some)); // at: masked attention
      }),
  },
  "attention with a relative bias": {
    reason: /mask or bias/,
    build: (x, faulty) =>
      block(x, (y) => {
        const relative = faulty ? { bias: mask() } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), relative)); // at: attention with a relative bias
      }),
  },
  "attention whose keys have sizes": {
    reason: /merged already/,
    build: (x, faulty) =>
      block(x, (y) => {
        const sized = faulty ? { logSize: input("sizes", "f32", ["batch", tokens]) } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), sized)); // at: attention whose keys have sizes
      }),
  },
  "an attention result read twice": {
    reason: /read in 2 places/,
    build: (x, faulty) =>
      block(x, (y) => {
        const mixed = nn.attention(project("q", y), project("k", y), project("v", y)); // at: an attention result read twice
        return faulty
          ? mul(joined(mixed), sigmoid(nn.linear("gate", nn.mergeHeads(mixed), { out: dim })))
          : joined(mixed);
      }),
  },
  "a branch gated by the tokens": {
    reason: /ends in mul/,
    build: (x, faulty) =>
      block(x, (y) => {
        const mixed = nn.attention(project("q", y), project("k", y), project("v", y)); // at: a branch gated by the tokens
        return faulty ? mul(joined(mixed), sigmoid(y)) : joined(mixed);
      }),
  },
  "attention without a residual": {
    reason: /instead of a residual addition/,
    build: (x, faulty) => {
      const y = norm("norm1", x);
      const mixed = joined(nn.attention(project("q", y), project("k", y), project("v", y))); // at: attention without a residual
      return faulty ? gather(mixed, input("which", "i32", [3]), 1) : add(x, mixed);
    },
  },
  "keys from a norm of their own": {
    reason: /different normalizations/,
    build: (x, faulty) => {
      const [y, z] = [norm("norm1", x), norm(faulty ? "norm2" : "norm1", x)];
      const mixed = nn.attention(project("q", y), project("k", z), project("v", y)); // at: keys from a norm of their own
      return add(x, joined(mixed));
    },
  },
  "attention and MLP side by side in one sum": {
    reason: /do not all come from the residual stream/,
    build: (x, faulty) => {
      const y = norm("norm1", x);
      const mixed = joined(nn.attention(project("q", y), project("k", y), project("v", y))); // at: attention and MLP side by side in one sum
      return faulty ? add(x, add(mixed, mlp(y))) : add(x, mixed);
    },
  },
};

describe.each(Object.entries(blockFaults))("%s", (fault, { build, reason }) => {
  test("is refused with the reason, at the attention's line", () => {
    const found = refusal(modelOf(build, true));
    expect([found.code, found.severity]).toEqual(["pattern-not-found", "error"]);
    expect(found.notes.map((note) => lineOf(note.loc))).toEqual([authorLine(fault)]);
    expect(lineOf(found.loc)).toBe(authorLine(fault));
    expect(found.notes[0]?.message).toMatch(reason);
  });
  test("is what is refused: the same model without it merges", () => {
    const { fired, refused, after } = merge(modelOf(build, false), { r: 2 });
    expect([fired.length, refused.length, countOf(after, "tokenMatch")]).toEqual([1, 0, 1]);
  });
});

/** Faults behind a block that merges: its tokens cannot be followed to the end. */
const streamFaults: Readonly<Record<string, Fault>> = {
  "an MLP that reads the tokens from before the merge": {
    reason: /fixed size along the tokens/,
    build: (x, faulty) => {
      const y = norm("norm1", x);
      const attended = add(x, selfAttention(y));
      const branch = mlp(faulty ? y : norm("norm2", attended));
      return add(attended, branch); // at: an MLP that reads the tokens from before the merge
    },
  },
  "positions added after merging": {
    reason: /fixed size along the tokens/,
    help: /table by position/,
    build: (x, faulty) => {
      const positions = expand(parameter("positions", [1, tokens, dim]), x.shape);
      if (!faulty) return block(add(x, positions));
      return add(block(x), positions); // at: positions added after merging
    },
  },
  "a skip from before the merge": {
    reason: /fixed size along the tokens/,
    build: (x, faulty) => {
      const y = block(x);
      return add(y, faulty ? x : gelu(y)); // at: a skip from before the merge
    },
  },
  "a skip between two merges": {
    reason: /lost different tokens/,
    build: (x, faulty) => {
      const y = scope("first", () => block(x));
      const z = scope("second", () => block(y));
      return add(z, faulty ? y : gelu(z)); // at: a skip between two merges
    },
  },
  "channels of two stages side by side": {
    reason: /lost different tokens/,
    build: (x, faulty) => {
      const y = scope("first", () => block(x));
      const z = scope("second", () => block(y));
      return mean(concat([z, faulty ? y : gelu(z)], 2), 1); // at: channels of two stages side by side
    },
  },
  "a convolution on the grid of tokens": {
    reason: /grid/,
    build: (x, faulty) => {
      const y = faulty ? block(x) : x;
      const channels = transpose(y, [0, 2, 1]);
      const grid = reshape(channels, [x.dim(0), dim, 4, 4]); // at: a convolution on the grid of tokens
      const convolved = nn.conv2d("depthwise", grid, { out: dim, kernel: 3, padding: 1, groups: dim });
      const z: Tokens = transpose(reshape(convolved, [x.dim(0), dim, tokens]), [0, 2, 1]);
      return faulty ? z : block(z);
    },
  },
  "a slice of a token that is not protected": {
    reason: /reads tokens 0 to 0 by position, but only the first 0 stay in place/,
    help: /protect=1/,
    build: (x, faulty) => {
      const y = block(faulty ? x : classToken(x));
      return slice(y, { axis: 1, start: 0, end: 1 }); // at: a slice of a token that is not protected
    },
  },
  "a read-out of the last token": {
    reason: /by position/,
    build: (x, faulty) => {
      const y = block(classToken(x));
      return take(y, faulty ? tokens : 0, 1); // at: a read-out of the last token
    },
  },
  "every second token": {
    reason: /by position/,
    build: (x, faulty) => {
      const y = block(x);
      return mean(slice(y, { axis: 1, step: faulty ? 2 : 1 }), 1); // at: every second token
    },
  },
  "the patches behind more tokens than are protected": {
    reason: /drops the first 2 tokens/,
    help: /protect=2/,
    build: (x, faulty) => {
      const y = block(classToken(x));
      return mean(slice(y, { axis: 1, start: faulty ? 2 : 1 }), 1); // at: the patches behind more tokens than are protected
    },
  },
  "tokens joined after merging": {
    reason: /further tokens are joined/,
    help: /merge after they join/,
    build: (x, faulty) => {
      if (!faulty) return take(block(classToken(x)), 0, 1);
      const more = expand(parameter("class", [1, 1, dim]), [x.dim(0), 1, dim]);
      return take(concat([more, block(x)], 1), 0, 1); // at: tokens joined after merging
    },
  },
  "tokens picked by index": {
    reason: /picks tokens by position/,
    build: (x, faulty) => {
      const which = input("which", "i32", [3]);
      return gather(block(x), which, faulty ? 1 : 2); // at: tokens picked by index
    },
  },
  "a running sum along the tokens": {
    reason: /runs along tokens by position/,
    build: (x, faulty) => {
      const y = block(x);
      return cumsum(y, faulty ? 1 : 2); // at: a running sum along the tokens
    },
  },
  "the largest of the tokens": {
    reason: /no weighted form/,
    build: (x, faulty) => {
      const y = block(x);
      return amax(y, faulty ? 1 : 2, true); // at: the largest of the tokens
    },
  },
  "tokens weighed by a softmax over them": {
    reason: /no weighted form/,
    build: (x, faulty) => {
      const y = block(x);
      return softmax(y, faulty ? 1 : 2); // at: tokens weighed by a softmax over them
    },
  },
  "tokens normalised along themselves": {
    reason: /l2Normalize mixes tokens/,
    build: (x, faulty) => {
      const y = block(x);
      return mean(faulty ? normalisedOverTokens(y) : y, 1);
    },
  },
  "the best tokens": {
    reason: /orders tokens by position/,
    build: (x, faulty) => {
      const y = block(x);
      const best = topK(y, 2, faulty ? 1 : 2).values; // at: the best tokens
      return best;
    },
  },
  "a mixer along the tokens": {
    reason: /by their position|fixed size/,
    build: (x, faulty) => {
      const y = transpose(block(x), [0, 2, 1]);
      if (!faulty) return mean(transpose(y, [0, 2, 1]), 1);
      return matmul(y, parameter("mix", [tokens, 4])); // at: a mixer along the tokens
    },
  },
  "weights of each token's own": {
    reason: /tensor of fixed size along them/,
    build: (x, faulty) => {
      const y = block(x);
      if (!faulty) return mean(einsum("btc,co->bto", y, parameter("shared", [dim, dim])) as Tokens, 1);
      return einsum("btc,tco->bto", y, parameter("own", [tokens, dim, dim])); // at: weights of each token's own
    },
  },
  "channels compared with channels over the tokens": {
    reason: /by their position/,
    build: (x, faulty) => {
      const y = block(x);
      if (!faulty) return mean(y, 1);
      return matmul(transpose(y, [0, 2, 1]), y); // at: channels compared with channels over the tokens
    },
  },
  "tokens against as many of another stream": {
    reason: /compares tokens with tokens/,
    build: (x, faulty) => {
      const [y, z] = ["first", "second"].map((name) => scope(name, () => block(x))) as [Tokens, Tokens];
      if (!faulty) return add(mean(y, 1), mean(z, 1));
      return matmul(y, transpose(z, [0, 2, 1])); // at: tokens against as many of another stream
    },
  },
  "a sum over the tokens of two streams": {
    reason: /by their position|fixed size/,
    build: (x, faulty) => {
      const [y, z] = ["first", "second"].map((name) => scope(name, () => block(x))) as [Tokens, Tokens];
      if (!faulty) return add(mean(y, 1), mean(z, 1));
      return matmul(transpose(y, [0, 2, 1]), z); // at: a sum over the tokens of two streams
    },
  },
  "keys of one stream with the values of another": {
    reason: /keys and values have lost different tokens/,
    build: (x, faulty) => {
      const [y, z] = ["first", "second"].map((name) => scope(name, () => block(x))) as [Tokens, Tokens];
      const query = project("q", input("query", "f32", ["batch", 3, dim]));
      const values = project("v", faulty ? z : y);
      const read = nn.attention(query, project("k", y), values); // at: keys of one stream with the values of another
      return faulty ? joined(read) : add(mean(joined(read), 1), mean(z, 1));
    },
  },
  "attention across the channels after a merge": {
    reason: /does not find its tokens on axis 2/,
    build: (x, faulty) => {
      const y = block(x);
      const [q, k, v] = ["q2", "k2", "v2"].map((name) => project(name, y)) as [Heads, Heads, Heads];
      if (!faulty) return mean(add(y, joined(nn.attention(q, k, v))), 1);
      const across = (h: Heads): Heads => transpose(h, [0, 1, 3, 2]);
      const mixed = nn.attention(across(q), across(k), across(v), { scale: 1 }); // at: attention across the channels after a merge
      return mean(add(y, joined(across(mixed))), 1);
    },
  },
  "padding behind the tokens": {
    reason: /pad adds tokens/,
    build: (x, faulty) => {
      const amounts = [0, faulty ? 2 : 0, 1].map((high) => [0, high] as const);
      const y = block(x);
      return mean(pad(y, amounts), 1, true); // at: padding behind the tokens
    },
  },
  "tokens turned round": {
    reason: /turns tokens round/,
    build: (x, faulty) => {
      const y = block(x);
      const [turned] = apply("reverse", [y], { axes: [faulty ? 1 : 2] }); // at: tokens turned round
      return mean(turned as Tokens, 1);
    },
  },
  "tokens compared with tokens": {
    reason: /compares tokens with tokens/,
    build: (x, faulty) => {
      const y = block(x);
      if (!faulty) return mean(y, 1);
      return matmul(y, transpose(y, [0, 2, 1])); // at: tokens compared with tokens
    },
  },
  "causal attention after a merge": {
    reason: /causal/,
    build: (x, causal) =>
      blockAfter(x, (y) => joined(nn.attention(project("q", y), project("k", y), project("v", y), { causal }))), // at: causal attention after a merge
  },
  "a relative bias after a merge": {
    reason: /mask or bias/,
    build: (x, faulty) =>
      blockAfter(x, (y) => {
        const relative = faulty ? { bias: mask() } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), relative)); // at: a relative bias after a merge
      }),
  },
  "attention within a distance after a merge": {
    reason: /window|distance/,
    build: (x, faulty) =>
      blockAfter(x, (y) => {
        const near = faulty ? { left: 2, right: 2 } : {};
        return joined(nn.attention(project("q", y), project("k", y), project("v", y), near)); // at: attention within a distance after a merge
      }),
  },
  "rotation by position after a merge": {
    reason: /fixed size along the tokens/,
    build: (x, faulty) => {
      const [cos, sin] = [parameter("cos", [tokens, 2]), parameter("sin", [tokens, 2])];
      return blockAfter(x, (y) => {
        const [q, k, v] = [project("q", y), project("k", y), project("v", y)];
        if (!faulty) return joined(nn.attention(q, k, v));
        const turned = nn.rotaryEmbedding(q, cos, sin); // at: rotation by position after a merge
        return joined(nn.attention(turned, k, v));
      });
    },
  },
};

/** Each token's channel over its length along the tokens. */
function normalisedOverTokens(x: Tokens): Tokens {
  const [unit] = apply("l2Normalize", [x], { axis: 1 }); // at: tokens normalised along themselves
  return unit as Tokens;
}

describe.each(Object.entries(streamFaults))("%s", (fault, { build, reason, help, options = { r: 2 } }) => {
  test("is refused with the reason, at its line", () => {
    const found = refusal(modelOf(build, true), options);
    expect([found.code, found.severity]).toEqual(["cannot-merge", "error"]);
    expect(found.message).toMatch(reason);
    expect(lineOf(found.loc)).toBe(authorLine(fault));
    if (help !== undefined) expect(found.help).toMatch(help);
  });
  test("is what is refused: the same model without it merges", () => {
    const { fired, after } = merge(modelOf(build, false), options);
    expect(fired.length).toBeGreaterThan(0);
    expect(fired.length).toBe(countOf(after, "tokenMatch"));
  });
});

describe("a graph without a block to merge in", () => {
  test("is refused with every attention's reason as a note, in order", () => {
    const faults = [
      "masked attention",
      "a post-norm block",
      "attention within a distance",
      "an attention result read twice",
    ];
    const several: Build = (x) =>
      faults.reduce<Tokens>((y, fault, i) => scope(`part.${i}`, () => blockFaults[fault]?.build(y, true) as Tokens), x);
    const found = refusal(modelOf(several, true));
    expect(found.code).toBe("pattern-not-found");
    expect(found.message).toBe(
      "mergeTokens found nothing to rewrite: it looks for pre-norm self-attention blocks, x + f(attention(norm(x)))",
    );
    expect(found.notes.map((note) => lineOf(note.loc))).toEqual(faults.map(authorLine));
    faults.forEach((fault, i) => expect(found.notes[i]?.message).toMatch(blockFaults[fault]?.reason ?? /never/));
  });

  test("such as a LLaMA, is refused because every attention is causal, at the model's line", () => {
    const found = refusal(llama({ vocabulary: 11, dim: 8, depth: 3, heads: 2, keyHeads: 2, hidden: 12 }));
    const file = fileURLToPath(new URL("../../src/models/llama.ts", import.meta.url));
    const line = marked(file, "{ causal: true });");
    expect(found.code).toBe("pattern-not-found");
    expect(found.notes.map((note) => [lineOf(note.loc), /causal/.test(note.message)])).toEqual([
      [line, true],
      [line, true],
      [line, true],
    ]);
  });

  test("is told that it has no attention, where it has none", () => {
    const found = refusal(modelOf((x) => mean(mlp(x), 1), false));
    expect([found.code, found.help, found.notes]).toEqual(["pattern-not-found", "the graph has no attention op", []]);
  });
});

describe("a graph with some blocks to merge in", () => {
  const masked: Build = (x, faulty) =>
    scope("second", () => block(scope("first", () => blockFaults["masked attention"]?.build(x, faulty) as Tokens)));

  test("merges in those and reports the others with their reason and line", () => {
    const { fired, refused, after } = merge(modelOf(masked, true), { r: 2 });
    expect([fired.length, refused.length, countOf(after, "tokenMatch")]).toEqual([1, 1, 1]);
    expect(lineOf(refused[0]?.loc ?? { kind: "unknown" })).toBe(authorLine("masked attention"));
    expect(refused[0]?.refused).toMatch(/mask or bias/);
    expect(lineOf(fired[0]?.loc ?? { kind: "unknown" })).toBe(
      lineOf(findBlocks(after).blocks[0]?.attention.locs[0] ?? { kind: "unknown" }),
    );
  });
  test("merges in all without the fault", () => {
    const { fired, refused } = merge(modelOf(masked, false), { r: 2 });
    expect([fired.length, refused.length]).toEqual([2, 0]);
  });
});

describe("merging twice", () => {
  const twoBlocks = modelOf((x) => mean(blockAfter(x), 1), false);
  test.each([{}, { proportional: false }, { track: true }])(
    "is refused with a reason, first merged with %o",
    (options) => {
      const once = merge(twoBlocks, { r: 2, ...options }).after;
      const found = refusal(once, { r: 2 });
      expect(["cannot-merge", "pattern-not-found"]).toContain(found.code);
      expect(lineOf(found.loc)).toMatch(/mergeTokensRefusals\.test\.ts:\d+$/);
      expect([found.message, ...found.notes.map((note) => note.message)].join("\n")).toMatch(/merged already/);
    },
  );
});

describe("composites of the user", () => {
  const meanOverTokens: Composite<[x: Value]> = {
    kind: "composite",
    summary: "mean over axis 1",
    source: "this test",
    operands: ["x"],
    attrs: {},
    infer: ([x]) => [{ dtype: "f32", shape: (x?.shape ?? []).toSpliced(1, 1) }],
    decompose: (b, [x]) => b.reduceMean(x, { axes: [1] }),
  };
  const doubleSwish: Composite<[x: Value]> = {
    ...meanOverTokens,
    infer: ([x]) => [x ?? { dtype: "f32", shape: [] }],
    decompose: (b, [x]) => b.silu(b.silu(x)),
  };
  const registry = registryWith([
    ["meanOverTokens", meanOverTokens],
    ["doubleSwish", doubleSwish],
  ]);
  const using = (op: string) =>
    modelOf((x) => {
      const [y] = apply(op, [block(x)]); // at: composites of the user
      return y as Tokens;
    }, false);

  test("that treat every token alike stay whole", () => {
    const { after } = merge(using("doubleSwish"), { r: 2 }, registry);
    expect([countOf(after, "doubleSwish"), countOf(after, "tokenMatch")]).toEqual([1, 1]);
  });
  test("that mix tokens, as if each stood for one patch, are refused at their line", () => {
    const found = refusal(using("meanOverTokens"), { r: 2 }, registry);
    expect([found.code, found.help]).toEqual(["cannot-merge", "write it out with decompose before merging"]);
    expect(lineOf(found.loc)).toBe(authorLine("composites of the user"));
  });
  test("that mix tokens merge as the plain mean does once they are written out", () => {
    const graph = traceModel(using("meanOverTokens"), { registry });
    const plain = modelOf((x) => mean(block(x), 1), false);
    const passes = [decompose(new Set(builtinOps.keys())), mergeTokens({ r: 2 })];
    const { model } = runPasses({ graph, weights: new Map() }, passes, { registry });
    expect(printGraph(model.graph)).toBe(printGraph(merge(plain, { r: 2 }).after));
  });
});

describe("outputs", () => {
  const outputs = (build: (x: Tokens) => Readonly<Record<string, Tensor>>): ModelDefinition => ({
    kind: "model",
    name: "author",
    options: {},
    build: () => build(input("x", "f32", ["batch", tokens, dim])),
  });

  test.each([
    ["heads", (x: Tokens) => project("late", x)], // at: tokens on axis 2
    ["pairs of channels", (x: Tokens) => reshape(x, [x.dim(0), tokens * 2, dim / 2])],
    ["tokens of all sequences in one axis", (x: Tokens) => reshape(x, [-1, dim])],
    ["channels first", (x: Tokens) => transpose(x, [0, 2, 1])],
    ["tokens first", (x: Tokens) => transpose(x, [1, 0, 2])],
    ["channels, tokens, sequences", (x: Tokens) => transpose(x, [2, 1, 0])],
  ])("that hold tokens as %s cannot be restored and are refused by name", (_, lay) => {
    const found = refusal(
      outputs((x) => ({ first: mean(block(x), 1), second: lay(block(x)) })),
      { r: 2 },
    );
    expect(found.code).toBe("cannot-merge");
    expect(found.message).toMatch(/output second/);
    expect(lineOf(found.loc)).toMatch(/mergeTokensRefusals\.test\.ts:\d+$/);
  });
  test("that hold tokens as [batch, tokens, channels] are restored", () => {
    const { after } = merge(
      outputs((x) => ({ first: mean(block(x), 1), second: block(x) })),
      { r: 2 },
    );
    expect(after.outputs.map((o) => o.value.type.shape)).toEqual([
      ["batch", dim],
      ["batch", tokens, dim],
    ]);
  });
});
