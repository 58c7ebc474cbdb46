/** What will run the file: any ONNX runtime, ONNX Runtime with its own operators, or one that knows opset 23 and later. */
export type Profile = "portable" | "ort-cuda" | "ort-webgpu" | "standard";

/** Opset that a profile's files have at least; a node that needs more raises it. */
export const baseOpset = { portable: 17, "ort-cuda": 17, "ort-webgpu": 17, standard: 23 } as const satisfies Readonly<
  Record<Profile, number>
>;

/** The provider of ONNX Runtime that a profile is for, and those that the project's tests run its files on. */
export const providersOf = {
  portable: { meant: "cpu", tested: ["cpu"] },
  "ort-cuda": { meant: "cuda", tested: ["cpu"] },
  "ort-webgpu": { meant: "webgpu", tested: ["cpu", "webgpu"] },
  standard: { meant: "cpu", tested: ["cpu"] },
} as const satisfies Readonly<Record<Profile, { readonly meant: string; readonly tested: readonly string[] }>>;

/** Every profile, `portable` first. */
export const profiles = Object.keys(baseOpset) as readonly Profile[];
/** Whether a text, such as one of the command line, names a profile. */
export const isProfile = (text: string): text is Profile => Object.hasOwn(baseOpset, text);

/** Smallest IR version for an opset: functions came with 8, the first operators of opset 19 with 9, of 21 with 10. */
export const irVersionOf = (opset: number): number => (opset >= 21 ? 10 : opset >= 19 ? 9 : 8);

/** The domain and version of ONNX Runtime's own operators. */
export const ortDomain = "com.microsoft";
