// TensorFlow.js, its fused kernels where it has them. Pictures are [batch, side, side, channels] and filters
// [kernel, kernel, in, out] there, which is how its users hold them.
import { createRequire } from "node:module";
import type { Case, Task } from "./cases.ts";
import { sideOf } from "./cases.ts";
import { transposed } from "./layout.ts";
import { installNavigator } from "./navigator.ts";
import { block, fashionVit, type Ops } from "./network.ts";
import { type Operands, operand } from "./operands.ts";
import { type Peer, serve } from "./protocol.ts";
import { epsilon } from "./reference.ts";

/** What is used of @tensorflow/tfjs; its own types are not installed with ours. */
interface TfTensor {
  readonly shape: readonly number[];
  data(): Promise<ArrayLike<number>>;
  dispose(): void;
}
interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  backend(): WebGpuBackend;
  readonly version: { readonly tfjs: string };
  tensor(values: Float32Array, shape: readonly number[]): TfTensor;
  tidy<T>(f: () => T): T;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  add(a: TfTensor, b: TfTensor | number): TfTensor;
  sub(a: TfTensor, b: TfTensor): TfTensor;
  mul(a: TfTensor, b: TfTensor | number): TfTensor;
  rsqrt(x: TfTensor): TfTensor;
  erf(x: TfTensor): TfTensor;
  moments(x: TfTensor, axis: number, keepDims: boolean): { readonly mean: TfTensor; readonly variance: TfTensor };
  softmax(x: TfTensor, axis: number): TfTensor;
  topk(x: TfTensor, k: number): { readonly values: TfTensor; readonly indices: TfTensor };
  reshape(x: TfTensor, shape: readonly number[]): TfTensor;
  transpose(x: TfTensor, order: readonly number[]): TfTensor;
  slice(x: TfTensor, begin: readonly number[], size: readonly number[]): TfTensor;
  concat(parts: readonly TfTensor[], axis: number): TfTensor;
  broadcastTo(x: TfTensor, shape: readonly number[]): TfTensor;
  readonly fused: {
    matMul(options: { a: TfTensor; b: TfTensor; bias: TfTensor }): TfTensor;
    conv2d(options: {
      x: TfTensor;
      filter: TfTensor;
      strides: number;
      pad: number | "valid";
      bias: TfTensor;
    }): TfTensor;
  };
}
interface WebGpuBackend {
  readonly device: GPUDevice;
  endComputePassEncoder(): void;
  ensureCommandEncoderReady(): void;
  submitQueue(): void;
}

async function open(): Promise<Peer> {
  const installed = await installNavigator();
  const requireHere = createRequire(import.meta.url); // its packages are CommonJS, in bench/node_modules
  const tf = requireHere("@tensorflow/tfjs") as Tf;
  requireHere("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu"))) throw new Error("TensorFlow.js found no WebGPU device");
  await tf.ready();
  const backend = tf.backend();
  /** What its own data() does before it reads, then the wait without the reading. */
  const done = (): Promise<undefined> => {
    backend.ensureCommandEncoderReady();
    backend.endComputePassEncoder();
    backend.submitQueue();
    return backend.device.queue.onSubmittedWorkDone();
  };
  return {
    peer: "TensorFlow.js",
    version: tf.version.tfjs,
    adapter: installed.adapter(),
    forms: ["usual"],
    async prepare({ task }: Case, operands: Operands) {
      const tensors = new Map([...operands.values()].map((x) => [x.name, upload(tf, x.name, task, operands)]));
      const given = (name: string): TfTensor => {
        const found = tensors.get(name);
        if (found === undefined) throw new Error(`no operand ${name}`);
        return found;
      };
      const mask = maskOf(tf, task);
      const call = (): readonly TfTensor[] => tf.tidy(() => [...compute(tf, task, given, mask)]);
      return {
        async run() {
          const results = call();
          await done();
          for (const result of results) result.dispose();
        },
        async outputs() {
          const results = call();
          const values = await Promise.all(results.map((result) => result.data()));
          for (const result of results) result.dispose();
          if (task.kind !== "conv") return values;
          const side = sideOf(task);
          return values.map((y) => transposed(y, [side, side, task.out], [2, 0, 1]));
        },
        async release() {
          for (const x of tensors.values()) x.dispose();
          mask?.dispose();
        },
      };
    },
    close: async () => installed.remove(),
  };
}

