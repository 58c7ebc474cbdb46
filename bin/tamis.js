#!/usr/bin/env node
// A checkout runs its sources; an installed package, which has none, what was built from them.
import { existsSync } from "node:fs";

process.setSourceMapsEnabled(true);
const source = new URL("../src/cli/main.ts", import.meta.url);
const checkout = existsSync(source);
if (checkout) (await import("tsx/esm/api")).register();
const { main } = await import(checkout ? source.href : new URL("../dist/cli/main.js", import.meta.url).href);
process.exitCode = await main(process.argv.slice(2));
