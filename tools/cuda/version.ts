/** Whether a provider library belongs to the installed runtime: the two share structures that change with every version. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { SetupError } from "./setup-error.ts";
import type { Libraries } from "./sources.ts";

export function runtimeVersion(): string {
  const manifest = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
  return (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
}

/** Constants end with a zero byte, so that one is what comes before the next. */
const SEPARATED = "\u00001.";

/** Version texts that stand by themselves among a library's constants. */
export function versionsIn(library: Uint8Array): string[] {
  const bytes = Buffer.from(library.buffer, library.byteOffset, library.byteLength);
  const found = new Set<string>();
  for (let at = bytes.indexOf(SEPARATED); at >= 0; at = bytes.indexOf(SEPARATED, at + 1)) {
    const match = /^(1\.\d{1,3}\.\d{1,3})\0/.exec(bytes.toString("latin1", at + 1, at + 12));
    if (match !== null) found.add(match[1]!);
  }
  return [...found];
}

/** @throws {SetupError} where the libraries are of another version than the runtime */
export function checkVersion({ origin, version, files }: Libraries, wanted: string): void {
  const provider = files.get("libonnxruntime_providers_cuda.so")!;
  const versions = version === null || version === wanted ? versionsIn(provider) : [version];
  if (versions.includes(wanted)) return;
  const is = versions.length === 0 ? "states no version" : `is of version ${versions.join(" or ")}`;
  throw new SetupError(
    `${origin} ${is}, but the installed onnxruntime-node is ${wanted}: only the provider of the same version fits it`,
  );
}
