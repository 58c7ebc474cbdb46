import { Command } from "commander";
import { type ExitCode, reportFailure } from "./failure.ts";
import { say } from "./terminal.ts";
import { version } from "./version.ts";

/** Runs the command line and gives the exit status: 0 fine, 1 the user's input is wrong, 2 usage, 3 a defect of ours. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  process.stdout.off("error", endQuietly).on("error", endQuietly);
  Error.stackTraceLimit = 50; // enough to find the user's line below ours
  let status: ExitCode = 0;
  const usage: string[] = [];
  const program = buildProgram((code) => {
    status = code;
  }, usage);
  try {
    await program.parseAsync(argv, { from: "user" });
    return status;
  } catch (error) {
    return reportFailure(error, argv, usage.join("").trimEnd());
  }
}

/** `tamis inspect MODEL | head` closes the pipe before everything is written. */
function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") say(`tamis: standard output cannot be written: ${error.message}`);
  process.exit(error.code === "EPIPE" ? 0 : 3);
}

const append = (value: string, list: readonly string[] | undefined): string[] => [...(list ?? []), value];

const aModel = "model.ts (model.ts#name where it has several), an .ir file, or a compiled folder";

const withModel = (command: Command): Command =>
  withModelOptions(command.argument("<model>", aModel)).option(
    "--stop-after <stage>",
    "trace, the name of a pass, or legalize",
  );

const withModelOptions = (command: Command): Command =>
  command
    .option("--pass <spec>", "a pass and its options, such as mergeTokens:r=8 or ./mine.ts:name; order counts", append)
    .option("--set <key=value>", "an option of the model, such as depth=6; repeatable", append)
    .option("--weights <file>", ".safetensors, its index.json, .onnx, a folder that holds one, or random:SEED")
    .option("--target <target>", "what the model is for: onnx, reference or webgpu; to compile, ./mine.ts:name too")
    .option(
      "--profile <profile>",
      "of onnx: portable, ort-cuda, ort-webgpu or standard; of webgpu: portable or software",
    );

