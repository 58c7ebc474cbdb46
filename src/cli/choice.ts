import { compileError, type DeviceProfile, didYouMean, isProfile, type Profile, profiles } from "../index.ts";

const targets = ["reference", "onnx", "webgpu"] as const;
export type Target = (typeof targets)[number];

/** Fails with `unknown-target`; `own` are the names of the user's own targets. */
export function readTarget(text: string | undefined, standard: Target, own: Iterable<string> = []): Target {
  if (text === undefined) return standard;
  const target = targets.find((t) => t === text);
  if (target === undefined) throw unknown("unknown-target", "target", text, [...targets, ...own]);
  return target;
}

/** Fails with `unknown-profile`. */
export function readProfile(text: string | undefined): Profile {
  if (text === undefined) return "portable";
  if (isProfile(text)) return text;
  throw unknown("unknown-profile", "profile", text, profiles);
}

/** Devices that a webgpu artefact is written for. Software adapters have the same limits and other costs. */
const devices = {
  portable: { storageBuffers: 8, software: false },
  software: { storageBuffers: 8, software: true },
} as const satisfies Readonly<Record<string, DeviceProfile>>;

export interface TargetDevice {
  readonly profile: string;
  readonly device: DeviceProfile;
}

/** The profile of --target webgpu; fails with `unknown-profile`. */
export function readDevice(text: string | undefined): TargetDevice {
  const profile = text ?? "portable";
  if (Object.hasOwn(devices, profile)) return { profile, device: devices[profile as keyof typeof devices] };
  throw unknown("unknown-profile", "profile of webgpu", profile, Object.keys(devices));
}

/** One of `known`; fails with `bad-option` and says which one may be meant. */
export function readChoice<const C extends string>(kind: string, text: string, known: readonly C[]): C {
  const choice = known.find((c) => c === text);
  if (choice === undefined) throw unknown("bad-option", kind, text, known);
  return choice;
}

const unknown = (code: string, kind: string, text: string, known: readonly string[]) =>
  compileError(code, `there is no ${kind} ${JSON.stringify(text.slice(0, 60))}`, {
    help: didYouMean(text, known) ?? `one of ${known.join(", ")}`,
  });

/** A whole number from `least` on; fails with `bad-option`. */
export function readCount(option: string, text: string, least: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(number) && number >= least) return number;
  throw compileError("bad-option", `--${option} wants a whole number from ${least} on, got ${JSON.stringify(text)}`);
}

/** Sizes of symbols from texts such as `batch=2`; fails with `bad-option`. */
export function readBindings(texts: readonly string[] = []): ReadonlyMap<string, number> {
  return new Map(
    texts.map((text) => {
      const [, symbol, size] = /^([A-Za-z_]\w*)=(\d+)$/.exec(text) ?? [];
      if (symbol === undefined || size === undefined || Number(size) < 1 || !Number.isSafeInteger(Number(size)))
        throw compileError("bad-option", `--bind wants SYMBOL=SIZE, such as batch=2, got ${JSON.stringify(text)}`);
      return [symbol, Number(size)];
    }),
  );
}
