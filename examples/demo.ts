// `npm run demo`: a real trained vision transformer, declared in examples/01-fashion-vit.ts, compiled to ONNX,
// classifies real pictures and then shrinks under token merging, with the accuracy beside the cost.
import { join, relative } from "node:path";
import { SingleBar } from "cli-progress";
import Table from "cli-table3";
import { writeFileAtomically } from "tamis/runtime";
import { reportPage } from "./demo/report.ts";
import { answer, degrees, expectedRight, labels, type Outcome, readPictures, shown, shrink } from "./demo/shrink.ts";

const out = process.argv[2] ?? join(process.cwd(), "out", "demo");
const provider = "ONNX Runtime, CPU";

const pictures = await readPictures();
const bar = process.stderr.isTTY
  ? new SingleBar({ format: "{bar} {value}/{total} pictures", clearOnComplete: true })
  : undefined;
bar?.start(degrees.length * pictures.count, 0);
const outcomes: Outcome[] = [];
for (const r of degrees) outcomes.push(await shrink(r, pictures, out, () => bar?.increment(50)));
bar?.stop();

const [plain] = outcomes as [Outcome, ...Outcome[]];
console.log(`${provider}: a ViT of 305,034 parameters on pictures of Fashion-MNIST\n`);
for (let i = 0; i < shown; i++) {
  const { label, confidence } = answer(plain.logits, i);
  const wanted = pictures.labels[i] as number;
  const verdict = label === wanted ? "" : `   (it is: ${labels[wanted]})`;
  console.log(
    `  picture ${String(i).padStart(2)}  ${(labels[label] ?? "").padEnd(12)} ${(100 * confidence).toFixed(1).padStart(5)} %${verdict}`,
  );
}

console.log("\nToken merging, nothing trained again: each block folds its r most similar pairs of tokens.\n");
const table = new Table({
  head: [
    "r",
    "tokens after each block",
    "M MACs",
    "IR nodes",
    "ONNX nodes",
    `right of ${pictures.count}`,
    "ms a picture",
  ],
  style: { head: [], border: [] },
});
for (const { r, tokens, macs, irNodes, onnxNodes, right, msPerPicture } of outcomes)
  table.push([r, tokens.join(" "), (macs / 1e6).toFixed(2), irNodes, onnxNodes, right, msPerPicture.toFixed(3)]);
console.log(table.toString());

const page = join(out, "report.html");
await writeFileAtomically(page, reportPage(outcomes, pictures, provider));
const files = [...outcomes.flatMap((o) => o.files), page];
console.log(
  `\nWritten to ${relative(process.cwd(), out) || "."}: ${files.map((path) => relative(out, path)).join(", ")}`,
);

const wrong = outcomes.filter((o, i) => o.right !== expectedRight[i]);
for (const { r, right } of wrong)
  console.error(
    `r = ${r}: ${right} right answers, but the authors' code gives ${expectedRight[degrees.indexOf(r as 0)]}`,
  );
process.exitCode = wrong.length > 0 ? 1 : 0;
