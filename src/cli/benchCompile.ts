import {
  createBuilder,
  emitOnnx,
  type Graph,
  type ModelDefinition,
  parseGraph,
  printGraph,
  traceModel,
  verifyGraph,
} from "../index.ts";
import { deitBase, llama7B } from "../models/index.ts";
import { print, printJson, progress, table } from "./terminal.ts";

export interface CompileRow {
  readonly subject: string;
  readonly step: string;
  readonly nodes: number;
  readonly bestMs: number;
}

export const rounds = 5; // after one that warms up
const chainSizes = [25_000, 50_000, 100_000]; // whoever grows faster than linearly shows

/** `tamis bench compile`: the best of five, in a process that is warm. Models are compiled without their weights. */
export async function benchCompile(options: { readonly json?: boolean }): Promise<void> {
  const subjects: readonly (readonly [string, ModelDefinition])[] = [
    ["DeiT-B to ONNX", deitBase],
    ["LLaMA-7B to ONNX", llama7B],
  ];
  const steps = progress("bench compile", (rounds + 1) * (2 * subjects.length + 4 * chainSizes.length));
  const { rows, measure } = createMeasure(steps.advance);
  const size = (graph: Graph): number => graph.nodes.length;
  for (const [subject, definition] of subjects) {
    const graph = await measure(subject, "trace", size, () => traceModel(definition));
    await measure(
      subject,
      "legalize, emit, encode",
      () => size(graph),
      () => emitOnnx({ graph, weights: new Map() }).encode(),
    );
  }
  for (const nodes of chainSizes) {
    const subject = `chain of ${nodes.toLocaleString("en-US")} nodes`;
    const chain = await measure(subject, "build", size, () => buildChain(nodes));
    const ofChain = () => size(chain);
    await measure(subject, "verify", ofChain, () => verifyGraph(chain));
    const text = await measure(subject, "print", ofChain, () => printGraph(chain));
    await measure(subject, "parse", size, () => parseGraph(text));
  }
  steps.stop();
  printCompileRows(rows, options.json);
}

type Measure = <T>(subject: string, step: string, nodes: (made: T) => number, body: () => T | Promise<T>) => Promise<T>;

/** Rows of steps that were each run several times; `advance` hears of every time. */
export function createMeasure(advance: () => void): {
  readonly rows: readonly CompileRow[];
  readonly measure: Measure;
} {
  const rows: CompileRow[] = [];
  return {
    rows,
    async measure(subject, step, nodes, body) {
      let best = Number.POSITIVE_INFINITY;
      for (let round = 0; ; round++) {
        const start = performance.now();
        const made = await body();
        if (round > 0) best = Math.min(best, performance.now() - start);
        advance();
        if (round < rounds) continue;
        rows.push({ subject, step, nodes: nodes(made), bestMs: best });
        return made;
      }
    },
  };
}

export function printCompileRows(rows: readonly CompileRow[], json: boolean | undefined): void {
  if (json === true) return printJson({ rounds, rows });
  const shown = rows.map((row) => [
    `${row.subject}: ${row.step}`,
    row.nodes.toLocaleString("en-US"),
    row.bestMs.toFixed(1),
  ]);
  print(table([`best of ${rounds}`, "nodes", "ms"], shown));
}

function buildChain(nodes: number): Graph {
  const b = createBuilder();
  let x = b.input("x", { dtype: "f32", shape: ["batch", 64] });
  for (let i = 0; i < nodes; i++) x = i % 2 === 0 ? b.tanh(x) : b.exp(x);
  return b.finish("chain", { y: x });
}
