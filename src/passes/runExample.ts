import type { Registry } from "../ir/op.ts";
import { parseGraph } from "../ir/parse.ts";
import { printGraph } from "../ir/print.ts";
import { type Pass, runPasses } from "./pass.ts";

/**
 * The IR text that a pass makes of its example's `before`: the pass's test compares it with `after`. The graph is
 * verified on the way. Fails as `parseGraph` does where `before` is no graph.
 */
export function runExample(pass: Pass, { registry }: { readonly registry?: Registry } = {}): string {
  const known = registry === undefined ? {} : { registry };
  const graph = parseGraph(pass.example.before, { file: `example of ${pass.name}`, ...known });
  return printGraph(runPasses({ graph, weights: new Map() }, [pass], known).model.graph, known).trim();
}
