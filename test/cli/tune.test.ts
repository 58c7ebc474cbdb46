import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parseTuning } from "../../src/backends/wgsl/tuningFile.ts";
import { median, quickest, ratioOf } from "../../src/cli/tuneTimes.ts";
import { version } from "../../src/cli/version.ts";
import { tunedAdapter, tuningPath } from "../../src/runtime/node/tuning.ts";
import { openWebGpu } from "../../src/runtime/node/webgpuDevice.ts";
import { deviceProfile } from "../../src/runtime/node/webgpuSession.ts";
import { sharedFolder, tamisHere } from "./command.ts";

const graph = `graph @pair(%x: f32[batch,12,16], %w: f32[16,24], %v: f32[24,8]) {
  %0 = reshape(%x) {shape=["12*batch",16]} : f32[12*batch,16]
  %1 = matmul(%0, %w) : f32[12*batch,24]
  %2 = relu(%1) : f32[12*batch,24]
  %3 = matmul(%2, %v) : f32[12*batch,8]
  return y: %3
}
`;
const keys = ["gemm batch=1 m=12*batch n=24 k=16 f32", "gemm batch=1 m=12*batch n=8 k=24 f32"] as const;
const tile = { by: "thread", rows: 4, columns: 8, threads: [8, 8], depth: 4 } as const;
const fileOf = (kernel: string, fields: object = {}) => ({
  format: 1,
  tamis: version,
  choices: [{ kernel, tile: { ...tile, ...fields } }],
});

const saved = { cache: process.env["XDG_CACHE_HOME"], off: process.env["TAMIS_NO_TUNING"] };
const cacheBefore = saved.cache ?? join(homedir(), ".cache");

let cached = ""; // this adapter's file
const path = sharedFolder(async (at) => {
  await writeFile(at("pair.ir"), graph);
  await mkdir(at("cache/tamis"), { recursive: true });
  // The software adapter lies in the same folder; no need to unpack it again.
  const driver = join(cacheBefore, "tamis", "swiftshader");
  if (existsSync(driver)) await symlink(driver, at("cache/tamis/swiftshader"));
  process.env["XDG_CACHE_HOME"] = at("cache");
  delete process.env["TAMIS_NO_TUNING"];
  const opened = await openWebGpu();
  cached = tuningPath(tunedAdapter(opened));
  opened.close();
  await mkdir(dirname(cached));
});
afterAll(() => {
  for (const [name, value] of [
    ["XDG_CACHE_HOME", saved.cache],
    ["TAMIS_NO_TUNING", saved.off],
  ] as const)
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
});

const inputs = ["x", "w", "v"].flatMap((name) => ["--input", `${name}=random:1`]);
const run = async (...args: readonly string[]) => {
  const ended = await tamisHere(["run", path("pair.ir"), "--target", "webgpu", ...inputs, "--json", ...args]);
  expect(ended.status).toBe(0);
  const { tuning, outputs } = JSON.parse(ended.stdout) as {
    tuning: string;
    outputs: { y: { data: readonly number[] } };
  };
  return { tuning, y: outputs.y.data, stderr: ended.stderr };
};

