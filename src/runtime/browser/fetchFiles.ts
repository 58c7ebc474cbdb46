import { compileError } from "../../ir/diagnostic.ts";
import type { ArtifactFiles } from "../artifact/index.ts";

/** Files below an address that ends in "/". Asks the server again each time, so that a cached file never meets a newer one. */
export function fetchFiles(base: URL, signal?: AbortSignal): ArtifactFiles {
  return {
    place: base.href,
    async *read(name) {
      const address = new URL(name, base);
      const unreadable = (reason: string) =>
        compileError("file-unreadable", `${address.href} cannot be read: ${reason}`, {
          help: "is the address that of the folder, and does its server allow this page to read it?",
        });
      let response: Response;
      try {
        const request = { cache: "no-cache" as const, ...(signal && { signal }) }; // `cache` is a browser's
        response = await fetch(address, request);
      } catch (error) {
        signal?.throwIfAborted();
        throw unreadable(reasonOf(error));
      }
      if (response.status === 404 || response.status === 410)
        throw compileError("file-not-found", `there is no file ${address.href}`, {
          help: "copy all files of the compiled folder together",
        });
      if (!response.ok) throw unreadable(`the server answers ${response.status} ${response.statusText}`.trimEnd());
      const reader = response.body?.getReader();
      try {
        for (let part = await reader?.read(); part !== undefined && !part.done; part = await reader?.read())
          yield part.value as Uint8Array;
      } catch (error) {
        signal?.throwIfAborted();
        throw unreadable(reasonOf(error));
      } finally {
        await reader?.cancel().catch(() => undefined);
      }
    },
  };
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
