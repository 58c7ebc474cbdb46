/** One block with one head under a mean read-out, r = 2: five tokens become three, the mean counts patches. */
export const mergeExample = {
  before: `
graph @block(%x: f32[1,5,4]) {
  %gain = parameter() : f32[4]
  %bias = parameter() : f32[4]
  %0 = layerNorm(%x, %gain, %bias) {epsilon=0.000001} : f32[1,5,4]
  %1 = reshape(%0) {shape=[1,1,5,4]} : f32[1,1,5,4]
  %2 = attention(%1, %1, %1) {scale=0.5} : f32[1,1,5,4]
  %3 = reshape(%2) {shape=[1,5,4]} : f32[1,5,4]
  %4 = add(%x, %3) : f32[1,5,4]
  %5 = reduceMean(%4) {axes=[1]} : f32[1,4]
  return pooled: %5
}`,
  after: `
graph @block(%x: f32[1,5,4]) {
  %gain = parameter() : f32[4]
  %bias = parameter() : f32[4]
  %0 = layerNorm(%x, %gain, %bias) {epsilon=0.000001} : f32[1,5,4]
  %1 = reshape(%0) {shape=[1,1,5,4]} : f32[1,1,5,4]
  %2 = attention(%1, %1, %1) {scale=0.5} : f32[1,1,5,4]
  %3 = reshape(%2) {shape=[1,5,4]} : f32[1,5,4]
  %4 = add(%x, %3) : f32[1,5,4]
  %5 = reduceMean(%1) {axes=[1]} : f32[1,5,4]
  %6, %7, %8 = tokenMatch(%5) {r=2} : i32[1,1], i32[1,2], i32[1,2]
  %9 = tokenMerge(%4, %6, %7, %8) : f32[1,3,4]
  %10 = constant() {data=[1]} : f32[]
  %11 = broadcast(%10) {shape=[1,5,1], axes=[0,1,2]} : f32[1,5,1]
  %12 = tokenMerge(%11, %6, %7, %8) : f32[1,3,1]
  %13 = reshape(%12) {shape=[1,3]} : f32[1,3]
  %14 = broadcast(%13) {shape=[1,3,4], axes=[2]} : f32[1,3,4]
  %15 = div(%9, %14) : f32[1,3,4]
  %16 = mul(%15, %14) : f32[1,3,4]
  %17 = reduceSum(%16) {axes=[1]} : f32[1,4]
  %18 = constant() {data=[5]} : f32[]
  %19 = broadcast(%18) {shape=[1,4], axes=[0,1]} : f32[1,4]
  %20 = div(%17, %19) : f32[1,4]
  return pooled: %20
}`,
} as const;
