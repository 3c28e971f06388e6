/** The benchmark's parts, one after the other on one device. */
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chooseDevice } from "../../daemon/device/choose-device.ts";
import { providerText } from "../../daemon/device/provider.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { temporaryFolder } from "../../tools/command-line/clean-up.ts";
import { addedLatency } from "../budgets/added-latency.ts";
import type { BudgetLine } from "../budgets/budget.ts";
import { DaemonProcess } from "../live/daemon-process.ts";
import { makeSampleModels } from "../live/sample-models.ts";
import { measureLoad, searchLiveCapacity } from "./measure.ts";
import { type BenchModel, benchModels, writeBenchConfig, writeBenchRepository } from "./models.ts";
import { bestRoundRobin, predictCapacity, predictLoad } from "./predict.ts";
import type { AloneResult, CapacityFigures, GpuBenchResult, RoundRobinResult, SetResult } from "./result.ts";
import {
  bestFiller,
  MANY_CORES,
  type Points,
  pointsOf,
  SHARED_CORES,
  type WireLimits,
  type Workload,
  workload,
} from "./workload.ts";

export const SECTIONS = ["latency", "three", "six", "alone", "round-robin"] as const;
export type Section = (typeof SECTIONS)[number];

export interface BenchOptions {
  readonly device: string;
  readonly allowSoftwareGpu: boolean;
  readonly sections: ReadonlySet<Section>;
  readonly warmupS: number;
  readonly measureS: number;
  /** Loads of each capacity search. */
  readonly steps: number;
  readonly say: (line: string) => void;
  /** Told what has been measured, at the end and after each section before: a run of minutes that is interrupted is not for nothing. */
  readonly found: (found: Found) => void;
}

export interface Found {
  readonly measured: Measured;
  readonly scenarios: ReadonlyMap<string, unknown>;
}

export type Measured = Omit<GpuBenchResult, "date" | "command" | "commit" | "cpu" | "cores" | "node">;

const READY_MS = 300_000;
const LOADED_SHARE = 0.8;
/** Of the largest scale that is tried. */
const SETTLING_SHARE = 0.1;
/** The round-robin settings are chosen where the shared device is about to fail: below that all do well. */
const CHOICE_SHARE = 1.25;
const POLICY_DAEMON: string = fileURLToPath(new URL("./policy-daemon.js", import.meta.url));
/** Models whose items all have one shape, as the measurement of added latency wants them. */
const ONE_SHAPE: ReadonlySet<string> = new Set(["digits", "ranker", "resnet18"]);

export async function runGpuBench(options: BenchOptions): Promise<void> {
  const { say } = options;
  await makeSampleModels(say);
  const { provider } = await chooseDevice(options.device, { allowSoftwareGpu: options.allowSoftwareGpu });
  // A software adapter is a CPU.
  const onGpu = provider.name !== "cpu" && !options.allowSoftwareGpu;
  const models = benchModels(onGpu);
  const folder = temporaryFolder("gpu");
  await writeBenchRepository(repositoryIn(folder), models, onGpu);
  await new GpuBench({ ...options, device: providerText(provider) }, models, folder).run();
}

function repositoryIn(folder: string): string {
  return path.join(folder, "models");
}

interface MeasuredSet {
  readonly set: Omit<SetResult, "round_robin">;
  readonly workload: Workload;
}

class GpuBench {
  readonly #options: BenchOptions;
  readonly #models: readonly BenchModel[];
  readonly #folder: string;
  readonly #limits: WireLimits;
  readonly #measured = new Set<Section>();
  readonly #sets = new Map<string, MeasuredSet>();
  readonly #roundRobin = new Map<string, RoundRobinResult>();
  #profiles: ReadonlyMap<string, Points> = new Map();
  #device: DaemonStatus["device"] | null = null;
  #readyS = 0;
  #latency: BudgetLine[] = [];
  #alone: AloneResult | null = null;

  constructor(options: BenchOptions, models: readonly BenchModel[], folder: string) {
    this.#options = options;
    this.#models = models;
    this.#folder = folder;
    this.#limits = options.device === "cpu" || options.allowSoftwareGpu ? SHARED_CORES : MANY_CORES;
  }

