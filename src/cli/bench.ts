import { compileError } from "../index.ts";
import type { BenchModelOptions } from "./benchModel.ts";
import type { PeersOptions } from "./benchPeers.ts";
import type { TuneOptions } from "./benchTune.ts";
import { readChoice } from "./choice.ts";
import { type ExitCode, usageError } from "./failure.ts";

const modelOptions = ["pass", "set", "weights", "target", "profile", "provider", "bind"] as const;
const kinds = ["compile", "run", "peers", "methods", "tune"] as const;

/**
 * `tamis bench compile|run|peers|tune`: times on this machine, of models of ours or of those given. The other kind comes
 * with what it measures.
 */
export async function benchCommand(
  what: string,
  models: readonly string[],
  options: PeersOptions & BenchModelOptions & TuneOptions,
): Promise<ExitCode> {
  const kind = readChoice("benchmark", what, kinds);
  if (kind === "tune") {
    await (await import("./benchTune.ts")).benchTune(models, options);
    return 0;
  }
  const [model, ...more] = models;
  if (more.length > 0) throw usageError(`bench ${kind} takes one model, got ${models.length}`);
  if (model !== undefined && (kind === "compile" || kind === "run")) {
    const { benchCompileModel, benchRunModel } = await import("./benchModel.ts");
    await (kind === "compile" ? benchCompileModel : benchRunModel)(model, options);
    return 0;
  }
  if (model !== undefined) throw usageError(`bench ${kind} takes no model`);
  const ofModel = modelOptions.find((name) => options[name] !== undefined);
  if (ofModel !== undefined)
    throw usageError(`--${ofModel} is an option of a model: tamis bench compile|run MODEL --${ofModel} ...`);
  switch (kind) {
    case "compile":
      await (await import("./benchCompile.ts")).benchCompile(options);
      return 0;
    case "run":
      await (await import("./benchRun.ts")).benchRun(options);
      return 0;
    case "peers":
      return (await import("./benchPeers.ts")).benchPeers(options);
    default:
      throw compileError("not-available", `bench ${kind} comes with the paper methods, which are not built yet`);
  }
}
