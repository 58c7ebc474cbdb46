import type { AnyOp, Registry } from "../../../ir/op.ts";
import type { Pass } from "../../../passes/pass.ts";
import { nativeOps } from "../native.ts";
import type { Profile } from "../profile.ts";
import { collapseViews } from "./collapseViews.ts";
import { contractByMatmul } from "./contractByMatmul.ts";
import { expandComposites } from "./expandComposites.ts";
import { fuseProducts } from "./fuseProducts.ts";
import { plainWindows } from "./plainWindows.ts";

export interface LegalizeOptions {
  readonly profile: Profile;
  readonly tokenForm?: "index" | "dense";
}

/** The private rewrites of the ONNX backend in their order, and the registry that knows the ops they make. */
export function legalize({ profile }: LegalizeOptions): {
  readonly passes: readonly Pass[];
  readonly withNative: (registry: Registry) => Registry;
} {
  return {
    passes: [expandComposites(profile), plainWindows, contractByMatmul, collapseViews, fuseProducts, collapseViews],
    withNative: (registry) => new Map<string, AnyOp>([...registry, ...Object.entries(nativeOps)]),
  };
}
