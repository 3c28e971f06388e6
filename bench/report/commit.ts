import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";

/** What a result was measured at: the checkout's commit, a bundle's version, "unknown" where git can't be asked. */
export function measuredCommit(): string {
  if (!existsSync(path.join(PACKAGE_ROOT, ".git"))) {
    return JSON.parse(readFileSync(path.join(PACKAGE_ROOT, "package.json"), "utf8")).version;
  }
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: PACKAGE_ROOT, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}
