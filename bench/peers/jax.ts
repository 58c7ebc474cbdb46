// jax-js, everything under jit. Arrays are counted: an operation consumes its operands unless given a `.ref` of them.
import { readFileSync } from "node:fs";
import type { Case, Task } from "./cases.ts";
import { transposed } from "./layout.ts";
import { installNavigator } from "./navigator.ts";
import { block, fashionVit, type Ops } from "./network.ts";
import type { Operands } from "./operands.ts";
import { type Peer, serve } from "./protocol.ts";
import { epsilon } from "./reference.ts";

/** What is used of @jax-js/jax; its own types are not installed with ours. */
interface JaxArray {
  readonly ref: JaxArray;
  readonly shape: readonly number[];
  add(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  transpose(order: readonly number[]): JaxArray;
  data(): Promise<ArrayLike<number>>;
  blockUntilReady(): Promise<JaxArray>;
  dispose(): void;
}
type Compiled = ((arrays: Readonly<Record<string, JaxArray>>) => readonly JaxArray[]) & { dispose(): void };
interface Jax {
  init(device: string): Promise<readonly string[]>;
  defaultDevice(device: string): void;
  jit(f: (arrays: Readonly<Record<string, JaxArray>>) => readonly JaxArray[]): Compiled;
  blockUntilReady(arrays: readonly JaxArray[]): Promise<unknown>;
  readonly numpy: {
    array(values: Float32Array, options: { shape: readonly number[] }): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    concatenate(parts: readonly JaxArray[], axis: number): JaxArray;
    broadcastTo(x: JaxArray, shape: readonly number[]): JaxArray;
    tri(rows: number, columns: number, diagonal: number, options: { dtype: "bool" }): JaxArray;
    where(condition: JaxArray, a: JaxArray, b: number): JaxArray;
    split(x: JaxArray, sections: number, axis: number): readonly JaxArray[];
  };
  readonly nn: {
    gelu(x: JaxArray, options: { approximate: boolean }): JaxArray;
    softmax(x: JaxArray, axis: number): JaxArray;
    standardize(x: JaxArray, axis: number, options: { epsilon: number }): JaxArray;
  };
  readonly lax: {
    conv(x: JaxArray, weight: JaxArray, strides: readonly number[], padding: readonly (readonly number[])[]): JaxArray;
    topK(x: JaxArray, k: number, axis: number): readonly [JaxArray, JaxArray];
  };
}

async function open(): Promise<Peer> {
  const installed = await installNavigator();
  const name = "@jax-js/jax"; // in bench/node_modules, which not everybody has
  const jax = (await import(name)) as Jax;
  const devices = await jax.init("webgpu");
  if (!devices.includes("webgpu")) throw new Error("jax-js found no WebGPU device");
  jax.defaultDevice("webgpu");
  const { version } = JSON.parse(
    readFileSync(new URL("../node_modules/@jax-js/jax/package.json", import.meta.url), "utf8"),
  );
  return {
    peer: "jax-js",
    version,
    adapter: installed.adapter(),
    forms: ["usual"],
    async prepare(wanted: Case, operands: Operands) {
      const arrays: Record<string, JaxArray> = {};
      for (const { name, shape, values, role } of operands.values()) {
        // Matrices of linear layers as [in, out], so that rows of the product are contiguous.
        const matrix = role === "weight" && name.endsWith(".weight") && shape.length === 2;
        arrays[name] = jax.numpy.array(matrix ? transposed(values, shape, [1, 0]) : values, {
          shape: matrix ? shape.toReversed() : shape,
        });
      }
      await jax.blockUntilReady(Object.values(arrays).map((x) => x.ref));
      const compiled = jax.jit((given) => compute(jax, wanted.task, (name) => (given[name] as JaxArray).ref));
      const call = () => compiled(Object.fromEntries(Object.entries(arrays).map(([name, x]) => [name, x.ref])));
      return {
        async run() {
          const results = call();
          await jax.blockUntilReady(results);
          for (const result of results) result.dispose();
        },
        outputs: () => Promise.all(call().map((result) => result.data())),
        async release() {
          compiled.dispose();
          for (const x of Object.values(arrays)) x.dispose();
        },
      };
    },
    close: async () => installed.remove(),
  };
}

function compute(jax: Jax, task: Task, given: (name: string) => JaxArray): readonly JaxArray[] {
  const { numpy: np, nn, lax } = jax;
  const ops = opsOf(jax, given);
  switch (task.kind) {
    case "matmul":
      return [np.matmul(given("lhs"), given("rhs"))];
    case "attention":
      return [ops.attention(given("query"), given("key"), given("value"), task.causal)];
    case "layerNorm":
      return [ops.layerNorm(given("x"), "norm")];
    case "softmax":
      return [nn.softmax(given("x"), -1)];
    case "conv": {
      const { stride, padding, out } = task;
      const y = lax.conv(
        given("x"),
        given("conv.weight"),
        [stride, stride],
        [
          [padding, padding],
          [padding, padding],
        ],
      );
      return [y.add(given("conv.bias").reshape([out, 1, 1]))];
    }
    case "topK":
      return lax.topK(given("x"), task.k, -1);
    case "block":
      return [block(ops, given("x").reshape([task.tokens, task.dim]), { ...task, batch: 1 })];
    case "fashionVit":
      return [fashionVit(ops, task)];
    default:
      return task satisfies never;
  }
}

/** Operands are kept: under jit an array that is never consumed costs nothing. */
function opsOf({ numpy: np, nn, lax }: Jax, given: (name: string) => JaxArray): Ops<JaxArray> {
  return {
    operand: given,
    add: (a, b) => a.ref.add(b.ref),
    linear: (x, name) => np.matmul(x.ref, given(`${name}.weight`)).add(given(`${name}.bias`)),
    layerNorm: (x, name) =>
      nn
        .standardize(x.ref, -1, { epsilon })
        .mul(given(`${name}.weight`))
        .add(given(`${name}.bias`)),
    gelu: (x) => nn.gelu(x.ref, { approximate: false }),
    attention(query, key, value, causal) {
      const [, , tokens, channels] = query.shape as [number, number, number, number];
      const scores = np.matmul(query.ref, key.ref.transpose([0, 1, 3, 2])).mul(1 / Math.sqrt(channels));
      const seen = causal ? np.where(np.tri(tokens, tokens, 0, { dtype: "bool" }), scores, -Infinity) : scores;
      return np.matmul(nn.softmax(seen, -1), value.ref);
    },
    reshape: (x, shape) => x.ref.reshape(shape),
    transpose: (x, order) => x.ref.transpose(order),
    take(x, at) {
      const [count, ...rest] = x.shape as [number, ...number[]];
      const parts = np.split(x.ref, count, 0);
      parts.forEach((part, i) => {
        if (i !== at) part.dispose();
      });
      return (parts[at] as JaxArray).reshape(rest);
    },
    concat: (parts, axis) =>
      np.concatenate(
        parts.map((part) => part.ref),
        axis,
      ),
    broadcast: (x, shape) => np.broadcastTo(x.ref, shape),
    embedPatches(image, name) {
      const weight = given(`${name}.weight`);
      const [out, , kernel] = weight.shape as [number, number, number];
      const y = lax.conv(
        image.ref,
        weight,
        [kernel, kernel],
        [
          [0, 0],
          [0, 0],
        ],
      );
      const [batch] = image.shape as [number];
      const patches = (y.shape as readonly number[]).slice(2).reduce((product, n) => product * n, 1);
      const tokens = y.add(given(`${name}.bias`).reshape([out, 1, 1])).reshape([batch, out, patches]);
      return tokens.transpose([0, 2, 1]);
    },
  };
}

await serve(open);
