// The page: a picture and r in, label, merged patches and time out.
import { type BrowserModel, CompileError, loadModel, openDevice } from "tamis/browser";
import { drawGrey, type GreyPicture, hasLightGround, inverted, readPicture, side } from "./picture.ts";
import { drawGroups, groupsOf, sizesOf } from "./tokens.ts";

/** demo.json: what was compiled, and pictures to try. */
interface Demo {
  readonly degrees: readonly number[];
  readonly profiles: readonly string[];
  /** Pixels are 784 bytes in base64. */
  readonly samples: readonly { readonly label: string; readonly pixels: string }[];
}

const element = <E extends HTMLElement>(id: string): E => document.getElementById(id) as E;
const page = {
  adapter: element("adapter"),
  error: element("error"),
  code: element("error-code"),
  message: element("error-message"),
  help: element("error-help"),
  drop: element("drop"),
  file: element<HTMLInputElement>("file"),
  canvas: element<HTMLCanvasElement>("picture"),
  overlay: element<HTMLInputElement>("overlay"),
  invert: element<HTMLInputElement>("invert"),
  groups: element("groups"),
  samples: element("samples"),
  degrees: element("degrees"),
  progress: element<HTMLProgressElement>("progress"),
  answer: element("answer"),
  label: element("label"),
  time: element("time"),
  classes: element("classes"),
  tried: element("tried"),
};

let picture: GreyPicture | undefined;
let groups: readonly number[] = [];
let turn = 0;

async function begin(): Promise<void> {
  const answer = await fetch("demo.json");
  if (!answer.ok) throw new Error(`demo.json cannot be read: the server answers ${answer.status}`);
  const { degrees, profiles, samples } = (await answer.json()) as Demo;
  listen();
  addSamples(samples);
  const { device, adapter, software } = await openDevice();
  const profile = software && profiles.includes("software") ? "software" : (profiles[0] ?? "portable");
  page.adapter.textContent = `Running on ${adapter}${software ? ", in software: a graphics card is many times faster" : ""}.`;
  device.lost.then(({ reason, message }) => {
    if (reason !== "destroyed") showError(new Error(`the graphics device was lost: ${message} Load the page again.`));
  });
  const models = new Map<number, Promise<BrowserModel>>();
  modelFor = (r) => {
    const known = models.get(r);
    if (known !== undefined) return known;
    const loading = loadModel(`models/${profile}-r${r}/`, { device, onProgress: showProgress });
    models.set(r, loading);
    loading.catch(() => models.delete(r)); // so that it can be tried again
    return loading;
  };
  addDegrees(degrees);
  await show();
}

let modelFor: ((r: number) => Promise<BrowserModel>) | undefined;
const chosenDegree = (): number => Number(page.degrees.querySelector<HTMLInputElement>(":checked")?.value ?? 0);

/** Runs the picture at the chosen r, unless something newer is asked for meanwhile. */
async function show(): Promise<void> {
  draw();
  if (picture === undefined || modelFor === undefined) return;
  const mine = ++turn;
  const r = chosenDegree();
  page.answer.setAttribute("aria-busy", "true");
  try {
    const model = await modelFor(r);
    if (mine !== turn) return;
    page.progress.hidden = true;
    const image = inputOf(model, picture);
    await model.run({ image }); // the first run at a size lays out memory
    const start = performance.now();
    const { logits, tokenSource } = await model.run({ image });
    const timeMs = performance.now() - start;
    if (mine !== turn || logits === undefined || tokenSource === undefined) return;
    const tokens = tokenSource.shape[1] ?? 0;
    groups = groupsOf(tokenSource.data as Float32Array, tokens);
    page.error.hidden = true;
    showAnswer(model, logits.data as Float32Array, { r, tokens, timeMs });
    draw();
  } catch (error) {
    if (mine === turn) showError(error);
  } finally {
    if (mine === turn) {
      page.answer.setAttribute("aria-busy", "false");
      page.progress.hidden = true;
    }
  }
}

/** (pixel / 255 - mean) / std, as the model was trained. */
function inputOf({ pictures }: BrowserModel, { pixels }: GreyPicture) {
  const [mean = 0, std = 1] = [pictures["image"]?.mean[0], pictures["image"]?.std[0]];
  return { data: Float32Array.from(pixels, (pixel) => (pixel / 255 - mean) / std), shape: [1, 1, side, side] };
}

