import {
  describeKernels,
  formatLoc,
  type Graph,
  kernelReports,
  type PassReport,
  parametersOf,
  printGraph,
  sourceName,
  type Value,
} from "../index.ts";
import { writeFileAtomically } from "../runtime/node/index.ts";
import { named } from "./artifact.ts";
import { readBindings } from "./choice.ts";
import { diffGraphs, formatDiff } from "./diff.ts";
import { headline } from "./headline.ts";
import { type ModelOptions, type Prepared, prepare } from "./prepare.ts";
import { registry } from "./registry.ts";
import { graphCost, statsText } from "./stats.ts";
import { out, print, printJson, say } from "./terminal.ts";

export interface InspectOptions extends ModelOptions {
  readonly printAfterAll?: boolean;
  readonly diff?: boolean;
  readonly locations?: boolean;
  readonly kernels?: boolean;
  readonly traceRules?: boolean;
  readonly stats?: boolean;
  readonly bind?: readonly string[];
  readonly html?: string;
}

/** `tamis inspect MODEL`: IR text unless an option asks for something else. */
export async function inspectCommand(text: string, options: InspectOptions): Promise<void> {
  const sizes = readBindings(options.bind);
  await using prepared = await prepare(text, options, { target: "reference", weightsOptional: true, ownTargets: true });
  const { graph } = prepared.model;
  if (options.html !== undefined) {
    const { htmlPage } = await import("./html.ts");
    await writeFileAtomically(options.html, htmlPage(prepared, sizes));
    if (options.json !== true) say(`wrote ${options.html}`);
  }
  const device = { registry, device: prepared.device.device, symbols: sizes };
  if (options.json === true) {
    const kernels = options.kernels === true ? { kernels: kernelReports(graph, device) } : {};
    return printJson({ ...inspection(prepared, sizes, options.locations === true), ...kernels });
  }
  const locations = options.locations === true;
  const parts: string[] = [];
  if (options.printAfterAll === true) parts.push(...printedStages(prepared, locations));
  if (options.traceRules === true) parts.push(prepared.reports.map(traceText).join("\n"));
  if (options.diff === true) parts.push(diffText(prepared.source, graph, locations));
  if (options.kernels === true) parts.push(describeKernels(graph, device));
  if (options.stats === true) parts.push(statsText(prepared.source, graph, sizes));
  if (parts.length === 0 && options.html === undefined) parts.push(printGraph(graph, { locations, registry }));
  for (const part of parts) print(part);
}

/** The document of `inspect --json`. Arithmetic counts each symbol that is not bound as 1. */
function inspection({ model, reports }: Prepared, sizes: ReadonlyMap<string, number>, locations: boolean): object {
  const { graph } = model;
  const { macs, parameterCount } = graphCost(graph, sizes);
  return {
    graph: printGraph(graph, { locations, registry }),
    inputs: graph.inputs.map((value) => named(sourceName(value.producer), value)),
    outputs: graph.outputs.map(({ name, value }) => named(name, value)),
    parameters: parametersOf(graph).map((node) => named(sourceName(node), node.results[0] as Value)),
    nodes: graph.nodes.length,
    macs,
    parameterCount,
    passes: reports.map(({ name, changed, timeMs, fired, refused }) => ({
      name,
      changed,
      timeMs,
      fired: fired.length,
      refused: refused.map((one) => ({ rule: one.rule, reason: one.refused, loc: formatLoc(one.loc) })),
    })),
  };
}

/** The graph before the first pass, then after each, as IR text under a comment. */
function printedStages({ source, reports }: Prepared, locations: boolean): readonly string[] {
  const stage = (title: string, graph: Graph): string =>
    `${out.cyan(`// ${title}`)}\n${printGraph(graph, { locations, registry })}`;
  return [
    stage(`trace: ${source.nodes.length} nodes`, source),
    ...reports.map((report) => stage(`after ${headline(report)}`, report.after)),
  ];
}

function traceText(report: PassReport): string {
  const place = (loc: PassReport["fired"][number]["loc"]): string => {
    const at = formatLoc(loc);
    return at === "" ? "" : `${at} `;
  };
  return [
    out.bold(headline(report)),
    ...report.fired.map(({ rule, loc }) => `  ${out.green("fired  ")} ${place(loc)}${rule}`),
    ...report.refused.map(({ rule, loc, refused }) => `  ${out.yellow("refused")} ${place(loc)}${rule}: ${refused}`),
    ...report.notes.map(({ message, loc }) => `  ${out.cyan("note   ")} ${place(loc)}${message}`),
  ].join("\n");
}

function diffText(before: Graph, after: Graph, locations: boolean): string {
  const text = formatDiff(diffGraphs(before, after), locations);
  if (text === "") return out.dim("the passes changed nothing");
  const colour = (line: string): string =>
    line.startsWith("+")
      ? out.green(line)
      : line.startsWith("-")
        ? out.red(line)
        : line.startsWith("@@")
          ? out.cyan(line)
          : line;
  return text.split("\n").map(colour).join("\n");
}
