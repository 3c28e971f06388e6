/** A virtual environment with pinned packages, kept in `.cache/` between runs. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { lastLines, runCommand } from "./run-command.ts";
import { Skipped } from "./skipped.ts";

export const CACHE_DIR: string = path.join(PACKAGE_ROOT, ".cache");

const CANDIDATES = ["python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"];
const MINOR_MIN = 10;

async function findPython(): Promise<string> {
  const seen: string[] = [];
  for (const name of CANDIDATES) {
    const { code, stdout } = await runCommand(name, [
      "-c",
      "import sys, venv, ensurepip; print(sys.version_info.major, sys.version_info.minor, sys.executable)",
    ]);
    if (code !== 0) continue;
    const [major, minor, ...executable] = stdout.trim().split(" ");
    if (major === "3" && Number(minor) >= MINOR_MIN) return executable.join(" ");
    seen.push(`${name} is ${major}.${minor}`);
  }
  const found = seen.length === 0 ? "none was found" : seen.join(", ");
  throw new Skipped(`Python 3.${MINOR_MIN} or later with venv and pip is needed, and ${found}.`);
}

/**
 * The environment's own Python.
 *
 * @param file list of packages, absolute
 * @throws {Skipped} where Python, pip or the packages can't be had
 */
export async function pythonEnvironment(name: string, file: string): Promise<string> {
  const dir = path.join(CACHE_DIR, name);
  const python = path.join(dir, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  const stamp = path.join(dir, "installed.txt");
  const base = await findPython();
  const wanted = `${base}\n${readFileSync(file, "utf8")}`;
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return python;

  process.stderr.write(`Installing ${path.relative(PACKAGE_ROOT, file)} in ${path.relative(PACKAGE_ROOT, dir)}\n`);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(CACHE_DIR, { recursive: true });
  const made = await runCommand(base, ["-m", "venv", dir]);
  if (made.code !== 0) throw new Skipped(`A virtual environment can't be made by ${base}: ${lastLines(made, 3)}`);
  const options = ["--disable-pip-version-check", "--no-input", "--quiet"];
  const installed = await runCommand(python, ["-m", "pip", "install", ...options, "-r", file]);
  if (installed.code !== 0) throw new Skipped(`pip can't install ${path.basename(file)}: ${lastLines(installed, 4)}`);
  writeFileSync(stamp, wanted);
  return python;
}
