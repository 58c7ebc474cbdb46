import { readFileSync } from "node:fs";

/** The package's own folder: the parent of src/ in a checkout, of dist/ where it is installed. */
export const packageRoot = new URL("../../", import.meta.url);

const { version: stated } = JSON.parse(readFileSync(new URL("package.json", packageRoot), "utf8")) as {
  readonly version: string;
};
export const version = stated;
