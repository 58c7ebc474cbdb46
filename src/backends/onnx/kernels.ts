import type { DType } from "../../ir/type.ts";

/**
 * Element types that ONNX Runtime's CPU provider has a kernel for (or, f16, casts around by itself), by operator;
 * operators not named take them all. Measured with onnxruntime-node 1.30.0, one model per operator and dtype.
 */
const kernels: Readonly<Record<string, string>> = {
  Neg: "f32 f64 f16 i64 i32 i16 i8",
  Erf: "f32 f16",
  Softplus: "f32 f16",
  Exp: "f32 f64 f16",
  Log: "f32 f64 f16",
  Sqrt: "f32 f64 f16",
  Reciprocal: "f32 f64 f16",
  Sin: "f32 f64 f16",
  Cos: "f32 f64 f16",
  Tanh: "f32 f64 f16",
  Sigmoid: "f32 f64 f16",
  Floor: "f32 f64 f16",
  Ceil: "f32 f64 f16",
  Round: "f32 f64 f16",
  IsNaN: "f32 f64 f16",
  IsInf: "f32 f64",
  Relu: "f32 f64 f16 i32 i8",
  BitShift: "u32 u8",
  Pow: "f32 f64 f16",
  Min: "f32 f64 f16 i64 i32 i8 u32 u8",
  Max: "f32 f64 f16 i64 i32 i8 u32 u8",
  Where: "f32 f64 f16 i64 i32 u8",
  MatMul: "f32 f64 f16 i64 i32 u32",
  Gemm: "f32 f64 f16",
  ReduceSum: "f32 f64 f16 i64 i32",
  ReduceMean: "f32 f64 f16",
  ReduceMax: "f32 f64 f16 i64 i32 i8 u8",
  ReduceMin: "f32 f64 f16 i64 i32 i8 u8",
  ReduceProd: "f32 f64 f16 i64 i32",
  ReduceLogSumExp: "f32 f64 f16",
  ReduceL2: "f32 f64 f16",
  ArgMax: "f32 f64 f16 i64 i32 i8 u8",
  ArgMin: "f32 f64 f16 i64 i32 i8 u8",
  CumSum: "f32 f64 f16 i64 i32",
  TopK: "f32 f64 f16 i64 i32 i16 i8 u8",
  ScatterND: "f32 f64 i64 i32 i16 i8 u32 u16 u8",
  Pad: "f32 f64 f16 i64 i32 i8 u32 u8 bool",
  Range: "f32 f64 i64 i32 i16",
  Softmax: "f32 f64 f16",
  LogSoftmax: "f32 f64 f16",
  LayerNormalization: "f32 f64 f16",
  BatchNormalization: "f32 f64 f16",
  InstanceNormalization: "f32 f16",
  GroupNormalization: "f32 f16",
  RMSNormalization: "f32 f64 f16",
  RotaryEmbedding: "f32 f16",
  Attention: "f32 f16",
  MaxPool: "f32 f64 f16 i8 u8",
  AveragePool: "f32 f16",
  Conv: "f32 f16",
  ConvTranspose: "f32 f16",
  Resize: "f32 f16",
  Gelu: "f32 f16",
};

const all: readonly DType[] = ["f32", "f64", "f16", "i64", "i32", "i16", "i8", "u32", "u16", "u8", "bool"];

/** Types in which every value and every wrapped result of another type can be computed. */
const wider: Partial<Readonly<Record<DType, readonly DType[]>>> = {
  bool: ["u8", "i32"],
  u8: ["i32"],
  i8: ["i32"],
  u16: ["i32"],
  i16: ["i32"],
  u32: ["i64"],
  i32: ["i64"],
  f16: ["f32"],
  bf16: ["f32"],
};

/** The type an operator computes elements of `dtype` in: itself, or a wider one to cast to and back; undefined: none. */
export function workType(op: string, dtype: DType): DType | undefined {
  const has = (d: DType) => (kernels[op]?.split(" ") ?? all).includes(d);
  return has(dtype) ? dtype : wider[dtype]?.find(has);
}
