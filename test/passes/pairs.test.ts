import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { CompileError } from "../../src/ir/diagnostic.ts";
import { passes } from "../../src/passes/index.ts";
import { allTraits } from "../../src/passes/pass.ts";
import { repository } from "../docs/blocks.ts";
import { compared, type Outcome, passOf, subjects, Trials, traitsOf } from "./pairs.ts";

const names = [...passes.keys()];
const trials = new Map(subjects.map((subject) => [subject.name, new Trials(subject)] as const));
const outcomes = new Map<string, readonly (readonly [subject: string, Outcome])[]>();
const outcomesOf = (first: string, second: string) => outcomes.get(`${first} ${second}`) ?? [];

beforeAll(async () => {
  for (const first of names)
    for (const second of names) {
      const row: (readonly [string, Outcome])[] = [];
      for (const [name, trial] of trials) row.push([name, await trial.judge(first, second)]);
      outcomes.set(`${first} ${second}`, row);
    }
});

describe.each(names)("%s and then any pass", (first) => {
  test.each(names)("%s: the results are those that were promised, or it is refused with a reason", (second) => {
    for (const [subject, outcome] of outcomesOf(first, second)) {
      expect(outcome.kind, `${subject}: ${outcome.reason}`).not.toBe("differs");
      if (outcome.kind === "refused") expect(outcome.code).toMatch(/^[a-z]+(-[a-z]+)+$/);
      expect(outcome.reason).not.toBe("");
    }
  });
});

test("no pass takes away what it says that it preserves, and what it does not, it takes from some model", () => {
  for (const name of names) {
    const lost = new Set<string>();
    for (const subject of subjects) {
      const after = (trials.get(subject.name) as Trials).after([name]);
      if (after instanceof CompileError) continue;
      const had = traitsOf(subject.model.graph);
      const has = traitsOf(after.graph);
      for (const trait of had) if (!has.includes(trait)) lost.add(trait);
    }
    const { preserves = allTraits } = passOf(name, subjects[0] as (typeof subjects)[number]);
    expect([...lost], name).toEqual(allTraits.filter((trait) => !preserves.includes(trait)));
  }
});

test("every pass is tried on a model that it takes, and a pass that changes results is seen to", async () => {
  for (const subject of subjects) {
    const trial = trials.get(subject.name) as Trials;
    const plain = await trial.results([]);
    for (const name of names)
      if (name !== "mergeTokens") expect(compared(await trial.results([name]), plain).kind, name).toBe("equal");
    if (subject.name === "by-hand")
      for (const name of names) expect(trial.after([name]), name).not.toHaveProperty("graph", subject.model.graph);
    expect(trial.after(["mergeTokens"]) instanceof CompileError).toBe(subject.name === "llama");
    if (subject.name !== "llama")
      expect(compared(await trial.results(["mergeTokens"]), plain).kind, subject.name).toBe("differs");
  }
});

test("what the passes require and preserve decides their order", () => {
  const codes = (first: string, second: string) =>
    outcomesOf(first, second).map(([, outcome]) => (outcome.kind === "refused" ? outcome.code : outcome.kind));
  expect(codes("decompose", "mergeTokens")).toEqual(subjects.map(() => "pass-order"));
  expect(codes("mergeTokens", "decompose").slice(0, 3)).toEqual(["equal", "equal", "equal"]);
  expect(codes("mergeTokens", "mergeTokens").slice(0, 3)).toEqual(["pass-order", "pass-order", "pass-order"]);
  expect(codes("differentiate", "mergeTokens")).toEqual(subjects.map(() => "pass-order"));
});

test("a refusal for the order says what to do instead", () => {
  const [subject] = subjects as readonly [(typeof subjects)[number]];
  const told = (...list: readonly string[]) => {
    const made = (trials.get(subject.name) as Trials).after(list);
    const [found] = made instanceof CompileError ? made.diagnostics : [];
    return [found?.message, found?.help];
  };
  expect(told("simplify", "decompose", "mergeTokens")).toEqual([
    "mergeTokens wants attention that is not written out, but decompose runs before it",
    "put mergeTokens before decompose",
  ]);
  expect(told("mergeTokens", "simplify", "mergeTokens")[1]).toBe("run mergeTokens once");
});

test("docs/passes-pairs.md shows what came of every two passes (npm run docs writes it)", () => {
  const file = `${repository}docs/passes-pairs.md`;
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(file, page());
  expect(readFileSync(file, "utf8")).toBe(page());
});

function page(): string {
  const reasons: string[] = [];
  const cell = (first: string, second: string): string => {
    const refused = outcomesOf(first, second).flatMap(([subject, outcome]) =>
      outcome.kind === "refused" ? [{ subject, ...outcome }] : [],
    );
    const texts = [...new Set(refused.map(({ code, reason }) => `\`${code}\`: ${reason}`))];
    const notes = texts.map((text) => {
      if (!reasons.includes(text)) reasons.push(text);
      const of = refused.filter(({ code, reason }) => text === `\`${code}\`: ${reason}`).map(({ subject }) => subject);
      return `${of.length === subjects.length ? "refused" : `${of.join(", ")} refused`} (${reasons.indexOf(text) + 1})`;
    });
    const fine = outcomesOf(first, second).flatMap(([, outcome]) => (outcome.kind === "equal" ? [outcome.idle] : []));
    return [...(fine.length === 0 ? [] : [fine.every(Boolean) ? "idle" : "equal"]), ...notes].join("; ");
  };
  const rows = names.map((first) => [`**${first}**`, ...names.map((second) => cell(first, second))]);
  const table = [["first, then", ...names], names.concat("").map(() => "---"), ...rows];
  return `# Passes in pairs

<!-- Written by \`npm run docs\` (test/passes/pairs.test.ts, which compares). Change the source, not this page. -->

Every pass of [passes.md](passes.md), and after it every pass, on small versions of the standard models and on one written by hand, two blocks each:
${subjects.map(({ name }) => name).join(", ")}. **equal**: the graph is verified, and its results are those of the reference interpreter on the model
with those of the two passes alone that may change results (\`mergeTokens\`; \`differentiate\` adds outputs); within the f32
row of the tolerances, since \`foldConstants\` rounds folded weights to f32. The gradient of a merged model is verified, not
compared. **idle**: as equal, and the second pass found nothing to do. **refused**: compilation ends with the code and reason below.

${table.map((row) => `| ${row.join(" | ")} |`).join("\n")}

${reasons.map((reason, i) => `${i + 1}. ${reason}`).join("\n")}
`;
}
