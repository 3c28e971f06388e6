import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { checkLog, type ProblemKind } from "../../bench/check/check-log.ts";
import { checkText } from "../../bench/check/report.ts";
import { COMPARISON_POLICIES } from "../../bench/policies/index.ts";
import { readScenario } from "../../bench/scenario/read.ts";
import { findPolicy, OWN_POLICY } from "../../bench/sim/policies.ts";
import type { SimulationResult } from "../../bench/sim/result.ts";
import { simulate } from "../../bench/sim/simulation.ts";
import { DecisionLog } from "../../daemon/engine/decision-log.ts";
import { smallScenarioJson } from "./small-scenario.ts";

const folder = mkdtempSync(path.join(tmpdir(), "slackline-check-"));
after(() => rmSync(folder, { recursive: true }));

const LOG = path.join(folder, "decisions.jsonl");
const SCENARIO = path.join(folder, "scenario.json");

/** Simulates a scenario into the log file. */
function record(json: Record<string, unknown>, policy = "slackline", scale = 1): SimulationResult {
  writeFileSync(SCENARIO, JSON.stringify(json));
  let text = "";
  const log = new DecisionLog((chunk) => {
    text += chunk;
  });
  const { create } = findPolicy(policy)!;
  const result = simulate(readScenario(SCENARIO), { policy, scheduler: create, scale, observers: [log] });
  log.flush();
  writeFileSync(LOG, text);
  return result;
}

const RICH = smallScenarioJson({
  devices: [{ name: "gpu0" }, { name: "gpu1", lanes: 2, speed: 0.5 }],
  models: (smallScenarioJson().models as Record<string, unknown>[]).map((model, i) =>
    i === 0
      ? { ...model, cpu_replicas: { count: 2, profile: { alpha_ms: 6, beta_ms: 1 } } }
      : { ...model, time_ratios: [0.9, 1, 1, 2.5] },
  ),
  noise: 0.1,
  profile_error: 0.1,
  gather_ms: 0.2,
  handover_ms: 0.4,
});

test("simulated runs of every policy pass, and the goodput recomputed from the log is the simulator's", () => {
  for (const policy of [OWN_POLICY, ...COMPARISON_POLICIES.map(({ name }) => name)]) {
    const result = record(smallScenarioJson(), policy);
    const { problems, window } = checkLog(LOG, SCENARIO);
    // Policies that take their queue in order of arrival, or pick from it, may overtake; nothing else is allowed to any.
    assert.deepEqual(
      problems.filter(({ kind }) => kind !== "order"),
      [],
      policy,
    );
    assert.equal(window!.on_time, result.total.on_time, policy);
    assert.equal(window!.offered, result.total.offered, policy);
    assert.equal(window!.late, result.total.late, policy);
    assert.equal(window!.goodput_per_s, result.total.goodput_per_s, policy);
  }
});

test("the goodput of a run that ended with its trace is the simulator's", () => {
  const rows = Array.from({ length: 300 }, (_, i) => `${i * 10_000},quick,`);
  writeFileSync(path.join(folder, "trace.csv"), `arrival_us,model,slo_us\n${rows.join("\n")}\n`);
  const models = (smallScenarioJson().models as Record<string, unknown>[]).map(({ arrivals: _, ...model }) => model);
  const { total } = record(smallScenarioJson({ models, trace: { file: "trace.csv" } }), "slackline", 2);
  assert.ok(Math.abs(total.goodput_per_s - 200) < 3, String(total.goodput_per_s));
  assert.equal(checkLog(LOG, SCENARIO).window!.goodput_per_s, total.goodput_per_s);
});

test("runs of the daemon's scheduler with noise, measured spreads, lanes, replicas and overload pass", () => {
  for (const scale of [1, 3]) {
    record(RICH, "slackline", scale);
    assert.deepEqual(checkLog(LOG, SCENARIO).problems, [], `scale ${scale}`);
  }
});

interface Line {
  t: number;
  ev: string;
  id: number;
  ids: number[];
  size: number;
  bucket: number;
  device: string;
  model: string;
  items: number;
  deadline: number | null;
}

