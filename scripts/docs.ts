// `npm run docs` writes docs/ops.md and docs/passes.md from the op table and the pass registry; `--check` only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { formatAttr } from "../src/ir/attrs.ts";
import type { AnyOp, AttrSpec } from "../src/ir/op.ts";
import * as contraction from "../src/ir/ops/contraction.ts";
import * as elementwise from "../src/ir/ops/elementwise.ts";
import * as gather from "../src/ir/ops/gather.ts";
import { builtinOps } from "../src/ir/ops/index.ts";
import * as nn from "../src/ir/ops/nn.ts";
import * as reduce from "../src/ir/ops/reduce.ts";
import * as shape from "../src/ir/ops/shape.ts";
import * as tokens from "../src/ir/ops/tokens.ts";
import * as window from "../src/ir/ops/window.ts";
import type { OptionSpec, PassEntry, PassOptionValue } from "../src/passes/index.ts";
import { passes } from "../src/passes/index.ts";
import { allTraits, type Contract, graphTraits, type Pass } from "../src/passes/pass.ts";

/** Title of each family of ops; a family is a file of src/ir/ops. */
const families: readonly (readonly [title: string, ops: Readonly<Record<string, unknown>>])[] = [
  ["Elementwise", elementwise],
  ["Reductions and scans", reduce],
  ["Shape", shape],
  ["Contractions", contraction],
  ["Gathers, scatters and order", gather],
  ["Windows", window],
  ["Layers", nn],
  ["Tokens", tokens],
];

const generated =
  "<!-- Written by `npm run docs` (scripts/docs.ts); a test compares. Change the source, not this page. -->";

/** Text in a cell of a table. */
const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replaceAll("\n", " ");
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows.map((row) => row.map(cell))].map((row) => `| ${row.join(" | ")} |`).join("\n");

export function opsPage(): string {
  const known = new Set<string>();
  const parts = families.map(([title, family]) => {
    const names = Object.keys(family).sort(); // loaders differ in their order
    const ops = names.flatMap((name): (readonly [string, AnyOp])[] => {
      const op = builtinOps.get(name);
      return op === undefined || op !== family[name] ? [] : [[name, op]];
    });
    for (const [name] of ops) known.add(name);
    return familyPart(title, ops);
  });
  const missing = [...builtinOps.keys()].filter((name) => !known.has(name));
  if (missing.length > 0) throw new Error(`ops of no family in scripts/docs.ts: ${missing.join(", ")}`);
  const kinds = (kind: AnyOp["kind"]) => [...builtinOps.values()].filter((op) => op.kind === kind).length;
  return `# Ops

${generated}

The ${builtinOps.size} ops of the IR, by family. A **structured** op (${kinds("structured")}) is one loop nest: its form says how a result
element comes from operand elements, and that form is what the reference interpreter runs. A **routine** (${kinds("routine")}) has
no loop nest; its meaning is a function over whole tensors. A **composite** (${kinds("composite")}) is defined by other ops, and is
written out with them where a backend has no operator for it. An operand that ends in \`...\` stands for all that are
left, possibly none. [ir.md](ir.md) explains types, dimensions and text.

${parts.join("\n\n")}
`;
}

function familyPart(title: string, ops: readonly (readonly [string, AnyOp])[]): string {
  const rows = ops.map(([name, op]) => [
    `\`${name}\``,
    op.kind === "structured" ? op.form.kind : op.kind,
    op.operands.map((operand) => `\`${operand}\``).join(" "),
    op.summary,
    op.source,
  ]);
  const attrs = ops.flatMap(([name, op]) =>
    Object.entries(op.attrs as Readonly<Record<string, AttrSpec>>).map(([attr, spec]) => [
      `\`${name}\``,
      `\`${attr}\``,
      typeof spec.kind === "string" ? spec.kind : spec.kind.map((word) => `\`${word}\``).join(" "),
      spec.default === undefined ? "required" : `\`${formatAttr(spec.default)}\``,
      spec.doc ?? "",
    ]),
  );
  const attributes = attrs.length === 0 ? "" : `\n\n${table(["op", "attribute", "kind", "default", "meaning"], attrs)}`;
  return `## ${title}\n\n${table(["op", "form", "operands", "meaning", "source"], rows)}${attributes}`;
}