/** An operand in the layout that TensorFlow.js works in. */
function upload(tf: Tf, name: string, task: Task, operands: Operands): TfTensor {
  const { shape, values, role } = operand(operands, name);
  const order =
    shape.length === 4 && task.kind !== "attention"
      ? role === "weight"
        ? [2, 3, 1, 0]
        : [0, 2, 3, 1]
      : role === "weight" && shape.length === 2 && name.endsWith(".weight")
        ? [1, 0]
        : undefined;
  if (order === undefined) return tf.tensor(values, shape);
  return tf.tensor(
    transposed(values, shape, order),
    order.map((axis) => shape[axis] as number),
  );
}

/** Added to scores: zero where a key is seen. */
function maskOf(tf: Tf, task: Task): TfTensor | undefined {
  if (task.kind !== "attention" || !task.causal) return undefined;
  const { tokens } = task;
  const values = Float32Array.from({ length: tokens ** 2 }, (_, i) => (i % tokens > Math.floor(i / tokens) ? -1e9 : 0));
  return tf.tensor(values, [tokens, tokens]);
}

function compute(tf: Tf, task: Task, given: (name: string) => TfTensor, mask?: TfTensor): readonly TfTensor[] {
  const ops = opsOf(tf, given, mask);
  switch (task.kind) {
    case "matmul":
      return [tf.matMul(given("lhs"), given("rhs"))];
    case "attention":
      return [ops.attention(given("query"), given("key"), given("value"), task.causal)];
    case "layerNorm":
      return [ops.layerNorm(given("x"), "norm")];
    case "softmax":
      return [tf.softmax(given("x"), -1)];
    case "conv":
      return [
        tf.fused.conv2d({
          x: given("x"),
          filter: given("conv.weight"),
          strides: task.stride,
          pad: task.padding === 0 ? "valid" : task.padding,
          bias: given("conv.bias"),
        }),
      ];
    case "topK": {
      const { values, indices } = tf.topk(given("x"), task.k);
      return [values, indices];
    }
    case "block":
      return [block(ops, tf.reshape(given("x"), [task.tokens, task.dim]), { ...task, batch: 1 })];
    case "fashionVit":
      return [fashionVit(ops, task)];
    default:
      return task satisfies never;
  }
}

function opsOf(tf: Tf, given: (name: string) => TfTensor, mask?: TfTensor): Ops<TfTensor> {
  return {
    operand: given,
    add: (a, b) => tf.add(a, b),
    linear: (x, name) => tf.fused.matMul({ a: x, b: given(`${name}.weight`), bias: given(`${name}.bias`) }),
    layerNorm(x, name) {
      const { mean, variance } = tf.moments(x, -1, true);
      const scaled = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, epsilon)));
      return tf.add(tf.mul(scaled, given(`${name}.weight`)), given(`${name}.bias`));
    },
    gelu: (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
    attention(query, key, value) {
      const scores = tf.mul(tf.matMul(query, key, false, true), 1 / Math.sqrt(query.shape[3] as number));
      return tf.matMul(tf.softmax(mask === undefined ? scores : tf.add(scores, mask), -1), value);
    },
    reshape: (x, shape) => tf.reshape(x, shape),
    transpose: (x, order) => tf.transpose(x, order),
    take(x, at) {
      const [, ...rest] = x.shape;
      return tf.reshape(tf.slice(x, [at, ...rest.map(() => 0)], [1, ...rest]), rest);
    },
    concat: (parts, axis) => tf.concat(parts, axis),
    broadcast: (x, shape) => tf.broadcastTo(x, shape),
    embedPatches(image, name) {
      const filter = given(`${name}.weight`);
      const [kernel, , , out] = filter.shape as [number, number, number, number];
      const y = tf.fused.conv2d({ x: image, filter, strides: kernel, pad: "valid", bias: given(`${name}.bias`) });
      return tf.reshape(y, [image.shape[0] as number, -1, out]);
    },
  };
}

await serve(open);
