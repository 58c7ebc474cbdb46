import { compileError } from "../index.ts";
import type { PeersOptions } from "./benchPeers.ts";
import { readChoice } from "./choice.ts";
import type { ExitCode } from "./failure.ts";

const kinds = ["compile", "run", "peers", "methods", "tune"] as const;

/** `tamis bench compile|run|peers`: medians on this machine. The other kinds come with what they measure. */
export async function benchCommand(what: string, options: PeersOptions): Promise<ExitCode> {
  const kind = readChoice("benchmark", what, kinds);
  switch (kind) {
    case "compile":
      await (await import("./benchCompile.ts")).benchCompile(options);
      return 0;
    case "run":
      await (await import("./benchRun.ts")).benchRun(options);
      return 0;
    case "peers":
      return (await import("./benchPeers.ts")).benchPeers(options);
    default: {
      const comesWith = { methods: "the paper methods", tune: "the WebGPU target" };
      throw compileError("not-available", `bench ${kind} comes with ${comesWith[kind]}, which is not built yet`);
    }
  }
}
