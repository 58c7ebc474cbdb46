import { divideDims } from "../../../ir/dim.ts";
import { type Expr, walk } from "../expr.ts";
import type { Fold, RowsKernel } from "../kernel.ts";
import { literalText } from "../print.ts";
import { lanes, Vectoriser } from "../vector.ts";
import { type Shader, ShaderWriter, storedAs } from "./shader.ts";

/** Folds and the values that depend on them: a thread a row, or a workgroup a row where `threads` is above 1. */
export function emitRows(
  kernel: RowsKernel,
  singles: ReadonlySet<string>,
  threads: number,
): { shader: Shader; writer: ShaderWriter } {
  const w = new ShaderWriter(kernel, singles);
  const shader = threads > 1 ? emitSharedRows(w, kernel, threads) : emitSingleRows(w, kernel);
  return { shader, writer: w };
}

const widthOf = (kernel: RowsKernel): 1 | 4 => (divideDims(kernel.length, lanes) === undefined ? 1 : lanes);

function emitSingleRows(w: ShaderWriter, kernel: RowsKernel): Shader {
  w.line(`if (id >= ${w.size(kernel.rows)}) { return; }`, "let i = id;", `let length = ${w.size(kernel.length)};`);
  const width = widthOf(kernel);
  const stride: Stride = { first: "0", step: String(width), width };
  storeFirst(w, kernel, undefined);
  storeElements(
    w,
    kernel.before.map((r) => ({ ...r, at: kernel.place })),
    stride,
  );
  for (const passes of inPasses(kernel.folds)) {
    foldAlong(w, passes, stride);
    for (const { fold, f } of passes) finishFold(w, fold, f, (k) => `f${f}_${k}`);
  }
  kernel.perRow.forEach(({ buffer, value }) => w.line(w.assign(buffer, "i", w.printer.text(value))));
  storeElements(w, kernel.perElement, stride);
  return w.finish([{ dim: kernel.rows, per: 1 }]);
}

/** Where a thread starts in the row, how far it goes on, and how many neighbours it takes at once. */
interface Stride {
  readonly first: string;
  readonly step: string;
  readonly width: 1 | 4;
}

/** A fold and its number in the kernel. */
export interface Numbered {
  readonly fold: Fold;
  readonly f: number;
}

/** Folds in order, grouped so that those of one group need nothing of each other and share a pass over the row. */
export function inPasses(folds: readonly Fold[]): readonly (readonly Numbered[])[] {
  const passes: Numbered[][] = [];
  let open: Numbered[] = [];
  folds.forEach((fold, f) => {
    const needs = new Set<string>();
    walk([...fold.init, ...fold.step], (e) => {
      if (e.op === "variable") needs.add(e.name as string);
    });
    if (open.some((other) => needs.has(`s${other.f}`)) || open.length === 0) {
      open = [];
      passes.push(open);
    }
    open.push({ fold, f });
  });
  return passes;
}

/** Values per row under their names; stored by one thread of those that share the row. */
function storeFirst(w: ShaderWriter, kernel: RowsKernel, guard: string | undefined): void {
  for (const { name, buffer, value } of kernel.first) {
    const { lines, texts } = w.printer.statements([value], "  ");
    w.body.push(...lines);
    w.line(`let ${name} = ${texts[0]};`);
    const store = w.assign(buffer, "i", name);
    w.line(guard === undefined ? store : `if (${guard}) { ${store} }`);
  }
}

