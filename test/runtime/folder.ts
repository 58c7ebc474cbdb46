import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { CompileError } from "../../src/ir/diagnostic.ts";

/** Gives every test of the file a fresh empty folder; call at the top, then ask for paths in it. */
export function freshFolder(): (name?: string) => string {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tamis-"));
  });
  afterEach(() => rm(folder, { recursive: true }));
  return (name = "") => join(folder, name);
}

/** The CompileError that `action` fails with; anything else fails the test. */
export async function refusal(action: Promise<unknown> | (() => unknown)): Promise<CompileError> {
  try {
    await (typeof action === "function" ? action() : action);
  } catch (error) {
    expect(error).toBeInstanceOf(CompileError);
    return error as CompileError;
  }
  throw new Error("nothing was refused");
}
