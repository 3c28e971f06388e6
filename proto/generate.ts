/** Writes the TypeScript types of the protocol, and the client package's own copy of types and definitions. */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { PACKAGE_ROOT } from "../daemon/package-root.ts";
import { runTool } from "../tools/command-line/run-tool.ts";

const USAGE = `usage: npm run proto -- [--check]

Writes the TypeScript types of the protocol; with --check nothing: exit code 1 and a list of the files that are stale.
`;

/** The same choices as `LOADER_OPTIONS` in load.ts. Relative imports carry `.ts`, as all imports here do. */
const GENERATOR_FLAGS = [
  "--keepCase",
  "--longs=String",
  "--enums=String",
  "--defaults",
  "--oneofs",
  "--grpcLib=@grpc/grpc-js",
  "--importFileExtension=.ts",
];

/** Sources that the client package has a copy of, beside its generated types. */
const SHARED_SOURCES = ["parameters.ts"];

function filesBelow(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(path.join(dir, file)).isFile())
    .sort();
}

function runGenerator(outDir: string): void {
  // The bin is not among the package's exports, so its path is built from the package's entry.
  const entry = createRequire(import.meta.url).resolve("@grpc/proto-loader");
  const bin = path.join(path.dirname(entry), "..", "bin", "proto-loader-gen-types.js");
  // The generator writes each source's path as seen from its working directory into the output.
  execFileSync(process.execPath, [bin, ...GENERATOR_FLAGS, "-I", "proto", "-O", outDir, "--", "inference.proto"], {
    cwd: PACKAGE_ROOT,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

/** Files of `have` that are missing, superfluous or different from `want`'s. */
function differences(want: string, have: string): string[] {
  const wanted = filesBelow(want);
  const stale = wanted.filter((file) => {
    const there = path.join(have, file);
    return !existsSync(there) || !readFileSync(there).equals(readFileSync(path.join(want, file)));
  });
  const superfluous = filesBelow(have).filter((file) => !wanted.includes(file));
  return [...stale, ...superfluous].map((file) => path.relative(PACKAGE_ROOT, path.join(have, file)));
}

function generate(check: boolean): number {
  const scratch = mkdtempSync(path.join(tmpdir(), "slackline-proto-"));
  try {
    const types = path.join(scratch, "types");
    runGenerator(types);
    const clientTypes = path.join(scratch, "client-types");
    cpSync(types, clientTypes, { recursive: true });
    const clientProtos = path.join(scratch, "client-protos");
    mkdirSync(clientProtos);
    const protoDir = path.join(PACKAGE_ROOT, "proto");
    for (const file of readdirSync(protoDir)) {
      if (file.endsWith(".proto")) cpSync(path.join(protoDir, file), path.join(clientProtos, file));
      if (SHARED_SOURCES.includes(file)) cpSync(path.join(protoDir, file), path.join(clientTypes, file));
    }
    const targets = [
      [types, "proto/generated"],
      [clientTypes, "client/src/generated"],
      [clientProtos, "client/proto"],
    ] as const;
    if (check) {
      const stale = targets.flatMap(([want, dir]) => differences(want, path.join(PACKAGE_ROOT, dir)));
      if (stale.length === 0) return 0;
      console.error(`Stale, run \`node dist/proto/generate.js\`:\n  ${stale.join("\n  ")}`);
      return 1;
    }
    for (const [want, dir] of targets) {
      const have = path.join(PACKAGE_ROOT, dir);
      rmSync(have, { recursive: true, force: true });
      cpSync(want, have, { recursive: true });
    }
    return 0;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

await runTool({ name: "proto", usage: USAGE, options: { check: { type: "boolean", default: false } } }, ({ values }) =>
  generate(values.check),
);