  async run(): Promise<void> {
    const { sections, say } = this.#options;
    say("daemon: loading and profiling");
    const began = performance.now();
    const daemon = await this.#start("slackline", []);
    try {
      this.#readyS = (performance.now() - began) / 1000;
      const status = await daemon.status();
      this.#device = status.device;
      this.#profiles = new Map(status.models.map((model) => [model.name, pointsOf(model)]));
      if (sections.has("latency")) {
        this.#latency = await this.#measureLatency(daemon, status);
        this.#done("latency");
      }
      await this.#settle(daemon, this.#workload("settling", this.#models));
      for (const [name, count] of [
        ["three", 3],
        ["six", 6],
      ] as const) {
        if (!sections.has(name)) continue;
        this.#sets.set(name, await this.#set(daemon, name, this.#models.slice(0, count)));
        this.#done(name);
      }
      const three = this.#sets.get("three");
      if (sections.has("alone") && three !== undefined) {
        this.#alone = await this.#measureAlone(daemon, three.set.capacity);
        this.#done("alone");
      }
    } finally {
      await daemon.stop();
    }
    if (sections.has("round-robin") && this.#sets.size > 0) {
      await this.#measureRoundRobin();
      this.#done("round-robin");
    }
    this.#options.found(this.#found());
  }

