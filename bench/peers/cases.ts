// What is measured, as plain data that every framework's worker translates into its own operations.

/** lhs [batch, m, k] times rhs [batch, k, n]; without a batch both are matrices and rhs is a weight. */
export interface Matmul {
  readonly kind: "matmul";
  readonly batch?: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}
/** Query, key and value [1, heads, tokens, channels], scaled by 1 / sqrt(channels). */
export interface Attention {
  readonly kind: "attention";
  readonly heads: number;
  readonly tokens: number;
  readonly channels: number;
  readonly causal: boolean;
}
/** x [rows, channels], gain and bias [channels]. */
export interface LayerNorm {
  readonly kind: "layerNorm";
  readonly rows: number;
  readonly channels: number;
}
/** Over the last axis of x. */
export interface Softmax {
  readonly kind: "softmax";
  readonly shape: readonly number[];
}
/** x [1, channels, side, side], weight [out, channels, kernel, kernel], bias [out]. */
export interface Conv {
  readonly kind: "conv";
  readonly channels: number;
  readonly out: number;
  readonly side: number;
  readonly kernel: number;
  readonly stride: number;
  /** Zeros on every side. */
  readonly padding: number;
}
/** The k largest of each row of x [rows, length] and where they were, largest first. */
export interface TopK {
  readonly kind: "topK";
  readonly rows: number;
  readonly length: number;
  readonly k: number;
}
/** A pre-norm transformer block over x [1, tokens, dim], its mlp 4 times as wide, GELU exact. */
export interface Block {
  readonly kind: "block";
  readonly tokens: number;
  readonly dim: number;
  readonly heads: number;
}
/** examples/01-fashion-vit.ts with the weights of examples/data on the first pictures of the test set. */
export interface FashionVit {
  readonly kind: "fashionVit";
  readonly batch: number;
}

export type Task = Matmul | Attention | LayerNorm | Softmax | Conv | TopK | Block | FashionVit;

export interface Case {
  /** Unique; also decides the operands' random numbers. */
  readonly name: string;
  readonly family: "gemm" | "attention" | "norm" | "conv" | "top-k" | "model";
  readonly task: Task;
}

const gemm = (name: string, m: number, k: number, n: number, batch?: number): Case => ({
  name: `gemm ${name} ${batch === undefined ? "" : `${batch}x`}${m}x${k}x${n}`,
  family: "gemm",
  task: { kind: "matmul", m, k, n, ...(batch !== undefined && { batch }) },
});
const attention = (heads: number, tokens: number, channels: number, causal = false): Case => ({
  name: `attention ${heads}x${tokens}x${channels}${causal ? " causal" : ""}`,
  family: "attention",
  task: { kind: "attention", heads, tokens, channels, causal },
});
const conv = (name: string, task: Omit<Conv, "kind">): Case => ({
  name: `conv ${name}`,
  family: "conv",
  task: { kind: "conv", ...task },
});
const topK = (rows: number, length: number, k: number): Case => ({
  name: `top-k ${rows}x${length} k=${k}`,
  family: "top-k",
  task: { kind: "topK", rows, length, k },
});

/** Matrices are m x k times k x n; none takes more than 1 GFLOP. */
export const cases: readonly Case[] = [
  gemm("square", 256, 256, 256),
  gemm("square", 512, 512, 512),
  gemm("tall", 2048, 128, 64),
  gemm("wide", 64, 128, 2048),
  gemm("small k", 512, 16, 512),
  gemm("split k", 16, 8192, 64),
  gemm("vector", 1, 1024, 4096),
  gemm("heads", 197, 64, 197, 6),
  gemm("qkv", 197, 384, 1152),
  gemm("fc1", 197, 384, 1536),
  gemm("fc2", 197, 1536, 384),
  gemm("odd", 197, 385, 129),
  attention(6, 197, 64),
  attention(6, 50, 64),
  attention(6, 197, 64, true),
  { name: "layer norm 197x384", family: "norm", task: { kind: "layerNorm", rows: 197, channels: 384 } },
  { name: "softmax 6x197x197", family: "norm", task: { kind: "softmax", shape: [6, 197, 197] } },
  conv("3x3 64->64 28x28", { channels: 64, out: 64, side: 28, kernel: 3, stride: 1, padding: 1 }),
  conv("patches 16x16 3->192", { channels: 3, out: 192, side: 224, kernel: 16, stride: 16, padding: 0 }),
  conv("1x1 128->128 28x28", { channels: 128, out: 128, side: 28, kernel: 1, stride: 1, padding: 0 }),
  topK(1, 1000, 10),
  topK(64, 197, 16),
  {
    name: "DeiT-Ti block 197x192",
    family: "model",
    task: { kind: "block", tokens: 197, dim: 192, heads: 3 },
  },
  { name: "Fashion ViT batch 1", family: "model", task: { kind: "fashionVit", batch: 1 } },
];

/** Architecture of examples/01-fashion-vit.ts. */
export const fashion = { dim: 64, depth: 6, heads: 4, patch: 4, side: 28, classes: 10 } as const;

/** Multiplications that a case needs; 0 where it is not about arithmetic. */
export function macsOf(task: Task): number {
  switch (task.kind) {
    case "matmul":
      return (task.batch ?? 1) * task.m * task.k * task.n;
    case "attention": {
      const scores = task.causal ? (task.tokens * (task.tokens + 1)) / 2 : task.tokens ** 2;
      return 2 * task.heads * scores * task.channels;
    }
    case "conv":
      return task.out * sideOf(task) ** 2 * task.channels * task.kernel ** 2;
    case "block":
      return blockMacs(task);
    case "fashionVit": {
      const { dim, depth, heads, patch, side, classes } = fashion;
      const patches = (side / patch) ** 2;
      const blocks = depth * blockMacs({ tokens: patches + 1, dim, heads });
      return task.batch * (patches * patch ** 2 * dim + blocks + dim * classes);
    }
    case "layerNorm":
    case "softmax":
    case "topK":
      return 0;
    default:
      return task satisfies never;
  }
}

const blockMacs = ({ tokens, dim }: Omit<Block, "kind">): number => 12 * tokens * dim ** 2 + 2 * tokens ** 2 * dim;

/** Height and width of a convolution's result. */
export const sideOf = ({ side, kernel, stride, padding }: Omit<Conv, "kind">): number =>
  Math.floor((side + 2 * padding - kernel) / stride) + 1;

/** Terms of the longest sum that a result went through, for the tolerance. */
export function termsOf(task: Task): number {
  switch (task.kind) {
    case "matmul":
      return task.k;
    case "attention":
      return task.tokens + task.channels;
    case "conv":
      return task.channels * task.kernel ** 2;
    case "layerNorm":
      return task.channels;
    case "softmax":
      return task.shape.at(-1) ?? 1;
    case "topK":
      return 1;
    case "block":
      return 4 * task.dim;
    case "fashionVit":
      return 4 * fashion.dim;
    default:
      return task satisfies never;
  }
}

/** The cases named by words of their families or names, separated by commas; all without words. */
export function selectCases(words: string | undefined): readonly Case[] {
  if (words === undefined) return cases;
  const wanted = words.split(",").map((word) => word.trim().toLowerCase());
  return cases.filter(({ name, family }) =>
    wanted.some((word) => family === word || name.toLowerCase().includes(word)),
  );
}
