// `npm run demo`: a real trained vision transformer, declared in examples/01-fashion-vit.ts, compiled to ONNX and to
// WebGPU, classifies real pictures on both and then shrinks under token merging, with the accuracy beside the cost.
// `npm run demo -- --all` asks WebGPU about every picture, also where its adapter is software.
import { join, relative } from "node:path";
import { SingleBar } from "cli-progress";
import { openWebGpu, writeFileAtomically } from "tamis/runtime";
import { failuresOf } from "./demo/judge.ts";
import { reportPage } from "./demo/report.ts";
import { answer, degrees, labels, type Outcome, readPictures, type Setting, shown, shrink } from "./demo/shrink.ts";
import { tableOf } from "./demo/table.ts";

const words = process.argv.slice(2);
const out = words.find((word) => !word.startsWith("--")) ?? join(process.cwd(), "out", "demo");
const onSoftware = 100; // pictures; a software adapter takes about 20 ms each

const pictures = await readPictures();
const device = await openWebGpu().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error); // why there is no second target
  process.exit(1);
});
const { adapter } = device;
const onWebgpu = adapter.software && !words.includes("--all") ? onSoftware : pictures.count;
const bar = process.stderr.isTTY
  ? new SingleBar({ format: "{bar} {value}/{total} pictures, {doing}", clearOnComplete: true })
  : undefined;
bar?.start(degrees.length * (pictures.count + onWebgpu), 0, { doing: "" });
const progress: Setting["progress"] = (step) => {
  if ("doing" in step) bar?.update(step);
  else bar?.increment(step.pictures);
};
const outcomes: Outcome[] = [];
try {
  for (const r of degrees) outcomes.push(await shrink(r, pictures, { device, onWebgpu, out, progress }));
} finally {
  bar?.stop();
  device.close();
}

const [plain] = outcomes as [Outcome, ...Outcome[]];
const webgpu = `WebGPU, ${adapter.name}${adapter.software ? " (software)" : ""}`;
console.log("A ViT of 305,034 parameters on pictures of Fashion-MNIST, on two targets:");
console.log(`  ONNX Runtime, CPU\n  ${webgpu}\n`);
for (let i = 0; i < shown; i++) {
  const { label, confidence } = answer(plain.onnx.logits, i);
  const wanted = pictures.labels[i] as number;
  const verdict = label === wanted ? "" : `   (it is: ${labels[wanted]})`;
  console.log(
    `  picture ${String(i).padStart(2)}  ${(labels[label] ?? "").padEnd(12)} ${(100 * confidence).toFixed(1).padStart(5)} %${verdict}`,
  );
}

console.log("\nToken merging, nothing trained again: each block folds its r most similar pairs of tokens.\n");
console.log(tableOf(outcomes));
const largest = Math.max(...outcomes.map(({ difference }) => difference.absolute));
console.log(`\nThe largest difference between the logits of the two targets is ${largest.toExponential(1)}.`);
if (onWebgpu < pictures.count)
  console.log(
    `WebGPU ran ${onWebgpu} of the ${pictures.count} pictures, because its adapter is software; all: npm run demo -- --all`,
  );

const page = join(out, "report.html");
await writeFileAtomically(page, reportPage(outcomes, pictures, webgpu));
const files = [...outcomes.flatMap((o) => o.files), page];
console.log(
  `\nWritten to ${relative(process.cwd(), out) || "."}: ${files.map((path) => relative(out, path)).join(", ")}`,
);

const failures = failuresOf(outcomes);
for (const failure of failures) console.error(failure);
process.exitCode = failures.length > 0 ? 1 : 0;
