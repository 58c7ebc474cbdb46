import type { Graph } from "../../ir/graph.ts";
import type { Dim } from "../../ir/type.ts";
import {
  type CauseReport,
  type DescribeOptions,
  type KernelOp,
  type KernelReport,
  type KernelTotals,
  kernelReports,
  totalsOf,
} from "./describe.ts";
import { usualDevice } from "./index.ts";

/** Kernels as text: what each runs over, computes, reads and writes, and why what it writes has memory. */
export function describeKernels(graph: Graph, options: DescribeOptions = {}): string {
  const { storageBuffers } = options.device ?? usualDevice;
  const reports = kernelReports(graph, options);
  const head = `${counted(reports.length, "kernel")}; the device binds at most ${storageBuffers} buffers`;
  return [head, ...reports.map((report) => kernelText(report, storageBuffers)), totalsText(totalsOf(reports))].join(
    "\n\n",
  );
}

function kernelText(report: KernelReport, storageBuffers: number): string {
  const { name, kind, space, scope, loc, ops, reads, writes, operations, bytes, apart } = report;
  const over = Object.entries(space).map(([axis, size]) => `${axis} ${count(size)}`);
  const place = `${scope === "" ? "" : ` in ${scope}`}${loc === "" ? "" : ` at ${loc}`}`;
  const parts = (["before", "loop", "after"] as const).flatMap((part) => {
    const shown = shownOps(ops.filter((op) => op.part === part));
    if (shown.length === 0 && operations[part] === 0) return [];
    const sum = amount(operations[part], operations.atMost && part === "loop");
    const texts = shown.map((op) => opText(op, scope)).join(", ");
    // What is found before a loop is counted where the loop reads it.
    return [
      line(part, [texts, ...(operations[part] === 0 && part === "before" ? [] : [sum])].filter(Boolean).join(": ")),
    ];
  });
  const inputs = reads.map((read, k) => {
    const from = read.from === undefined ? read.of : `of ${read.from}`;
    return line(k === 0 ? "reads" : "", `${read.name} (${from}) ${count(read.bytes)} B`);
  });
  const outputs = writes.flatMap((write, k) => [
    line(k === 0 ? "writes" : "", `${write.name} ${count(write.bytes)} B`),
    ...write.why.map((cause) => line("", `  ${causeText(cause, storageBuffers)}`)),
  ]);
  const notJoined = apart.map(({ kernel, binds }) =>
    line("apart", `from ${kernel}: together they would bind ${binds} buffers`),
  );
  return [
    `${name} ${kind} over ${over.join(", ")}${place}`,
    ...parts,
    ...inputs,
    ...outputs,
    ...notJoined,
    line("in all", sumText(operations.total, operations.atMost, bytes, report.operationsPerByte)),
  ].join("\n");
}

const line = (label: string, text: string): string => `  ${label.padEnd(6)} ${text}`;

/** Views are index arithmetic: shown only where there is nothing else. */
function shownOps(ops: readonly KernelOp[]): readonly KernelOp[] {
  const computing = ops.filter(({ form }) => form !== "view");
  return computing.length > 0 ? computing : ops.filter(({ part }) => part === "after");
}

function opText({ op, scope, again }: KernelOp, kernelScope: string): string {
  const notes = [
    ...(scope === kernelScope ? [] : [scope === "" ? "outside" : `of ${scope}`]),
    ...(again.length === 0 ? [] : [`also in ${few(again)}`]),
  ];
  return notes.length === 0 ? op : `${op} (${notes.join(", ")})`;
}

function causeText({ rule, readers, operations, calls }: CauseReport, storageBuffers: number): string {
  const who = few(readers.map(readerText));
  const texts: { readonly [R in CauseReport["rule"]]: string } = {
    output: "an output",
    limit: `else ${who} would bind more than ${storageBuffers} buffers`,
    shared: `read by ${readers.length} ops: ${who}`,
    operand: `its reader ${who} takes operands from memory`,
    shape: `its reader ${who} is not of its shape`,
    taken: `its reader ${who} is in another kernel already`,
    full: `as much follows it as one kernel takes; its reader is ${who}`,
    large: `${operations} operations, too many to repeat for ${who}`,
    often: `${operations} operations, read often by ${who}`,
    costly: `costly (${calls}) and read often by ${who}`,
    loop: `a loop that would be repeated for ${who}`,
    repeated: `${operations} operations that would be repeated for ${who}`,
  };
  return texts[rule];
}

function readerText({ op, loc, kernels }: CauseReport["readers"][number]): string {
  const notes = [...(kernels.length === 0 ? [] : [few(kernels)]), ...(loc === "" ? [] : [loc])];
  return notes.length === 0 ? op : `${op} (${notes.join(", ")})`;
}

const mostNamed = 4;

function few(names: readonly string[]): string {
  const rest = names.length - mostNamed;
  return rest > 0 ? `${names.slice(0, mostNamed).join(", ")} and ${rest} more` : names.join(", ");
}

function totalsText({ kernels, byKind, byScope, operations, atMost, bytes, operationsPerByte }: KernelTotals): string {
  const kinds = Object.entries(byKind).map(([kind, sum]) => `${sum.kernels} ${kind} (${amount(sum.operations)})`);
  const scopes = Object.entries(byScope).map(([scope, n]) => `${scope === "" ? "(no scope)" : scope}: ${n}`);
  return [
    `total ${counted(kernels, "kernel")}`,
    line("kinds", kinds.join(", ")),
    line("scopes", scopes.join(", ")),
    line("in all", sumText(operations, atMost, bytes, operationsPerByte)),
  ].join("\n");
}

function sumText(
  operations: Dim,
  atMost: boolean,
  { read, written }: KernelReport["bytes"],
  operationsPerByte: number | undefined,
): string {
  const each = operationsPerByte === undefined ? "" : `, ${operationsPerByte} operations a byte`;
  return `${amount(operations, atMost)}, ${count(read)} B read, ${count(written)} B written${each}`;
}

const amount = (operations: Dim, atMost = false): string =>
  `${atMost ? "at most " : ""}${count(operations)} ${operations === 1 ? "operation" : "operations"}`;

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

/** `22,050,664`; a polynomial in symbols stays as it is. */
const count = (n: Dim): string => (typeof n === "number" ? n.toLocaleString("en-US") : n);
