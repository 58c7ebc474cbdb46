// The demo's page: one file with pictures, the patches that became one token, and accuracy against arithmetic.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { answer, labels, type Outcome, type Pictures, shown } from "./shrink.ts";

const library = (path: string): string => readFileSync(createRequire(import.meta.url).resolve(path), "utf8");

export function reportPage(outcomes: readonly Outcome[], pictures: Pictures, webgpu: string): string {
  const data = {
    labels,
    outcomes: outcomes.map(({ r, tokens, macs, irNodes, onnx, webgpu, difference, groups }) => ({
      r,
      tokens,
      macs,
      irNodes,
      onnx: { ...onnx, logits: undefined },
      webgpu: { ...webgpu, logits: undefined },
      difference: difference.absolute,
      groups,
      answers: Array.from({ length: shown }, (_, i) => answer(onnx.logits, i)),
    })),
    count: pictures.count,
    pictures: Array.from({ length: shown }, (_, i) => ({
      label: pictures.labels[i],
      pixels: Buffer.from(pictures.pixels.subarray(i * 784, (i + 1) * 784)).toString("base64"),
    })),
  };
  const asked = outcomes[0]?.webgpu.count ?? 0;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tamis: a ViT under token merging</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>${library("uplot/dist/uPlot.min.css")}${style}</style></head>
<body><h1>A vision transformer under token merging</h1>
<p>Fashion-MNIST ViT (305,034 parameters), first ${pictures.count} test pictures on ONNX Runtime, CPU;
the first ${asked} on ${webgpu}. Every block merges the <i>r</i> most similar pairs of its tokens (ToMe); nothing was trained again.</p>
<h2>What became one</h2>
<p><label>r = <select id="degree"></select></label> <span id="tokens"></span></p>
<div id="pictures"></div>
<h2>Accuracy against arithmetic</h2><div id="plot"></div>
<table id="table"><thead><tr><th colspan="4"></th><th colspan="3">ONNX Runtime, CPU</th><th colspan="3">WebGPU</th><th>largest</th></tr>
<tr><th>r</th><th>tokens after each block</th><th>M MACs</th><th>IR nodes</th><th>nodes</th><th>right of ${pictures.count}</th>
<th>ms each</th><th>dispatches</th><th>right of ${asked}</th><th>ms each</th><th>difference</th></tr></thead><tbody></tbody></table>
<script>${library("uplot/dist/uPlot.iife.min.js")}</script>
<script type="application/json" id="data">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
<script>${script}</script></body></html>
`;
}

const style = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
#pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
figure { margin: 0; } canvas { width: 100%; image-rendering: pixelated; border: 1px solid #ccc; }
.uplot canvas { border: 0; }
figcaption { font-size: 13px; } .wrong { color: #b00; }
table { border-collapse: collapse; margin-top: 1rem; } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }`;

// Patches of one token are filled with their mean brightness, and a line is drawn where the token changes.
const script = `
const data = JSON.parse(document.getElementById("data").textContent);
const select = document.getElementById("degree"), box = document.getElementById("pictures"), scale = 8;
for (const o of data.outcomes) select.add(new Option(String(o.r), String(o.r)));
const pixels = data.pictures.map((p) => Uint8Array.from(atob(p.pixels), (c) => c.charCodeAt(0)));
function draw(canvas, picture, groups) {
  const g = canvas.getContext("2d"), sums = new Map();
  const patch = (x, y) => groups[1 + Math.floor(y / 4) * 7 + Math.floor(x / 4)];
  const sizes = new Map();
  for (const t of groups.slice(1)) sizes.set(t, (sizes.get(t) || 0) + 1);
  for (let y = 0; y < 28; y++) for (let x = 0; x < 28; x++) {
    const s = sums.get(patch(x, y)) || [0, 0];
    sums.set(patch(x, y), [s[0] + picture[y * 28 + x], s[1] + 1]);
  }
  for (let y = 0; y < 28; y++) for (let x = 0; x < 28; x++) {
    const t = patch(x, y), own = picture[y * 28 + x], [sum, n] = sums.get(t);
    const v = Math.round(sizes.get(t) > 1 ? 0.35 * own + 0.65 * sum / n : own);
    g.fillStyle = "rgb(" + v + "," + v + "," + v + ")";
    g.fillRect(x * scale, y * scale, scale, scale);
  }
  g.fillStyle = "#e8590c";
  for (let y = 0; y < 28; y += 4) for (let x = 0; x < 28; x += 4) {
    if (x + 4 < 28 && patch(x, y) !== patch(x + 4, y)) g.fillRect((x + 4) * scale - 1, y * scale, 2, 4 * scale);
    if (y + 4 < 28 && patch(x, y) !== patch(x, y + 4)) g.fillRect(x * scale, (y + 4) * scale - 1, 4 * scale, 2);
  }
}
function show() {
  const o = data.outcomes.find((o) => String(o.r) === select.value);
  document.getElementById("tokens").textContent = "tokens after each block: " + o.tokens.join(", ");
  box.replaceChildren(...data.pictures.map((p, i) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = 28 * scale;
    draw(canvas, pixels[i], o.groups[i]);
    const caption = document.createElement("figcaption"), a = o.answers[i];
    caption.textContent = data.labels[a.label] + " " + Math.round(100 * a.confidence) + " %" + (a.label === p.label ? "" : " (is " + data.labels[p.label] + ")");
    if (a.label !== p.label) caption.className = "wrong";
    figure.append(canvas, caption);
    return figure;
  }));
}
select.value = String(data.outcomes.at(-1).r);
select.onchange = show;
show();
const body = document.querySelector("#table tbody");
for (const o of data.outcomes) {
  const row = body.insertRow();
  for (const cell of [o.r, o.tokens.join(" "), (o.macs / 1e6).toFixed(2), o.irNodes, o.onnx.nodes, o.onnx.right, o.onnx.msPerPicture.toFixed(3), o.webgpu.dispatches, o.webgpu.right, o.webgpu.msPerPicture.toFixed(2), o.difference.toExponential(1)]) row.insertCell().textContent = cell;
}
const byCost = [...data.outcomes].sort((a, b) => a.macs - b.macs);
new uPlot({ width: 640, height: 320, scales: { x: { time: false }, y: { range: [80, 100] } },
  axes: [{ label: "million multiply-accumulates a picture" }, { label: "accuracy, %" }],
  series: [{ label: "M MACs" }, { label: "accuracy", stroke: "#e8590c", width: 2, points: { show: true, size: 8 } }] },
  [byCost.map((o) => o.macs / 1e6), byCost.map((o) => 100 * o.onnx.right / data.count)], document.getElementById("plot"));
`;
