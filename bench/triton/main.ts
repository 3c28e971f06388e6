/**
 * Compares the daemon, live, with Triton Inference Server on the same models, machine and load: what share of requests each answers on time as
 * the load grows, and what best-effort work gets done beside them. Triton comes from its Python wheel, executes ONNX Runtime through its Python
 * backend, and gets the best of its settings by trying.
 */
import { cpus } from "node:os";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { exitOnSignals, temporaryFolder } from "../../tools/command-line/clean-up.ts";
import { checkWritable, writeText } from "../../tools/command-line/output-file.ts";
import {
  COUNT,
  numberOf,
  numbersOf,
  POSITIVE,
  runTool,
  SECONDS,
  ToolError,
} from "../../tools/command-line/run-tool.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels, SAMPLE_REPOSITORY } from "../live/sample-models.ts";
import { loadTest } from "../load/load-test.ts";
import { DEADLINE_SHARE, mixedLoad } from "../quickstart/mix.ts";
import { measuredCommit } from "../report/commit.ts";
import { percent } from "../report/format.ts";
import type { Scenario } from "../scenario/schema.ts";
import { leaveDeviceCore, ontoDeviceCore } from "./cores.ts";
import { tritonHtml, tritonMarkdown } from "./report.ts";
import { bestTrial, type LoadFigures, type Trial, type TritonResult } from "./result.ts";
import { type RunningServer, Triton } from "./server.ts";
import { BARE, described, TRIED, type TritonSettings } from "./settings.ts";

const USAGE = `usage: npm run bench:triton -- [options]

  --loads A,B       what small batches would take of the device (default 0.3,0.5,0.7,0.9,1.1,1.3,1.5)
  --filled A,B      with best-effort work beside (default 0.3,0.5,0.7)
  --rounds N        default 3
  --measure S       seconds measured of each load (default 8)
  --quick           one round, short loads, four settings of Triton: shows that it works, its figures say little
  --save            writes bench/results/triton.json, .md and .html (with --quick: triton-quick)

Needs Python 3.10 to 3.13 with its shared library and, the first time, the Python registry (some 450 MB in .cache/triton-venv).
`;

const READY_MS = 180_000;
/** Of which settings are judged: one that a device should carry, and one where not all can be on time. */
const TRIAL_LOADS: readonly number[] = [0.6, 1];
const WARMUP_S = 2;
/** Of one model, at load 1. Server and generator share few cores: what is compared is how a device is shared, not what a call costs. */
const RATE_PER_S_MAX = 40;
/** No round has it. */
const TRIAL_SEED = 1000;

interface Options {
  readonly loads: readonly number[];
  readonly filled: readonly number[];
  readonly rounds: number;
  readonly measureS: number;
  readonly tried: readonly TritonSettings[];
}

