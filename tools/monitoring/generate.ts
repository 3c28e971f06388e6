/** Writes the Grafana dashboard. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { runTool } from "../command-line/run-tool.ts";
import { DASHBOARD } from "./dashboard.ts";
import { grafanaJson } from "./grafana.ts";

const USAGE = `usage: npm run dashboard -- [--check]

Writes the Grafana dashboard; with --check nothing: exit code 1 where it is stale.
`;

const NAME = "tools/monitoring/dashboard.json";

function generate(check: boolean): number {
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

await runTool(
  { name: "dashboard", usage: USAGE, options: { check: { type: "boolean", default: false } } },
  ({ values }) => generate(values.check),
);
