// The WebGPU target: a graph as a program of WGSL shaders, plain data that a runtime (Node or browser) runs without a
// compiler. Symbols stay: sizes, offsets and dispatch counts are polynomials evaluated when inputs are known.

import { symbolsOf } from "../../ir/dim.ts";
import type { Graph, Model, Node, Value } from "../../ir/graph.ts";
import type { Registry } from "../../ir/op.ts";
import { builtinOps } from "../../ir/ops/index.ts";
import type { Dim, DType, TensorData } from "../../ir/type.ts";
import { expandWhere, expansionExample } from "../../passes/decompose.ts";
import { type Pass, runPasses } from "../../passes/pass.ts";
import { rebuildGraph } from "../../passes/rebuild.ts";
import { emitKernel, type Groups, type Shader } from "./emit/index.ts";
import { settle } from "./emit/template.ts";
import type { Register } from "./expr.ts";
import { type Donations, writeInPlace } from "./inPlace.ts";
import { writesOf } from "./kernel.ts";
import { rowwise } from "./rowwise.ts";
import { type Schedule, schedule, wholeComposites } from "./schedule.ts";
import { hardwareTuning, softwareSubgroupTuning, softwareTuning, type Tuning } from "./tuning.ts";

export type { Groups } from "./emit/index.ts";
export type { Register } from "./expr.ts";
export type { Kernel } from "./kernel.ts";
export type { AttentionTile, GemmTile, Tuning, TuningChoices } from "./tuning.ts";

/** What a device allows; an input of compilation. */
export interface DeviceProfile {
  /** Storage buffers that one kernel may bind. */
  readonly storageBuffers: number;
  /** Whether the adapter is software, where barriers are dear. */
  readonly software: boolean;
  /** Whether subgroups are usable and have exactly four threads. */
  readonly subgroupsOfFour?: boolean;
  /** Bytes of shared memory of a workgroup; 16,384, which every device has, where not given. */
  readonly workgroupBytes?: number;
}

/** How `emitWgsl` writes a model; all of it has defaults. */
export interface WgslOptions {
  readonly registry?: Registry;
  readonly device?: DeviceProfile;
  /** How kernels are written; the device's default otherwise. */
  readonly tuning?: Tuning;
  /** Outputs to inputs of the same type that are given up for them: state that a step carries on. */
  readonly donate?: Donations;
}

/** The tiles of a device that nothing was measured on. */
export function defaultTuning({ software, subgroupsOfFour = false }: DeviceProfile): Tuning {
  if (!software) return hardwareTuning;
  return subgroupsOfFour ? softwareSubgroupTuning : softwareTuning;
}

/** A piece of memory; `elements` of a 4-byte register each. */
export interface ProgramBuffer {
  readonly name: string;
  readonly register: Register;
  readonly elements: Dim;
}
/** An input, parameter or output of a program and the buffer that holds it. */
export interface ProgramValue {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dim[];
  readonly buffer: string;
}
/** One run of a shader. */
export interface Dispatch {
  /** Index into `shaders`. */
  readonly shader: number;
  /** Buffers in binding order. */
  readonly buffers: readonly string[];
  readonly writes: readonly string[];
  /** i32 words of the uniform buffer at binding 0, in order; none where this is empty. */
  readonly params: readonly Dim[];
  readonly groups: Groups;
  readonly label: string;
  readonly scope: string;
  readonly ops: readonly string[];
}

/**
 * A model as shaders and dispatches, plain data that a runtime runs without a compiler. Sizes are polynomials in
 * `symbols`.
 */
export interface WgslProgram {
  readonly kind: "webgpu";
  readonly version: 1;
  readonly name: string;
  readonly symbols: readonly string[];
  readonly buffers: readonly ProgramBuffer[];
  readonly inputs: readonly ProgramValue[];
  readonly parameters: readonly ProgramValue[];
  readonly constants: readonly { readonly buffer: string; readonly data: TensorData }[];
  readonly outputs: readonly ProgramValue[];
  readonly shaders: readonly string[];
  readonly dispatches: readonly Dispatch[];
  /** Outputs to the inputs whose memory they take, by name; an output in place has its input's buffer. */
  readonly donate?: Donations;
}

const mostParts = 4; // operands of one concat
/** Stays within what WebGPU guarantees. */
export const usualDevice: DeviceProfile = { storageBuffers: 8, software: false };

