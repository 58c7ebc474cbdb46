// Four neighbouring values of an expression at once: what it gives for v, v + 1, v + 2 and v + 3, where v is a variable
// that moves in steps of four. Neighbours in memory are read together.
import { divideDims } from "../../ir/dim.ts";
import { accumulatorOf, type Expr, ExprPool, walk } from "./expr.ts";

export const lanes = 4;

/** How an index runs over the four lanes: from a base, `step` further each. */
interface Run {
  readonly step: number;
  /** Whether the base is a multiple of four. */
  readonly aligned: boolean;
}

export class Vectoriser {
  readonly #pool = new ExprPool();
  readonly #variable: string;
  readonly #runs = new Map<Expr, Run | undefined>();
  readonly #wide = new Map<Expr, Expr>();
  readonly #fours: ReadonlySet<string>;
  readonly #held: Set<string>;

  /** `fours`: other variables known to be multiples of four. `wide`: variables that hold four values. */
  constructor(
    variable: string,
    { fours = [], wide = [] }: { fours?: readonly string[]; wide?: readonly string[] } = {},
  ) {
    this.#variable = variable;
    this.#fours = new Set(fours);
    this.#held = new Set(wide);
  }

  /** Whether an index expression gives four places in a row, the first a multiple of four. */
  contiguous(index: Expr): boolean {
    const run = this.#run(index);
    return run !== undefined && run.step === 1 && run.aligned;
  }

  /** Of width 4, or the expression itself where it does not depend on the variable. */
  of(e: Expr): Expr {
    const known = this.#wide.get(e);
    if (known !== undefined) return known;
    const made = this.#make(e);
    this.#wide.set(e, made);
    return made;
  }

  #make(e: Expr): Expr {
    if (e.op === "variable" && e.name === this.#variable) return this.#pool.make("lanes", [e], "i32", { width: 4 });
    if (e.op === "variable" && this.#held.has(e.name as string))
      return this.#pool.make("variable", [], e.type, { name: e.name as string, width: 4 });
    if (e.args.length === 0 || this.#run(e)?.step === 0) return e; // one value for all four
    if (e.op === "load") return this.#load(e);
    if (e.op === "fold") return this.#fold(e);
    const args = e.args.map((arg) => this.of(arg));
    if (args.every((arg) => arg.width === undefined)) return e;
    const { name, value, elements } = e;
    return this.#pool.make(e.op, args, e.type, {
      ...(elements !== undefined && { elements }),
      ...(name !== undefined && { name }),
      ...(value !== undefined && { value }),
      width: 4,
    });
  }

  /** A loop whose terms move: its accumulator is as wide as they are. */
  #fold(e: Expr): Expr {
    const { name, elements } = e as { name: string; elements: NonNullable<Expr["elements"]> };
    const [init, step] = e.args as readonly [Expr, Expr];
    this.#held.add(accumulatorOf(name));
    const wide = this.of(step);
    this.#held.delete(accumulatorOf(name));
    if (!movesIn(wide, accumulatorOf(name))) return e;
    return this.#pool.make("fold", [this.of(init), wide], e.type, { name, elements, width: 4 });
  }

  #load(e: Expr): Expr {
    const [index] = e.args as readonly [Expr];
    const wide = this.of(index);
    if (wide.width === undefined) return e;
    const { name, elements } = e as { name: string; elements: NonNullable<Expr["elements"]> };
    const whole = divideDims(elements, lanes) !== undefined;
    const [op, at] = whole && this.contiguous(index) ? (["load4", index] as const) : (["gather4", wide] as const);
    return this.#pool.make(op, [at], e.type, { name, elements, width: 4 });
  }

  #run(e: Expr): Run | undefined {
    if (!this.#runs.has(e)) this.#runs.set(e, this.#findRun(e));
    return this.#runs.get(e);
  }

  #findRun(e: Expr): Run | undefined {
    if (e.op === "literal") return { step: 0, aligned: (e.value as number) % lanes === 0 };
    if (e.op === "variable") {
      if (this.#held.has(e.name as string)) return undefined;
      const moves = e.name === this.#variable;
      return { step: moves ? 1 : 0, aligned: moves || this.#fours.has(e.name as string) };
    }
    if (e.op === "dim") return { step: 0, aligned: divideDims(e.name as string, lanes) !== undefined };
    const runs = e.args.map((arg) => this.#run(arg));
    const [a, b] = runs;
    if (runs.some((run) => run === undefined)) return undefined;
    const still = runs.every((run) => run?.step === 0);
    if (a !== undefined && b !== undefined && e.type === "i32") {
      const literal = e.args[1]?.op === "literal" ? (e.args[1].value as number) : undefined;
      if (e.op === "add" || e.op === "sub")
        return { step: e.op === "add" ? a.step + b.step : a.step - b.step, aligned: a.aligned && b.aligned };
      if (e.op === "mul" && still) return { step: 0, aligned: a.aligned || b.aligned };
      if (e.op === "mul" && literal !== undefined)
        return { step: a.step * literal, aligned: a.aligned || literal % lanes === 0 };
      if ((e.op === "div" || e.op === "mod") && literal !== undefined && literal % lanes === 0) {
        // Four places from a multiple of four on never cross a multiple of the divisor.
        const together = a.step === 0 || (a.step === 1 && a.aligned);
        if (together && e.op === "mod") return { step: a.step, aligned: a.aligned };
        if (together) return { step: 0, aligned: false };
      }
    }
    return still ? { step: 0, aligned: false } : undefined;
  }
}

/** Whether anything but the accumulator made an expression wide. */
function movesIn(step: Expr, accumulator: string): boolean {
  let moves = false;
  walk([step], (e) => {
    moves ||= e.width === 4 && e.args.length === 0 ? e.name !== accumulator : e.op === "lanes" || e.op === "load4";
  });
  return moves;
}
