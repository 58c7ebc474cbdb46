import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Browser, Page, Route } from "playwright-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fashionVit } from "../../examples/01-fashion-vit.ts";
import { buildDemo } from "../../examples/browser/build.ts";
import { serveFolder } from "../../examples/browser/serve.ts";
import { compareTensors, tolerance } from "../../src/conform/tolerance.ts";
import type { TensorData } from "../../src/ir/type.ts";
import type { BrowserModel, PlainTensor } from "../../src/runtime/browser/index.ts";
import { openSafetensors } from "../../src/runtime/node/index.ts";
import { openChromium } from "./chromium.ts";

/** UPDATE_SCREENSHOT=1 draws docs/images/browser-demo.png again, with every r of the demo. */
const drawn = process.env["UPDATE_SCREENSHOT"] === "1";
const degrees = drawn ? [0, 2, 4, 8] : [0, 8];
const labels = fashionVit.labels as readonly string[];
const runtime = fileURLToPath(new URL("../../src/runtime/browser/index.ts", import.meta.url));
let folder: string;
let server: Server;
let address: string;
let browser: Browser;
let page: Page;
/** What pages of this file asked for, and what they said that they should not. */
const asked: string[] = [];
const complaints: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tamis-browser-"));
  [browser] = await Promise.all([
    openChromium(join(folder, "libraries")),
    buildDemo(join(folder, "site"), { degrees, profiles: ["software"] }),
  ]);
  await build({
    entryPoints: [runtime],
    outfile: join(folder, "site", "runtime.js"),
    bundle: true,
    format: "iife",
    globalName: "tamisBrowser",
    logLevel: "warning",
  });
  ({ server, address } = await serveFolder(join(folder, "site"), 0));
  page = await openPage();
});
afterAll(async () => {
  await browser?.close();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

async function openPage(prepare: (page: Page) => Promise<unknown> = async () => undefined): Promise<Page> {
  const opened = await browser.newPage({ locale: "en-US", viewport: { width: 1000, height: 860 } });
  opened.on("request", (request) => asked.push(request.url()));
  opened.on("pageerror", (error) => complaints.push(error.message));
  opened.on("console", (message) => {
    const expected = /404|favicon/.test(message.text());
    if (message.type() === "error" && !expected) complaints.push(message.text());
  });
  await prepare(opened);
  await opened.goto(address);
  await opened.waitForSelector("#samples button");
  return opened;
}

/** Logits of one picture of the first test pictures, in f64 by the authors' merge code; examples/data/README.md. */
async function golden(r: number, picture: number): Promise<{ pixels: Uint8Array; logits: TensorData }> {
  const file = await openSafetensors("examples/data/fashion-vit-expected.safetensors");
  const pixels = await file.tensors.get("in.images")?.read(picture * 784, (picture + 1) * 784);
  const logits = await file.tensors.get(`out.logits_r${r}`)?.read(picture * 10, (picture + 1) * 10);
  await file.close();
  return { pixels: pixels?.values as Uint8Array, logits: logits as TensorData };
}

/** Drops a file on the page as a hand would; what it shows after that is new. */
async function drop(on: Page, bytes: Uint8Array, name: string, type: string): Promise<void> {
  await on.evaluate(() => document.getElementById("tried")?.replaceChildren());
  await on.evaluate(
    ([base64, fileName, kind]) => {
      const contents = Uint8Array.from(atob(base64 as string), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([contents], fileName as string, { type: kind as string }));
      document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
    },
    [Buffer.from(bytes).toString("base64"), name, type],
  );
}

const png = (pixels: Uint8Array): Promise<Buffer> =>
  sharp(pixels, { raw: { width: 28, height: 28, channels: 1 } })
    .png()
    .toBuffer();

/** The logits that the page shows, in the order of the labels. */
async function shownLogits(on: Page): Promise<TensorData> {
  const shown = await on.$$eval("#classes li", (rows) =>
    rows.map((row) => [(row as HTMLElement).dataset["label"], Number((row as HTMLElement).dataset["logit"])] as const),
  );
  const byLabel = new Map(shown);
  return { dtype: "f32", shape: [10], values: Float32Array.from(labels, (label) => byLabel.get(label) ?? Number.NaN) };
}

const shows = (on: Page, r: number) => on.waitForSelector(`#tried tr[data-r="${r}"]`, { timeout: 50_000 });
const text = (on: Page, id: string): Promise<string | null> => on.textContent(`#${id}`);

describe.skipIf(drawn)("the demo page in a real browser", () => {
  test("labels a picture that is dropped on it, with the logits of the authors' code, at every r", async () => {
    const { pixels, logits } = await golden(8, 3);
    await page.waitForSelector('#degrees input[value="8"]:checked');
    await drop(page, await png(pixels), "trouser.png", "image/png");
    await shows(page, 8);
    const allowed = tolerance("f32", { target: "webgpu" });
    expect(compareTensors(await shownLogits(page), { ...logits, shape: [10] }, allowed).message).toBe("");
    expect(await text(page, "label")).toMatch(/^Trouser, \d+\.\d %$/);
    expect(await text(page, "time")).toMatch(/^\d+\.\d ms for \d+ kernels .* 6 of 50 tokens left/);
    expect(await text(page, "groups")).toMatch(/groups of merged patches, the largest of \d+/);

    await page.focus('#degrees input[value="8"]');
    await page.keyboard.press("ArrowLeft");
    await shows(page, 0);
    const whole = await golden(0, 3);
    expect(compareTensors(await shownLogits(page), { ...whole.logits, shape: [10] }, allowed).message).toBe("");
    expect(await text(page, "groups")).toBe("No patches were merged.");
    expect(await page.$$eval("#tried tr", (rows) => rows.length)).toBe(2);
  });

  test("works by keyboard, and says what a test picture really shows", async () => {
    await page.evaluate(() => document.getElementById("tried")?.replaceChildren());
    await page.focus("#samples button");
    await page.keyboard.press("Enter");
    await shows(page, 0);
    expect(await text(page, "label")).toMatch(/^Ankle boot, \d+\.\d % ✓$/);
    expect(await page.getAttribute("#samples button", "aria-pressed")).toBe("true");
  });

  test("inverts a picture on a light ground by itself, so that it has the same answer", async () => {
    const { pixels, logits } = await golden(0, 5);
    await drop(page, await png(pixels.map((pixel) => 255 - pixel)), "light.png", "image/png");
    await shows(page, 0);
    expect(await page.isChecked("#invert")).toBe(true);
    const allowed = tolerance("f32", { target: "webgpu" });
    expect(compareTensors(await shownLogits(page), { ...logits, shape: [10] }, allowed).message).toBe("");
  });

  test("says so where what is dropped is no picture, and goes on with the next", async () => {
    await drop(page, Buffer.from("not a picture"), "notes.png", "image/png");
    await page.waitForSelector("#error:not([hidden])");
    expect(await text(page, "error-message")).toBe("the file is not a picture that this browser can read");
    await page.click("#samples button >> nth=1");
    await page.waitForSelector("#error", { state: "hidden" });
    expect(await text(page, "label")).toContain("Pullover");
  });

  test("asks nobody but its own server, and complains of nothing", () => {
    expect(asked.length).toBeGreaterThan(8);
    expect(asked.filter((url) => !url.startsWith(address))).toEqual([]);
    expect(complaints).toEqual([]);
  });
});

describe.skipIf(drawn)("the page with something wrong shows what and where", () => {
  const served = async (route: Route): Promise<Buffer> => (await route.fetch()).body();
  const cases: readonly (readonly [
    name: string,
    file: string,
    code: string,
    says: string,
    change: (route: Route) => Promise<void>,
  ])[] = [
    [
      "weights with one wrong bit",
      "weights.safetensors",
      "artifact-damaged",
      "weights.safetensors of http",
      async (route) => {
        const body = await served(route);
        body[900_000] = (body[900_000] as number) ^ 1;
        await route.fulfill({ body });
      },
    ],
    [
      "kernels cut short",
      "kernels.wgsl",
      "artifact-damaged",
      "kernels.wgsl of http",
      async (route) => route.fulfill({ body: (await served(route)).subarray(0, 1000) }),
    ],
    [
      "a plan that is longer than it was",
      "plan.json",
      "artifact-damaged",
      "plan.json of http",
      async (route) => route.fulfill({ body: Buffer.concat([await served(route), Buffer.from(" ")]) }),
    ],
    [
      "a folder of another version",
      "manifest.json",
      "artifact-version",
      "has format 7, written by tamis 9.9.9; this version reads 1",
      async (route) => {
        const manifest = JSON.parse((await served(route)).toString()) as object;
        await route.fulfill({ body: JSON.stringify({ ...manifest, format: 7, tamis: "9.9.9" }) });
      },
    ],
    [
      "a folder for another target",
      "manifest.json",
      "model-format",
      "holds a model for onnx, not for webgpu",
      async (route) => {
        const manifest = JSON.parse((await served(route)).toString()) as object;
        await route.fulfill({ body: JSON.stringify({ ...manifest, target: "onnx" }) });
      },
    ],
    ["a file that is not there", "plan.json", "file-not-found", "plan.json", (route) => route.fulfill({ status: 404 })],
    ["a server that fails", "plan.json", "file-unreadable", "answers 500", (route) => route.fulfill({ status: 500 })],
    ["a network that is gone", "plan.json", "file-unreadable", "plan.json", (route) => route.abort()],
  ];

  test.each(cases)("%s", async (_name, file, code, says, change) => {
    const wrong = await openPage((opened) => opened.route(`**/${file}`, change));
    await wrong.waitForSelector("#degrees input");
    await wrong.click("#samples button");
    await wrong.waitForSelector(`#error[data-code="${code}"]`, { timeout: 20_000 });
    expect(await text(wrong, "error-message")).toContain(says);
    expect(await text(wrong, "error-help")).not.toBe("");
    await wrong.close();
  });

  test("a browser without WebGPU, and one without an adapter", async () => {
    const without = await openPage((opened) =>
      opened.addInitScript(() => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined })),
    );
    await without.waitForSelector('#error[data-code="no-adapter"]');
    expect(await text(without, "error-message")).toBe("this browser has no WebGPU: navigator.gpu is not there");
    await without.close();
    const bare = await openPage((opened) =>
      opened.addInitScript(() => {
        GPU.prototype.requestAdapter = async () => null;
      }),
    );
    await bare.waitForSelector('#error[data-code="no-adapter"]');
    expect(await text(bare, "error-help")).toContain("hardware acceleration");
    await bare.close();
  });
});

