export * from "./clip.ts";
export * from "./count.ts";
export * from "./llama.ts";
export * from "./vit.ts";
export * from "./weights/clipNames.ts";
export * from "./weights/huggingFace.ts";
export * from "./weights/llamaNames.ts";
