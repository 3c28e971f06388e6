/**
 * Writes the Grafana dashboard.
 *
 *     node dist/tools/monitoring/generate.js            write it
 *     node dist/tools/monitoring/generate.js --check    exit with 1 where it is stale
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { DASHBOARD } from "./dashboard.ts";
import { grafanaJson } from "./grafana.ts";

const NAME = "tools/monitoring/dashboard.json";

function main(check: boolean): number {
  const file = path.join(PACKAGE_ROOT, NAME);
  const text = grafanaJson(DASHBOARD);
  if (!check) {
    writeFileSync(file, text);
    return 0;
  }
  if (existsSync(file) && readFileSync(file, "utf8") === text) return 0;
  console.error(`Stale, run \`node dist/tools/monitoring/generate.js\`:\n  ${NAME}`);
  return 1;
}

process.exitCode = main(process.argv.includes("--check"));
