/** One step from a list to another: both have the element, or only one of them. */
export type Edit =
  | { readonly kind: "same"; readonly before: number; readonly after: number }
  | { readonly kind: "removed"; readonly before: number }
  | { readonly kind: "added"; readonly after: number };

const mostEdits = 2000; // beyond this the lists share too little for a shortest script to help

/** A shortest edit script between two lists of texts, removals first. Source: Myers, Algorithmica 1 (1986), figure 2. */
export function editScript(before: readonly string[], after: readonly string[]): readonly Edit[] {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  const room = Math.min(before.length, after.length) - start;
  while (end < room && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  const same = (i: number, j: number): Edit => ({ kind: "same", before: i, after: j });
  const head = Array.from({ length: start }, (_, i) => same(i, i));
  const middle = shortestScript(before.slice(start, before.length - end), after.slice(start, after.length - end));
  const tail = Array.from({ length: end }, (_, i) => same(before.length - end + i, after.length - end + i));
  return [...head, ...middle.map((edit) => shifted(edit, start)), ...tail];
}

function shifted(edit: Edit, by: number): Edit {
  switch (edit.kind) {
    case "same":
      return { kind: "same", before: edit.before + by, after: edit.after + by };
    case "removed":
      return { kind: "removed", before: edit.before + by };
    case "added":
      return { kind: "added", after: edit.after + by };
    default:
      return edit satisfies never;
  }
}

function shortestScript(before: readonly string[], after: readonly string[]): readonly Edit[] {
  const limit = Math.min(before.length + after.length, mostEdits);
  const reach = new Int32Array(2 * limit + 3); // by diagonal: how far into `before` one gets
  const trail: Int32Array[] = [];
  const origin = limit + 1;
  for (let edits = 0; edits <= limit; edits++) {
    trail.push(reach.slice(origin - edits - 1, origin + edits + 2));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const left = reach[origin + diagonal - 1] as number;
      const above = reach[origin + diagonal + 1] as number;
      const down = diagonal === -edits || (diagonal !== edits && left < above);
      let i = down ? above : left + 1;
      while (i < before.length && i - diagonal < after.length && before[i] === after[i - diagonal]) i++;
      reach[origin + diagonal] = i;
      if (i >= before.length && i - diagonal >= after.length) return traced(trail, before.length, after.length);
    }
  }
  return [
    ...before.map((_, i): Edit => ({ kind: "removed", before: i })),
    ...after.map((_, j): Edit => ({ kind: "added", after: j })),
  ];
}

/** The script back from its end; `trail[n]` is `reach` before edit n, from diagonal -n-1 on. */
function traced(trail: readonly Int32Array[], ends: number, endsAfter: number): readonly Edit[] {
  const script: Edit[] = [];
  let [i, j] = [ends, endsAfter];
  for (let edits = trail.length - 1; edits >= 0; edits--) {
    const at = (diagonal: number): number => (trail[edits] as Int32Array)[diagonal + edits + 1] as number;
    const diagonal = i - j;
    const down = diagonal === -edits || (diagonal !== edits && at(diagonal - 1) < at(diagonal + 1));
    const from = edits === 0 ? 0 : down ? at(diagonal + 1) : at(diagonal - 1);
    const stop = edits === 0 ? 0 : down ? from : from + 1;
    while (i > stop) script.push({ kind: "same", before: --i, after: --j });
    if (edits === 0) break;
    if (down) script.push({ kind: "added", after: --j });
    else script.push({ kind: "removed", before: --i });
  }
  return script.reverse();
}
