import type { Page, Route } from "playwright-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fashionVit } from "../../examples/01-fashion-vit.ts";
import { expectLogits, golden, openSite, type Site } from "./site.ts";

/** UPDATE_SCREENSHOT=1 draws docs/images/browser-demo.png again, with every r of the demo. */
const drawn = process.env["UPDATE_SCREENSHOT"] === "1";
const degrees = drawn ? [0, 2, 4, 8] : [0, 8];
const labels = fashionVit.labels as readonly string[];
let site: Site;
let page: Page;

beforeAll(async () => {
  site = await openSite(degrees);
  page = await site.openPage();
});
afterAll(() => site?.close());

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
async function shownLogits(on: Page): Promise<readonly number[]> {
  const shown = await on.$$eval("#classes li", (rows) =>
    rows.map((row) => [(row as HTMLElement).dataset["label"], Number((row as HTMLElement).dataset["logit"])] as const),
  );
  const byLabel = new Map(shown);
  return labels.map((label) => byLabel.get(label) ?? Number.NaN);
}

const shows = (on: Page, r: number) => on.waitForSelector(`#tried tr[data-r="${r}"]`, { timeout: 50_000 });
const text = (on: Page, id: string): Promise<string | null> => on.textContent(`#${id}`);

describe.skipIf(drawn)("the demo page in a real browser", () => {
  test("labels a picture that is dropped on it, with the logits of the authors' code, at every r", async () => {
    const { pixels, logits } = await golden(8, 3);
    await page.waitForSelector('#degrees input[value="8"]:checked');
    await drop(page, await png(pixels), "trouser.png", "image/png");
    await shows(page, 8);
    expectLogits(await shownLogits(page), logits);
    expect(await text(page, "label")).toMatch(/^Trouser, \d+\.\d %$/);
    expect(await text(page, "time")).toMatch(/^\d+\.\d ms for \d+ kernels .* 6 of 50 tokens left/);
    expect(await text(page, "groups")).toMatch(/groups of merged patches, the largest of \d+/);

    await page.focus('#degrees input[value="8"]');
    await page.keyboard.press("ArrowLeft");
    await shows(page, 0);
    const whole = await golden(0, 3);
    expectLogits(await shownLogits(page), whole.logits);
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
    expectLogits(await shownLogits(page), logits);
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
    expect(site.asked.length).toBeGreaterThan(8);
    expect(site.asked.filter((url) => !url.startsWith(site.address))).toEqual([]);
    expect(site.complaints).toEqual([]);
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
    const wrong = await site.openPage((opened) => opened.route(`**/${file}`, change));
    await wrong.waitForSelector("#degrees input");
    await wrong.click("#samples button");
    await wrong.waitForSelector(`#error[data-code="${code}"]`, { timeout: 20_000 });
    expect(await text(wrong, "error-message")).toContain(says);
    expect(await text(wrong, "error-help")).not.toBe("");
    await wrong.close();
  });

  test("a browser without WebGPU, and one without an adapter", async () => {
    const without = await site.openPage((opened) =>
      opened.addInitScript(() => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined })),
    );
    await without.waitForSelector('#error[data-code="no-adapter"]');
    expect(await text(without, "error-message")).toBe("this browser has no WebGPU: navigator.gpu is not there");
    await without.close();
    const bare = await site.openPage((opened) =>
      opened.addInitScript(() => {
        GPU.prototype.requestAdapter = async () => null;
      }),
    );
    await bare.waitForSelector('#error[data-code="no-adapter"]');
    expect(await text(bare, "error-help")).toContain("hardware acceleration");
    await bare.close();
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
