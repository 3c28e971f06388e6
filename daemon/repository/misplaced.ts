/** What a folder of the repository holds in place of a version, for whoever has to put it right. */
import { readdir } from "node:fs/promises";
import path from "node:path";

/** Folders that are looked into, and names that are told. */
const FOLDERS_MAX = 20;
const TOLD_MAX = 5;

/** Folders that file systems (ext4's is in the root of every volume), Synology's and QNAP's storage and Windows make. */
const NOT_OURS: readonly string[] = [
  "lost+found",
  "@eaDir",
  "#recycle",
  "#snapshot",
  "@Recycle",
  "$RECYCLE.BIN",
  "System Volume Information",
];

/** Whether an entry of the repository, or of a folder in it, may be meant for the daemon: hidden ones are not. */
export function isMeant(entry: string): boolean {
  return !entry.startsWith(".") && !NOT_OURS.includes(entry);
}

/** Names of the ONNX files among a folder's entries. */
export function onnxFiles(entries: readonly string[]): readonly string[] {
  return visible(entries).filter((entry) => entry.toLowerCase().endsWith(".onnx"));
}

/** Why the model as a whole can't be served, as one that has no version. */
export async function noVersionReason(
  name: string,
  root: string,
  entries: readonly string[],
  modelFile: string,
): Promise<string> {
  const misplaced = await misplacedFiles(root, entries);
  const found = (misplaced.length > 0 ? misplaced : visible(entries)).slice(0, TOLD_MAX);
  const what = found.length === 0 ? "it is empty" : `found ${found.join(", ")}`;
  return `${name} has no version: expected ${name}/1/${modelFile}, where 1 is any positive integer; ${what}`;
}

/** ONNX files beside a model's versions: whoever put them there takes them for one. */
export async function besideVersions(
  name: string,
  root: string,
  entries: readonly string[],
): Promise<readonly string[]> {
  const misplaced = await misplacedFiles(root, entries);
  return misplaced.map(
    (file) =>
      `${name}/${file} is not served: a version's folder is named by a positive integer, without zeros in front`,
  );
}

/** Whether a folder without version and configuration is meant to be a model: it is empty, or holds ONNX files. */
export async function isMeantAsModel(root: string, entries: readonly string[]): Promise<boolean> {
  return visible(entries).length === 0 || (await misplacedFiles(root, entries)).length > 0;
}

/** ONNX files in a model's folder, or in folders in it that are no versions; paths from it. */
async function misplacedFiles(root: string, entries: readonly string[]): Promise<readonly string[]> {
  const direct = onnxFiles(entries);
  if (direct.length > 0) return direct;
  const found: string[] = [];
  for (const entry of visible(entries).slice(0, FOLDERS_MAX)) {
    const inside = await readdir(path.join(root, entry)).catch(() => []);
    found.push(...onnxFiles(inside).map((file) => `${entry}/${file}`));
  }
  return found;
}

function visible(entries: readonly string[]): readonly string[] {
  return entries.filter(isMeant).sort();
}
