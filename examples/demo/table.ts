import Table from "cli-table3";
import type { Outcome } from "./shrink.ts";

/** Both targets side by side, a row per degree of merging. */
export function tableOf(outcomes: readonly Outcome[]): string {
  const [first] = outcomes as readonly [Outcome, ...Outcome[]];
  const table = new Table({ style: { head: [], border: [] } });
  table.push(
    [
      { colSpan: 3, content: "" },
      { colSpan: 3, content: "ONNX Runtime, CPU", hAlign: "center" },
      { colSpan: 3, content: "WebGPU", hAlign: "center" },
      { content: "largest" },
    ],
    [
      "r",
      "tokens after each block",
      "M MACs",
      "nodes",
      `right of ${first.onnx.count}`,
      "ms each",
      "dispatches",
      `right of ${first.webgpu.count}`,
      "ms each",
      "difference",
    ],
  );
  for (const { r, tokens, macs, onnx, webgpu, difference } of outcomes)
    table.push([
      r,
      tokens.join(" "),
      (macs / 1e6).toFixed(2),
      onnx.nodes,
      onnx.right,
      onnx.msPerPicture.toFixed(3),
      webgpu.dispatches,
      webgpu.right,
      webgpu.msPerPicture.toFixed(2),
      difference.absolute.toExponential(1),
    ]);
  return table.toString();
}
