/** The result as it is printed. */
import { budgetText } from "../budgets/budget.ts";
import { figure, milliseconds, percent } from "../report/format.ts";
import { table } from "../report/table.ts";
import type { CapacityFigures, GpuBenchResult, LoadFigures, SetResult } from "./result.ts";

export const LOAD_TITLES = [
  "load",
  "scale",
  "offered/s",
  "on time",
  "worst",
  "p50",
  "p99",
  "busy",
  "nvidia-smi",
  "fill/s",
  "±10 %",
  "±25 %",
] as const;

export function loadCells(name: string, load: LoadFigures): string[] {
  const utilization = load.gpu?.utilization ?? null;
  const share = (value: number | null): string => (value === null ? "–" : percent(value));
  return [
    `${name}${load.valid ? "" : " (generator lagged)"}`,
    load.scale.toFixed(3),
    figure(load.offered_per_s),
    percent(load.attainment),
    percent(load.attainment_worst_model),
    milliseconds(load.latency_ms.p50),
    milliseconds(load.latency_ms.p99),
    percent(load.device_busy_share),
    share(utilization),
    figure(load.best_effort_items_per_s),
    share(load.predicted_within_10),
    share(load.predicted_within_25),
  ];
}

const LIMITS: Readonly<Record<CapacityFigures["limit"], string>> = {
  deadlines: "then deadlines are missed",
  generator: "beyond it the load generator lagged, which says nothing of the device",
  range: "the largest that was tried",
};

export function capacityText({ scale, per_s, limit }: CapacityFigures): string {
  return `scale ${scale.toFixed(3)}, ${figure(per_s)} requests/s (${LIMITS[limit]})`;
}

/** Sentences on one set of models. */
export function setLines(set: SetResult): string[] {
  const { capacity, simulated, round_robin, filled } = set;
  const { executions, execution_ms_mean, outside_share } = filled.runtime;
  const lines = [
    `Models: ${Object.keys(set.slo_ms).join(", ")}. Scale 1 asks for ${percent(set.device_share_at_scale_1)} of the device at the best batch sizes.`,
    `Capacity (99 % on time): ${capacityText(capacity)}; simulated: scale ${simulated.capacity_scale.toFixed(3)}.`,
    `Simulated at the same loads: loaded ${percent(simulated.loaded.attainment)} on time, p99 ${milliseconds(simulated.loaded.latency_ms_p99)}, busy ${percent(simulated.loaded.device_busy_share)}; filled ${percent(simulated.filled.attainment)} on time, ${figure(simulated.filled.best_effort_items_per_s)} best-effort items/s (live ${figure(filled.best_effort_items_per_s)}).`,
    `Idle gaps with work queued (filled): ${percent(outside_share)} of the time outside the runtime, ${figure(((outside_share * execution_ms_mean) / (1 - outside_share)) * 1000)} µs beside each of ${figure(executions)} executions of ${milliseconds(execution_ms_mean)}.`,
  ];
  if (round_robin !== null) {
    lines.push(`Round robin (${round_robin.policy}), capacity: ${capacityText(round_robin.capacity)}.`);
    if (
      capacity.limit === "deadlines" &&
      round_robin.capacity.limit === "deadlines" &&
      round_robin.capacity.scale > 0
    ) {
      lines.push(`Sharing carries ${figure(capacity.scale / round_robin.capacity.scale)} times as much.`);
    }
  }
  return lines;
}

export function setRows(name: string, { loaded, filled, round_robin }: SetResult): string[][] {
  return [
    loadCells(`${name}, loaded`, loaded),
    loadCells(`${name}, filled`, filled),
    ...(round_robin === null ? [] : [loadCells(`${name}, round robin`, round_robin.loaded)]),
  ];
}

export const MODEL_TITLES = ["model", "deadline", "loaded, on time", "p99", "filled, on time", "p99"] as const;

/** Each model's part of the set's loads. */
export function modelRows({ slo_ms, loaded, filled }: SetResult): string[][] {
  return Object.entries(slo_ms).map(([model, sloMs]) => [
    model,
    milliseconds(sloMs),
    ...[loaded, filled].flatMap(({ models }) => {
      const figures = models[model];
      return figures === undefined ? ["–", "–"] : [percent(figures.attainment), milliseconds(figures.latency_ms.p99)];
    }),
  ]);
}

export function aloneLines({ alone, sets }: GpuBenchResult): string[] {
  if (alone === null) return [];
  const shared = sets.three?.capacity.scale ?? 0;
  return [
    ...Object.entries(alone.capacity).map(([model, found]) => `${model} alone: ${capacityText(found)}.`),
    alone.slices_scale === null || alone.devices_needed === null
      ? "One at a time: not known, since a model's own capacity was not found."
      : `One at a time, in ideal slices: scale ${alone.slices_scale.toFixed(3)}; shared: ${shared.toFixed(3)}. With a device for each model: ${alone.devices_needed} devices.`,
  ];
}

export function gpuText(result: GpuBenchResult): string {
  const parts = [`${result.device.name} (${result.device.provider}), ready after ${figure(result.ready_s)} s`];
  const profiles = Object.entries(result.profiles_ms).map(
    ([model, points]) => `  ${model}: ${points.map(([bucket, ms]) => `${bucket}: ${figure(ms)}`).join(", ")}`,
  );
  parts.push(`profiles, ms by bucket\n${profiles.join("\n")}`);
  if (result.added_latency.length > 0) parts.push(budgetText(result.added_latency));
  const sets = Object.entries(result.sets);
  for (const [titles, rows] of [
    [LOAD_TITLES, sets.flatMap(([name, set]) => setRows(name, set))],
    [
      MODEL_TITLES,
      sets.flatMap(([name, set]) => modelRows(set).map(([model, ...rest]) => [`${name}: ${model}`, ...rest])),
    ],
  ] as const) {
    if (rows.length === 0) continue;
    const columns = titles.map((title, i) => ({ title, align: i === 0 ? ("left" as const) : ("right" as const) }));
    parts.push(table(columns, rows).join("\n"));
  }
  for (const set of Object.values(result.sets)) parts.push(setLines(set).join("\n"));
  const alone = aloneLines(result);
  if (alone.length > 0) parts.push(alone.join("\n"));
  if (result.left_out.length > 0) parts.push(`left out: ${result.left_out.join("; ")}`);
  return parts.join("\n\n");
}