/** Accumulators f0_0, f0_1, ... of fold 0 over a thread's part of the row; several folds in one pass. */
function foldAlong(w: ShaderWriter, folds: readonly Numbered[], { first, step, width }: Stride): void {
  const wide = width === lanes;
  const nameOf = (f: number, k: number): string => (wide ? `v${f}_${k}` : `f${f}_${k}`);
  for (const { fold, f } of folds)
    fold.registers.forEach((register, k) => {
      const type = wide ? `vec4<${register}>` : register;
      const init = literalText(fold.init[k] as never);
      w.line(`var ${nameOf(f, k)}: ${type} = ${wide ? `${type}(${init})` : init};`);
    });
  w.line(`for (var r = ${first}; r < length; r += ${step}) {`);
  w.printer.block(() => {
    // Accumulators are named a0, a1, ... in every step: each fold's are its own in a block of its own, while what the
    // folds share is found before.
    const held = Math.max(...folds.map(({ fold }) => fold.registers.length));
    const names = Array.from({ length: held }, (_, k) => `a${k}`);
    const vectors = new Vectoriser("r", { wide: names });
    const stepOf = (fold: Fold) => (wide ? fold.step.map((e) => vectors.of(e)) : fold.step);
    if (folds.length > 1)
      w.body.push(
        ...w.printer.bind(
          sharedBy(
            folds.map(({ fold }) => stepOf(fold)),
            new Set(names),
          ),
          "    ",
        ),
      );
    for (const { fold, f } of folds) {
      w.line("  {");
      w.printer.block(() => {
        fold.registers.forEach((_, k) => w.line(`    let a${k} = ${nameOf(f, k)};`));
        const steps = stepOf(fold);
        w.body.push(...w.printer.statements(steps, "      ").lines);
        steps.forEach((e, k) => {
          w.line(`    let next${k} = ${wide ? w.printer.wideText(e) : w.printer.text(e)};`);
        });
        steps.forEach((_, k) => w.line(`    ${nameOf(f, k)} = next${k};`));
      });
      w.line("  }");
    }
  });
  w.line("}");
  if (wide)
    for (const { fold, f } of folds)
      joinLanes(
        w,
        fold,
        f,
        fold.registers.map((_, k) => nameOf(f, k)),
      );
}

/** The largest expressions that several folds need and that no accumulator is part of. */
function sharedBy(steps: readonly (readonly Expr[])[], accumulators: ReadonlySet<string>): readonly Expr[] {
  const uses = new Map<Expr, number>();
  const free = new Set<Expr>();
  const outsideFolds = (e: Expr): boolean => e.op !== "fold";
  for (const roots of steps) {
    walk(
      roots,
      (e) => {
        uses.set(e, (uses.get(e) ?? 0) + 1);
        const held = e.op === "variable" && accumulators.has(e.name as string);
        if (!held && (e.op === "fold" || e.args.every((arg) => free.has(arg)))) free.add(e);
      },
      outsideFolds,
    );
  }
  const common = [...uses.keys()].filter((e) => free.has(e) && (uses.get(e) ?? 0) > 1 && e.args.length > 0);
  const inside = new Set(common.filter(outsideFolds).flatMap((e) => e.args));
  return common.filter((e) => !inside.has(e));
}

/** Four partial folds become one. */
function joinLanes(w: ShaderWriter, fold: Fold, f: number, names: readonly string[]): void {
  names.forEach((name, k) => w.line(`var f${f}_${k} = ${name}.x;`));
  for (const lane of ["y", "z", "w"])
    mergeInto(w, fold, "  ", {
      target: (k) => `f${f}_${k}`,
      x: (k) => `f${f}_${k}`,
      y: (k) => `${names[k]}.${lane}`,
    });
}

/** Two partial folds as one, in a block of their own. */
function mergeInto(
  w: ShaderWriter,
  fold: Fold,
  indent: string,
  { target, x, y }: { target: (k: number) => string; x: (k: number) => string; y: (k: number) => string },
): void {
  w.line(`${indent.slice(2)}{`);
  w.printer.block(() => {
    fold.registers.forEach((_, k) => w.line(`${indent}let x${k} = ${x(k)};`, `${indent}let y${k} = ${y(k)};`));
    const { lines, texts } = w.printer.statements(fold.merge, `${indent}  `);
    w.body.push(...lines);
    texts.forEach((text, k) => w.line(`${indent}${target(k)} = ${text};`));
  });
  w.line(`${indent.slice(2)}}`);
}

/** The finished fold s0, from where its accumulators lie. */
function finishFold(w: ShaderWriter, fold: Fold, f: number, accumulator: (k: number) => string): void {
  w.line(`var s${f}: ${fold.finish.type};`, "{");
  w.printer.block(() => {
    fold.registers.forEach((_, k) => w.line(`  let a${k} = ${accumulator(k)};`));
    w.line(`  s${f} = ${w.printer.text(fold.finish)};`);
  });
  w.line("}");
}

