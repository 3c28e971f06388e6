/**
 * Scenarios from published traces, workloads and profiles, built when they are needed from a folder that holds them: they
 * are not part of this repository. Sources, all under open licences:
 *
 * - Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv (CC-BY-4.0; Patel et al., "Splitwise", ISCA 2024): arrivals
 * - eth-easl/orion, figure 10's inter-arrival times (MIT, ETH Zurich): arrivals
 * - SJTU-IPADS/disb, workloads A, C, D and E with their published results (Apache-2.0): clients and execution times
 * - uwsampl/nexus and abcdabcd987/nexuslb (BSD-3-Clause form, University of Washington), and
 *   erdos-project/erdos-scheduling-simulator (MIT): profiles
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { parseScenario, type Scenario, ScenarioError } from "../scenario/schema.ts";
import type { ProfileSpec } from "../scenario/types.ts";

export const DATA_VARIABLE = "SLACKLINE_DATA";

/** Where the data is: as asked for, else as the environment says, else beside the checkout. */
export function dataFolder(asked: string | undefined): string {
  return path.resolve(asked ?? process.env[DATA_VARIABLE] ?? path.join(PACKAGE_ROOT, "..", "shared", "data"));
}

export interface PublishedScenarios {
  readonly scenarios: readonly Scenario[];
  /** One sentence: why some are missing, and what to do; null where none is. */
  readonly skipped: string | null;
}

const FILES = ["azure-llm-conv.csv", "orion-fig10.csv", "disb-workloads.json", "disb-published-results.csv"] as const;
const PROFILES = "profiles.json";

/** @throws {ScenarioError} where the folder is there, but holds something else than expected */
export function publishedScenarios(folder: string): PublishedScenarios {
  const missing = [...FILES, PROFILES].filter((file) => !existsSync(path.join(folder, file)));
  if (missing.length > 0) {
    const skipped = `scenarios from published traces are skipped: ${folder} has no ${missing.join(", ")}; name the folder with --data DIR or ${DATA_VARIABLE}`;
    return { scenarios: [], skipped };
  }
  const data = new PublishedData(folder);
  return {
    scenarios: [azure(data), orion(data), ...["A", "C", "D", "E"].map((name) => disb(data, name))],
    skipped: null,
  };
}

const RUN = { seed: 1, warmup_s: 3, measure_s: 30, devices: [{ name: "gpu0" }] };

/**
 * An hour of one LLM service's arrivals, at thirty times their speed, served as a ResNet-50 would be, beside two models
 * with Poisson arrivals: the shape of real traffic on a device that is not its alone.
 */
function azure(data: PublishedData): Scenario {
  return data.scenario({
    ...RUN,
    name: "azure",
    description: "Arrivals of an LLM service (Azure), thirty times as fast, beside two Poisson models",
    models: [
      { name: "traced", max_batch: 16, slo_ms: 100, profile: data.profile("resnet50", 16) },
      { ...poisson("classifier", 90, 60), max_batch: 32, profile: data.profile("vgg_s", 32) },
      { ...poisson("linear", 90, 100), max_batch: 32, profile: data.profile("resnet_0", 32) },
    ],
    trace: { file: data.path("azure-llm-conv.csv"), speed: 30, models: { "llm-conv": "traced" } },
  });
}

function poisson(name: string, rate_per_s: number, slo_ms: number): Record<string, unknown> {
  return { name, slo_ms, arrivals: { process: "poisson", rate_per_s } };
}

/** Orion's latency-bound client, batches of 4 each, beside its best-effort work without end. */
function orion(data: PublishedData): Scenario {
  return data.scenario({
    ...RUN,
    name: "orion",
    description: "Arrivals of Orion's latency-bound client, four items each, beside endless best-effort work",
    models: [
      { name: "rt", max_batch: 16, slo_ms: 100, items: 4, profile: data.profile("vgg16", 16) },
      { name: "fill", max_batch: 16, slo_ms: 1000, profile: data.profile("vgg_s", 16) },
    ],
    trace: { file: data.path("orion-fig10.csv"), speed: 1 },
    best_effort: [{ model: "fill", backlog: "infinite" }],
  });
}

