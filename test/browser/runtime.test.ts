import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BrowserModel, LoadOptions, PlainTensor } from "../../src/runtime/browser/index.ts";
import { expectLogits, golden, normalized, openSite, runtimeFile, type Site } from "./site.ts";

interface Globals {
  readonly tamisBrowser: { loadModel(base: string, options?: LoadOptions): Promise<BrowserModel> };
  readonly loadFashionVit: () => Promise<BrowserModel>;
}

let site: Site;
let page: Page;

beforeAll(async () => {
  site = await openSite([8]);
  page = await site.openPage();
  await page.addScriptTag({ url: `${site.address}runtime.js` });
});
afterAll(() => site?.close());

describe("tamis/browser", () => {
  test("binds symbols when it runs, reports bytes as they come, and refuses wrong inputs by name", async () => {
    const { logits: first, pixels: firstPixels } = await golden(8, 0);
    const { logits: second, pixels: secondPixels } = await golden(8, 1);
    const values = [...normalized(firstPixels), ...normalized(secondPixels)];
    const seen = await page.evaluate(async (numbers) => {
      const { tamisBrowser } = globalThis as unknown as Globals;
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
    expect(seen.shape).toEqual([2, 10]);
    expectLogits(seen.data, first, second);
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
      const { tamisBrowser } = globalThis as unknown as Globals;
      const { signal, abort } = ((controller) => ({
        signal: controller.signal,
        abort: () => controller.abort(),
      }))(new AbortController());
      return tamisBrowser.loadModel("models/software-r8/", { signal, onProgress: abort }).then(
        () => "it was loaded",
        (error: Error) => error.name,
      );
    });
    expect(reason).toBe("AbortError");
  });

  test("fetches the folder again when the device is lost, and goes on", async () => {
    const { pixels, logits } = await golden(8, 4);
    const before = site.asked.filter((url) => url.endsWith("software-r8/weights.safetensors")).length;
    const data = await page.evaluate(async (numbers) => {
      const { tamisBrowser } = globalThis as unknown as Globals;
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
    }, normalized(pixels));
    expect(data.devices).toBe(2);
    expect(site.asked.filter((url) => url.endsWith("software-r8/weights.safetensors")).length).toBe(before + 2);
    expectLogits(data.logits, logits);
  });

  test("is what the compiled folder's own module runs on", async () => {
    const model = join(site.folder, "models", "software-r8");
    await build({
      entryPoints: [join(model, "fashion-vit.js")],
      outfile: join(model, "bundled.js"),
      bundle: true,
      format: "esm",
      alias: { "tamis/browser": runtimeFile },
      logLevel: "warning",
    });
    await writeFile(join(model, "use.js"), 'import { load } from "./bundled.js";\nglobalThis.loadFashionVit = load;\n');
    const { pixels, logits } = await golden(8, 2);
    await page.addScriptTag({ url: `${site.address}models/software-r8/use.js`, type: "module" });
    const data = await page.evaluate(async (numbers) => {
      const { loadFashionVit } = globalThis as unknown as Globals;
      const model = await loadFashionVit();
      const { logits } = await model.run({ image: { data: Float32Array.from(numbers), shape: [1, 1, 28, 28] } });
      await model.dispose();
      return [...(logits?.data ?? [])].map(Number);
    }, normalized(pixels));
    expectLogits(data, logits);
  });
});
