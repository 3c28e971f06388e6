import assert from "node:assert/strict";
import { test } from "node:test";
import { daemonSettingsReference, modelConfigReference } from "../../daemon/config/reference.ts";
import { SETTING_NAMES } from "../../daemon/config/settings-table.ts";

test("the reference has a row for every setting, each with the same columns", () => {
  const daemon = daemonSettingsReference().trim().split("\n");
  assert.equal(daemon.length, 2 + SETTING_NAMES.length);
  const model = modelConfigReference().trim().split("\n");
  assert.ok(model.some((row) => row.startsWith("| `warm_shapes` |")));
  for (const rows of [daemon, model]) {
    const columns = rows[0]!.split(" | ").length;
    for (const row of rows) assert.equal(row.split(" | ").length, columns, row);
  }
});
