import type { TensorData } from "../../../ir/type.ts";
import type { SessionValue } from "../../session.ts";
import type { PictureForm } from "../pictureInput.ts";

/** One labelled example; its contents are read when they are wanted. */
export interface Example {
  /** In messages: a file, or a position in one. */
  readonly name: string;
  /** Its class, from 0. */
  readonly label: number;
  /** Contents by input name, of one example: without the batch axis, or with it as 1. */
  read(): Promise<Readonly<Record<string, TensorData>>>;
}

/** Labelled examples in a fixed order, read one after the other; may hold files open. */
export interface DataSet extends AsyncDisposable {
  /** Undefined where it shows only at the end. */
  readonly count: number | undefined;
  /** What was assumed about it and may be wrong, for people. */
  readonly notes: readonly string[];
  examples(): AsyncIterable<Example>;
}

/** What a model says about the examples that it takes. */
export interface Wanted {
  readonly inputs: readonly SessionValue[];
  /** How pictures become an input, by its name. */
  readonly pictures: Readonly<Record<string, PictureForm>>;
  /** Classes that the model tells apart. */
  readonly classes: number;
  /** Names of the classes; empty where they have none. */
  readonly labels: readonly string[];
}

export const nothingOpen = async (): Promise<void> => undefined;
