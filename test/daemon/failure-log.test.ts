import assert from "node:assert/strict";
import { test } from "node:test";
import { FailureLog } from "../../daemon/failure-log.ts";
import { EngineRig } from "../support/engine-rig.ts";

test("a model whose executions fail has one line in ten seconds, with how many there were", () => {
  const lines: string[] = [];
  const rig = new EngineRig({ observers: [new FailureLog({ warn: (_details, message) => lines.push(message) })] });
  const failAt = (us: number) => {
    rig.clock.moveTo(us);
    rig.submit({ deadlineUs: us + 100_000 });
    rig.device.fail("index out of bounds");
  };
  for (const us of [0, 1_000_000, 9_000_000]) failAt(us);
  assert.deepEqual(lines, ["m failed while running: index out of bounds"]);
  rig.submit({ deadlineUs: 9_100_000 });
  rig.device.complete();
  failAt(10_000_000);
  failAt(10_500_000);
  assert.deepEqual(lines.slice(1), [
    "m failed while running (so did 2 more since this was last said): index out of bounds",
  ]);
});