describe.skipIf(drawn)("tamis/browser", () => {
  test("binds symbols when it runs, reports bytes as they come, and refuses wrong inputs by name", async () => {
    const { logits: first, pixels: firstPixels } = await golden(8, 0);
    const { logits: second, pixels: secondPixels } = await golden(8, 1);
    const values = [...firstPixels, ...secondPixels].map((pixel) => (pixel / 255 - 0.286) / 0.353);
    await page.addScriptTag({ url: `${address}runtime.js` });
    const seen = await page.evaluate(async (numbers) => {
      const { tamisBrowser } = globalThis as unknown as {
        readonly tamisBrowser: { loadModel(base: string, options: object): Promise<BrowserModel> };
      };
      const progress: { loaded: number; total: number }[] = [];
      const onProgress = (at: { loaded: number; total: number }) => progress.push(at);
      const model = await tamisBrowser.loadModel("models/software-r8", { onProgress });
      const { logits } = await model.run({ image: { data: Float32Array.from(numbers) } });
      const refused = async (inputs: Record<string, PlainTensor>): Promise<string> => {
        try {
          await model.run(inputs);
          return "nothing was refused";
        } catch (error) {
          return (error as Error).message;
        }
      };
      const refusals = [
        await refused({}),
        await refused({ image: { data: new Int32Array(784) } }),
        await refused({ image: { data: new Float32Array(784), shape: [1, 1, 28, 27] } }),
        await refused({ image: { data: new Float32Array(784) }, extra: { data: new Float32Array(1) } }),
      ];
      await model.dispose();
      const after = await refused({ image: { data: new Float32Array(784) } });
      return {
        name: model.name,
        shape: logits?.shape,
        data: [...(logits?.data ?? [])].map(Number),
        progress,
        refusals,
        after,
      };
    }, values);
    expect(seen.name).toBe("fashion-vit");
    const wanted = Float32Array.from([...first.values, ...second.values].map(Number));
    const got: TensorData = { dtype: "f32", shape: seen.shape ?? [], values: Float32Array.from(seen.data) };
    const allowed = tolerance("f32", { target: "webgpu" });
    expect(compareTensors(got, { dtype: "f32", shape: [2, 10], values: wanted }, allowed).message).toBe("");
    const { progress } = seen;
    expect(progress.at(-1)?.loaded).toBe(progress.at(-1)?.total);
    expect(progress.every(({ loaded }, k) => k === 0 || loaded >= (progress[k - 1]?.loaded ?? 0))).toBe(true);
    expect(progress.length).toBeGreaterThan(3);
    expect(seen.refusals).toEqual([
      expect.stringContaining("error[bad-input]: input image (f32[batch,1,28,28]) is missing"),
      expect.stringContaining("the data of input image is Int32Array, f32 wants Float32Array"),
      expect.stringContaining("input image has 784 elements, its shape is [1,1,28,27]"),
      expect.stringContaining('there is no input "extra"'),
    ]);
    expect(seen.after).toContain("session-closed");
  });

  test("gives up loading when its signal says so", async () => {
    const reason = await page.evaluate(async () => {
      const { tamisBrowser } = globalThis as unknown as {
        readonly tamisBrowser: { loadModel(base: string, options: object): Promise<BrowserModel> };
      };
      const { signal, abort } = ((controller) => ({
        signal: controller.signal,
        abort: () => controller.abort(),
      }))(new AbortController());
      return tamisBrowser.loadModel("models/software-r0/", { signal, onProgress: abort }).then(
        () => "it was loaded",
        (error: Error) => error.name,
      );
    });
    expect(reason).toBe("AbortError");
  });

  test("fetches the folder again when the device is lost, and goes on", async () => {
    const { pixels, logits } = await golden(8, 4);
    const before = asked.filter((url) => url.endsWith("software-r8/weights.safetensors")).length;
    const data = await page.evaluate(
      async (numbers) => {
        const { tamisBrowser } = globalThis as unknown as {
          readonly tamisBrowser: { loadModel(base: string): Promise<BrowserModel> };
        };
        const devices: GPUDevice[] = [];
        const { requestDevice } = GPUAdapter.prototype;
        GPUAdapter.prototype.requestDevice = async function (...args) {
          const device = await requestDevice.apply(this, args);
          devices.push(device);
          return device;
        };
        const model = await tamisBrowser.loadModel("models/software-r8/");
        const image = { data: Float32Array.from(numbers), shape: [1, 1, 28, 28] };
        await model.run({ image });
        devices[0]?.destroy();
        await devices[0]?.lost;
        const { logits } = await model.run({ image });
        await model.dispose();
        GPUAdapter.prototype.requestDevice = requestDevice;
        return { devices: devices.length, logits: [...(logits?.data ?? [])].map(Number) };
      },
      [...pixels].map((pixel) => (pixel / 255 - 0.286) / 0.353),
    );
    expect(data.devices).toBe(2);
    expect(asked.filter((url) => url.endsWith("software-r8/weights.safetensors")).length).toBe(before + 2);
    const got: TensorData = { dtype: "f32", shape: [10], values: Float32Array.from(data.logits) };
    const allowed = tolerance("f32", { target: "webgpu" });
    expect(compareTensors(got, { ...logits, shape: [10] }, allowed).message).toBe("");
  });

  test("is what the compiled folder's own module runs on", async () => {
    const model = join(folder, "site", "models", "software-r8");
    await build({
      entryPoints: [join(model, "fashion-vit.js")],
      outfile: join(model, "bundled.js"),
      bundle: true,
      format: "esm",
      alias: { "tamis/browser": runtime },
      logLevel: "warning",
    });
    await writeFile(join(model, "use.js"), 'import { load } from "./bundled.js";\nglobalThis.loadFashionVit = load;\n');
    const { pixels, logits } = await golden(8, 2);
    await page.addScriptTag({ url: `${address}models/software-r8/use.js`, type: "module" });
    const data = await page.evaluate(
      async (numbers) => {
        const { loadFashionVit } = globalThis as unknown as { loadFashionVit(): Promise<BrowserModel> };
        const model = await loadFashionVit();
        const { logits } = await model.run({ image: { data: Float32Array.from(numbers), shape: [1, 1, 28, 28] } });
        await model.dispose();
        return [...(logits?.data ?? [])].map(Number);
      },
      [...pixels].map((pixel) => (pixel / 255 - 0.286) / 0.353),
    );
    const got: TensorData = { dtype: "f32", shape: [10], values: Float32Array.from(data) };
    const allowed = tolerance("f32", { target: "webgpu" });
    expect(compareTensors(got, { ...logits, shape: [10] }, allowed).message).toBe("");
  });
});

test.runIf(drawn)("the page's picture in the docs", async () => {
  await page.click("#samples button >> nth=8");
  for (const r of degrees.toReversed()) {
    await page.check(`#degrees input[value="${r}"]`);
    await shows(page, r);
  }
  await page.check('#degrees input[value="4"]');
  await page.waitForSelector('#answer[aria-busy="false"]');
  await sharp(await page.screenshot({ fullPage: true }))
    .png({ palette: true })
    .toFile("docs/images/browser-demo.png");
});
