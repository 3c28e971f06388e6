/** A live run's decisions: possible by the checker, and the same again when its events are replayed. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { type SlacklineError, tensor } from "slackline-client";
import { checkLog } from "../../bench/check/check-log.ts";
import { schedulerOptions } from "../../daemon/daemon.ts";
import { Recording, replay } from "../../daemon/engine/recording.ts";
import { createScheduler } from "../../daemon/scheduler/index.ts";
import { failsAtRun, slow } from "../../models/onnx/tiny.ts";
import { Random } from "../../models/random.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, until, writeModelFiles } from "../support/live-daemon.ts";

const WIDTH = 128;
const SEED = 20_261;
const MODELS = ["light", "middle", "heavy"] as const;
const CALLERS = 24;
const CALLS = 25;

/** Callers of every kind at once: several items, deadlines that can't be met, best effort, cancellation, failures. */
async function drive(live: LiveDaemon): Promise<Map<string, number>> {
  const ends = new Map<string, number>();
  const count = (what: string) => ends.set(what, (ends.get(what) ?? 0) + 1);
  const callers = Array.from({ length: CALLERS }, async (_, caller) => {
    const random = new Random(SEED + caller);
    for (let call = 0; call < CALLS; call++) {
      const items = 1 + random.below(3);
      const dice = random.below(10);
      const aborter = new AbortController();
      const options =
        dice < 2 ? { bestEffort: true } : dice < 4 ? { deadlineMs: 1 + random.below(30) } : { signal: aborter.signal };
      const fails = dice === 9;
      const inputs = fails
        ? {
            index: tensor.int64(
              [items, 1],
              BigInt64Array.from({ length: items }, () => BigInt(random.below(5))),
            ),
          }
        : { x: tensor.float32([items, WIDTH], new Float32Array(items * WIDTH)) };
      const asked = live.client.infer(fails ? "fails" : MODELS[random.below(3)]!, inputs, { ...options, retry: false });
      if (dice === 8) setTimeout(() => aborter.abort(), random.below(5));
      await asked.then(
        () => count("answered"),
        (error: SlacklineError) => count(error.code),
      );
    }
  });
  await Promise.all(callers);
  return ends;
}

test("concurrent callers of several models leave a decision log without a fault, and events that replay alike", async (t) => {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  t.diagnostic(`seed ${SEED}`);
  const repository = path.join(folder.dir, "models");
  const decisions = path.join(folder.dir, "decisions.jsonl");
  const scenario = path.join(folder.dir, "scenario.json");
  for (const [index, name] of MODELS.entries()) {
    writeModelFiles(repository, name, {
      "1/model.onnx": slow({ layers: 10 * 4 ** index, width: WIDTH }),
      "config.yaml": `max_batch_size: 8\nslo_ms: ${20 * 10 ** index}\n${name === "light" ? "replicas: 1\n" : ""}`,
    });
  }
  const fails = "max_batch_size: 8\nslo_ms: 60000\n";
  writeModelFiles(repository, "fails", { "1/model.onnx": failsAtRun(), "config.yaml": fails });
  const models = [...MODELS, "fails"].map((name) => ({ name, max_batch: 8, slo_ms: 100 }));
  writeFileSync(scenario, JSON.stringify({ name: "live", measure_s: 1, models }));

  const recording = new Recording();
  const live = await startLiveDaemon(repository, ["--decision-log", decisions], { recorder: recording.record });
  const ends = await drive(live);
  await until("all is at an end", async () => {
    const status = await live.status();
    return status.models.every(
      ({ counts }) =>
        counts.requests ===
        counts.on_time +
          counts.late +
          counts.best_effort +
          counts.failed +
          counts.cancelled +
          Object.values(counts.shed).reduce((sum, one) => sum + one, 0),
    );
  });
  const status = await live.status();
  assert.equal(await live.stop(), true);

  assert.equal(
    [...ends.values()].reduce((sum, one) => sum + one, 0),
    CALLERS * CALLS,
  );
  assert.ok(ends.get("answered")! > 0);
  assert.ok(ends.get("INTERNAL")! > 0, "no request failed while running");
  const { problems, executions, total, best_effort_answered } = checkLog(decisions, scenario, { live: true });
  assert.deepEqual(problems, []);
  const counted = status.models.reduce((sum, { counts }) => sum + counts.executions, 0);
  assert.equal(executions, counted, "the log and the status page count the same executions");
  assert.ok(total.on_time > 0 && best_effort_answered > 0);
  const starts = readFileSync(decisions, "utf8")
    .split("\n")
    .filter((line) => line.includes('"ev":"start"'));
  assert.ok(
    starts.some((line) => JSON.parse(line).ids.length > 1),
    "no requests shared a batch",
  );

  assert.ok(recording.steps.length > CALLERS * CALLS);
  assert.equal(replay(recording.steps, createScheduler(schedulerOptions(live.settings))), null);
});
