/** Which libraries of CUDA and cuDNN the provider needs, which of them the loader finds, and where to get the others. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { SetupError } from "./setup-error.ts";

export interface Needs {
  /** Major version of CUDA that the provider was built for; null where it names none. */
  readonly cudaMajor: number | null;
  /** Names as the loader looks for them ("libcublas.so.12"). */
  readonly missing: readonly string[];
  readonly found: readonly string[];
}

const CUDA_LIBRARY = /^lib(cuda|cudart|cublas|cublasLt|curand|cufft|cudnn|nvrtc|nvJitLink|cusparse|cusolver)\.so/;
/** What the provider opens itself when it needs it, so that the loader does not list it. By CUDA's major version. */
const OPENED_LATE: Readonly<Record<number, readonly string[]>> = {
  11: ["libcudnn.so.8", "libcufft.so.10"],
  12: ["libcudnn.so.9", "libcufft.so.11"],
  13: ["libcudnn.so.9", "libcufft.so.12"],
};
const SYSTEM_FOLDERS = [
  "/lib/x86_64-linux-gnu",
  "/usr/lib/x86_64-linux-gnu",
  "/lib64",
  "/usr/lib64",
  "/lib",
  "/usr/lib",
];

export interface LoaderOptions {
  /** Folders searched before all others, as in LD_LIBRARY_PATH. */
  readonly libraryPath: readonly string[];
}

/** @throws {SetupError} where the file is no library that this machine's loader takes */
export function needsOf(provider: string, { libraryPath }: LoaderOptions): Needs {
  const listed = loaderList(provider, libraryPath);
  const cuda = listed.filter(({ name }) => CUDA_LIBRARY.test(name));
  const major = /^lib(?:cudart|cublasLt?)\.so\.(\d+)/;
  const cudaMajor = cuda.map(({ name }) => major.exec(name)?.[1]).find((digits) => digits !== undefined);
  const late = (cudaMajor === undefined ? [] : (OPENED_LATE[Number(cudaMajor)] ?? []))
    .filter((name) => !cuda.some((library) => library.name === name))
    .map((name) => ({ name, found: isInstalled(name, [...libraryPath, path.dirname(provider)]) }));
  const all = [...cuda, ...late];
  return {
    cudaMajor: cudaMajor === undefined ? null : Number(cudaMajor),
    missing: [...new Set(all.filter(({ found }) => !found).map(({ name }) => name))],
    found: [...new Set(all.filter(({ found }) => found).map(({ name }) => name))],
  };
}

/** What the system's loader says, transitive needs included. */
function loaderList(library: string, libraryPath: readonly string[]): { name: string; found: boolean }[] {
  let text: string;
  try {
    text = execFileSync("ldd", [library], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C", LD_LIBRARY_PATH: libraryPath.join(":") },
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    const { code, stderr, stdout } = error as { code?: string; stderr?: string; stdout?: string };
    const why = code === "ENOENT" ? "there is no ldd" : `${stdout ?? ""}${stderr ?? ""}`.trim().split("\n").at(-1);
    throw new SetupError(`the libraries that ${path.basename(library)} needs can't be listed: ${why}`);
  }
  const lines: { name: string; found: boolean }[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*(\S+) => (not found|\S+)/.exec(line);
    if (match !== null) lines.push({ name: path.basename(match[1]!), found: match[2] !== "not found" });
  }
  return lines;
}

function isInstalled(name: string, folders: readonly string[]): boolean {
  if ([...folders, ...SYSTEM_FOLDERS].some((folder) => existsSync(path.join(folder, name)))) return true;
  for (const program of ["ldconfig", "/sbin/ldconfig"]) {
    try {
      const cache = execFileSync(program, ["-p"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
      return cache.split("\n").some((line) => line.trim().startsWith(`${name} `));
    } catch {
      // Not in the PATH, or there is none: the folders above are what is left.
    }
  }
  return false;
}

/** Every folder below `root` that holds libraries of CUDA, for LD_LIBRARY_PATH. */
export function cudaFolders(root: string): string[] {
  if (!existsSync(root)) throw new SetupError(`there is no folder ${root}`);
  const folders: string[] = [];
  const walk = (folder: string, depth: number): void => {
    const entries = readdirSync(folder, { withFileTypes: true });
    if (entries.some((entry) => !entry.isDirectory() && CUDA_LIBRARY.test(entry.name))) folders.push(folder);
    if (depth === 0 || folder.endsWith("/stubs")) return;
    for (const entry of entries) if (entry.isDirectory()) walk(path.join(folder, entry.name), depth - 1);
  };
  walk(path.resolve(root), 8);
  // Stubs are for linking only.
  return folders.filter((folder) => path.basename(folder) !== "stubs");
}

/** Python packages that bring a library, by what its name begins with; `%` stands for the suffix that older CUDA has. */
const PYTHON_PACKAGES: readonly (readonly [prefix: string, packageName: string])[] = [
  ["libcublas", "nvidia-cublas%"],
  ["libcudart", "nvidia-cuda-runtime%"],
  ["libcurand", "nvidia-curand%"],
  ["libcufft", "nvidia-cufft%"],
  ["libnvrtc", "nvidia-cuda-nvrtc%"],
  ["libnvJitLink", "nvidia-nvjitlink%"],
  ["libcusparse", "nvidia-cusparse%"],
  ["libcusolver", "nvidia-cusolver%"],
];

/**
 * What to do about the missing libraries, a line each.
 *
 * @param command how this setup is run here
 */
export function advice({ missing, cudaMajor }: Needs, command: string): string[] {
  const lines: string[] = [];
  if (missing.includes("libcuda.so.1")) {
    lines.push("libcuda.so.1 comes with the NVIDIA driver: install it on the machine that has the GPU.");
  }
  const others = missing.filter((name) => name !== "libcuda.so.1");
  if (others.length === 0) return lines;
  const cuda = cudaMajor === null ? "CUDA" : `CUDA ${cudaMajor}`;
  const cudnn = others.find((name) => name.startsWith("libcudnn"));
  const cudnnMajor = cudnn === undefined ? "" : ` and cuDNN ${cudnn.split(".").at(-1)}`;
  lines.push(
    `The others belong to ${cuda}${cudnnMajor}. Install them with the system's packages, or from PyPI into a folder:`,
  );
  lines.push(
    `  python3 -m pip install --target CUDA_FOLDER ${[...new Set(others.map((name) => pythonPackage(name, cudaMajor)))].join(" ")}`,
  );
  lines.push(`  ${command} --check --libraries CUDA_FOLDER`);
  lines.push("The second command says which LD_LIBRARY_PATH the daemon is to be started with.");
  return lines;
}

function pythonPackage(library: string, cudaMajor: number | null): string {
  const major = cudaMajor ?? 12;
  // Packages for CUDA 13 and later have no suffix, but for cuDNN's.
  if (library.startsWith("libcudnn")) return `nvidia-cudnn-cu${major}`;
  const suffix = major >= 13 ? "" : `-cu${major}`;
  const found = PYTHON_PACKAGES.find(([prefix]) => library.startsWith(prefix));
  return found === undefined ? `nvidia-cuda-runtime${suffix}` : found[1].replace("%", suffix);
}
