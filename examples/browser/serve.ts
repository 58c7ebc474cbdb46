// npm run demo:browser: writes the demo page to out/browser and serves it to this machine alone.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { extname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { buildDemo } from "./build.ts";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".wgsl": "text/plain; charset=utf-8",
  ".safetensors": "application/octet-stream",
};

/** Serves the files below a folder on localhost; port 0 is any that is free. */
export async function serveFolder(folder: string, port: number): Promise<{ server: Server; address: string }> {
  const server = createServer(async (request, response) => {
    const path = fileOf(request.url ?? "/");
    const file = path === undefined ? undefined : join(folder, path);
    const found = file === undefined ? undefined : await stat(file).catch(() => undefined);
    if (file === undefined || found?.isFile() !== true) {
      response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
      return;
    }
    const type = types[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "content-length": found.size, "cache-control": "no-cache" });
    createReadStream(file)
      .on("error", () => response.destroy())
      .pipe(response);
  });
  await new Promise<void>((listening, failed) => {
    server.once("error", failed).listen(port, "127.0.0.1", listening);
  });
  const bound = server.address();
  const used = typeof bound === "object" && bound !== null ? bound.port : port;
  return { server, address: `http://localhost:${used}/` };
}

/** The path below the folder that an address asks for; undefined where it leads out of it. */
function fileOf(url: string): string | undefined {
  try {
    const path = decodeURIComponent(new URL(url, "http://localhost").pathname);
    if (path.includes("\0") || path.split(/[\\/]/).includes("..")) return undefined;
    return path.endsWith("/") ? `${path}index.html` : path;
  } catch {
    return undefined;
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { port: { type: "string", default: "8080" }, output: { type: "string", default: "out/browser" } },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) return fail(`--port wants a port, got ${values.port}`);
  const start = performance.now();
  console.log(`compiling the Fashion ViT to ${values.output} ...`);
  await buildDemo(values.output, { degrees: [0, 2, 4, 8], profiles: ["portable", "software"] });
  const served = await serveFolder(values.output, port).catch((error: NodeJS.ErrnoException) => error);
  if (served instanceof Error)
    return fail(
      `port ${port} cannot be used (${served.code}): npm run demo:browser -- --port 0 takes one that is free`,
    );
  const { address } = served;
  console.log(`took ${((performance.now() - start) / 1000).toFixed(1)} s; open ${address} (Ctrl-C ends)`);
}

function fail(message: string): void {
  console.error(`demo:browser: ${message}`);
  process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
