import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { it } from "node:test";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { compile, scratchFolder } from "./compile.ts";

it("every example of the client's README compiles", async () => {
  const readme = readFileSync(path.join(PACKAGE_ROOT, "client", "README.md"), "utf8");
  const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code!);
  assert.ok(examples.length >= 3);
  const { dir, remove } = scratchFolder();
  try {
    const sources = Object.fromEntries(examples.map((code, index) => [`example-${index + 1}.ts`, code]));
    assert.deepEqual(await compile(dir, sources), []);
  } finally {
    remove();
  }
});