interface Entrant {
  readonly name: string;
  readonly settings: TritonSettings | null;
  start(): Promise<RunningServer>;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function startDaemon(folder: string): Promise<RunningServer & { readonly process: DaemonProcess }> {
  const daemon = await DaemonProcess.start({
    models: SAMPLE_REPOSITORY,
    // No replicas: they would execute beside the device.
    flags: ["--device", "cpu", "--pool-cores", "0"],
    logFile: path.join(folder, "daemon.log"),
    readyMs: READY_MS,
  });
  for (const { pid } of (await daemon.status()).lanes) if (pid !== null) ontoDeviceCore(pid);
  return { process: daemon, address: daemon.grpcAddress, stop: async () => void (await daemon.stop()) };
}

async function measure(
  address: string,
  scenario: Scenario,
  load: number,
  seed: number,
  measureS: number,
): Promise<LoadFigures> {
  const { result } = await loadTest({
    scenario,
    plan: { scale: load / DEADLINE_SHARE, seed, warmupS: WARMUP_S, measureS },
    address,
    statusAddress: null,
    transport: "plain",
    lagMsMax: Number.POSITIVE_INFINITY,
  });
  const { total } = result;
  return {
    load,
    seed,
    offered_per_s: total.offered / result.measured_s,
    attainment: total.attainment,
    attainment_worst_model: result.attainment_worst_model,
    attainment_by_model: Object.fromEntries(
      Object.entries(result.models).map(([name, { attainment }]) => [name, attainment]),
    ),
    best_effort_items_per_s: total.best_effort.items_per_s,
    generator_lag_p99_ms: result.generator_lag_ms.p99,
  };
}

async function on<T>(start: () => Promise<RunningServer>, use: (address: string) => Promise<T>): Promise<T> {
  const server = await start();
  try {
    return await use(server.address);
  } finally {
    await server.stop();
  }
}

/** The sample models by deadlines, each with its share of this device, and a backlog of best-effort work. */
async function mix(folder: string, measureS: number): Promise<Scenario> {
  const daemon = await startDaemon(folder);
  try {
    const status = await daemon.process.status();
    const scenario = mixedLoad(status, {
      warmupS: WARMUP_S,
      measureS,
      seed: 1,
      ratePerSMax: RATE_PER_S_MAX * DEADLINE_SHARE,
    });
    if (scenario === null) throw new ToolError("no sample model can be served here");
    return scenario;
  } finally {
    await daemon.stop();
  }
}

async function compare(
  { loads, filled, rounds, measureS, tried }: Options,
  folder: string,
): Promise<Pick<TritonResult, "models" | "trials" | "contestants">> {
  const triton = await Triton.install(folder);
  const withBacklog = await mix(folder, measureS);
  const deadlines: Scenario = { ...withBacklog, best_effort: [] };
  const models = deadlines.models.map(({ name, max_batch, slo_ms }) => ({ name, maxBatch: max_batch, sloMs: slo_ms }));
  const withSettings = (settings: TritonSettings) => () => triton.start(models, SAMPLE_REPOSITORY, settings);

  const trials: Trial[] = [];
  for (const settings of tried) {
    const measured = await on(withSettings(settings), (address) =>
      inTurn(TRIAL_LOADS, (load) => measure(address, deadlines, load, TRIAL_SEED, measureS)),
    );
    trials.push({ settings, loads: measured });
    say(`Triton, ${described(settings)}: ${measured.map(({ attainment }) => percent(attainment)).join(", ")} on time`);
  }
  const best = bestTrial(trials).settings;

  const entrants: Entrant[] = [
    { name: "slackline", settings: null, start: () => startDaemon(folder) },
    { name: "Triton tuned", settings: best, start: withSettings(best) },
    { name: "Triton bare", settings: BARE, start: withSettings(BARE) },
  ];
  const contestants = entrants.map(({ name, settings }) => ({
    name,
    settings,
    loads: [] as LoadFigures[],
    filled: [] as LoadFigures[],
  }));
  for (let round = 1; round <= rounds; round++) {
    for (const [i, { name, start }] of entrants.entries()) {
      await on(start, async (address) => {
        const run = (scenario: Scenario, what: string) => async (load: number) => {
          const figures = await measure(address, scenario, load, round, measureS);
          say(`round ${round}, ${name}, ${what} ${load}: ${percent(figures.attainment)} on time`);
          return figures;
        };
        contestants[i]!.loads.push(...(await inTurn(loads, run(deadlines, "load"))));
        contestants[i]!.filled.push(...(await inTurn(filled, run(withBacklog, "backlog beside load"))));
      });
    }
  }
  const rates = deadlines.models.map(({ name, slo_ms, max_batch, arrivals }) => ({
    name,
    slo_ms,
    max_batch,
    rate_per_s_at_load_1: arrivals!.rate_per_s / DEADLINE_SHARE,
  }));
  return { models: rates, trials, contestants };
}

async function inTurn<A, B>(items: readonly A[], run: (item: A) => Promise<B>): Promise<B[]> {
  const results: B[] = [];
  for (const item of items) results.push(await run(item));
  return results;
}

await runTool(
  {
    name: "bench:triton",
    usage: USAGE,
    options: {
      loads: { type: "string" },
      filled: { type: "string" },
      rounds: { type: "string" },
      measure: { type: "string" },
      quick: { type: "boolean", default: false },
      save: { type: "boolean", default: false },
    },
  },
  async ({ values, args }) => {
    const { quick, save } = values;
    const chosen: Options = {
      loads: numbersOf("--loads", values.loads ?? (quick ? "0.4,0.8" : "0.3,0.5,0.7,0.9,1.1,1.3,1.5"), POSITIVE),
      filled: numbersOf("--filled", values.filled ?? (quick ? "0.4" : "0.3,0.5,0.7"), POSITIVE),
      rounds: numberOf("--rounds", values.rounds, COUNT) ?? (quick ? 1 : 3),
      measureS: numberOf("--measure", values.measure, SECONDS) ?? (quick ? 3 : 8),
      tried: quick
        ? TRIED.filter(({ queueDelayUs, rejectAfterSlo }) => queueDelayUs < 5000 && rejectAfterSlo === null)
        : TRIED,
    };
    const name = quick ? "triton-quick" : "triton";
    const file = (extension: string): string => path.join(PACKAGE_ROOT, "bench", "results", `${name}.${extension}`);
    if (save) for (const extension of ["json", "md", "html"]) checkWritable(file(extension));
    exitOnSignals();
    const folder = temporaryFolder("triton");
    await makeSampleModels(say);
    leaveDeviceCore();
    const result: TritonResult = {
      date: new Date().toISOString().slice(0, 10),
      commit: measuredCommit(),
      command: ["npm run bench:triton --", ...args].join(" "),
      cpu: cpus()[0]?.model ?? "unknown processor",
      cores: cpus().length,
      node: process.versions.node,
      measure_s: chosen.measureS,
      ...(await compare(chosen, folder)),
    };
    const text = tritonMarkdown(result);
    process.stdout.write(text);
    if (save) {
      writeText(file("json"), `${JSON.stringify(result, null, 1)}\n`);
      writeText(file("md"), text);
      writeText(file("html"), tritonHtml(result));
    }
    return 0;
  },
);
