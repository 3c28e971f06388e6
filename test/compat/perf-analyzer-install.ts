/**
 * Gets perf_analyzer without root. Its own package in the Python registry is an empty shell; up to some version the wheels of
 * tritonclient for Linux carry the program itself.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { CACHE_DIR } from "../../tools/python/environment.ts";
import { type CommandResult, lastLines, runCommand } from "../../tools/python/run-command.ts";
import { Skipped } from "../../tools/python/skipped.ts";
import { COMPAT_DIR } from "./compat-dir.ts";

/** The newest whose program runs with glibc 2.34. */
export const PERF_ANALYZER_VERSION = "2.50.0";
/** Where libcudart.so.12 comes from, which the program is linked to whether there is a GPU or not. */
const CUDA_RUNTIME = "nvidia-cuda-runtime-cu12==12.9.79";
const BASE64_LIBRARY = "libb64.so.0d";

export interface PerfAnalyzer {
  run(args: readonly string[], timeoutMs: number): Promise<CommandResult>;
}

/** Throws `Skipped` where the program can't be had or does not run here. */
export async function installPerfAnalyzer(python: string): Promise<PerfAnalyzer> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Skipped("perf_analyzer is there as a program for Linux x64 only.");
  }
  const dir = path.join(CACHE_DIR, `perf-analyzer-${PERF_ANALYZER_VERSION}`);
  const program = path.join(dir, "perf_analyzer");
  const run = (args: readonly string[], timeoutMs: number): Promise<CommandResult> =>
    runCommand(program, args, {
      env: { LD_LIBRARY_PATH: [dir, process.env.LD_LIBRARY_PATH ?? ""].filter((part) => part !== "").join(":") },
      timeoutMs,
    });
  if (!existsSync(program)) await unpack(python, dir);
  let tried = await run(["--version"], 30_000);
  if (tried.stderr.includes(BASE64_LIBRARY)) {
    await addBase64Library(dir);
    tried = await run(["--version"], 30_000);
  }
  if (!`${tried.stdout}${tried.stderr}`.includes("Perf Analyzer Version")) {
    throw new Skipped(`perf_analyzer does not run here: ${lastLines(tried, 2)}`);
  }
  return { run };
}

async function unpack(python: string, dir: string): Promise<void> {
  const fresh = `${dir}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  try {
    const packages = [`tritonclient==${PERF_ANALYZER_VERSION}`, CUDA_RUNTIME];
    const options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--no-input"];
    const got = await runCommand(python, ["-m", "pip", "download", ...options, "--dest", fresh, ...packages]);
    if (got.code !== 0) throw new Skipped(`pip can't download perf_analyzer: ${lastLines(got, 3)}`);
    for (const wheel of readdirSync(fresh).filter((name) => name.endsWith(".whl"))) {
      await runCommand(python, ["-m", "zipfile", "-e", path.join(fresh, wheel), fresh]);
      rmSync(path.join(fresh, wheel));
    }
    const program = path.join(fresh, `tritonclient-${PERF_ANALYZER_VERSION}.data`, "data", "bin", "perf_analyzer");
    if (!existsSync(program)) throw new Skipped(`tritonclient ${PERF_ANALYZER_VERSION} holds no perf_analyzer.`);
    await runCommand("chmod", ["+x", program]);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const runtime = path.join(fresh, "nvidia", "cuda_runtime", "lib", "libcudart.so.12");
    copyFileSync(runtime, path.join(dir, "libcudart.so.12"));
    renameSync(program, path.join(dir, "perf_analyzer"));
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** The library itself from the distribution's package, unpacked and not installed; where that can't be had, a stand-in. */
async function addBase64Library(dir: string): Promise<void> {
  const fresh = path.join(dir, "libb64");
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh);
  const got = await runCommand("apt-get", ["download", "libb64-0d"], { cwd: fresh, timeoutMs: 60_000 });
  const packed = got.code === 0 ? readdirSync(fresh).find((name) => name.endsWith(".deb")) : undefined;
  if (packed !== undefined) {
    await runCommand("dpkg-deb", ["-x", path.join(fresh, packed), fresh]);
    const found = readdirSync(fresh, { recursive: true, encoding: "utf8" }).find(
      (name) => path.basename(name) === BASE64_LIBRARY,
    );
    if (found !== undefined) {
      copyFileSync(path.join(fresh, found), path.join(dir, BASE64_LIBRARY));
      return;
    }
  }
  const source = path.join(COMPAT_DIR, "libb64.c");
  const compiled = await runCommand("cc", ["-shared", "-fPIC", "-w", "-o", path.join(dir, BASE64_LIBRARY), source]);
  if (compiled.code === 0) return;
  throw new Skipped(
    `perf_analyzer needs ${BASE64_LIBRARY}, which is not here: install the package libb64-0d, or a C compiler for a stand-in.`,
  );
}
