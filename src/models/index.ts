export * from "./count.ts";
export * from "./vit.ts";
