import { afterAll, describe, expect, test } from "vitest";
import { closeJudgeDevice } from "../../src/conform/judgeDevice.ts";
import { components, conform } from "../../src/conform/run.ts";

afterAll(closeJudgeDevice);

const built = Object.keys(components);

describe("reference vectors, outputs and gradients", () => {
  test("all files of every component that is built pass on the reference and on ONNX Runtime", async () => {
    const report = await conform(["test/vectors"], {
      components: built,
      targets: ["reference", "onnx"],
    });
    expect(report.rows.filter((row) => row.status !== "passed")).toEqual([]);
    // 38 files, two targets, and one host row: a folder that lost files must not pass.
    expect(report.passed).toBe(2 * 38 + 1);
  });

  // The software adapter compiles slowly: one small file per component here, all of them in `npm run conform`.
  test.each([
    "03-tocom/bipartite-matching-n17-r5-cls-b3",
    "03-tocom/bipartite-matching-ties-n17-r5-cls",
    "03-tocom/bipartite-matching-kth3-n17",
    "03-tocom/bipartite-matching-random-n50-r20",
    "03-tocom/bipartite-multilayer-n17-r5-l6-nocls",
    "03-tocom/tome-attention-n17-h3-size",
    "03-tocom/tinyvit-tome-r11-prop-b3",
    "03-tocom/tinyvit-tome-mae-r11-prop",
    "08-survey/rope-half-N17",
    "08-survey/flash-win4x3-N17",
    "08-survey/gqa-q8k2-N17",
  ])("%s passes on WebGPU", async (file) => {
    const report = await conform([`test/vectors/${file}.safetensors`], { targets: ["webgpu"] });
    expect(report.rows.map((row) => [row.status, row.reason])).toEqual([["passed", ""]]);
  });
});

describe("what conform reports", () => {
  test("--outputs-only leaves gradients out", async () => {
    const file = "test/vectors/03-tocom/tome-attention-n17-h3-size.safetensors";
    const tensors = async (outputsOnly: boolean) => {
      const { rows } = await conform([file], { targets: ["onnx"], outputsOnly });
      return rows[0]?.worstTensor;
    };
    expect(await tensors(true)).toBe("y");
    expect(await tensors(false)).toBe("grad.x");
  });

  test("a component that is not built is a failure, not a skip", async () => {
    const file = "test/vectors/03-tocom/tocom-adapter-d32-t6-s6.safetensors";
    const { rows } = await conform([file], { targets: ["reference"], outputsOnly: true });
    expect(rows.map((row) => row.status)).toEqual(["failed"]);
  });

  test("a folder that is not there, and a component that no file has, are the user's mistakes", async () => {
    await expect(conform(["test/no-such-folder"])).rejects.toThrow(/file-not-found/);
    await expect(conform(["test/vectors"], { components: ["flsh"] })).rejects.toThrow(/did you mean flash/);
  });
});
