import { realpath } from "node:fs/promises";
import path from "node:path";
import { fileErrorText } from "../config/yaml-file.ts";
import { VersionError } from "./errors.ts";

/** Whether a path is the folder itself or lies in it; both absolute and resolved. */
export function isInside(folder: string, file: string): boolean {
  const relative = path.relative(folder, file);
  return relative === "" || (relative !== ".." && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative));
}

/**
 * The real path of a file, all symbolic links followed; refuses one that lies outside the model's folder.
 *
 * @param root real path of the model's folder
 * @param shown how messages name the file
 */
export async function realPathInside(root: string, file: string, shown: string): Promise<string> {
  let real: string;
  try {
    real = await realpath(file);
  } catch (error) {
    throw new VersionError(`${shown} can't be read: ${fileErrorText(error)}`);
  }
  if (!isInside(root, real)) throw new VersionError(`${shown} leads outside the model's folder`);
  return real;
}
