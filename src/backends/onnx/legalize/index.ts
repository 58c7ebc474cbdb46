import type { AnyOp, Registry } from "../../../ir/op.ts";
import type { Pass } from "../../../passes/pass.ts";
import { nativeOps } from "../native.ts";
import type { Profile } from "../profile.ts";
import { collapseViews } from "./collapseViews.ts";
import { contractByMatmul } from "./contractByMatmul.ts";
import { densifyTokens } from "./densifyTokens.ts";
import { expandComposites } from "./expandComposites.ts";
import { fuseAttention } from "./fuseAttention.ts";
import { fuseBiasGelu, fuseSkipNorm, fuseTransposedMatmul } from "./fuseForOnnxRuntime.ts";
import { fuseProducts } from "./fuseProducts.ts";
import { plainWindows } from "./plainWindows.ts";

export interface LegalizeOptions {
  readonly profile: Profile;
  readonly tokenForm?: "index" | "dense";
}

/** The private rewrites of the ONNX backend in their order, and the registry that knows the ops they make. */
export function legalize({ profile, tokenForm }: LegalizeOptions): {
  readonly passes: readonly Pass[];
  readonly withNative: (registry: Registry) => Registry;
} {
  const onnxRuntime = profile === "ort-cuda" || profile === "ort-webgpu";
  const dense = (tokenForm ?? (profile === "ort-webgpu" ? "dense" : "index")) === "dense";
  return {
    passes: [
      expandComposites(profile, new Set(dense ? ["topK"] : [])),
      ...(dense ? [densifyTokens] : []),
      ...(onnxRuntime ? [fuseAttention] : []),
      plainWindows,
      contractByMatmul,
      ...(profile === "ort-cuda" ? [fuseTransposedMatmul] : []),
      ...(onnxRuntime ? [fuseBiasGelu, fuseSkipNorm] : []),
      collapseViews,
      fuseProducts,
      collapseViews,
    ],
    withNative: (registry) => new Map<string, AnyOp>([...registry, ...Object.entries(nativeOps)]),
  };
}
