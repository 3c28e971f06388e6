import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { DecisionLog, openDecisionLog } from "../../daemon/engine/decision-log.ts";
import { EngineRig } from "../support/engine-rig.ts";

function logged(): { rig: EngineRig; lines: () => string[] } {
  let text = "";
  const log = new DecisionLog((chunk) => {
    text += chunk;
  });
  const rig = new EngineRig({ observers: [log] });
  const lines = (): string[] => {
    log.flush();
    return text.trimEnd().split("\n");
  };
  return { rig, lines };
}

test("logs arrivals, starts, ends and drops in the documented form", () => {
  const { rig, lines } = logged();
  rig.submit();
  rig.clock.moveTo(40);
  rig.submit({ items: 2 });
  rig.submit({ deadlineUs: null });
  rig.submit({ deadlineUs: 1_500 });
  rig.clock.moveTo(2_000);
  rig.device.complete();
  rig.clock.moveTo(6_000);
  rig.device.complete();
  assert.deepEqual(lines(), [
    '{"t":0,"ev":"arrive","id":1,"model":"m","items":1,"deadline":100000}',
    '{"t":0,"ev":"start","device":"gpu0","model":"m","ids":[1],"size":1,"bucket":1}',
    '{"t":40,"ev":"arrive","id":2,"model":"m","items":2,"deadline":100000}',
    '{"t":40,"ev":"arrive","id":3,"model":"m","items":1,"deadline":null}',
    '{"t":40,"ev":"arrive","id":4,"model":"m","items":1,"deadline":1500}',
    '{"t":2000,"ev":"end","device":"gpu0","model":"m"}',
    '{"t":2000,"ev":"start","device":"gpu0","model":"m","ids":[2,3],"size":3,"bucket":3}',
    '{"t":2000,"ev":"drop","id":4,"cause":"late"}',
    '{"t":6000,"ev":"end","device":"gpu0","model":"m"}',
  ]);
});

test("marks executions that failed or were lost, and logs cancellations as drops", () => {
  const { rig, lines } = logged();
  rig.submit();
  rig.submit();
  rig.device.fail("broken");
  rig.engine.cancel(2);
  rig.device.die("crash");
  assert.deepEqual(lines().slice(3), [
    '{"t":0,"ev":"end","device":"gpu0","model":"m","ok":false}',
    '{"t":0,"ev":"start","device":"gpu0","model":"m","ids":[2],"size":1,"bucket":1}',
    '{"t":0,"ev":"drop","id":2,"cause":"cancelled"}',
    '{"t":0,"ev":"end","device":"gpu0","model":"m","ok":false}',
  ]);
});

test("escapes names", () => {
  const { rig, lines } = logged();
  rig.submit({ model: 'a "b"\n' });
  assert.deepEqual(
    lines().map((line) => JSON.parse(line).model ?? JSON.parse(line).cause),
    ['a "b"\n', "unloaded"],
  );
});

test("a log file holds everything once it is closed", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "slackline-log-"));
  try {
    const file = path.join(folder, "decisions.jsonl");
    const { log, close } = openDecisionLog(file, (error) => assert.fail(error));
    const rig = new EngineRig({ observers: [log] });
    for (let i = 0; i < 3_000; i++) rig.submit();
    await close();
    const arrivals = readFileSync(file, "utf8")
      .trimEnd()
      .split("\n")
      .filter((line) => JSON.parse(line).ev === "arrive");
    assert.equal(arrivals.length, 3_000);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a log file that cannot be written is told once, and does not disturb", async () => {
  const errors: Error[] = [];
  const { log, close } = openDecisionLog(path.join(tmpdir(), "no", "such", "folder", "log"), (e) => errors.push(e));
  const rig = new EngineRig({ observers: [log] });
  rig.submit();
  await close();
  assert.equal(errors.length, 1);
  assert.match(errors[0]!.message, /ENOENT/);
});
