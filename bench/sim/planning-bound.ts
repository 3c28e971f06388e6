import { linearFit } from "../scenario/profile.ts";
import type { Scenario, ScenarioModel } from "../scenario/types.ts";

/**
 * The planning bound: the total rate at which Σ λ (α + β / b̂) = 1 over the models in their present mix, with
 * b̂ = (1 + λ (S − β)) / (1 + λ α), the batch that forms while a request waits for as long as its SLO lets it. An
 * estimate, not a theorem: it ignores that models block each other, and that dropping requests can save others.
 *
 * With several devices and lanes the bound is the sum of their speeds; CPU replicas are left out.
 *
 * @returns requests a second, or null where nothing arrives, a trace sets the rate, or a profile is missing
 */
export function planningBoundPerS(scenario: Scenario): number | null {
  const models = scenario.models.filter((model) => model.arrivals !== undefined);
  const total = nominalRatePerS(scenario);
  if (total === 0 || scenario.trace !== undefined || models.some((model) => model.profile === undefined)) return null;
  const capacity = scenario.devices.reduce((sum, { lanes, speed }) => sum + lanes * speed, 0);
  const used = (perS: number): number =>
    models.reduce((sum, model) => sum + deviceShare(model, (perS * meanRatePerS(scenario, model)) / total), 0);
  let low = 0;
  let high = 1;
  while (used(high) < capacity) high *= 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (used(middle) <= capacity) low = middle;
    else high = middle;
  }
  return low;
}

/** Share of one device that a model needs for this many requests a second. */
function deviceShare(model: ScenarioModel, perS: number): number {
  const { alphaMs, betaMs } = linearFit(model.profile!);
  const items = typeof model.items === "number" ? model.items : (model.items.min + model.items.max) / 2;
  const perMs = (perS * items) / 1000;
  const batch = (1 + perMs * (model.slo_ms - betaMs)) / (1 + perMs * alphaMs);
  return perMs * (alphaMs + betaMs / Math.min(model.max_batch, Math.max(1, batch)));
}

/** Requests a second that the scenario's arrival processes ask for at scale 1. */
export function nominalRatePerS(scenario: Scenario): number {
  return scenario.models.reduce((sum, model) => sum + meanRatePerS(scenario, model), 0);
}

/** Mean rate of a model's arrivals over the whole run, its rate curve included. */
function meanRatePerS(scenario: Scenario, { arrivals }: ScenarioModel): number {
  if (arrivals === undefined) return 0;
  if (arrivals.curve === undefined) return arrivals.rate_per_s;
  const endS = scenario.warmup_s + scenario.measure_s;
  const at = (s: number): number => {
    const points = arrivals.curve!;
    const next = points.findIndex(([t]) => t > s);
    if (next < 0) return points.at(-1)![1];
    if (next === 0) return points[0]![1];
    const [t0, f0] = points[next - 1]!;
    const [t1, f1] = points[next]!;
    return f0 + ((f1 - f0) * (s - t0)) / (t1 - t0);
  };
  const knots = [0, ...arrivals.curve.map(([t]) => t).filter((t) => t > 0 && t < endS), endS];
  let area = 0;
  for (let i = 1; i < knots.length; i++)
    area += ((at(knots[i - 1]!) + at(knots[i]!)) / 2) * (knots[i]! - knots[i - 1]!);
  return (arrivals.rate_per_s * area) / endS;
}
