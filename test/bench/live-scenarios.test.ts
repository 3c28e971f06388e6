import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { planLoad } from "../../bench/load/plan.ts";
import { readScenario } from "../../bench/scenario/read.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { readCatalog } from "../../models/catalog.ts";

const FOLDER = path.join(PACKAGE_ROOT, "bench", "scenarios");

describe("live scenarios", () => {
  const files = readdirSync(FOLDER).filter((file) => file.startsWith("live-"));

  it("are there", () =>
    assert.deepEqual(files, [
      "live-flood.json",
      "live-light.json",
      "live-mixed.json",
      "live-noisy.json",
      "live-overload.json",
    ]));

  for (const file of files) {
    it(`${file} names sample models and inputs that they have`, () => {
      const scenario = readScenario(path.join(FOLDER, file));
      const { models } = readCatalog();
      for (const { name, shapes = {} } of scenario.models) {
        const entry = models.find((model) => model.name === name);
        assert.ok(entry !== undefined, `no sample model is named ${name}`);
        for (const input of Object.keys(shapes)) assert.ok(entry.inputs.some((spec) => spec.name === input));
      }
      assert.ok(planLoad(scenario).requests.length > 0);
    });
  }
});