describe("tamis run", () => {
  test("uses the tiles that were found on this adapter, says so, and computes the same", async () => {
    await writeFile(cached, JSON.stringify(fileOf(keys[0])));
    const [tuned, standard] = [await run(), await run("--no-tuning")];
    expect([tuned.tuning, standard.tuning]).toEqual(["cached (1 choice)", "default"]);
    expect(tuned.y.length).toBe(96);
    tuned.y.forEach((value, k) => expect(value).toBeCloseTo(standard.y[k] as number, 4));
  });

  test("says so to people too", async () => {
    await writeFile(cached, JSON.stringify(fileOf(keys[0])));
    const { stdout } = await tamisHere(["run", path("pair.ir"), "--target", "webgpu", ...inputs]);
    expect(stdout).toMatch(/^pair on WebGPU, .*, tuning: cached \(1 choice\)$/m);
  });

  test("has the default tiles for another device, another version and other kernels", async () => {
    await writeFile(cached, JSON.stringify(fileOf(keys[0])));
    expect((await run("--profile", "software")).tuning).toBe("default");
    await writeFile(cached, JSON.stringify({ ...fileOf(keys[0]), tamis: "0.0.1" }));
    expect((await run()).tuning).toBe("default");
    await writeFile(cached, JSON.stringify(fileOf(keys[0].replace("n=24", "n=25"))));
    expect((await run()).tuning).toBe("default");
  });

  test("never without being wanted: TAMIS_NO_TUNING=1 is for tests", async () => {
    await writeFile(cached, JSON.stringify(fileOf(keys[0])));
    process.env["TAMIS_NO_TUNING"] = "1";
    try {
      expect((await run()).tuning).toBe("default");
    } finally {
      delete process.env["TAMIS_NO_TUNING"];
    }
  });

  test.each([
    ["cut short", '{"format": 1, "choi', /is not JSON/],
    ["of another format", '{"format": 9, "choices": []}', /format is 9, this version reads 1/],
    ["with tiles that no device has", JSON.stringify(fileOf(keys[0], { rows: 1e9 })), /tile.rows is 1000000000/],
  ])("tells of a cache file that is %s and ignores it", async (_, contents, reason) => {
    await writeFile(cached, contents);
    const { tuning, stderr } = await run();
    expect(tuning).toBe("default");
    expect(stderr).toMatch(/^tamis: measured tiles are ignored: /);
    expect(stderr).toMatch(reason);
  });
});

describe("tamis compile --tuning", () => {
  const compile = async (name: string, ...args: readonly string[]) => {
    const folder = path(name);
    const ended = await tamisHere(["compile", path("pair.ir"), "--target", "webgpu", "-o", folder, ...args]);
    return { ...ended, kernels: async () => readFile(join(folder, "kernels.wgsl"), "utf8") };
  };

  test("pins the choices of a file in the artefact; the cache of the machine never gets there", async () => {
    await writeFile(cached, JSON.stringify(fileOf(keys[0])));
    await writeFile(path("choices.json"), JSON.stringify(fileOf(keys[0])));
    const tuned = await compile("tuned", "--tuning", path("choices.json"));
    const plain = await compile("plain");
    await writeFile(cached, "{}");
    const again = await compile("again");
    expect(await tuned.kernels()).not.toBe(await plain.kernels());
    expect(await again.kernels()).toBe(await plain.kernels());
  });

  test("says where no choice is for the model", async () => {
    await writeFile(path("others.json"), JSON.stringify(fileOf("gemm batch=1 m=1 n=1 k=1 f32")));
    const { status, stderr } = await compile("others", "--tuning", path("others.json"));
    expect(status).toBe(0);
    expect(stderr).toMatch(/no choice of .*others.json is for a kernel of this model/);
  });

  test("refuses tiles that the profile cannot run, other targets, and files that are none", async () => {
    await writeFile(path("fours.json"), JSON.stringify(fileOf(keys[0], { by: "subgroup", threads: [4, 4] })));
    const fours = await compile("fours", "--tuning", path("fours.json"));
    expect([fours.status, fours.stderr]).toEqual([1, expect.stringMatching(/fours.json.*error\[bad-tuning\]/)]);
    const onnx = await compile("onnx", "--target", "onnx", "--tuning", path("fours.json"));
    expect([onnx.status, onnx.stderr]).toEqual([1, expect.stringMatching(/bad-option.*--target webgpu/)]);
    const absent = await compile("absent", "--tuning", path("absent.json"));
    expect([absent.status, absent.stderr]).toEqual([1, expect.stringMatching(/file-not-found/)]);
    expect(["fours", "onnx", "absent"].filter((name) => existsSync(path(name)))).toEqual([]);
  });
});