/** Everything that no kernel takes whole, written out as the ops that define it. */
export function expandForKernels(): Pass {
  return {
    name: "expandForKernels",
    summary: "composites that no kernel takes whole written out",
    contract: "reassociates",
    example: expansionExample,
    run(graph, context) {
      const { registry } = context;
      const expanded = expandWhere(
        graph,
        context,
        "expandForKernels",
        (node) => !wholeComposites.has(node.op) && rowwise(node, registry) === undefined,
      );
      return splitConcats(expanded, registry);
    },
  };
}

/** A kernel binds few buffers: many parts are joined in groups first. */
function splitConcats(graph: Graph, registry: Registry): Graph {
  const wide = (node: Node): boolean => node.op === "concat" && node.operands.length > mostParts;
  let current = graph;
  while (current.nodes.some(wide))
    current = rebuildGraph(current, registry, "splitConcats", (node, { b, of }) => {
      if (!wide(node)) return undefined;
      const axis = node.attrs["axis"] as number;
      const parts = node.operands.map(of);
      const half = Math.ceil(parts.length / 2);
      const halves = [parts.slice(0, half), parts.slice(half)].map((group) => b.concat(group, { axis }));
      return [b.concat(halves, { axis })];
    });
  return current;
}

/** The kernels of a graph as data, what is stored between them, and the graph they were made from. */
export function scheduleKernels(graph: Graph, options: WgslOptions = {}): Schedule & { readonly graph: Graph } {
  const registry = options.registry ?? builtinOps;
  const ready = runPasses({ graph, weights: new Map() }, [expandForKernels()], { registry }).model.graph;
  return { graph: ready, ...schedule(ready, registry, (options.device ?? usualDevice).storageBuffers) };
}

/** Writes a model as a WebGPU program. Parameters stay by name; their contents are uploaded by the runtime. */
export function emitWgsl(model: Model, options: WgslOptions = {}): WgslProgram {
  const registry = options.registry ?? builtinOps;
  const device = options.device ?? usualDevice;
  const { graph } = runPasses(model, [expandForKernels()], { registry }).model;
  const plan = schedule(graph, registry, device.storageBuffers);
  const tuning = options.tuning ?? defaultTuning(device);
  const symbols = [
    ...new Set(graph.nodes.flatMap((n) => n.results.flatMap((v) => v.type.shape.flatMap(symbolsOf)))),
  ].sort();
  const buffers = new Map<string, ProgramBuffer>();
  for (const { buffer } of [...plan.inputs, ...plan.parameters, ...plan.constants]) buffers.set(buffer.name, buffer);
  const { kernels, became } = writeInPlace(plan, options.donate ?? {});
  const homeOf = (buffer: string): string => became.get(buffer) ?? buffer;
  for (const kernel of kernels) for (const buffer of writesOf(kernel)) buffers.set(buffer.name, buffer);
  const emitted = kernels.map((kernel) => emitKernel(kernel, tuning));
  const { shaders, uses } = settle(emitted.map((shader) => shader.template));
  const dispatches = kernels.map((kernel, at): Dispatch => {
    const { bindings, groups } = emitted[at] as Shader;
    const { shader, params } = uses[at] as (typeof uses)[number];
    const { label, scope, ops } = kernel;
    return {
      shader,
      buffers: bindings.map((b) => homeOf(b.buffer)),
      writes: bindings.filter((b) => b.access === "write").map((b) => homeOf(b.buffer)),
      params,
      groups,
      label,
      scope,
      ops,
    };
  });
  const value = ({ name, buffer, value }: { name: string; buffer: ProgramBuffer; value: Value }): ProgramValue => ({
    name,
    dtype: value.type.dtype,
    shape: value.type.shape,
    buffer: homeOf(buffer.name),
  });
  return {
    kind: "webgpu",
    version: 1,
    name: graph.name,
    symbols,
    buffers: [...buffers.values()].map(({ name, register, elements }) => ({ name, register, elements })),
    inputs: plan.inputs.map(value),
    parameters: plan.parameters.map(value),
    constants: plan.constants.map(({ buffer, data }) => ({ buffer: buffer.name, data })),
    outputs: plan.outputs.map(value),
    shaders,
    dispatches,
    ...(options.donate && { donate: options.donate }),
  };
}
