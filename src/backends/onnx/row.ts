import type { Node, Value } from "../../ir/graph.ts";
import type { Profile } from "./profile.ts";
import type { Site } from "./site.ts";

/** How one op is written with ONNX operators. */
export interface Row<A = object> {
  /** Lowest opset that has the operators used, in the form used; more than 17 where a node's dtype or attributes ask. */
  readonly since: number | ((node: Node) => number);
  /** Makes the nodes; gives the name of each result in its natural form (bf16 as f32). */
  readonly emit: (at: Site<A>) => string | readonly (string | undefined)[];
  /** Results that come out as i64 although their dtype is i32, given the operands of which this is true. */
  readonly indices?: (node: Node, isIndex: (value: Value) => boolean) => readonly number[];
}

/** A composite written whole. */
export interface Claim<A = object> extends Row<A> {
  readonly profiles: readonly Profile[];
  /** Whether ONNX's operator can express this node; it can where this is absent. */
  readonly claims?: (node: Node, profile: Profile) => boolean;
}

export const everywhere: readonly Profile[] = ["portable", "ort-cuda", "ort-webgpu", "standard"];

/** Rows that move elements: the result is an index value if the first operand is. */
export const asFirst: Required<Row>["indices"] = (node, isIndex) => (isIndex(node.operands[0] as Value) ? [0] : []);
export const asAll: Required<Row>["indices"] = (node, isIndex) => (node.operands.every(isIndex) ? [0] : []);
