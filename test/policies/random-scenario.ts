import type { Random } from "../../bench/scenario/random.ts";
import { parseScenario } from "../../bench/scenario/schema.ts";
import type { Scenario } from "../../bench/scenario/types.ts";

export interface RandomScenarioOptions {
  /** Number of models; drawn where absent. */
  readonly models?: number;
  /** One lane, no noise, requests all alike, every size a bucket. */
  readonly plain?: boolean;
}

/** A scenario of about a second, at a load from light to far too much. */
export function randomScenarioJson(random: Random, options: RandomScenarioOptions = {}): Record<string, unknown> {
  const count = options.models ?? random.integer(1, 4);
  const plain = options.plain ?? random.uniform() < 0.5;
  const load = 0.3 + 1.5 * random.uniform();
  const models = Array.from({ length: count }, (_, i) => {
    const alpha = 0.2 + 2 * random.uniform();
    const beta = 0.5 + 8 * random.uniform();
    const maxBatch = random.integer(1, 16);
    const slo = (alpha + beta) * (1.5 + 5 * random.uniform());
    const rate = ((load / count) * 1000 * maxBatch) / (alpha * maxBatch + beta) / 2;
    const bursts = random.uniform() < 0.3;
    const profile = plain || random.uniform() < 0.5 ? { alpha_ms: alpha, beta_ms: beta } : steps(alpha, beta, maxBatch);
    return {
      name: `m${i}`,
      max_batch: maxBatch,
      slo_ms: slo,
      profile,
      arrivals: bursts ? { process: "gamma", rate_per_s: rate, cv: 2 } : { process: "poisson", rate_per_s: rate },
      ...(plain ? {} : { items: { min: 1, max: Math.min(3, maxBatch) }, deadline_spread: 0.4 * random.uniform() }),
    };
  });
  return {
    name: "random",
    seed: random.integer(0, 1_000_000),
    warmup_s: 0.2,
    measure_s: 0.8,
    devices: [{ name: "gpu0", lanes: plain ? 1 : random.integer(1, 2) }],
    models,
    noise: plain || random.uniform() < 0.5 ? 0 : 0.1,
    profile_error: plain ? 0 : 0.1 * random.uniform(),
    best_effort: random.uniform() < 0.3 ? [{ model: "m0", backlog: "infinite" }] : [],
  };
}

export function randomScenario(random: Random, options: RandomScenarioOptions = {}): Scenario {
  return parseScenario(randomScenarioJson(random, options), "random");
}

/** Powers of two up to the largest batch, and that. */
function steps(alpha: number, beta: number, maxBatch: number): { points_ms: [number, number][] } {
  const sizes = [1, 2, 4, 8, 16].filter((size) => size < maxBatch);
  return { points_ms: [...sizes, maxBatch].map((size) => [size, alpha * size + beta]) };
}
