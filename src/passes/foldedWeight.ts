import { InternalError } from "../ir/diagnostic.ts";
import { type Graph, parametersOf, sourceName, type Value, type WeightSource } from "../ir/graph.ts";
import type { Registry } from "../ir/op.ts";
import { largeConstants, printGraph } from "../ir/print.ts";
import { elementsOf, type TensorData } from "../ir/type.ts";
import { decompose } from "./decompose.ts";
import { evaluateTensors } from "./evaluateTensors.ts";
import { runPasses } from "./pass.ts";
import { rounded } from "./rounded.ts";

/** A weight that an expression over weights defines. */
export interface FoldedWeight {
  readonly source: WeightSource;
  /** Ten hexadecimal digits that follow from the expression and the names in it, whatever the weights hold. */
  readonly shortHash: string;
}

/**
 * The one output of `expression`, a graph of parameters and constants, as a weight. It is evaluated when it is read and
 * held weakly afterwards, so that a reader that takes it in parts does not compute it anew while memory lasts.
 */
export function foldedWeight(
  expression: Graph,
  sources: ReadonlyMap<string, WeightSource>,
  registry: Registry,
): FoldedWeight {
  const { type } = (expression.outputs[0] as { readonly value: Value }).value;
  const shape = type.shape as readonly number[];
  const total = elementsOf(shape);
  const text = printGraph(expression, { registry, scopes: false });
  const large = largeConstants(expression).map(([, node]) => bytesOfData(node.data as TensorData));
  const inputs = parametersOf(expression).map((node) => sourceOf(sources, sourceName(node)).hash);
  const shortHash = [digest(text, 0), ...large.map((bytes) => digest(bytes, 0))].join("");
  const hash = `folded:${[0, 1].map((seed) => digest([text, ...large, ...inputs].map((part) => digest(part, seed)).join(), seed)).join("")}`;

  let held: WeakRef<TensorData> | undefined;
  let pending: Promise<TensorData> | undefined;
  const evaluate = async (): Promise<TensorData> => {
    // Written out here and not when the source is made: most sources are read by one backend only, some by none.
    const { model } = runPasses({ graph: expression, weights: new Map() }, [decompose()], { registry, verify: false });
    const [found] = await evaluateTensors(model.graph, (name) => sourceOf(sources, name).read(), registry);
    const result = found as TensorData & { readonly values: Float32Array };
    const stored = rounded(type.dtype, shape, result.values);
    held = new WeakRef(stored);
    return stored;
  };
  const whole = async (): Promise<TensorData> => {
    const known = held?.deref();
    if (known !== undefined) return known;
    pending ??= evaluate().finally(() => {
      pending = undefined;
    });
    return pending;
  };
  return {
    shortHash: digest(shortHash, 0).slice(0, 10),
    source: {
      type: { dtype: type.dtype, shape },
      hash,
      async read(start = 0, end = total) {
        if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= total))
          throw new InternalError(`elements ${start} to ${end} of ${total} are asked of a folded weight`);
        const data = await whole();
        if (start === 0 && end === total) return data;
        return { dtype: type.dtype, shape: [end - start], values: data.values.slice(start, end) };
      },
    },
  };
}

function sourceOf(sources: ReadonlyMap<string, WeightSource>, name: string): WeightSource {
  const source = sources.get(name);
  if (source === undefined) throw new InternalError(`a folded weight reads ${name}, which has no source`);
  return source;
}

const bytesOfData = ({ values }: TensorData): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** 53 bits as 14 hexadecimal digits (cyrb53, public domain): stable between hosts, not meant against forgery. */
function digest(content: string | Uint8Array, seed: number): string {
  let [h1, h2] = [0xdeadbeef ^ seed, 0x41c6ce57 ^ seed];
  for (let i = 0; i < content.length; i++) {
    const unit = typeof content === "string" ? content.charCodeAt(i) : (content[i] as number);
    h1 = Math.imul(h1 ^ unit, 0x9e3779b1);
    h2 = Math.imul(h2 ^ unit, 0x5f356495);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 0x85ebca6b) ^ Math.imul(h2 ^ (h2 >>> 13), 0xc2b2ae35);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 0x85ebca6b) ^ Math.imul(h1 ^ (h1 >>> 13), 0xc2b2ae35);
  return ((h2 >>> 0) * 2 ** 21 + (h1 >>> 11)).toString(16).padStart(14, "0");
}
