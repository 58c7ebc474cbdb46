// Module hooks under which the command line imports a model's file.

let own = {};

/** `urls`: where the running copy of each of our entries lies, by specifier. */
export function initialize(urls) {
  own = urls;
}

/**
 * `tamis` is the copy that runs, so that a model is traced by the DSL that it was written with, whatever copies are
 * installed. A .ts file is an ES module even where the nearest package.json says otherwise or says nothing.
 */
export async function resolve(specifier, context, next) {
  if (Object.hasOwn(own, specifier)) return { url: own[specifier], format: "module", shortCircuit: true };
  const found = await next(specifier, context);
  const typescript = /\.ts(?:\?|$)/.test(found.url);
  return typescript && found.format !== "module" ? { ...found, format: "module" } : found;
}
