/** Puts together the folder that is packed: what runs on linux-x64, and nothing else. */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { BundleError } from "./bundle-error.ts";

const PLATFORM = "linux";
const ARCH = "x64";

/** Folders of the compiled code that are wanted. */
const COMPILED: readonly string[] = [
  "bench",
  "daemon",
  "models",
  "proto",
  // Whether a GPU's provider is right can only be tried where the GPU is.
  "test/device",
  "test/gpu",
  "test/support",
  "tools/command-line",
  "tools/cuda",
];
/** Files and folders of the checkout that the compiled code reads, and texts that belong to it. */
const SOURCES: readonly string[] = [
  "LICENSE",
  "bench/scenarios",
  "bench/sim/timeline.html",
  "bin",
  "models/catalog.json",
  "models/data",
  "models/repository",
  "proto",
];
/** Packages that only types or install scripts ask for. */
const UNUSED_PACKAGES: readonly string[] = ["@types/node", "undici-types", "global-agent"];
/** Parts of packages that running them does not need. */
const UNUSED_PARTS: Readonly<Record<string, readonly string[]>> = {
  koffi: ["doc", "vendor"],
  "onnxruntime-node": ["lib"],
  zod: ["src"],
};
const UNUSED_FILE =
  /\.(map|ts|mts|cts|md|markdown|flow|c|cc|h|hh|hpp|S|asm|inc|def)$|(^|\/)CMakeLists\.txt$|^(test|tests|benchmarks?|docs?|examples?)(\/|$)/i;
const LICENSE_FILE = /(^|\/)(licen[cs]e|notice|copying)[^/]*$/i;

interface LockedPackage {
  readonly dev?: boolean;
  readonly link?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly optional?: boolean;
}

/**
 * @param compiled folder of the compiled code
 * @param folder where to; made here
 */
export function stageApp(compiled: string, folder: string): void {
  mkdirSync(folder, { recursive: true });
  writeManifest(folder);
  for (const part of COMPILED) copyTree(path.join(compiled, part), path.join(folder, "dist", part), isCompiled);
  for (const part of SOURCES) copyTree(path.join(PACKAGE_ROOT, part), path.join(folder, part), isNoWeights);
  copyDependencies(path.join(folder, "node_modules"));
}

/** The launchers and the README, from the folder beside this one's source. */
export function stageLaunchers(folder: string): void {
  const contents = path.join(PACKAGE_ROOT, "tools", "bundle", "contents");
  for (const name of readdirSync(contents)) {
    copyFileSync(path.join(contents, name), path.join(folder, name));
    chmodSync(path.join(folder, name), name.endsWith(".md") ? 0o644 : 0o755);
  }
  copyFileSync(path.join(PACKAGE_ROOT, "LICENSE"), path.join(folder, "LICENSE"));
}

function writeManifest(folder: string): void {
  const { name, version, description, license, type, engines, dependencies } = readJson("package.json");
  const manifest = { name, version, description, license, private: true, type, engines, dependencies };
  writeFileSync(path.join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

// biome-ignore lint/suspicious/noExplicitAny: manifests have whatever npm puts there
function readJson(file: string): any {
  return JSON.parse(readFileSync(path.join(PACKAGE_ROOT, file), "utf8"));
}

/** Copies what is locked for production on this platform; what npm did not install for it is no loss. */
function copyDependencies(target: string): void {
  const { packages } = readJson("package-lock.json") as { packages: Record<string, LockedPackage> };
  for (const [location, { dev, link, os, cpu, optional }] of Object.entries(packages)) {
    if (!location.startsWith("node_modules/") || dev === true || link === true) continue;
    if (os !== undefined && !os.includes(PLATFORM)) continue;
    if (cpu !== undefined && !cpu.includes(ARCH)) continue;
    const name = location.split("node_modules/").at(-1)!;
    if (UNUSED_PACKAGES.includes(name)) continue;
    const from = path.join(PACKAGE_ROOT, location);
    if (!existsSync(from)) {
      if (optional === true) continue;
      throw new BundleError(`${location} is not installed: run npm ci first`);
    }
    const to = path.join(target, location.slice("node_modules/".length));
    copyTree(from, to, (file) => isWanted(name, file));
  }
  copyTree(path.join(PACKAGE_ROOT, "client"), path.join(target, "slackline-client"), (file) =>
    ["", "package.json", "dist", "proto"].includes(file.split("/")[0]!),
  );
}

function isWanted(name: string, file: string): boolean {
  if (file.startsWith("node_modules")) return false;
  if (LICENSE_FILE.test(file)) return true;
  if (UNUSED_PARTS[name]?.some((part) => file === part || file.startsWith(`${part}/`)) === true) return false;
  if (name === "onnxruntime-node") {
    const [, , platform, arch] = file.split("/");
    if (file.startsWith("bin/") && platform !== undefined && platform !== PLATFORM) return false;
    if (file.startsWith("bin/") && arch !== undefined && arch !== ARCH) return false;
  }
  return !UNUSED_FILE.test(file);
}

function isCompiled(file: string): boolean {
  return !/\.(map|d\.ts)$/.test(file);
}

/** Weights that the generator makes are not packed: random numbers do not compress. */
function isNoWeights(file: string): boolean {
  return !/\.(map|ts)$/.test(file) && !/^(?!digits\/).*\/(model\.onnx|weights\.bin)$/.test(file);
}

/** @param wanted asked for each file and folder with its path below `from`, "" for the folder itself */
function copyTree(from: string, to: string, wanted: (file: string) => boolean): void {
  if (!existsSync(from)) throw new BundleError(`${from} is missing: run npm run build first`);
  cpSync(from, to, {
    recursive: true,
    dereference: true,
    filter: (source) => source === from || wanted(path.relative(from, source).split(path.sep).join("/")),
  });
}