/** Values of the row's elements, once all folds are finished. */
function storeElements(w: ShaderWriter, perElement: RowsKernel["perElement"], { first, step, width }: Stride): void {
  if (perElement.length === 0) return;
  w.line(`for (var r = ${first}; r < length; r += ${step}) {`);
  w.printer.block(() => {
    const vectors = new Vectoriser("r");
    const wide = width === lanes;
    const values = perElement.map((r) => r.value);
    const inRow = wide && perElement.every((r) => vectors.contiguous(r.at));
    const places = wide && !inRow ? perElement.map((r) => vectors.of(r.at)) : perElement.map((r) => r.at);
    const roots = [...places, ...(wide ? values.map((value) => vectors.of(value)) : values)];
    const { lines, texts } = w.printer.statements(roots, "    ");
    w.body.push(...lines);
    perElement.forEach(({ buffer, value }, k) => {
      const at = texts[k] as string;
      const text = texts[perElement.length + k] as string;
      if (!wide) w.line(`  ${w.assign(buffer, at, text)}`);
      else if (inRow) w.line(`  ${w.assign4(buffer, at, w.printer.wideText(vectors.of(value)))}`);
      else {
        w.line(`  let at${k} = ${at};`, `  let words${k} = ${w.printer.wideText(vectors.of(value))};`);
        for (const lane of ["x", "y", "z", "w"]) w.line(`  ${w.assign(buffer, `at${k}.${lane}`, `words${k}.${lane}`)}`);
      }
    });
  });
  w.line("}");
}

/** One workgroup a row: partial folds by thread, then merged pairwise. */
function emitSharedRows(w: ShaderWriter, kernel: RowsKernel, threads: number): Shader {
  kernel.folds.forEach((fold, f) =>
    fold.registers.forEach((register, k) =>
      w.functions.push(`var<workgroup> part${f}_${k}: array<${storedAs(register)}, ${threads}>;`),
    ),
  );
  w.line("let i = team;", `let length = select(0, ${w.size(kernel.length)}, i < ${w.size(kernel.rows)});`);
  const width = widthOf(kernel);
  const stride: Stride = {
    first: width === 1 ? "lane" : `lane * ${width}`,
    step: String(threads * width),
    width,
  };
  const packed = (register: string, text: string) => (register === "bool" ? `select(0u, 1u, ${text})` : text);
  const unpacked = (register: string, text: string) => (register === "bool" ? `(${text} != 0u)` : text);
  storeFirst(w, kernel, "lane == 0 && length > 0");
  storeElements(
    w,
    kernel.before.map((r) => ({ ...r, at: kernel.place })),
    stride,
  );
  kernel.folds.forEach((fold, f) => {
    const shared = (k: number, at: string) => unpacked(fold.registers[k] as string, `part${f}_${k}[${at}]`);
    foldAlong(w, [{ fold, f }], stride);
    fold.registers.forEach((register, k) => w.line(`part${f}_${k}[lane] = ${packed(register, `f${f}_${k}`)};`));
    w.line(
      "workgroupBarrier();",
      `for (var half = ${threads / 2}; half > 0; half = half / 2) {`,
      "  if (lane < half) {",
    );
    w.printer.block(() => {
      fold.registers.forEach((_, k) =>
        w.line(`    let x${k} = ${shared(k, "lane")};`, `    let y${k} = ${shared(k, "lane + half")};`),
      );
      const { lines, texts } = w.printer.statements(fold.merge, "      ");
      w.body.push(...lines);
      texts.forEach((text, k) => w.line(`    part${f}_${k}[lane] = ${packed(fold.registers[k] as string, text)};`));
    });
    w.line("  }", "  workgroupBarrier();", "}");
    finishFold(w, fold, f, (k) => shared(k, "0"));
  });
  if (kernel.perRow.length > 0) {
    w.line("if (lane == 0 && length > 0) {");
    w.printer.block(() =>
      kernel.perRow.forEach(({ buffer, value }) => w.line(`  ${w.assign(buffer, "i", w.printer.text(value))}`)),
    );
    w.line("}");
  }
  storeElements(w, kernel.perElement, stride);
  return w.finish([{ dim: kernel.rows, per: 1 }], { threads, perGroup: 1 });
}