const promises: Readonly<Record<Contract, string>> = {
  exact: "equal results in exact arithmetic, term by term",
  reassociates: "equal results up to the order of floating-point operations",
  approximate: "other results on purpose, over the same inputs and outputs",
  constructs: "another graph with inputs or outputs of its own",
};

export function passesPage(): string {
  const promised = Object.entries(promises).map(([contract, promise]) => `- **${contract}**: ${promise}`);
  return `# Passes

${generated}

Passes that \`--pass NAME:option=value,...\` can name; they run in the order given. Each promises one of

${promised.join("\n")}

A pass may require what every graph has from the start and another pass does not preserve:

${Object.entries(graphTraits)
  .map(([trait, meaning]) => `- \`${trait}\`: ${meaning}`)
  .join("\n")}

Behind a pass that changed the graph and did not preserve it, it is refused ([pass-order](errors.md#pass-order)).
[passes-pairs.md](passes-pairs.md) shows what comes of every two passes.

The example of a pass is its first test: the graph before, run through the pass with the options stated, gives the
graph after, and both are verified.

${[...passes.values()].map(passPart).join("\n\n")}
`;
}

function passPart(entry: PassEntry): string {
  const { name, summary, contract, source, options, others, exampleOptions } = entry;
  const pass = entry.make(exampleOptions);
  const { before, after } = pass.example;
  const rows = Object.entries(options).map(([key, spec]) => [`\`${key}\``, ...optionCells(spec)]);
  if (others !== undefined) rows.push(["any other name", ...optionCells({ ...others, optional: true })]);
  const given = Object.entries(exampleOptions).map(([key, value]) => `${key}=${optionText(value)}`);
  const spec = given.length === 0 ? name : `${name}:${given.join(",")}`;
  return `## ${name}

${summary.slice(0, 1).toUpperCase()}${summary.slice(1)}. Contract: **${contract}**.${source === undefined ? "" : ` Source: ${source}.`}
${rows.length === 0 ? "" : `\n${table(["option", "kind", "default", "meaning"], rows)}\n`}
${traitsText(pass)}

Before:

\`\`\`
${before.trim()}
\`\`\`

After \`--pass ${spec}\`:

\`\`\`
${after.trim()}
\`\`\``;
}

function traitsText({ requires = [], preserves = allTraits }: Pass): string {
  const lost = allTraits.filter((trait) => !preserves.includes(trait));
  const listed = (traits: readonly string[]): string => traits.map((trait) => `\`${trait}\``).join(", ");
  return `Requires: ${listed(requires) || "nothing"}. Preserves: everything${lost.length === 0 ? "" : ` but ${listed(lost)}`}.`;
}

function optionCells({ kind, default: standard, optional, choices, doc }: OptionSpec): readonly string[] {
  const kinds = typeof kind === "string" ? kind : kind.join(" or ");
  const words = choices === undefined ? kinds : choices.map((word) => `\`${word}\``).join(" ");
  return [words, standard === undefined ? (optional ? "none" : "required") : `\`${optionText(standard)}\``, doc];
}

function optionText(value: PassOptionValue): string {
  if (Array.isArray(value)) return `[${value.join(",")}]`;
  return typeof value === "object" && "tuple" in value ? `(${value.tuple.join(",")})` : String(value);
}

const pages = { "docs/ops.md": opsPage, "docs/passes.md": passesPage } as const;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const check = process.argv.includes("--check");
  for (const [path, page] of Object.entries(pages)) {
    const file = fileURLToPath(new URL(`../${path}`, import.meta.url));
    if (!check) writeFileSync(file, page());
    else if (readFileSync(file, "utf8") !== page()) {
      console.error(`${path} is out of date: run npm run docs`);
      process.exitCode = 1;
    }
  }
}
