// Functions that WGSL lacks, or whose built-in leaves edge cases open. `T` stands for f32 and, where a function has no
// branches, for vec4<f32>; the others are called once for each lane.
interface Routine {
  readonly text: string;
  /** Whether the text serves vectors as it stands. */
  readonly wide?: true;
}

const routines: Readonly<Record<string, Routine>> = {
  tanh_: { wide: true, text: "fn tanh_(x: T) -> T { return tanh(clamp(x, T(-15.0), T(15.0))); }" }, // overflows in some drivers beyond
  // Rational minimax approximation on [-4, 4] (the one of Eigen and XNNPACK), absolute error below 2e-7.
  erf_: {
    wide: true,
    text: `fn erf_(y: T) -> T {
  let x = clamp(y, T(-4.0), T(4.0));
  let t = x * x;
  let over = x * (t * (t * (t * (t * (t * (t * -2.72614225801306e-10 + 2.77068142495902e-08) - 2.10102402082508e-06) - 5.69250639462346e-05) - 7.34990630326855e-04) - 2.95459980854025e-03) - 1.60960333262415e-02);
  let under = t * (t * (t * (t * -1.45660718464996e-05 - 2.13374055278905e-04) - 1.68282697438203e-03) - 7.37332916720468e-03) - 1.42647390514189e-02;
  return over / under;
}`,
  },
  // WGSL allows errors of 2^-11; quadrants of pi/2 taken off in three parts (Cody and Waite), then Taylor polynomials.
  quadrant_: {
    text: `fn quadrant_(x: f32, shift: i32) -> f32 {
  let turns = round(x * 0.63661977);
  let r = ((x - turns * 1.5707855) - turns * 0.000010804334) - turns * 6.077094e-11;
  let t = r * r;
  let s = r + r * t * (-0.16666667 + t * (0.008333333 + t * (-0.00019841270 + t * 0.0000027557319)));
  let c = 1.0 - 0.5 * t + t * t * (0.041666668 + t * (-0.0013888889 + t * (0.000024801587 - t * 2.755732e-7)));
  let quarter = (i32(turns) + shift) & 3;
  let size = select(s, c, (quarter & 1) == 1);
  return select(size, -size, quarter >= 2);
}`,
  },
  sin_: { text: "fn sin_(x: f32) -> f32 { return quadrant_(x, 0); }" },
  cos_: { text: "fn cos_(x: f32) -> f32 { return quadrant_(x, 1); }" },
  log1p_: {
    text: "fn log1p_(x: f32) -> f32 { let u = 1.0 + x; if (u == 1.0) { return x; } return log(u) * (x / (u - 1.0)); }",
  },
  expm1_: {
    text: `fn expm1_(x: f32) -> f32 {
  if (abs(x) < 0.25) { return x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.0083333333 + x * 0.0013888889))))); }
  return exp(x) - 1.0;
}`,
  },
  pow_: {
    text: `fn pow_(a: f32, b: f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (a >= 0.0) { return pow(a, b); }
  let whole = floor(b) == b;
  let size = pow(-a, b);
  if (!whole) { return bitcast<f32>(nan_bits); }
  return select(size, -size, floor(b * 0.5) * 2.0 != b);
}`,
  },
  isNan_: { text: "fn isNan_(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }" },
  isInf_: { text: "fn isInf_(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }" },
  floorModF: { text: "fn floorModF(a: f32, b: f32) -> f32 { return a - b * floor(a / b); }" },
  floorModI: {
    text: "fn floorModI(a: i32, b: i32) -> i32 { let r = a % b; return select(r, r + b, r != 0 && ((r < 0) != (b < 0))); }",
  },
};

/** Infinities are no literals of WGSL, and folding them at compile time is an error: they are read from variables. */
const bits = "var<private> inf_bits: u32 = 0x7f800000u;\nvar<private> nan_bits: u32 = 0x7fc00000u;";

/** The name by which four lanes are computed at once. */
export const wideName = (name: string): string => `${name}4`;
export const inLibrary = (name: string): boolean => name in routines;

/** Definitions of the functions used, by name or wide name. */
export function definitions(used: ReadonlySet<string>): string {
  const needed = new Set<string>();
  const ask = (name: string): void => {
    const narrow = name.endsWith("4") ? name.slice(0, -1) : name;
    const routine = routines[narrow];
    if (routine === undefined) return;
    needed.add(name);
    if (narrow !== name && routine.wide === undefined) ask(narrow);
    for (const other of routine.text.match(/\b\w+_(?=\()/g) ?? []) if (other !== narrow) ask(other);
  };
  for (const name of used) ask(name);
  const texts = Object.entries(routines).flatMap(([name, routine]) => [
    ...(needed.has(name) ? [routine.text.replaceAll(/\bT\b/g, "f32")] : []),
    ...(needed.has(wideName(name)) ? [wideText(name, routine)] : []),
  ]);
  return [bits, ...texts].join("\n");
}

function wideText(name: string, { text, wide }: Routine): string {
  if (wide) return text.replace(name, wideName(name)).replaceAll(/\bT\b/g, "vec4<f32>");
  const [, args = "", result = ""] = /\((.*?)\) -> (\w+)/.exec(text) ?? [];
  const names = args.split(", ").map((arg) => arg.split(": ") as [string, string]);
  const list = names.map(([arg, type]) => `${arg}: vec4<${type}>`).join(", ");
  const each = ["x", "y", "z", "w"].map((lane) => `${name}(${names.map(([arg]) => `${arg}.${lane}`).join(", ")})`);
  return `fn ${wideName(name)}(${list}) -> vec4<${result}> { return vec4<${result}>(${each.join(", ")}); }`;
}
