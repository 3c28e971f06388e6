/** The comparison's command line: every policy on every scenario, in parallel, written as Markdown, JSON and a page. */
import { availableParallelism, setPriority } from "node:os";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { checkWritable, writeJson, writeText } from "../../tools/command-line/output-file.ts";
import { COUNT, numberOf, runTool, someOf, UsageError } from "../../tools/command-line/run-tool.ts";
import { progressOn } from "../report/progress.ts";
import { ScenarioError } from "../scenario/schema.ts";
import { page } from "./compare/chart.ts";
import type { Job } from "./compare/job.ts";
import { markdown } from "./compare/markdown.ts";
import { runJobs } from "./compare/pool.ts";
import { type Comparison, resultsOf } from "./compare/results.ts";
import { POLICIES, type StudyScenario, studyOf } from "./compare/study.ts";

const USAGE = `usage: npm run bench:policies -- [options]

Runs every scheduling policy over every scenario in the simulator, and writes how they compare.

  --quick            five scenarios, one seed, short runs
  --scenarios A,B    only these
  --policies A,B     only these of ${POLICIES.join(", ")}
  --seeds N          number of seeds (default 4)
  --measure-s S      length of each run's measured window (default 20; the scenarios' own where shorter)
  --workers N        worker threads (default: one for each core)
  --data DIR         folder of published traces and workloads (default: SLACKLINE_DATA, else ../shared/data)
  --out DIR          where comparison.md, comparison.json and comparison.html go (default bench/results/policies; with --quick
                     policies-quick beside it, with other scenarios, policies, seeds or lengths policies-partial)
`;

const FIRST_SEED = 11;
const MEASURE_S = 20;
const QUICK_MEASURE_S = 8;
/** Leaves the machine usable while all cores are busy for minutes. */
const NICE = 10;

function shortened(one: StudyScenario, measureS: number): StudyScenario {
  // What changes over a run has to be seen to its end.
  if (one.scenario.models.some(({ arrivals }) => arrivals?.curve !== undefined)) return one;
  return { ...one, scenario: { ...one.scenario, measure_s: Math.min(measureS, one.scenario.measure_s) } };
}

/** The longest first, so that no worker is left with one at the end: bounds, then policies with most settings. */
function jobsOf(study: readonly StudyScenario[], policies: readonly string[], seeds: readonly number[]): Job[] {
  const jobs: Job[] = [];
  for (const { scenario, bounded } of study) {
    if (bounded) jobs.push({ type: "bound", scenario, seed: seeds[0]! });
  }
  const swept = ["triton", "symphony", "tf-serving"];
  const ordered = [...swept.filter((name) => policies.includes(name)), ...policies.filter((p) => !swept.includes(p))];
  for (const policy of ordered) {
    for (const { scenario, question } of study) jobs.push({ type: "policy", scenario, question, policy, seeds });
  }
  return jobs;
}

await runTool(
  {
    name: "bench:policies",
    usage: USAGE,
    options: {
      quick: { type: "boolean", default: false },
      scenarios: { type: "string" },
      policies: { type: "string" },
      seeds: { type: "string" },
      "measure-s": { type: "string" },
      workers: { type: "string" },
      data: { type: "string" },
      out: { type: "string" },
    },
    expected: [ScenarioError],
  },
  async ({ values, args }) => {
    const { quick } = values;
    const partial = [values.scenarios, values.policies, values.seeds, values["measure-s"]].some((v) => v !== undefined);
    const suffix = quick ? "-quick" : partial ? "-partial" : "";
    const out = values.out ?? path.join(PACKAGE_ROOT, "bench", "results", `policies${suffix}`);
    const policies = someOf("--policies", values.policies, POLICIES);
    const count = numberOf("--seeds", values.seeds, COUNT) ?? (quick ? 1 : 4);
    const measureS = numberOf("--measure-s", values["measure-s"], COUNT) ?? (quick ? QUICK_MEASURE_S : MEASURE_S);
    const workers = numberOf("--workers", values.workers, COUNT) ?? availableParallelism();
    const only = values.scenarios?.split(",") ?? null;
    const { scenarios, skipped } = studyOf({ quick, only, data: values.data });
    const missing = only?.filter((name) => !scenarios.some(({ scenario }) => scenario.name === name)) ?? [];
    if (missing.length > 0)
      throw new UsageError(`there is no scenario '${missing[0]}'${skipped === null ? "" : `; ${skipped}`}`);
    const file = (extension: string): string => path.join(out, `comparison.${extension}`);
    for (const extension of ["json", "html", "md"]) checkWritable(file(extension));
    if (skipped !== null) process.stderr.write(`${skipped}\n`);

    const seeds = Array.from({ length: count }, (_, i) => FIRST_SEED + i);
    const study = scenarios.map((one) => shortened(one, measureS));
    const jobs = jobsOf(study, policies, seeds);
    setPriority(NICE);
    const progress = progressOn(process.stderr, "comparing", "runs");
    const outcomes = await runJobs(jobs, workers, (job, done) =>
      progress.update(done, jobs.length, `${job.scenario.name} ${job.type === "policy" ? job.policy : "bound"}`),
    );
    progress.stop();

    const command = ["npm run bench:policies", ...(args.length === 0 ? [] : ["--", ...args])].join(" ");
    const comparison: Comparison = { command, seeds, skipped, scenarios: resultsOf(study, jobs, outcomes) };
    const text = markdown(comparison);
    process.stdout.write(text);
    writeJson(file("json"), comparison);
    writeText(file("html"), page(comparison));
    writeText(file("md"), text);
    process.stderr.write(`\nwritten to ${out}\n`);
    return 0;
  },
);