  #done(section: Section): void {
    this.#measured.add(section);
    this.#options.found(this.#found());
  }

  #found(): Found {
    const { sections } = this.#options;
    const missing = SECTIONS.filter((section) => !this.#measured.has(section));
    const why = (section: Section): string => {
      if (!sections.has(section)) return "not asked for";
      if (section === "alone" && !sections.has("three")) return "needs the section three";
      if (section === "round-robin" && !sections.has("three") && !sections.has("six")) return "needs three or six";
      return "interrupted";
    };
    const sets = [...this.#sets].map(([name, { set }]): [string, SetResult] => [
      name,
      { ...set, round_robin: this.#roundRobin.get(name) ?? null },
    ]);
    return {
      measured: {
        device: this.#device!,
        loaded_share: LOADED_SHARE,
        profiles_ms: Object.fromEntries(this.#profiles),
        ready_s: this.#readyS,
        added_latency: this.#latency,
        sets: Object.fromEntries(sets),
        alone: this.#alone,
        left_out: missing.map((section) => `${section}: ${why(section)}`),
      },
      scenarios: new Map([...this.#sets].map(([name, { workload }]) => [name, workload.scenario])),
    };
  }

  #start(name: string, flags: readonly string[], entry?: string): Promise<DaemonProcess> {
    const { device, allowSoftwareGpu, say } = this.#options;
    return DaemonProcess.start({
      models: repositoryIn(this.#folder),
      flags: [
        ...["--device", device, ...(allowSoftwareGpu ? ["--allow-software-gpu"] : [])],
        // Later daemons start from what the first one measured.
        ...["--profile-cache", path.join(this.#folder, "profiles")],
        ...flags,
      ],
      logFile: path.join(this.#folder, `${name}.txt`),
      readyMs: READY_MS,
      onActivity: say,
      ...(entry === undefined ? {} : { entry }),
    });
  }

  async #measureLatency(daemon: DaemonProcess, status: DaemonStatus): Promise<BudgetLine[]> {
    this.#options.say("added latency of an idle daemon");
    const models = this.#models.filter(({ name, sample }) => ONE_SHAPE.has(sample) && name === sample);
    const files = models.map(({ name }) => ({
      name,
      file: path.join(repositoryIn(this.#folder), name, "1", "model.onnx"),
    }));
    return await addedLatency(daemon.grpcAddress, status, files);
  }

  #workload(name: string, models: readonly BenchModel[], fill?: string): Workload {
    const { warmupS, measureS } = this.#options;
    return workload(models, this.#profiles, {
      name,
      warmupS,
      measureS,
      limits: this.#limits,
      ...(fill === undefined ? {} : { fill }),
    });
  }

  async #set(daemon: DaemonProcess, name: string, models: readonly BenchModel[]): Promise<MeasuredSet> {
    const plain = this.#workload(name, models);
    const fillModel = bestFiller(models, this.#profiles);
    const filling = this.#workload(`${name}, filled`, models, fillModel);
    const capacity = await this.#capacity(daemon, plain, `${name} models`);
    const scale = LOADED_SHARE * (capacity.scale > 0 ? capacity.scale : 0.1);
    this.#options.say(`${name} models at ${LOADED_SHARE} of that, then with best-effort work of ${fillModel}`);
    const loaded = await measureLoad(daemon, plain.scenario, scale);
    const filled = await measureLoad(daemon, filling.scenario, scale);
    return {
      workload: plain,
      set: {
        slo_ms: Object.fromEntries(plain.scenario.models.map((model) => [model.name, model.slo_ms])),
        device_share_at_scale_1: plain.deviceShare,
        capacity,
        loaded,
        filled,
        fill_model: fillModel,
        simulated: {
          capacity_scale: predictCapacity(plain.scenario),
          loaded: predictLoad(plain.scenario, scale),
          filled: predictLoad(filling.scenario, scale),
        },
      },
    };
  }

  /** A light load that is not counted: a process's first requests are slow, and every daemon is to have them behind it. */
  async #settle(daemon: DaemonProcess, { scenario, scaleMax }: Workload): Promise<void> {
    await measureLoad(daemon, scenario, SETTLING_SHARE * scaleMax);
  }

  async #capacity(daemon: DaemonProcess, { scenario, scaleMax }: Workload, what: string): Promise<CapacityFigures> {
    const { say, steps } = this.#options;
    const found = await searchLiveCapacity(
      async (scale) => {
        const figures = await measureLoad(daemon, scenario, scale);
        const doubt = figures.valid ? "" : `, the generator lagged by ${figures.generator_lag_ms_p99.toFixed(1)} ms`;
        say(`${what} at scale ${scale}: ${(100 * figures.attainment).toFixed(1)} % on time${doubt}`);
        return figures;
      },
      scaleMax,
      steps,
    );
    say(`${what}: capacity at scale ${found.scale}, ${found.per_s.toFixed(0)} requests/s`);
    return found;
  }

  /** Each of the three models by itself, as if the device were its own. */
  async #measureAlone(daemon: DaemonProcess, shared: CapacityFigures): Promise<AloneResult> {
    const capacity: Record<string, CapacityFigures> = {};
    const models = this.#models.slice(0, 3);
    const together = this.#workload("three", models).scenario;
    // Scales of the shared load that each model alone would carry.
    const scales: number[] = [];
    for (const [i, model] of models.entries()) {
      const own = this.#workload(`${model.name} alone`, [model]);
      const found = await this.#capacity(daemon, own, `${model.name} alone`);
      capacity[model.name] = found;
      const rateAlone = own.scenario.models[0]!.arrivals!.rate_per_s * found.scale;
      scales.push(rateAlone / together.models[i]!.arrivals!.rate_per_s);
    }
    const known = scales.every((scale) => scale > 0);
    return {
      capacity,
      slices_scale: known ? 1 / scales.reduce((sum, scale) => sum + 1 / scale, 0) : null,
      devices_needed: known
        ? scales.reduce((sum, scale) => sum + Math.max(1, Math.ceil(shared.scale / scale)), 0)
        : null,
    };
  }

  async #measureRoundRobin(): Promise<void> {
    for (const [name, { set, workload: load }] of this.#sets) {
      const policy = bestRoundRobin(load.scenario, (CHOICE_SHARE * set.loaded.scale) / LOADED_SHARE);
      this.#options.say(`round robin for ${name} models: ${policy}`);
      // Its waits and batch sizes are parts of the models' SLOs, which for the simulator's choice were the callers' deadlines.
      for (const model of this.#models) {
        writeBenchConfig(repositoryIn(this.#folder), model, set.slo_ms[model.name] ?? null);
      }
      const daemon = await this.#start("round-robin", ["--policy", policy], POLICY_DAEMON);
      try {
        await this.#settle(daemon, load);
        const capacity = await this.#capacity(daemon, load, `${name} models, round robin`);
        const loaded = await measureLoad(daemon, load.scenario, set.loaded.scale);
        this.#roundRobin.set(name, { policy, capacity, loaded });
        this.#options.found(this.#found());
      } finally {
        await daemon.stop();
      }
    }
  }
}
