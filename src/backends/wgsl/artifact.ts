// A WebGPU program as files: kernels as text, everything else of the program as JSON, weights beside them. What the files
// are called and what they hold never depends on a name that a user chose.
import { InternalError } from "../../ir/diagnostic.ts";
import type { Model, WeightSource } from "../../ir/graph.ts";
import { bytesOf, type DType, dtypes, elementsOf, type TensorData } from "../../ir/type.ts";
import { emitWgsl, type WgslOptions, type WgslProgram } from "./index.ts";

/** A tensor inside a file. */
export interface PlannedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Of its first byte, from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** A .safetensors file that is read from front to back: its hashes are those of `chunkBytes` bytes each. */
export interface TensorFile {
  readonly bytes: number;
  readonly chunkBytes: number;
  /** In hexadecimal; the last chunk may be shorter. */
  readonly sha256: readonly string[];
  /** In the order of their bytes. */
  readonly tensors: readonly PlannedTensor[];
}

/** plan.json: a program without its shaders' texts and without the contents of its constants. */
export interface Plan {
  /** Raised whenever an older reader would run a newer plan wrongly. */
  readonly format: 1;
  /** Version of Tamis that wrote it. */
  readonly tamis: string;
  /** Parameters in the order of weights.safetensors. */
  readonly program: Omit<WgslProgram, "shaders" | "constants"> & {
    readonly constants: readonly { readonly buffer: string }[];
  };
  readonly kernels: {
    readonly bytes: number;
    readonly sha256: string;
    /** Where each shader's text lies in kernels.wgsl. */
    readonly shaders: readonly { readonly offset: number; readonly bytes: number }[];
  };
  /** constants.safetensors, whose tensors are named by their place in `program.constants`; null where there are none. */
  readonly constants: TensorFile | null;
  /** weights.safetensors; null where there are none. */
  readonly weights: TensorFile | null;
}

/** A model as a WebGPU program with the contents of its files, not yet written. */
export interface WgslArtifact {
  readonly kind: "webgpu";
  readonly name: string;
  readonly program: WgslProgram;
  /** Bytes of all weights. */
  readonly weightBytes: number;
  /** Contents of weights.safetensors and constants.safetensors, in the order of their bytes. */
  readonly weights: readonly { readonly name: string; readonly source: WeightSource }[];
  readonly constants: readonly { readonly name: string; readonly source: TensorData }[];
  /** Text of kernels.wgsl. */
  readonly kernels: string;
  /** plan.json for what was written of the other files. */
  plan(written: Pick<Plan, "tamis" | "constants" | "weights"> & { readonly kernelsSha256: string }): Plan;
}

/** Writes a model as a WebGPU program and its files. Parameters without weights become inputs. Fails as `emitWgsl` does. */
export function emitWgslArtifact(model: Model, options: WgslOptions = {}): WgslArtifact {
  const emitted = emitWgsl(model, options);
  const known = ({ name }: { readonly name: string }): boolean => model.weights.has(name);
  const parameters = emitted.parameters.filter(known).toSorted(inFileOrder);
  const program: WgslProgram = {
    ...emitted,
    inputs: [...emitted.inputs, ...emitted.parameters.filter((value) => !known(value))],
    parameters,
  };
  const { text: kernels, spans: shaders } = joinShaders(program.shaders);
  const weights = parameters.map(({ name }) => ({ name, source: model.weights.get(name) as WeightSource }));
  return {
    kind: "webgpu",
    name: program.name,
    program,
    weightBytes: weights.reduce((sum, { source: { type } }) => sum + bytesOf(type.dtype, elementsOf(type.shape)), 0),
    weights,
    constants: program.constants.map(({ data }, k) => ({ name: String(k), source: data })),
    kernels,
    plan({ tamis, constants, weights, kernelsSha256 }) {
      const { shaders: _texts, constants: _contents, ...rest } = program;
      const planned = { ...rest, constants: program.constants.map(({ data: _data, ...constant }) => constant) };
      checkPlain(planned);
      const bytes = encoder.encode(kernels).length;
      return {
        format: 1,
        tamis,
        program: planned,
        kernels: { bytes, sha256: kernelsSha256, shaders },
        constants,
        weights,
      };
    },
  };
}

const encoder = new TextEncoder();

/** As safetensors files are laid out: large elements first, so that all are aligned, then by name. */
const inFileOrder = (a: WgslProgram["parameters"][number], b: WgslProgram["parameters"][number]): number =>
  dtypes[b.dtype].bits - dtypes[a.dtype].bits || (a.name < b.name ? -1 : 1);

function joinShaders(shaders: readonly string[]): { text: string; spans: Plan["kernels"]["shaders"] } {
  let text = "";
  let offset = 0;
  const spans = shaders.map((shader, k) => {
    const title = `// shader ${k}\n`;
    const bytes = encoder.encode(shader).length;
    const span = { offset: offset + title.length, bytes };
    text += `${title}${shader}\n`;
    offset += title.length + bytes + 1;
    return span;
  });
  return { text, spans };
}

/** A program is plain data: what JSON would lose or change is a defect, told when it is written and not when it runs. */
function checkPlain(root: unknown): void {
  const open: { readonly value: unknown; readonly path: string }[] = [{ value: root, path: "program" }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { value, path } = next;
    if (typeof value === "string" || typeof value === "boolean" || value === null || value === undefined) continue;
    if (typeof value === "number" && Number.isFinite(value)) continue;
    if (Array.isArray(value)) open.push(...value.map((item, k) => ({ value: item, path: `${path}[${k}]` })));
    else if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype)
      open.push(...Object.entries(value).map(([key, item]) => ({ value: item, path: `${path}.${key}` })));
    else throw new InternalError(`${path} of a WebGPU program is ${String(value)}, which JSON does not hold`);
  }
}
