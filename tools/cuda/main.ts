/**
 * Puts the CUDA provider's libraries beside the installed runtime and says what else is missing.
 *
 * Exit code: 0 where all is there, 1 where the libraries could not be placed, 2 for a wrong command line, 3 where they
 * are in place but libraries of CUDA or cuDNN, or the driver, are missing.
 */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { runtimeFolder } from "../../daemon/device/probe.ts";
import { commandName } from "../../daemon/package-root.ts";
import { runTool, UsageError } from "../command-line/run-tool.ts";
import { advice, cudaFolders, type Needs, needsOf } from "./needs.ts";
import { SetupError } from "./setup-error.ts";
import {
  downloadWheel,
  fromFeed,
  fromFolder,
  fromWheel,
  type Libraries,
  PROVIDER_LIBRARIES,
  runtimeFeed,
} from "./sources.ts";
import { checkVersion, runtimeVersion } from "./version.ts";

const COMMAND: string = commandName("setup-cuda", "setup:cuda");

const USAGE = `usage: ${COMMAND} [source] [options]

Places the CUDA provider's libraries beside ONNX Runtime and checks that everything they need is there.

sources, one of them (default: --from-feed auto):
  --from-feed URL        a NuGet feed (its index.json); 'auto' is the one that the runtime's own install script uses
  --from-wheel FILE      a wheel of the Python package onnxruntime-gpu; 'auto' downloads it by pip
  --from-dir DIR         a folder with ${PROVIDER_LIBRARIES.join(" and ")}
  --check                none: only check what is in place

options:
  --libraries DIR        also look for libraries of CUDA and cuDNN below this folder
  --into DIR             place the libraries there and not beside the installed runtime

The feed's and the wheel's libraries may be built for different versions of CUDA: the check says for which.
`;

const EXIT_MISSING = 3;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

interface Source {
  readonly "from-feed"?: string;
  readonly "from-wheel"?: string;
  readonly "from-dir"?: string;
}

async function take(source: Source, version: string): Promise<Libraries> {
  if (source["from-dir"] !== undefined) return fromFolder(path.resolve(source["from-dir"]));
  const wheel = source["from-wheel"];
  if (wheel === "auto") {
    say(`downloading onnxruntime-gpu ${version} by pip (some 250 MB)`);
    return await downloadWheel(version);
  }
  if (wheel !== undefined) return fromWheel(path.resolve(wheel));
  const { index, packageName } = runtimeFeed();
  const asked = source["from-feed"] ?? "auto";
  const feed = asked === "auto" ? index : asked;
  say(`downloading ${packageName} ${version} from ${feed}`);
  return await fromFeed(feed, packageName, version);
}

function place({ files }: Libraries, folder: string): void {
  if (!existsSync(folder)) throw new SetupError(`there is no folder ${folder}`);
  for (const [name, bytes] of files) {
    const target = path.join(folder, name);
    // A daemon may be using the old one: it keeps it, and no half-written file is ever loaded.
    writeFileSync(`${target}.new`, bytes, { mode: 0o755 });
    renameSync(`${target}.new`, target);
  }
}

function report(needs: Needs, libraryPath: readonly string[], added: readonly string[]): number {
  say(`built for CUDA ${needs.cudaMajor ?? "of a version that it does not name"}`);
  if (needs.missing.length === 0) {
    say(`all libraries found: ${needs.found.join(", ")}`);
    if (added.length > 0) say(`start the daemon with\n  export LD_LIBRARY_PATH=${libraryPath.join(":")}`);
    return 0;
  }
  say(`missing: ${needs.missing.join(", ")}`);
  for (const line of advice(needs, COMMAND)) say(line);
  if (added.length > 0) say(`searched too: ${added.join(", ")}`);
  return EXIT_MISSING;
}

await runTool(
  {
    name: "setup:cuda",
    usage: USAGE,
    options: {
      "from-feed": { type: "string" },
      "from-wheel": { type: "string" },
      "from-dir": { type: "string" },
      check: { type: "boolean", default: false },
      libraries: { type: "string" },
      into: { type: "string" },
    },
  },
  async ({ values }) => {
    const sources = [values["from-feed"], values["from-wheel"], values["from-dir"]].filter((one) => one !== undefined);
    if (sources.length + Number(values.check) > 1) throw new UsageError("one source at a time");
    const machine = `${process.platform}-${process.arch}`;
    if (machine !== "linux-x64")
      throw new SetupError(`the CUDA provider exists for linux-x64 only; this is ${machine}`);
    const folder = values.into === undefined ? runtimeFolder() : path.resolve(values.into);
    const version = runtimeVersion();
    if (values.check) {
      const inPlace = fromFolder(folder);
      checkVersion(inPlace, version);
      say(`in ${folder}: libraries of version ${version}`);
    } else {
      const libraries = await take(values, version);
      checkVersion(libraries, version);
      place(libraries, folder);
      say(`placed ${[...libraries.files.keys()].join(" and ")} ${version} in ${folder}`);
    }
    const added = values.libraries === undefined ? [] : cudaFolders(values.libraries);
    const inherited = (process.env.LD_LIBRARY_PATH ?? "").split(":").filter((entry) => entry !== "");
    const libraryPath = [...new Set([...added, ...inherited])];
    return report(needsOf(path.join(folder, "libonnxruntime_providers_cuda.so"), { libraryPath }), libraryPath, added);
  },
);
