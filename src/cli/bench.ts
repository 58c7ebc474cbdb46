import { compileError } from "../index.ts";
import { readChoice } from "./choice.ts";

const kinds = ["compile", "run", "peers", "methods", "tune"] as const;

/** `tamis bench compile|run`: medians on this machine. The other kinds come with what they measure. */
export async function benchCommand(what: string, options: { readonly json?: boolean }): Promise<void> {
  const kind = readChoice("benchmark", what, kinds);
  switch (kind) {
    case "compile":
      return (await import("./benchCompile.ts")).benchCompile(options);
    case "run":
      return (await import("./benchRun.ts")).benchRun(options);
    default: {
      const comesWith = {
        peers: "the comparison with other compilers",
        methods: "the paper methods",
        tune: "the WebGPU target",
      };
      throw compileError("not-available", `bench ${kind} comes with ${comesWith[kind]}, which is not built yet`);
    }
  }
}
