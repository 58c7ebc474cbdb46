import type { TensorData, TensorType } from "../ir/type.ts";

/** An input or output of a session; symbols are settled by each run's inputs. */
export interface SessionValue extends TensorType {
  readonly name: string;
}

/** A model ready to run on one device. Calls of `run` may overlap: they take turns. */
export interface Session extends AsyncDisposable {
  readonly inputs: readonly SessionValue[];
  readonly outputs: readonly SessionValue[];
  /** One result per output; fails with `bad-input` where an input is missing or of another type. */
  run(inputs: Readonly<Record<string, TensorData>>): Promise<Record<string, TensorData>>;
  /** Safe to call twice. */
  dispose(): Promise<void>;
}
