import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { daemonSettingsReference, modelConfigReference } from "../../daemon/config/reference.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";

test("the README's tables of settings are those of the code", () => {
  const readme = readFileSync(path.join(PACKAGE_ROOT, "README.md"), "utf8");
  for (const table of [modelConfigReference(), daemonSettingsReference()]) {
    assert.ok(readme.includes(table.trim()), `README.md should hold this table:\n${table}`);
  }
});