function showAnswer(
  { labels, dispatches }: BrowserModel,
  logits: Float32Array,
  { r, tokens, timeMs }: { readonly r: number; readonly tokens: number; readonly timeMs: number },
): void {
  const peak = Math.max(...logits);
  const weights = Array.from(logits, (x) => Math.exp(x - peak));
  const total = weights.reduce((sum, x) => sum + x, 0);
  const ranked = labels
    .map((label, k) => ({ label, logit: logits[k] ?? 0, probability: (weights[k] ?? 0) / total }))
    .sort((a, b) => b.logit - a.logit);
  const [best] = ranked;
  if (best === undefined) return;
  const truth = picture?.truth;
  const judged = truth === undefined ? "" : truth === best.label ? " ✓" : ` (it is: ${truth})`;
  page.label.textContent = `${best.label}, ${percent(best.probability)}${judged}`;
  page.time.textContent = `${timeMs.toFixed(1)} ms for ${dispatches} kernels and reading the answer back; ${tokens} of 50 tokens left.`;
  page.classes.replaceChildren(
    ...ranked.map(({ label, logit, probability }) => {
      const row = document.createElement("li");
      const meter = document.createElement("meter");
      meter.value = probability;
      row.dataset["label"] = label;
      row.dataset["logit"] = String(logit);
      row.append(span(label), meter, span(percent(probability)));
      return row;
    }),
  );
  const row = document.createElement("tr");
  row.dataset["r"] = String(r);
  for (const text of [r, `${best.label}, ${percent(best.probability)}`, tokens, dispatches, timeMs.toFixed(1)])
    row.append(Object.assign(document.createElement("td"), { textContent: String(text) }));
  page.tried.querySelector(`[data-r="${r}"]`)?.remove();
  page.tried.append(row);
  page.tried.append(...[...page.tried.children].sort((a, b) => rowDegree(a) - rowDegree(b)));
}

const rowDegree = (row: Element): number => Number((row as HTMLElement).dataset["r"]);
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
const span = (text: string): HTMLSpanElement => Object.assign(document.createElement("span"), { textContent: text });

function draw(): void {
  if (picture === undefined) return;
  if (page.overlay.checked && groups.length > 0) drawGroups(page.canvas, picture, groups);
  else drawGrey(page.canvas, picture);
  const sizes = [...sizesOf(groups).values()].filter((size) => size > 1);
  page.groups.textContent =
    groups.length === 0
      ? ""
      : sizes.length === 0
        ? "No patches were merged."
        : `${sizes.length} groups of merged patches, the largest of ${Math.max(...sizes)}; one colour a group.`;
  page.canvas.setAttribute("aria-label", `the picture; ${page.groups.textContent}`);
}

function showProgress({ loaded, total }: { readonly loaded: number; readonly total: number }): void {
  page.progress.hidden = false;
  page.progress.max = total;
  page.progress.value = loaded;
}

function showError(error: unknown): void {
  const [found] = error instanceof CompileError ? error.diagnostics : [];
  page.error.hidden = false;
  page.error.dataset["code"] = found?.code ?? "";
  page.code.textContent = found?.code ?? "";
  page.message.textContent = found?.message ?? (error instanceof Error ? error.message : String(error));
  page.help.textContent = found?.help ?? "";
}

async function choose(next: GreyPicture, pressed?: HTMLElement): Promise<void> {
  for (const button of page.samples.children) button.setAttribute("aria-pressed", String(button === pressed));
  page.invert.checked = pressed === undefined && hasLightGround(next);
  picture = page.invert.checked ? inverted(next) : next;
  groups = [];
  page.tried.replaceChildren();
  await show();
}

async function chooseFile(file: Blob | null | undefined): Promise<void> {
  if (file === null || file === undefined) return;
  try {
    await choose(await readPicture(file));
  } catch (error) {
    showError(error);
  }
}

function addSamples(samples: Demo["samples"]): void {
  for (const { label, pixels } of samples) {
    const sample = { pixels: Uint8Array.from(atob(pixels), (c) => c.charCodeAt(0)), truth: label };
    const button = Object.assign(document.createElement("button"), { type: "button", title: label });
    button.setAttribute("aria-label", label);
    button.setAttribute("aria-pressed", "false");
    const canvas = document.createElement("canvas");
    drawGrey(canvas, sample);
    button.append(canvas);
    button.addEventListener("click", () => choose(sample, button));
    page.samples.append(button);
  }
}

function addDegrees(degrees: readonly number[]): void {
  degrees.forEach((r, k) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "r", value: String(r) });
    input.checked = k === degrees.length - 1;
    const label = document.createElement("label");
    label.append(input, span(String(r)));
    page.degrees.append(label);
  });
  page.degrees.addEventListener("change", show);
}

function listen(): void {
  page.file.addEventListener("change", () => chooseFile(page.file.files?.[0]));
  page.overlay.addEventListener("change", draw);
  page.invert.addEventListener("change", () => {
    if (picture !== undefined) picture = inverted(picture);
    groups = [];
    page.tried.replaceChildren();
    return show();
  });
  addEventListener("paste", (event) => chooseFile(event.clipboardData?.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    page.drop.classList.add("over");
  });
  addEventListener("dragleave", () => page.drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    page.drop.classList.remove("over");
    return chooseFile(event.dataTransfer?.files[0]);
  });
}

begin().catch(showError);
