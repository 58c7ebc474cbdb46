// Shaders with sizes left open. Kernels that differ in sizes alone share one shader: what is the same in all of them is
// written out, what differs becomes a parameter.
import type { Dim } from "../../../ir/type.ts";

/** A size in the text of a shader: a number in an expression, or the length of an array (left out where it varies). */
type Slot = "number" | "length";

const marks: Readonly<Record<Slot, string>> = { number: "n", length: "l" };
const slotPattern = /⟨([nl])(\d+)⟩/g;

/** Collects the sizes that a text mentions, and stands in for them. */
export class Slots {
  readonly #dims: Dim[] = [];

  text(slot: Slot, dim: Dim): string {
    this.#dims.push(dim);
    return `⟨${marks[slot]}${this.#dims.length - 1}⟩`;
  }

  /** The text with its sizes numbered as they appear. */
  template(text: string): Template {
    const dims: Dim[] = [];
    const numbered = text.replace(slotPattern, (_, mark: string, index: string) => {
      dims.push(this.#dims[Number(index)] as Dim);
      return `⟨${mark}${dims.length - 1}⟩`;
    });
    return { text: numbered, dims };
  }
}

export interface Template {
  readonly text: string;
  readonly dims: readonly Dim[];
}

export interface Settled {
  readonly shaders: readonly string[];
  /** For each template: its shader and the parameters of its uniform buffer. */
  readonly uses: readonly { readonly shader: number; readonly params: readonly Dim[] }[];
}

/** One shader for all templates of equal text. */
export function settle(templates: readonly Template[]): Settled {
  const groups = new Map<string, Template[]>();
  for (const template of templates) groups.set(template.text, [...(groups.get(template.text) ?? []), template]);
  const shaders: string[] = [];
  const made = new Map<string, { readonly shader: number; readonly slots: readonly number[] }>();
  for (const [text, members] of groups) {
    const params = new Map<string, { readonly name: string; readonly slot: number }>();
    const body = text.replace(slotPattern, (_, mark: string, index: string) => {
      const values = members.map((member) => member.dims[Number(index)] as Dim);
      const [first] = values as [Dim];
      const fixed = typeof first === "number" && values.every((value) => value === first);
      if (mark === marks.length) return fixed && first > 0 ? `, ${first}` : "";
      if (fixed) return String(first);
      const key = values.join("|");
      const param = params.get(key) ?? { name: `p${params.size}`, slot: Number(index) };
      params.set(key, param);
      return `params.${param.name}`;
    });
    const fields = [...params.values()].map(({ name }) => `${name}: i32`).join(", ");
    const header =
      params.size === 0 ? "" : `struct Params { ${fields} }\n@group(0) @binding(0) var<uniform> params: Params;\n`;
    made.set(text, { shader: shaders.length, slots: [...params.values()].map(({ slot }) => slot) });
    // Shader-wide directives come first.
    const directives = /^(?:enable [^;]+;\n)*/.exec(body)?.[0] ?? "";
    shaders.push(directives + header + body.slice(directives.length));
  }
  const uses = templates.map((template) => {
    const { shader, slots } = made.get(template.text) as { shader: number; slots: readonly number[] };
    return { shader, params: slots.map((slot) => template.dims[slot] as Dim) };
  });
  return { shaders, uses };
}