function buildProgram(exitWith: (code: ExitCode) => void, usage: string[]): Command {
  const program = new Command("tamis")
    .description("A dataflow-graph compiler for efficient transformers.")
    .version(version)
    .configureHelp({ sortSubcommands: false })
    .addHelpText("after", "\nExit status: 0 fine, 1 wrong input, 2 usage, 3 a defect of Tamis.");

  program
    .command("devices")
    .description("adapters and execution providers, with reasons for what is not there")
    .option("--json", "one JSON document on standard output")
    .action(async (options) => (await import("./devices.ts")).devicesCommand(options));

  withModel(program.command("inspect"))
    .description("the graph of a model, before and after passes")
    .option("--print-after-all", "the graph after each pass as well")
    .option("--diff", "what the passes changed, line by line")
    .option("--locations", "the source line of every node")
    .option("--kernels", "the kernels of the WebGPU target")
    .option("--trace-rules", "every rewrite that fired or was refused, and why")
    .option("--stats", "nodes, arithmetic, parameters and bytes by scope")
    .option("--bind <symbol=size>", "size of a symbol in --stats; 1 where not given; repeatable", append)
    .option("--html <file>", "a page with the graph, the passes and what they changed")
    .option("--json", "one JSON document on standard output")
    .addHelpText(
      "after",
      example(
        "tamis inspect vit.ts --stats",
        "tamis inspect vit.ts --pass mergeTokens:r=8 --diff",
        "tamis inspect vit.ts --target onnx --stop-after legalize",
      ),
    )
    .action(async (model, options) => (await import("./inspect.ts")).inspectCommand(model, options));

  withModel(program.command("compile"))
    .description("a model to an artefact: the model file, its IR, a manifest and a runner module")
    .option("-o, --output <dir>", "folder to write; replaced only if it is an earlier artefact")
    .option("--external-data <when>", "weights beside the .onnx file: auto (above 1 GiB), always or never")
    .option("--tuning <file>", "of webgpu: tiles that `tamis bench tune -o FILE` found")
    .option("--json", "one JSON document on standard output")
    .addHelpText(
      "after",
      example(
        "tamis compile vit.ts --target onnx -o out/vit",
        "tamis compile vit.ts --target onnx --profile ort-cuda --pass mergeTokens:r=8 --weights vit.safetensors -o out/vit",
        "tamis compile vit.ts --target webgpu --pass mergeTokens:r=8 -o out/vit-browser",
        "tamis compile vit.ts --stop-after trace",
      ),
    )
    .action(async (model, options) => (await import("./compile.ts")).compileCommand(model, options));

  withModel(program.command("run"))
    .description("runs a model on inputs from files or at random")
    .option("--provider <provider>", "of ONNX Runtime: cpu, webgpu or cuda", "cpu")
    .option("--input <name=value>", "name=FILE (.safetensors, .npy, .json, picture) or name=random:SEED", append)
    .option("--bind <symbol=size>", "size of a symbol in random inputs; 1 where not given; repeatable", append)
    .option("--repeat <n>", "run this often and report the times", "1")
    .option("--threads <n>", "threads of one operator")
    .option("--profile-kernels", "time of each kernel on the device (--target webgpu), with --repeat the median")
    .option("--no-tuning", "of webgpu: the default tiles, not those that `tamis bench tune` found on this adapter")
    .option("--output <dir>", "folder for outputs of more than 4096 elements (with --json)")
    .option("--save <file>", "all outputs as .safetensors")
    .option("--json", "one JSON document on standard output")
    .addHelpText(
      "after",
      example(
        "tamis run vit.ts --input image=cat.png",
        "tamis run out/vit --input image=random:1 --repeat 20",
        "tamis run vit.ts --target reference --input image=random:1 --bind batch=2 --save out.safetensors",
      ),
    )
    .action(async (model, options) => (await import("./run.ts")).runCommand(model, options));

  withModel(program.command("eval"))
    .description("accuracy of a classifier on labelled pictures or other examples")
    .requiredOption(
      "--data <data>",
      "a folder with a folder of pictures per class or a labels.csv, .safetensors, idx files, or a .ts module",
    )
    .option("--provider <provider>", "of ONNX Runtime: cpu, webgpu or cuda", "cpu")
    .option("--limit <n>", "at most this many examples")
    .option("--batch <n>", "examples in one run (32)")
    .option("--json", "one JSON document on standard output")
    .addHelpText(
      "after",
      example(
        "tamis eval vit.ts --data pictures/test",
        "tamis eval vit.ts --data pictures/test --pass mergeTokens:r=8 --target webgpu --limit 500",
        "tamis eval out/vit --data ./examples.ts --json",
      ),
    )
    .action(async (model, options) => exitWith(await (await import("./eval.ts")).evalCommand(model, options)));

  program
    .command("conform")
    .description("runs reference vectors through our implementation")
    .argument("<dir...>", "folders that hold .safetensors vectors")
    .option("--component <names>", "only these components, separated by commas")
    .option("--outputs-only", "leave out gradients")
    .option("--target <target>", "reference, webgpu or onnx; repeatable; all by default", append)
    .option("--built", "every component that is built")
    .option("--json", "one JSON document on standard output")
    .addHelpText("after", example("tamis conform test/vectors --target reference --component tome"))
    .action(async (dirs, options) =>
      exitWith((await (await import("../conform/command.ts")).conformCommand(dirs, await own(options))) === 0 ? 0 : 1),
    );

  program
    .command("fuzz")
    .description("random graphs through every judge, differences shrunk to IR text")
    .option("--count <n>", "graphs", "200")
    .option("--seed <n>", "of the first graph", "1")
    .option("--nodes <n>", "nodes of a graph")
    .option("--json", "one JSON document on standard output")
    .addHelpText("after", example("tamis fuzz --count 500 --seed 7"))
    .action(async (options) =>
      exitWith((await (await import("../conform/fuzz.ts")).fuzzCommand(await own(options))) === 0 ? 0 : 1),
    );

  withModelOptions(
    program
      .command("bench")
      .description("how long compiling and running take, ours and others'")
      .argument("[what]", "compile, run, peers or tune", "compile")
      .argument("[models...]", `of compile, run and tune: ${aModel}; models of ours without it`),
  )
    .option("--provider <provider>", "of ONNX Runtime: cpu, webgpu or cuda")
    .option("--bind <symbol=size>", "run, tune: size of a symbol in the inputs; 1 where not given; repeatable", append)
    .option("--only <words>", "peers: cases of these families or names, separated by commas")
    .option("--peers <names>", "peers: of ours, jax, tfjs and ort, separated by commas")
    .option("--rounds <n>", "peers: turns of each framework in each case; tune: of each tile (7 to 40)")
    .option("--base <dir>", "peers: another checkout of tamis, to see what a change did")
    .option("--budget <ms>", "peers: time of one framework in one case")
    .option("--markdown <file>", "peers: writes the results into the marked part of this page")
    .option("-o, --output <file>", "tune: writes the choices here, for `compile --tuning`, and not into the cache")
    .option("--json", "one JSON document on standard output")
    .addHelpText(
      "after",
      example(
        "tamis bench compile",
        "tamis bench run vit.ts --pass mergeTokens:r=8",
        "tamis bench peers --only gemm",
        "tamis bench tune vit.ts --pass mergeTokens:r=8 --bind batch=4",
      ),
    )
    .action(async (what, models, options) =>
      exitWith(await (await import("./bench.ts")).benchCommand(what, models, options)),
    );

  program
    .command("explain")
    .description("what an error code means and what to do about it")
    .argument("[code]", "the word in brackets of an error; without it, all codes")
    .addHelpText("after", example("tamis explain shape-mismatch"))
    .action(async (code) => (await import("./explain.ts")).explainCommand(code));

  for (const command of [program, ...program.commands])
    command
      .exitOverride()
      .showHelpAfterError("(--help says more)")
      .configureOutput({ writeErr: (text) => void usage.push(text) });
  return program;
}

/** Options with the composites of the nearest tamis.config.ts. */
async function own<Options extends object>(options: Options) {
  const { composites } = await (await import("./project.ts")).loadProject();
  return { ...options, composites };
}

const example = (...commands: readonly string[]): string =>
  `\nExamples:\n${commands.map((command) => `  ${command}`).join("\n")}`;
