/** A simulated run as text. */
import { count, figure, percent } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";
import type { Capacity } from "./capacity.ts";
import type { Figures, SimulationResult } from "./result.ts";

const COLUMNS: readonly Column[] = [
  { title: "model", align: "left" },
  ...["offered", "on time", "late", "shed", "attained", "goodput/s", "p50 ms", "p90 ms", "p99 ms"].map(right),
  ...["p99.9 ms", "max ms", "batch"].map(right),
];

function right(title: string): Column {
  return { title, align: "right" };
}

/** A share of the planning bound, which may well be exceeded. */
export function ofBoundText(share: number): string {
  return `${(share * 100).toFixed(1)} % of the planning bound`;
}

/** The whole report, without a final newline. */
export function reportText(result: SimulationResult, capacity: Capacity | null): string {
  const { scenario, policy, seed, scale, measured_s, warmup_s, planning_bound_per_s, load } = result;
  const scaled = scale === 1 ? "" : `, rates × ${figure(scale)}`;
  const lines = [
    `${scenario} under ${policy}, seed ${seed}${scaled}: ${figure(measured_s)} s measured after ${figure(warmup_s)} s of warm-up`,
  ];
  if (planning_bound_per_s !== null && load !== null) {
    lines.push(`load: ${ofBoundText(load)} (${count(planning_bound_per_s)} requests/s)`);
  }
  lines.push(
    "",
    ...figuresTable(result),
    "",
    ...bestEffortLines(result),
    ...fallbackLines(result),
    ...deviceLines(result),
    ...shedLines(result),
  );
  if (capacity !== null) lines.push("", ...capacityLines(capacity));
  return lines.join("\n");
}

function figuresTable({ models, total }: SimulationResult): string[] {
  const named = Object.entries(models).filter(([, { offered }]) => offered > 0);
  const rows = named.map(([name, figures]) => row(name, figures));
  if (named.length !== 1) rows.push(row("total", total));
  return table(COLUMNS, rows, named.length > 1 ? named.length : undefined);
}

function row(name: string, figures: Figures): string[] {
  const { offered, on_time, late, shed, attainment, goodput_per_s, latency_ms: ms } = figures;
  const answered = on_time + late > 0;
  const latency = [ms.p50, ms.p90, ms.p99, ms.p999, ms.max].map((value) => (answered ? figure(value) : "–"));
  const batch = figures.batch_size_mean === null ? "–" : figure(figures.batch_size_mean);
  const counts = [offered, on_time, late, shed].map(count);
  return [name, ...counts, offered > 0 ? percent(attainment) : "–", figure(goodput_per_s), ...latency, batch];
}

function bestEffortLines({ models }: SimulationResult): string[] {
  return Object.entries(models)
    .filter(([, { best_effort }]) => best_effort.answered > 0)
    .map(
      ([name, { best_effort: b }]) =>
        `best effort: ${name} ${count(b.answered)} answered, ${figure(b.items_per_s)} items/s`,
    );
}

function fallbackLines({ models }: SimulationResult): string[] {
  return Object.entries(models)
    .filter(([, { fallback }]) => fallback > 0)
    .map(([name, { fallback }]) => `fallback: ${name} ${count(fallback)} requests answered by another model`);
}

function deviceLines({ devices }: SimulationResult): string[] {
  return Object.entries(devices).map(([name, device]) => {
    const padding = device.padding_share > 0 ? `, padding ${percent(device.padding_share)}` : "";
    const shares = `busy ${percent(device.busy_share)}, best effort ${percent(device.best_effort_share)}`;
    return `device ${name}: ${shares}, ${count(device.executions)} executions, mean batch ${figure(device.batch_size_mean)}${padding}`;
  });
}

function shedLines({ total }: SimulationResult): string[] {
  const causes = Object.entries(total.shed_causes);
  return causes.length === 0 ? [] : [`shed because: ${causes.map(([cause, n]) => `${cause} ${count(n)}`).join(", ")}`];
}

function capacityLines(capacity: Capacity): string[] {
  const line = (what: string, scale: number, open: boolean, perS: number, ofBound: number | null): string => {
    if (scale === 0) return `capacity, ${what} ≥ 99 % on time: none found`;
    const bound = ofBound === null ? "" : `, ${ofBoundText(ofBound)}`;
    const rates = `rates × ${scale.toFixed(3)}${open ? " or more" : ""}`;
    const untried = open ? "; no larger scale was tried" : "";
    return `capacity, ${what} ≥ 99 % on time: ${rates} (${count(perS)} requests/s${bound}${untried})`;
  };
  return [
    line(
      "all requests",
      capacity.capacity_scale,
      capacity.capacity_open,
      capacity.capacity_per_s,
      capacity.capacity_of_bound,
    ),
    `  the worst model there: ${percent(capacity.attainment_worst_model)} on time`,
    line(
      "every model",
      capacity.capacity_worst_model_scale,
      capacity.capacity_worst_model_open,
      capacity.capacity_worst_model_per_s,
      capacity.capacity_worst_model_of_bound,
    ),
  ];
}