/** Checks a sound log after `corrupt` has changed its lines; returns the kinds of problems found. */
function kindsAfter(corrupt: (lines: Line[]) => void): Set<ProblemKind> {
  record(smallScenarioJson({ measure_s: 1 }));
  const lines: Line[] = readFileSync(LOG, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  corrupt(lines);
  writeFileSync(LOG, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return new Set(checkLog(LOG, SCENARIO).problems.map(({ kind }) => kind));
}

function first(lines: Line[], ev: string, accept: (line: Line) => boolean = () => true): Line {
  return lines.find((line) => line.ev === ev && accept(line))!;
}

const CORRUPTIONS: Readonly<Record<string, readonly [ProblemKind, (lines: Line[]) => void]>> = {
  "a line of another form": ["syntax", (lines) => Object.assign(lines[3]!, { ev: "begin" })],
  "a field of another type": ["syntax", (lines) => Object.assign(first(lines, "start"), { size: 1.5 })],
  "time that runs backwards": ["time", (lines) => Object.assign(lines.at(-1)!, { t: 1 })],
  "a model that the scenario does not have": [
    "unknown",
    (lines) => Object.assign(first(lines, "arrive"), { model: "nobody" }),
  ],
  "a lane that the scenario does not have": [
    "unknown",
    (lines) => Object.assign(first(lines, "start"), { device: "gpu9" }),
  ],
  "a batch that starts before its requests arrive": [
    "unknown",
    (lines) => {
      const start = first(lines, "start", ({ model }) => model === "steps");
      const arrival = first(lines, "arrive", ({ id }) => id === start.ids[0]);
      lines.splice(lines.indexOf(arrival), 1);
      lines.splice(lines.indexOf(start) + 1, 0, { ...arrival, t: start.t });
    },
  ],
  "a batch with another model's request": [
    "unknown",
    (lines) => {
      const start = first(lines, "start", ({ model }) => model === "steps");
      Object.assign(start, { model: "lenient" });
    },
  ],
  "two batches at once on a lane": [
    "overlap",
    (lines) => {
      lines.splice(lines.indexOf(first(lines, "end")), 1);
    },
  ],
  "a batch chosen before its requests arrive": [
    "time",
    (lines) => {
      const start = first(lines, "start", ({ model }) => model === "steps");
      Object.assign(start, { chosen: first(lines, "arrive", ({ id }) => id === start.ids[0]).t - 1 });
    },
  ],
  "a batch chosen after its start": [
    "time",
    (lines) => Object.assign(first(lines, "start"), { chosen: first(lines, "start").t + 1 }),
  ],
  "a request executed twice": [
    "repeat",
    (lines) => {
      const once = first(lines, "start", ({ model }) => model === "steps");
      const later = lines.slice(lines.indexOf(once) + 1);
      first(later, "start", ({ model }) => model === "steps").ids.push(once.ids[0]!);
    },
  ],
  "a request that arrives twice": ["repeat", (lines) => lines.splice(1, 0, { ...lines[0]! })],
  "a request dropped after its execution": [
    "repeat",
    (lines) => {
      const { ids } = first(lines, "start");
      lines.push({ t: lines.at(-1)!.t, ev: "drop", id: ids[0]!, cause: "late" } as unknown as Line);
    },
  ],
  "a size that is not the sum of the items": ["size", (lines) => first(lines, "start", ({ size }) => size > 1).size--],
  "a batch above the model's largest": [
    "size",
    (lines) => {
      const start = first(lines, "start", ({ model }) => model === "steps");
      Object.assign(
        first(lines, "arrive", ({ id }) => id === start.ids[0]),
        { items: 9 },
      );
    },
  ],
  "a bucket below the size": [
    "bucket",
    (lines) => first(lines, "start", ({ model, size }) => model === "quick" && size > 1).bucket--,
  ],
  "a bucket that the profile does not have": [
    "bucket",
    (lines) =>
      Object.assign(
        first(lines, "start", ({ model }) => model === "steps"),
        { bucket: 3, size: 3 },
      ),
  ],
  "an execution that is too short": [
    "duration",
    (lines) => {
      const start = first(lines, "start", ({ t }) => t > 0);
      start.t += 100;
      lines.sort((a, b) => a.t - b.t);
    },
  ],
  "an execution that never ends": [
    "unfinished",
    (lines) => {
      lines.splice(
        lines.findLastIndex(({ ev }) => ev === "end"),
        1,
      );
    },
  ],
  "a request that is forgotten": [
    "unfinished",
    (lines) => {
      const arrival = first(lines, "arrive");
      lines.unshift({ ...arrival, id: 99_999 });
    },
  ],
  "a request overtaken by a later and less urgent one": [
    "order",
    (lines) => {
      const start = first(lines, "start", ({ model, t }) => model === "quick" && t > 500_000);
      // It arrived and is due just before the batch's first; nobody runs it, and it is dropped much later.
      const arrival = first(lines, "arrive", ({ id }) => id === start.ids[0]);
      const forgotten = { ...arrival, id: 99_999, t: arrival.t - 1 };
      if (forgotten.deadline !== null) forgotten.deadline -= 1;
      lines.splice(lines.indexOf(arrival), 0, forgotten);
      lines.push({ t: lines.at(-1)!.t, ev: "drop", id: 99_999, cause: "late" } as unknown as Line);
      lines.sort((a, b) => a.t - b.t);
    },
  ],
};

for (const [what, [kind, corrupt]] of Object.entries(CORRUPTIONS)) {
  test(`catches ${what}`, () => {
    const kinds = kindsAfter(corrupt);
    assert.ok(kinds.has(kind), `found ${[...kinds].join(", ") || "nothing"} in place of ${kind}`);
  });
}

test("a log cut in the middle of a line is told, not a crash", () => {
  record(smallScenarioJson({ measure_s: 1 }));
  const text = readFileSync(LOG, "utf8");
  writeFileSync(LOG, text.slice(0, text.length / 2));
  const { problems } = checkLog(LOG, SCENARIO);
  assert.ok(problems.some(({ kind }) => kind === "syntax" || kind === "unfinished"));
});

test("a log without requests is none of a scenario that has some", () => {
  writeFileSync(LOG, "");
  writeFileSync(SCENARIO, JSON.stringify(smallScenarioJson()));
  for (const live of [false, true]) {
    const outcome = checkLog(LOG, SCENARIO, { live });
    assert.deepEqual(
      outcome.problems.map(({ kind }) => kind),
      ["empty"],
    );
    assert.match(
      checkText(outcome),
      /0 on time \(–\).*1 problem:\n {2}empty: no request arrives in the log, though the scenario has some/s,
    );
  }
  const models = (smallScenarioJson().models as Record<string, unknown>[]).map(({ arrivals: _, ...model }) => model);
  writeFileSync(SCENARIO, JSON.stringify(smallScenarioJson({ models, best_effort: [] })));
  assert.deepEqual(checkLog(LOG, SCENARIO).problems, []);
});

test("a live log may have lanes, times and versions of its own, but no overlap", () => {
  writeFileSync(SCENARIO, JSON.stringify(smallScenarioJson()));
  const sound = [
    '{"t":5,"ev":"arrive","id":1,"model":"quick/1","items":1,"deadline":900}',
    '{"t":6,"ev":"start","device":"cpu0","model":"quick/1","ids":[1],"size":1,"bucket":4}',
    '{"t":7,"ev":"arrive","id":2,"model":"quick/1","items":1,"deadline":null}',
    '{"t":17,"ev":"end","device":"cpu0","model":"quick/1"}',
    '{"t":18,"ev":"start","device":"cpu0","model":"quick/1","ids":[2],"size":1,"bucket":4}',
  ];
  writeFileSync(LOG, sound.join("\n"));
  const { problems, total, window } = checkLog(LOG, SCENARIO, { live: true });
  assert.deepEqual(problems, []);
  assert.equal(window, null);
  assert.equal(total.on_time, 1);
  writeFileSync(LOG, [sound[0], sound[1], sound[2], sound[4]].join("\n"));
  assert.deepEqual(
    checkLog(LOG, SCENARIO, { live: true }).problems.map(({ kind }) => kind),
    ["overlap"],
  );
});

test("the report names lines and counts what it does not show", () => {
  record(smallScenarioJson({ measure_s: 1 }));
  const lines = readFileSync(LOG, "utf8").trimEnd().split("\n");
  writeFileSync(LOG, lines.filter((line) => !line.includes('"end"')).join("\n"));
  const text = checkText(checkLog(LOG, SCENARIO));
  assert.match(text, /problems:\n {2}line \d+, overlap: 'gpu0' still runs/);
  assert.match(text, /and [\d,]+ more/);
});