describe("tamis bench tune", () => {
  interface Document {
    readonly file: string;
    readonly choices: number;
    readonly models: readonly {
      readonly model: string;
      readonly keys: readonly { readonly kernel: string; readonly count: number; readonly tile?: object }[];
      readonly refused: readonly unknown[];
    }[];
  }
  const tune = async (...args: readonly string[]) => {
    const ended = await tamisHere(["bench", "tune", path("pair.ir"), "--rounds", "2", "--json", ...args]);
    expect(ended.stderr).toBe("");
    return JSON.parse(ended.stdout) as Document;
  };

  test("times every kernel in every tile and keeps what won for later runs, beside what it knew", async () => {
    const other = "gemm batch=1 m=7 n=7 k=7 f32";
    await writeFile(cached, JSON.stringify(fileOf(other)));
    const { file, choices, models } = await tune();
    expect(file).toBe(cached);
    expect(await readdir(dirname(cached))).toEqual([expect.stringMatching(/^[a-z0-9-]+\.json$/)]);
    const [{ model, keys: tuned, refused }] = models as [Document["models"][number]];
    expect([model, tuned.map(({ kernel }) => kernel), refused]).toEqual(["pair", keys, []]);
    const opened = await openWebGpu();
    const held = parseTuning(JSON.parse(await readFile(cached, "utf8")), deviceProfile(opened));
    opened.close();
    const won = tuned.flatMap(({ kernel, tile: found }) => (found === undefined ? [] : [[kernel, found] as const]));
    expect(held.gemm).toEqual(new Map<string, object>([...won, [other, tile]]));
    expect(choices).toBe(won.length + 1);
    const used = won.length === 1 ? "1 choice" : `${won.length} choices`;
    expect((await run()).tuning).toBe(won.length === 0 ? "default" : `cached (${used})`);
  });

  test("for a profile writes a file that compile takes, and leaves the cache alone", async () => {
    await writeFile(cached, "as it was");
    const { file } = await tune("--profile", "software", "-o", path("software.json"), "--bind", "batch=2");
    expect(file).toBe(path("software.json"));
    expect(await readFile(cached, "utf8")).toBe("as it was");
    const args = ["--profile", "software", "--tuning", file, "-o", path("for-software")];
    expect((await tamisHere(["compile", path("pair.ir"), "--target", "webgpu", ...args])).status).toBe(0);
  });

  test.each([
    [["bench", "tune", "--profile", "software"], 2, /give -o FILE/],
    [["bench", "tune", "--set", "depth=1"], 2, /--set needs a MODEL/],
    [["bench", "run", "pair.ir", "pair.ir"], 2, /bench run takes one model, got 2/],
    [["bench", "tune", "--rounds", "0"], 1, /bad-option.*--rounds/],
  ])("refuses %j", async (args, status, message) => {
    const ended = await tamisHere(args);
    expect([ended.status, ended.stderr]).toEqual([status, expect.stringMatching(message)]);
  });

  test("names a symbol that the model has not", async () => {
    const { status, stderr } = await tamisHere(["bench", "tune", path("pair.ir"), "--bind", "bach=2"]);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/unknown-symbol.*--bind bach[\s\S]*batch/)]);
  });
});

describe("the quickest tile", () => {
  test("has to beat the default by 3 %", () => {
    expect(quickest([100, 100, 100], [[98, 98, 98]])).toBeUndefined();
    expect(quickest([100, 100, 100], [[98, 98, 98], [90, 90, 90], [95, 95, 95]])).toBe(1); // biome-ignore format: rivals
  });

  test("is judged round by round, so that load meets both alike", () => {
    expect(ratioOf([100, 1000, 300], [50, 500, 150])).toBe(2);
    expect(quickest([100, 1000, 100], [[110, 300, 110]])).toBeUndefined();
  });

  test("is none where the clock stood still", () => {
    expect(quickest([0, 0], [[0, 0]])).toBeUndefined();
    expect(quickest([0, 50], [[0, 0]])).toBeUndefined();
    expect(ratioOf([0, 60], [9, 30])).toBe(2);
  });

  test("of an even number of rounds lies between the middle two", () => {
    expect([median([4, 1, 2, 3]), median([3, 1, 2])]).toEqual([2.5, 2]);
  });
});

describe("the name of an adapter's file", () => {
  const adapter = { name: "GPU ../../\0 №1", vendor: "v", architecture: "a", description: "driver 1" };

  test("holds no character that could leave the folder", () => {
    expect(tuningPath(adapter).slice(path("cache").length)).toMatch(/^\/tamis\/tuning\/gpu-1-[0-9a-f]{16}\.json$/);
    expect(tuningPath({ ...adapter, name: "№" })).toMatch(/tuning\/[0-9a-f]{16}\.json$/);
    expect(tuningPath({ ...adapter, name: "x".repeat(1000) }).length).toBeLessThan(path("cache").length + 100);
  });

  test("differs with the driver", () => {
    expect(tuningPath({ ...adapter, description: "driver 2" })).not.toBe(tuningPath(adapter));
  });
});
