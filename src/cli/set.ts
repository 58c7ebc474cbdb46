import { compileError, didYouMean, type ModelDefinition, type OptionValue } from "../index.ts";

/**
 * Options of a model from texts such as `depth=6`, each read as the kind its default has.
 * Fails with `unknown-option` or `bad-option`.
 */
export function readSettings(definition: ModelDefinition, texts: readonly string[]): Record<string, OptionValue> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at <= 0)
        throw compileError("bad-option", `--set wants KEY=VALUE, such as depth=6, got ${JSON.stringify(text)}`);
      const [key, value] = [text.slice(0, at).trim(), text.slice(at + 1).trim()];
      const standard = Object.hasOwn(definition.options, key) ? definition.options[key] : undefined;
      if (standard === undefined) {
        const known = Object.keys(definition.options);
        throw compileError("unknown-option", `model ${definition.name} has no option ${key}`, {
          help: didYouMean(key, known) ?? `its options: ${known.join(", ") || "none"}`,
        });
      }
      return [key, readValue(definition, key, value, standard)];
    }),
  );
}

function readValue(definition: ModelDefinition, key: string, text: string, standard: OptionValue): OptionValue {
  const bad = (wants: string) =>
    compileError("bad-option", `option ${key} of ${definition.name} wants ${wants}, got ${JSON.stringify(text)}`);
  const number = text !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined;
  if (definition.dims?.includes(key)) return number ?? text; // the model checks it
  if (Array.isArray(standard)) return readList(text) ?? fail(bad("a list such as [2,2,6,2]"));
  switch (typeof standard) {
    case "number":
      return number ?? fail(bad("a number"));
    case "boolean":
      return text === "true" || text === "1"
        ? true
        : text === "false" || text === "0"
          ? false
          : fail(bad("true or false"));
    default:
      return text;
  }
}

function fail(error: Error): never {
  throw error;
}

/** JSON, or words and numbers between commas, with or without brackets. */
function readList(text: string): readonly OptionValue[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value as readonly OptionValue[];
  } catch {
    // a plain list, then
  }
  const inner = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (/[[\]"]/.test(inner)) return undefined;
  const items = inner.split(/[,;]/).map((item) => item.trim());
  return items.map((item) => (item !== "" && Number.isFinite(Number(item)) ? Number(item) : item));
}