interface DisbClient {
  readonly name: string;
  readonly kind: "realtime" | "besteffort";
  readonly arrival: { readonly type: "uniform" | "poisson" | "closed-loop"; readonly rate_per_s?: number };
}

type DisbWorkloads = Readonly<Record<string, readonly DisbClient[]>>;

/**
 * A DISB workload: each client is a model that runs alone as long as was published for it, batches of one, since nothing
 * is published of larger ones. Closed-loop best-effort clients keep one request outstanding. DISB states no deadlines:
 * real-time clients get three times the workload's longest execution, room for another's execution and some of a queue.
 */
function disb(data: PublishedData, workload: string): Scenario {
  const clients = data.disbClients(workload);
  const alone = clients.map(({ name }) => data.disbAloneMs(workload, name));
  const slo = 3 * Math.max(...alone);
  const models = clients.map(({ name, arrival }, i) => ({
    name,
    max_batch: 1,
    slo_ms: slo,
    profile: { points_ms: [[1, alone[i]!]] },
    ...(arrival.rate_per_s === undefined
      ? {}
      : { arrivals: { process: arrival.type, rate_per_s: arrival.rate_per_s } }),
  }));
  return data.scenario({
    ...RUN,
    name: `disb-${workload.toLowerCase()}`,
    description: `DISB's workload ${workload}, with the execution times published for TensorRT`,
    models,
    best_effort: clients
      .filter(({ kind }) => kind === "besteffort")
      .map(({ name }) => ({ model: name, backlog: "infinite", outstanding: 1 })),
  });
}

class PublishedData {
  readonly #folder: string;
  readonly #profiles: readonly PublishedProfile[];
  readonly #workloads: DisbWorkloads;
  readonly #aloneMs = new Map<string, number>();

  constructor(folder: string) {
    this.#folder = folder;
    this.#profiles = JSON.parse(this.#read(PROFILES)) as PublishedProfile[];
    this.#workloads = (JSON.parse(this.#read("disb-workloads.json")) as { workloads: DisbWorkloads }).workloads;
    for (const line of this.#read("disb-published-results.csv").split("\n")) {
      const [workload, framework, metric, client, value] = line.split(",");
      if (framework === "tensorrt" && metric === "total_latency_alone_avg") {
        this.#aloneMs.set(`${workload} ${client}`, Number(value) / 1000);
      }
    }
  }

  #read(file: string): string {
    return readFileSync(this.path(file), "utf8");
  }

  path(file: string): string {
    return path.join(this.#folder, file);
  }

  scenario(value: unknown): Scenario {
    return parseScenario(value, this.#folder);
  }

  /** A published profile up to a batch size; times that fall with the batch are raised to those before. */
  profile(model: string, batchMax: number): ProfileSpec {
    const found = this.#profiles.find((profile) => profile.model === model);
    if (found === undefined) throw new ScenarioError(this.path(PROFILES), [`there is no profile of '${model}'`]);
    if (found.points === undefined) return { alpha_ms: found.alpha_ms!, beta_ms: found.beta_ms! };
    let most = 0;
    const rising = found.points.map(([batch, ms]): [number, number] => {
      most = Math.max(most, ms);
      return [batch, most];
    });
    return { points_ms: rising.filter(([batch]) => batch <= batchMax) };
  }

  disbClients(workload: string): readonly DisbClient[] {
    const clients = this.#workloads[workload];
    if (clients === undefined) {
      throw new ScenarioError(this.path("disb-workloads.json"), [`there is no workload '${workload}'`]);
    }
    return clients;
  }

  disbAloneMs(workload: string, client: string): number {
    const ms = this.#aloneMs.get(`${workload} ${client}`);
    if (ms === undefined) {
      const problem = `no total_latency_alone_avg of '${client}' in workload ${workload} under tensorrt`;
      throw new ScenarioError(this.path("disb-published-results.csv"), [problem]);
    }
    return ms;
  }
}

interface PublishedProfile {
  readonly model: string;
  readonly points?: readonly (readonly [number, number])[];
  readonly alpha_ms?: number;
  readonly beta_ms?: number;
}
