import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { PacedClock } from "../../bench/load/paced-clock.ts";

describe("paced clock", () => {
  const clock = new PacedClock();
  after(() => clock.close());

  const ring = (atUs: number): Promise<number> =>
    new Promise((resolve) => clock.wakeAt(atUs, () => resolve(clock.nowUs())));

  it("rings at or after its time, never within the call", async () => {
    for (const inUs of [0, 200, 5_000]) {
      const atUs = clock.nowUs() + inUs;
      let returned = false;
      const rang = new Promise<void>((resolve) => {
        clock.wakeAt(atUs, () => {
          assert.ok(returned);
          assert.ok(clock.nowUs() >= atUs);
          resolve();
        });
      });
      returned = true;
      await rang;
    }
  });

  it("forgets a time that was replaced", async () => {
    const rung: string[] = [];
    clock.wakeAt(clock.nowUs() + 3_000, () => rung.push("first"));
    const atUs = clock.nowUs() + 10_000;
    assert.ok((await ring(atUs)) >= atUs);
    clock.wakeAt(clock.nowUs() + 3_600_000_000, () => rung.push("an hour later"));
    await ring(clock.nowUs() + 1_000);
    assert.deepEqual(rung, []);
  });

  it("can be disarmed", async () => {
    const rung: string[] = [];
    clock.wakeAt(clock.nowUs() + 2_000, () => rung.push("disarmed"));
    clock.wakeAt(null, () => rung.push("null"));
    const other = new PacedClock();
    await new Promise<void>((resolve) => other.wakeAt(other.nowUs() + 10_000, resolve));
    await other.close();
    assert.deepEqual(rung, []);
  });
});
