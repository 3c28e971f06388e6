import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

function findPackageRoot(): string {
  for (let dir = import.meta.dirname; ; dir = path.dirname(dir)) {
    const manifest = path.join(dir, "package.json");
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8")).name === "slackline") return dir;
    if (path.dirname(dir) === dir) throw new Error(`no slackline package.json above ${import.meta.dirname}`);
  }
}

/** Absolute path of the folder that holds slackline's package.json: protos and sample models are found from there. */
export const PACKAGE_ROOT: string = findPackageRoot();

/** How a command is called where this runs: by its launcher in a bundle, where there is no npm, else by its npm script. */
export function commandName(launcher: string, script: string): string {
  return existsSync(path.join(PACKAGE_ROOT, "..", launcher)) ? `./${launcher}` : `npm run ${script} --`;
}
