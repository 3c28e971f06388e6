/** Files that a tool writes at its end. */
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileErrorText } from "../../daemon/config/yaml-file.ts";
import { ToolError } from "./run-tool.ts";

/** Before a run of minutes whose result is to go there: throws ToolError where it can't be written. */
export function checkWritable(file: string): void {
  const isThere = existsSync(file);
  try {
    makeFolderOf(file);
    closeSync(openSync(file, "a"));
    if (!isThere) rmSync(file);
  } catch (error) {
    throw new ToolError(`${file} can't be written: ${fileErrorText(error)}`);
  }
}

/** Its folder is made where there is none. */
export function writeText(file: string, text: string): void {
  makeFolderOf(file);
  writeFileSync(file, text);
}

export function writeJson(file: string, value: unknown): void {
  writeText(file, `${JSON.stringify(value, null, 2)}\n`);
}

/** Where there is none. */
export function makeFolderOf(file: string): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
}
