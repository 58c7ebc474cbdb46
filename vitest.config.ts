import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^tamis$/, replacement: source("./src/index.ts") },
      { find: /^tamis\/runtime$/, replacement: source("./src/runtime/node/index.ts") },
      { find: /^tamis\/browser$/, replacement: source("./src/runtime/browser/index.ts") },
      { find: /^tamis\/models$/, replacement: source("./src/models/index.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    env: { TAMIS_NO_TUNING: "1" }, // what was measured on this machine is no part of what tests run
  },
});
