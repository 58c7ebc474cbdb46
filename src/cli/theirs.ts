import { compileError, InternalError } from "../index.ts";
import { diagnosticsOf } from "./failure.ts";
import { userFrame } from "./importModel.ts";

/**
 * Sends what a user's own code prints to standard error, so that it does not stand between what the command prints;
 * gives the way back.
 */
export function outputToErrors(): () => void {
  const write = process.stdout.write;
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof write;
  return () => {
    process.stdout.write = write;
  };
}

/** Runs what may call the user's code; what that throws is an error at its line, not a defect of ours. */
export function theirs<T>(what: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw theirFailure(what, error);
  }
}

/** The same of what goes on while others run. */
export async function theirsAsync<T>(what: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw theirFailure(what, error);
  }
}

function theirFailure(what: string, error: unknown): unknown {
  if (error instanceof InternalError || diagnosticsOf(error) !== undefined) return error;
  const at = userFrame(error);
  if (at === undefined) return error;
  const message = error instanceof Error ? error.message : String(error);
  return compileError("model-error", `${what} fails: ${message}`, {
    loc: at.loc,
    help: at.ours ? "tamis was called here with something that it does not take" : undefined,
  });
}
