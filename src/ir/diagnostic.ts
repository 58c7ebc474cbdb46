/** Where a node, a message or a mistake comes from. */
export type Loc =
  | {
      readonly kind: "file";
      readonly file: string;
      readonly line: number;
      readonly column: number;
      readonly length?: number;
    }
  | { readonly kind: "made"; readonly by: string; readonly from: readonly Loc[] }
  | { readonly kind: "unknown" };

/** The place of what has none. */
export const unknownLoc: Loc = Object.freeze({ kind: "unknown" });

/** A second place, with what it has to do with the finding. */
export interface Note {
  readonly message: string;
  readonly loc: Loc;
}

/** One finding, at one place of the user's, with notes for second places and help if there is one fix. */
export interface Diagnostic {
  readonly code: string;
  readonly severity: "error" | "warning" | "note";
  readonly message: string;
  readonly loc: Loc;
  readonly notes: readonly Note[];
  readonly help?: string;
}

/** The parts of a diagnostic beside code and message. */
export interface DiagnosticDetails {
  readonly loc?: Loc;
  readonly notes?: readonly Note[];
  readonly help?: string | undefined;
  readonly severity?: Diagnostic["severity"];
}

/** A diagnostic; an error at an unknown place unless the details say otherwise. */
export function diagnostic(code: string, message: string, details: DiagnosticDetails = {}): Diagnostic {
  return {
    code,
    severity: details.severity ?? "error",
    message,
    loc: details.loc ?? unknownLoc,
    notes: details.notes ?? [],
    ...(details.help === undefined ? {} : { help: details.help }),
  };
}

/** A diagnostic as JSON has it: places as text, and the innermost file position in numbers. */
export interface DiagnosticJson extends Omit<Diagnostic, "loc" | "notes"> {
  /** `vit.ts:41:28`; empty where the place is not known. */
  readonly loc: string;
  readonly file?: string;
  /** From 1. */
  readonly line?: number;
  /** From 1. */
  readonly column?: number;
  readonly notes: readonly { readonly message: string; readonly loc: string }[];
}

/** What `--json` prints of a diagnostic. */
export function diagnosticJson({ loc, notes, ...rest }: Diagnostic): DiagnosticJson {
  const at = fileLoc(loc);
  return {
    ...rest,
    loc: formatLoc(loc),
    ...(at && { file: at.file, line: at.line, column: at.column }),
    notes: notes.map((note) => ({ message: note.message, loc: formatLoc(note.loc) })),
  };
}

/**
 * The caller's mistake. Carries every diagnostic found, not only the first, whose parts are its own fields; the message is
 * the text of all. `JSON.stringify` gives `{ name, diagnostics }`, as `--json` prints them.
 */
export class CompileError extends Error {
  readonly diagnostics: readonly Diagnostic[];
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map((d) => formatDiagnostic(d)).join("\n"));
    this.name = "CompileError";
    this.diagnostics = diagnostics;
  }
  /** A section of docs/errors.md. */
  get code(): string {
    return this.diagnostics[0]?.code ?? "unknown";
  }
  get loc(): Loc {
    return this.diagnostics[0]?.loc ?? unknownLoc;
  }
  /** Second places: where the other operand comes from, where a name was first declared. */
  get notes(): readonly Note[] {
    return this.diagnostics[0]?.notes ?? [];
  }
  /** What to do, where there is one fix. */
  get help(): string | undefined {
    return this.diagnostics[0]?.help;
  }
  toJSON(): { readonly name: string; readonly diagnostics: readonly DiagnosticJson[] } {
    return { name: this.name, diagnostics: this.diagnostics.map(diagnosticJson) };
  }
}

/** Shorthand for the common case of one diagnostic. */
export function compileError(code: string, message: string, details: DiagnosticDetails = {}): CompileError {
  return new CompileError([diagnostic(code, message, details)]);
}

/** A defect of ours: a broken invariant, named with the pass and the neighbourhood. */
export class InternalError extends Error {
  readonly code = "internal-error";
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "InternalError";
  }
}

