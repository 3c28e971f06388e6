/** The files of one version folder: what they are, whether they hold still, and their hash. */
import { createHash } from "node:crypto";
import type { Dirent } from "node:fs";
import { open, readdir, realpath, stat } from "node:fs/promises";
import path from "node:path";
import { fileErrorText } from "../config/yaml-file.ts";
import { isInside, realPathInside } from "./contained-path.ts";
import { VersionError } from "./errors.ts";
import type { ExternalDataReference } from "./onnx-metadata.ts";

export const MODEL_FILE = "model.onnx";

/** Keeps a mistaken folder (a home directory, say) from being walked for minutes. */
const FILES_MAX = 10_000;
const DEPTH_MAX = 8;

/** Small enough that hashing a piece does not delay the event loop (about 0.2 ms). */
const HASH_CHUNK_BYTES = 256 * 1024;

/**
 * A text that changes whenever a file in the folder does: names, sizes and times of all files in it, links followed, those
 * to folders where they lie in the model's own. Files that vanish meanwhile count as changes.
 *
 * @param root real path of the model's folder
 */
export async function folderSignature(root: string, folder: string): Promise<string> {
  const lines: string[] = [];
  /** Real paths of folders that a link led to: each is walked once, or a link to a folder above would go on and on. */
  const linked = new Set<string>();
  const isFolder = async (entry: Dirent, file: string): Promise<boolean> => {
    if (!entry.isSymbolicLink()) return entry.isDirectory();
    const real = await realpath(file).catch(() => null);
    if (real === null || linked.has(real) || !isInside(root, real)) return false;
    if (!(await stat(real).catch(() => null))?.isDirectory()) return false;
    linked.add(real);
    return true;
  };
  const walk = async (dir: string, depth: number): Promise<void> => {
    const entries = await readdir(dir, { withFileTypes: true });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const file = path.join(dir, entry.name);
      if (await isFolder(entry, file)) {
        if (depth < DEPTH_MAX) await walk(file, depth + 1);
        continue;
      }
      if (lines.length >= FILES_MAX) throw new VersionError(`holds more than ${FILES_MAX} files`);
      lines.push(`${path.relative(folder, file)} ${await fileSignature(file)}`);
    }
  };
  await walk(folder, 0);
  return lines.join("\n");
}

export async function fileSignature(file: string): Promise<string> {
  try {
    const { size, mtimeNs, ctimeNs, ino } = await stat(file, { bigint: true });
    return `${size} ${mtimeNs} ${ctimeNs} ${ino}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}

/**
 * Finds a version's ONNX file, checked to lie inside the model's folder.
 *
 * @param root real path of the model's folder
 * @param shown how messages name the version's folder (`digits/1`)
 * @returns the file's path, links in it kept: external data is found beside it
 */
export async function findModelFile(root: string, folder: string, shown: string, fileName: string): Promise<string> {
  await realPathInside(root, folder, shown);
  const file = path.join(folder, fileName);
  const shownFile = `${shown}/${fileName}`;
  const entries = await readdir(folder).catch((error: unknown) => {
    throw new VersionError(`${shown} can't be read: ${fileErrorText(error)}`);
  });
  if (!entries.includes(fileName)) {
    const others = entries.filter((entry) => !entry.startsWith(".")).slice(0, 5);
    throw new VersionError(`${shownFile} does not exist${others.length > 0 ? `; found ${others.join(", ")}` : ""}`);
  }
  const real = await realPathInside(root, file, shownFile);
  const stats = await stat(real);
  // A model of several files may be a folder that is named like one.
  if (stats.isDirectory()) return findModelFile(root, file, shownFile, MODEL_FILE);
  if (!stats.isFile()) throw new VersionError(`${shownFile} is not a regular file`);
  return file;
}

/**
 * Checks that external data lies inside the model's folder and is as long as the model says.
 *
 * @returns locations, each once, sorted
 */
export async function checkExternalData(
  root: string,
  modelFile: string,
  references: readonly ExternalDataReference[],
  shown: string,
): Promise<readonly string[]> {
  const needed = new Map<string, number>();
  for (const { location, offsetBytes, lengthBytes } of references) {
    needed.set(location, Math.max(needed.get(location) ?? 0, offsetBytes + (lengthBytes ?? 0)));
  }
  const locations = [...needed.keys()].sort();
  for (const location of locations) {
    const named = `${shown}: external data '${location}'`;
    const steps = location.split(/[\\/]/);
    if (path.isAbsolute(location) || path.win32.isAbsolute(location) || steps.includes("..")) {
      throw new VersionError(`${named} is not a path below the ONNX file's folder`);
    }
    const real = await realPathInside(root, path.join(path.dirname(modelFile), location), named);
    const stats = await stat(real);
    if (!stats.isFile()) throw new VersionError(`${named} is not a regular file`);
    const bytes = needed.get(location)!;
    if (stats.size < bytes) {
      throw new VersionError(`${named} has ${stats.size} bytes, but the model needs ${bytes}; is it truncated?`);
    }
  }
  return locations;
}

/** SHA-256 (hex) over the ONNX file and its external data, with names and lengths between them. */
export async function hashFiles(modelFile: string, locations: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
  for (const location of ["", ...locations]) {
    const file = location === "" ? modelFile : path.join(path.dirname(modelFile), location);
    const handle = await open(file, "r");
    try {
      hash.update(`${location}\0${(await handle.stat()).size}\0`);
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }
  return hash.digest("hex");
}
