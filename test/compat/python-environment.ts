/** A virtual environment with the pinned clients, kept in `.cache/` between runs. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { lastLines, runCommand } from "./run-command.ts";
import { Skipped } from "./skipped.ts";

export const CACHE_DIR: string = path.join(PACKAGE_ROOT, ".cache");
/** Where the Python scripts and the lists of packages are. */
export const COMPAT_DIR: string = path.join(PACKAGE_ROOT, "test", "compat");

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

/** The environment's own Python. Throws `Skipped` where Python, pip or the packages can't be had. */
export async function pythonEnvironment(name: string, requirementFiles: readonly string[]): Promise<string> {
  const files = requirementFiles.map((file) => path.join(COMPAT_DIR, file));
  const dir = path.join(CACHE_DIR, name);
  const python = path.join(dir, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  const stamp = path.join(dir, "installed.txt");
  const base = await findPython();
  const wanted = [base, ...files.map((file) => readFileSync(file, "utf8"))].join("\n");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return python;

  process.stdout.write(`Installing ${requirementFiles.join(", ")} in ${path.relative(PACKAGE_ROOT, dir)}\n`);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(CACHE_DIR, { recursive: true });
  const made = await runCommand(base, ["-m", "venv", dir]);
  if (made.code !== 0) throw new Skipped(`A virtual environment can't be made by ${base}: ${lastLines(made, 3)}`);
  const options = ["--disable-pip-version-check", "--no-input", "--quiet"];
  const requirements = files.flatMap((file) => ["-r", file]);
  const installed = await runCommand(python, ["-m", "pip", "install", ...options, ...requirements]);
  if (installed.code !== 0) throw new Skipped(`pip can't install the clients: ${lastLines(installed, 4)}`);
  writeFileSync(stamp, wanted);
  return python;
}
