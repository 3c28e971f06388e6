/** Makes one archive that runs on a Linux host with neither Node nor network. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { bytes } from "../../bench/report/format.ts";
import { VERSION } from "../../daemon/daemon.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { runTool } from "../command-line/run-tool.ts";
import { bestCompression, extension, pack } from "./archive.ts";
import { BundleError } from "./bundle-error.ts";
import { checkNode, placeNode } from "./node-binary.ts";
import { stageApp, stageLaunchers } from "./stage.ts";

const USAGE = `usage: npm run bundle -- [options]

Packs Node, the compiled code, its dependencies for linux-x64 and the sample models' generator into one archive.

  --out FILE           the archive (default: .cache/bundle/slackline-VERSION-linux-x64.tar.xz, .tar.gz where there is no xz)
  --quick              packs in a fifth of the time, into a sixth more bytes
  --folder DIR         no archive: its contents in this folder, which must not exist yet
  --node npm           Node from its npm package, pinned (default)
  --node running|PATH  the Node that runs this, or another one for linux-x64
`;

const SIZE_BYTES_MAX = 60 * 2 ** 20;
const FOLDER: string = path.join(PACKAGE_ROOT, ".cache", "bundle");
/** This file lies in tools/bundle of the compiled code. */
const COMPILED: string = path.resolve(import.meta.dirname, "..", "..");

interface BundleOptions {
  readonly out?: string;
  readonly quick: boolean;
  readonly folder?: string;
  readonly node: string;
}

async function bundle({ out, quick, node: source, ...to }: BundleOptions): Promise<void> {
  checkNode(source);
  if (to.folder !== undefined) {
    if (out !== undefined) throw new BundleError(`--folder makes no archive: leave out --out ${out}`);
    const folder = path.resolve(to.folder);
    if (existsSync(folder)) throw new BundleError(`${folder} exists: give a new folder with --folder, or remove it`);
    const node = stage(folder, source);
    process.stdout.write(`${folder}\nNode ${node}, slackline ${VERSION}\n`);
    return;
  }
  const name = `slackline-${VERSION}-linux-x64`;
  const staged = path.join(FOLDER, name);
  const compression = bestCompression();
  const file = path.resolve(out ?? path.join(FOLDER, `${name}${extension(compression)}`));
  rmSync(staged, { recursive: true, force: true });
  const node = stage(staged, source);
  process.stderr.write(`packing with ${compression}: Node ${node}, slackline ${VERSION}\n`);
  mkdirSync(path.dirname(file), { recursive: true });
  await pack(FOLDER, name, file, { compression, quick });
  rmSync(staged, { recursive: true, force: true });
  const size = statSync(file).size;
  process.stdout.write(`${file}\n${bytes(size)}, sha256 ${await sha256(file)}\n`);
  if (size > SIZE_BYTES_MAX) throw new BundleError(`the archive is larger than ${bytes(SIZE_BYTES_MAX)}`);
}

/** Puts everything that is packed into `folder`; returns the version of the Node in it. */
function stage(folder: string, nodeSource: string): string {
  try {
    stageApp(COMPILED, path.join(folder, "app"));
    stageLaunchers(folder);
    return placeNode(nodeSource, path.join(folder, "node"));
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

await runTool(
  {
    name: "bundle",
    usage: USAGE,
    options: {
      out: { type: "string" },
      quick: { type: "boolean", default: false },
      folder: { type: "string" },
      node: { type: "string", default: "npm" },
    },
  },
  async ({ values }) => {
    await bundle(values);
    return 0;
  },
);
