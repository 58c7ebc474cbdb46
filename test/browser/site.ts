import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Page } from "playwright-core";
import { expect } from "vitest";
import { buildDemo } from "../../examples/browser/build.ts";
import { serveFolder } from "../../examples/browser/serve.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import type { TensorData } from "../../src/ir/type.ts";
import { openSafetensors } from "../../src/runtime/node/index.ts";
import { openChromium } from "./chromium.ts";

export const runtimeFile = fileURLToPath(new URL("../../src/runtime/browser/index.ts", import.meta.url));

/** The demo page, served from a temporary folder to a browser of its own. */
export interface Site {
  /** What is served. */
  readonly folder: string;
  readonly address: string;
  /** What its pages asked for, and what they said that they should not. */
  readonly asked: readonly string[];
  readonly complaints: readonly string[];
  /** A new page, once it shows its samples; `prepare` runs before anything is loaded. */
  openPage(prepare?: (page: Page) => Promise<unknown>): Promise<Page>;
  close(): Promise<void>;
}

/** Beside the page lies runtime.js, which puts tamis/browser on the global `tamisBrowser`. */
export async function openSite(degrees: readonly number[]): Promise<Site> {
  const temporary = await mkdtemp(join(tmpdir(), "tamis-browser-"));
  const folder = join(temporary, "site");
  const [browser] = await Promise.all([openChromium(), buildDemo(folder, { degrees, profiles: ["software"] })]);
  await build({
    entryPoints: [runtimeFile],
    outfile: join(folder, "runtime.js"),
    bundle: true,
    format: "iife",
    globalName: "tamisBrowser",
    logLevel: "warning",
  });
  const { server, address } = await serveFolder(folder, 0);
  const asked: string[] = [];
  const complaints: string[] = [];
  return {
    folder,
    address,
    asked,
    complaints,
    async openPage(prepare = async () => undefined) {
      const page = await browser.newPage({ locale: "en-US", viewport: { width: 1000, height: 860 } });
      page.on("request", (request) => asked.push(request.url()));
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(message.text());
      });
      await prepare(page);
      await page.goto(address);
      await page.waitForSelector("#samples button");
      return page;
    },
    async close() {
      await browser.close();
      server.close();
      await rm(temporary, { recursive: true, force: true });
    },
  };
}

/** Logits of one picture of the first test pictures, in f64 by the authors' merge code; examples/data/README.md. */
export async function golden(r: number, picture: number): Promise<{ pixels: Uint8Array; logits: TensorData }> {
  const file = await openSafetensors("examples/data/fashion-vit-expected.safetensors");
  const pixels = await file.tensors.get("in.images")?.read(picture * 784, (picture + 1) * 784);
  const logits = await file.tensors.get(`out.logits_r${r}`)?.read(picture * 10, (picture + 1) * 10);
  await file.close();
  return { pixels: pixels?.values as Uint8Array, logits: logits as TensorData };
}

/** Pixels as the model takes them. */
export const normalized = (pixels: Uint8Array): readonly number[] => [...pixels].map((x) => (x / 255 - 0.286) / 0.353);

/** Row-major logits of one picture or several. */
export function expectLogits(got: Iterable<number>, ...wanted: readonly TensorData[]): void {
  const tensor = (values: Float32Array): TensorData => ({ dtype: "f32", shape: [wanted.length, 10], values });
  const all = tensor(Float32Array.from(wanted.flatMap(({ values }) => [...values].map(Number))));
  const allowed = tolerance("f32", { target: "webgpu" });
  expect(compareTensors(tensor(Float32Array.from(got)), all, allowed).message).toBe("");
}