/** Raised by an op's type rule, which knows no location; the builder turns it into a CompileError. */
export class OpError extends Error {
  readonly code: string;
  readonly operand: number | undefined;
  readonly help: string | undefined;
  constructor(code: string, message: string, details: { operand?: number; help?: string } = {}) {
    super(message);
    this.name = "OpError";
    this.code = code;
    this.operand = details.operand;
    this.help = details.help;
  }
}

/** Reads one source file for code frames; undefined when it cannot be read. */
export type SourceReader = (file: string) => string | undefined;

/** The innermost file position of a location: for nodes made by a pass, that of the first node it came from. */
export function fileLoc(loc: Loc): Extract<Loc, { kind: "file" }> | undefined {
  let at: Loc | undefined = loc;
  while (at !== undefined && at.kind === "made") at = at.from.find((l) => l.kind !== "unknown");
  return at?.kind === "file" ? at : undefined;
}

/** `vit.ts:41:28`, or `vit.ts:41:28 (made by mergeTokens)`; empty for an unknown place. */
export function formatLoc(loc: Loc): string {
  const file = fileLoc(loc);
  const place = file === undefined ? "" : `${file.file}:${file.line}:${file.column}`;
  if (loc.kind !== "made") return place;
  return place === "" ? `made by ${loc.by}` : `${place} (made by ${loc.by})`;
}

/** Text of a diagnostic: one line, then the code frame where the source can be read, then notes and help. */
export function formatDiagnostic(d: Diagnostic, read?: SourceReader): string {
  const place = formatLoc(d.loc);
  const lines = [`${place === "" ? "" : `${place} `}${d.severity}[${d.code}]: ${d.message}`];
  const frame = read === undefined ? undefined : codeFrame(d.loc, read);
  if (frame !== undefined) lines.push(frame);
  for (const note of d.notes) {
    const at = formatLoc(note.loc);
    lines.push(`  note: ${at === "" ? "" : `${at} `}${note.message}`);
  }
  if (d.help !== undefined) lines.push(`  help: ${d.help}`);
  return lines.join("\n");
}

const frameWidth = 120; // columns; longer lines are cut around the caret

function codeFrame(loc: Loc, read: SourceReader): string | undefined {
  const at = fileLoc(loc);
  if (at === undefined) return undefined;
  const text = read(at.file)?.split("\n")[at.line - 1];
  if (text === undefined) return undefined;
  const start = Math.max(0, Math.min(at.column - 1 - frameWidth / 2, text.length - frameWidth));
  const shown = text.slice(start, start + frameWidth).replaceAll("\t", " ");
  const gutter = `  ${at.line} | `;
  const caretAt = Math.max(0, at.column - 1 - start);
  const width = Math.max(1, Math.min(at.length ?? 1, shown.length - caretAt));
  return `${gutter}${shown}\n${" ".repeat(gutter.length - 2)}| ${" ".repeat(caretAt)}${"^".repeat(width)}`;
}

/** The names closest to a misspelt one, nearest first, at most `most`. */
export function nearestNames(name: string, known: Iterable<string>, most = 3): string[] {
  const limit = Math.max(2, Math.floor(name.length / 3));
  const scored: { name: string; distance: number }[] = [];
  for (const candidate of known) {
    if (Math.abs(candidate.length - name.length) > limit) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), limit);
    if (distance <= limit) scored.push({ name: candidate, distance });
  }
  scored.sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1));
  return scored.slice(0, most).map((s) => s.name);
}

/** `did you mean a or b?`, or undefined where nothing is near. */
export function didYouMean(name: string, known: Iterable<string>): string | undefined {
  const near = nearestNames(name, known);
  return near.length === 0 ? undefined : `did you mean ${near.join(" or ")}?`;
}

/** Levenshtein distance, given up above `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const cost = Math.min(substitution, (previous[j] as number) + 1, (row[j - 1] as number) + 1);
      row.push(cost);
      least = Math.min(least, cost);
    }
    if (least > limit) return limit + 1;
    previous = row;
  }
  return previous[b.length] as number;
}
