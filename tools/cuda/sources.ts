/** Where the CUDA provider libraries can be had from. Each source hands over the same files by name. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import AdmZip from "adm-zip";
import { SetupError } from "./setup-error.ts";

/** What the runtime loads for CUDA. Without the last it runs; TensorRT is not used. */
export const PROVIDER_LIBRARIES: readonly string[] = [
  "libonnxruntime_providers_shared.so",
  "libonnxruntime_providers_cuda.so",
];

export interface Libraries {
  /** Where they come from, in words. */
  readonly origin: string;
  /** The version that the source states of itself; null where it states none. */
  readonly version: string | null;
  readonly files: ReadonlyMap<string, Buffer>;
}

/** Takes the libraries from a folder that holds them. */
export function fromFolder(folder: string): Libraries {
  const files = new Map<string, Buffer>();
  for (const name of PROVIDER_LIBRARIES) {
    const file = path.join(folder, name);
    if (existsSync(file)) files.set(name, readFileSync(file));
  }
  return complete({ origin: folder, version: null, files });
}

/** Takes them from a wheel of the Python package `onnxruntime-gpu`. */
export function fromWheel(file: string): Libraries {
  const archive = openArchive(readFile(file), file);
  const metadata = archive.getEntries().find(({ entryName }) => /^[^/]+\.dist-info\/METADATA$/.test(entryName));
  const stated = metadata?.getData().toString("utf8") ?? "";
  const name = /^Name: (.+)$/m.exec(stated)?.[1]?.trim() ?? "";
  if (!/^onnxruntime[-_.]gpu$/i.test(name)) {
    throw new SetupError(`${file} is no wheel of onnxruntime-gpu${name === "" ? "" : ` but of ${name}`}`);
  }
  const version = /^Version: (.+)$/m.exec(stated)?.[1]?.trim() ?? null;
  return complete({ origin: path.basename(file), version, files: librariesIn(archive) });
}

const run = promisify(execFile);

/** The wheel of this version by pip, which knows the machine's package index. Any Python's wheel does: only its libraries are used. */
export async function downloadWheel(version: string, pip: string = "python3"): Promise<Libraries> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "slackline-wheel-"));
  const args = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", folder];
  const platforms = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64"];
  const target = ["--python-version", "3.12", "--implementation", "cp", ...platforms.flatMap((p) => ["--platform", p])];
  try {
    await run(pip, [...args, ...target, `onnxruntime-gpu==${version}`], { maxBuffer: 1 << 26 });
    const wheel = readdirSync(folder).find((file) => file.endsWith(".whl"));
    if (wheel === undefined) throw new SetupError(`pip downloaded no wheel of onnxruntime-gpu ${version}`);
    return fromWheel(path.join(folder, wheel));
  } catch (error) {
    if (error instanceof SetupError) throw error;
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    const why =
      code === "ENOENT"
        ? `there is no ${pip}; download the wheel elsewhere and give its path`
        : (stderr ?? String(error)).trim().split("\n").slice(-2).join(" ");
    throw new SetupError(`the wheel of onnxruntime-gpu ${version} can't be had by pip: ${why}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface InstallMetadata {
  readonly packages: Readonly<Record<string, { readonly name: string }>>;
  readonly feeds: Readonly<Record<string, { readonly index: string }>>;
}

/** The feed and the package that the runtime's own install script would use. */
export function runtimeFeed(): { readonly index: string; readonly packageName: string } {
  const metadata = createRequire(import.meta.url)("onnxruntime-node/script/install-metadata.js") as InstallMetadata;
  const linux = Object.entries(metadata.packages).find(([key]) => key.includes("linux/x64"));
  const feed = metadata.feeds.nuget;
  if (linux === undefined || feed === undefined) throw new SetupError("the runtime names no feed for Linux on x64");
  return { index: feed.index, packageName: linux[1].name };
}

/** Takes them from a NuGet feed (version 3 of its protocol). */
export async function fromFeed(index: string, packageName: string, version: string): Promise<Libraries> {
  const resources = (await (await get(index)).json()) as { resources?: { "@id": string; "@type": string }[] };
  const base = resources.resources?.find((resource) => resource["@type"] === "PackageBaseAddress/3.0.0")?.["@id"];
  if (base === undefined) throw new SetupError(`${index} is no NuGet feed: it lists no PackageBaseAddress/3.0.0`);
  const id = packageName.toLowerCase();
  const folder = `${base.replace(/\/$/, "")}/${id}`;
  const { versions } = (await (await get(`${folder}/index.json`)).json()) as { versions: string[] };
  if (!versions.includes(version)) {
    const last = versions.slice(-5).join(", ");
    throw new SetupError(
      `the feed has no ${packageName} ${version}, which the installed runtime needs; it has ${last}`,
    );
  }
  const url = `${folder}/${version}/${id}.${version}.nupkg`;
  const archive = openArchive(Buffer.from(await (await get(url)).arrayBuffer()), url);
  return complete({ origin: url, version, files: librariesIn(archive) });
}

async function get(url: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    const { cause } = error as { cause?: unknown };
    const why = cause instanceof Error ? cause.message : (error as Error).message;
    throw new SetupError(`${url} can't be reached (${why}). Take the libraries from a wheel or a folder instead`);
  }
  if (!response.ok) throw new SetupError(`${url} answered ${response.status} ${response.statusText}`);
  return response;
}

function readFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new SetupError(`${file} can't be read: ${(error as Error).message}`);
  }
}

function openArchive(bytes: Buffer, what: string): AdmZip {
  try {
    return new AdmZip(bytes);
  } catch (error) {
    throw new SetupError(`${what} is no zip archive: ${(error as Error).message}`);
  }
}

function librariesIn(archive: AdmZip): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const entry of archive.getEntries()) {
    const name = path.posix.basename(entry.entryName);
    if (PROVIDER_LIBRARIES.includes(name) && !/win|osx|arm64|aarch64/.test(entry.entryName)) {
      files.set(name, entry.getData());
    }
  }
  return files;
}

function complete(libraries: Libraries): Libraries {
  const missing = PROVIDER_LIBRARIES.filter((name) => !libraries.files.has(name));
  if (missing.length > 0) throw new SetupError(`${libraries.origin} lacks ${missing.join(" and ")}`);
  return libraries;
}
