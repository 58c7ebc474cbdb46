// Memory that the WebGPU target plans for every model of src/models, compiled without weights and without a device:
//   npx tsx scripts/planner.ts          writes docs/results/planner.md
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { emitWgsl } from "../src/backends/wgsl/index.ts";
import { lower } from "../src/compile.ts";
import { isModelDefinition, type ModelDefinition } from "../src/dsl/index.ts";
import { CompileError } from "../src/ir/diagnostic.ts";
import * as models from "../src/models/index.ts";
import { mergeTokens } from "../src/passes/mergeTokens/mergeTokens.ts";
import { planMemory } from "../src/runtime/webgpu/memory.ts";

export interface Planned {
  readonly model: string;
  /** Token pairs merged per block. */
  readonly merged: number;
  readonly batch: number;
  readonly kernels: number;
  /** Distinct WGSL texts. */
  readonly shaders: number;
  /** Bytes of the arena, without parameters. */
  readonly planned: number;
  /** Bytes if every intermediate had a place of its own. */
  readonly naive: number;
  /** Bytes alive at once at the fullest moment. */
  readonly lowerBound: number;
}

const batches = [1, 8];
const sequence = 256; // tokens, of models that read tokens
const mergedPerBlock = 8; // token pairs, few enough for 24 blocks on 197 tokens

/** Every model that src/models exports as a preset. */
export const presets: readonly ModelDefinition[] = Object.values<unknown>(models).filter(isModelDefinition);

/** A model's plans: plain, and with token merging where the pass applies. */
export function plansOf(model: ModelDefinition): readonly Planned[] {
  const set = "sequence" in model.options ? { sequence } : {};
  return [0, mergedPerBlock].flatMap((merged) => {
    const graph = lowered(model, set, merged);
    if (graph === undefined) return [];
    const program = emitWgsl({ graph, weights: new Map() });
    return batches.map((batch): Planned => {
      const { planned, naive, lowerBound } = planMemory(program, new Map([["batch", batch]]));
      const { dispatches, shaders } = program;
      const counts = { kernels: dispatches.length, shaders: shaders.length };
      return { model: model.name, merged, batch, ...counts, planned, naive, lowerBound };
    });
  });
}

/** undefined where token merging refuses the model. */
function lowered(model: ModelDefinition, set: Readonly<Record<string, number>>, merged: number) {
  try {
    return lower(model, { set, passes: merged === 0 ? [] : [mergeTokens({ r: merged })] }).model.graph;
  } catch (error) {
    if (merged > 0 && error instanceof CompileError && error.code === "pattern-not-found") return undefined;
    throw error;
  }
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2);

function page(plans: readonly Planned[]): string {
  const head = [
    "model",
    "merged a block",
    "batch",
    "kernels",
    "shaders",
    "planned",
    "naive",
    "bound",
    "planned / bound",
  ];
  const rows = plans.map((p) => {
    const sizes = [p.planned, p.naive, p.lowerBound].map(mebibytes);
    return [p.model, p.merged, p.batch, p.kernels, p.shaders, ...sizes, (p.planned / p.lowerBound).toFixed(3)];
  });
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return `# Memory that the WebGPU target plans

Written by \`npx tsx scripts/planner.ts\`, which needs neither weights nor a device: the figures are the same on every
adapter of the default limits. Intermediates, inputs and outputs share one arena, placed by liveness; parameters and
constants lie apart and are not counted. Sizes in MiB. *Naive* is a place for each value, *bound* the most that is alive
at once, below which no plan can go. Decoders read ${sequence} tokens. \`test/planner.test.ts\` holds every row above 1 MiB
to at most 1.1 of its bound.

${line(head)}
${line(head.map((_, i) => (i === 0 ? "---" : "--:")))}
${rows.map(line).join("\n")}
`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  writeFileSync("docs/results/planner.md", page(presets.flatMap(plansOf)));
