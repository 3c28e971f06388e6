/** A plan as text. */
import { figure, percent } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";
import type { MissReasons } from "./miss-reasons.ts";
import type { ModelPlan, Plan } from "./plan.ts";

const COLUMNS: readonly Column[] = [
  { title: "model", align: "left" },
  ...["rate/s", "SLO ms", "of a lane", "batch", "p99 ms", "on time"].map(
    (title): Column => ({ title, align: "right" }),
  ),
  { title: "what ran while missed requests waited", align: "left" },
];

/** The whole report, without a final newline. */
export function planText(plan: Plan, notes: readonly string[] = []): string {
  const verdict = plan.fits ? "fits" : "does not fit";
  const missing = plan.models.filter(({ fits }) => !fits).map(({ name }) => name);
  const which = missing.length === 0 ? "" : `: ${missing.join(", ")} below 99 % on time`;
  return [
    `${plan.scenario} ${verdict}${which} (${busyText(plan)})`,
    ...notes.map((note) => `  ${note}`),
    "",
    ...table(COLUMNS, plan.models.map(row)),
    "",
    ...headroomLines(plan),
  ].join("\n");
}

function busyText({ lanes, busy_share }: Plan): string {
  return lanes === 1
    ? `its lane is busy ${percent(busy_share)}`
    : `its ${lanes} lanes are busy ${percent(busy_share)} on average`;
}

function row(model: ModelPlan): string[] {
  const { name, rate_per_s, slo_ms, lane_share, batch_size_mean, p99_ms, attainment, fallback_share, reasons } = model;
  const batch = batch_size_mean === null ? "–" : figure(batch_size_mean);
  const numbers = [figure(rate_per_s), figure(slo_ms), percent(lane_share), batch, figure(p99_ms), percent(attainment)];
  const why = reasons === null ? "" : reasonText(name, reasons);
  return [name, ...numbers, fallback_share === 0 ? why : `${percent(fallback_share)} by its fallback; ${why}`];
}

/** Blockers that are named; the others rarely matter. */
const NAMED_MAX = 2;
const WORTH_NAMING = 0.05;

/** "m5's batches 61 % (38.2 ms each), its own 30 %" */
export function reasonText(model: string, { before, free_share }: MissReasons): string {
  const named = before.filter(({ share }) => share >= WORTH_NAMING).slice(0, NAMED_MAX);
  const parts = named.map(({ model: other, share, batch_ms }) =>
    other === model
      ? `its own batches ${percent(share)}`
      : `${other}'s batches ${percent(share)} (${figure(batch_ms)} ms each)`,
  );
  const others = before.slice(named.length).reduce((sum, { share }) => sum + share, 0);
  if (others >= WORTH_NAMING) parts.push(`${before.length - named.length} other models' ${percent(others)}`);
  if (free_share >= WORTH_NAMING) parts.push(`nothing, the device free or held ${percent(free_share)}`);
  return parts.length === 0 ? "its own execution: the deadline leaves no time to wait" : parts.join(", ");
}

function headroomText({ headroom, headroom_open }: Plan): string {
  if (headroom === null) return "not known";
  return `${headroom_open ? "more than " : ""}× ${headroom.toFixed(2)}`;
}

function headroomLines(plan: Plan): string[] {
  const { headroom, headroom_open, breaks_first } = plan;
  if (headroom === null) return ["headroom: not known, since there are no requests that could grow"];
  const lines: string[] = [];
  if (headroom === 0)
    lines.push("headroom: none; even a small share of these rates leaves some model below 99 % on time");
  else {
    const meaning =
      headroom >= 1 ? "all rates may grow by that factor" : "all rates would have to shrink to that share";
    lines.push(
      `headroom: ${headroomText(plan)} (${meaning} with every model at 99 % on time or more${headroom_open ? "; no larger one was tried" : ""})`,
    );
  }
  if (breaks_first !== null) {
    const { model, scale, attainment, reasons } = breaks_first;
    lines.push(`breaks first: ${model}, with ${percent(attainment)} on time at rates × ${scale.toFixed(2)}`);
    if (reasons !== null) {
      lines.push(
        `  its missed requests had ${figure(reasons.had_ms)} ms; what ran then: ${reasonText(model, reasons)}`,
      );
    }
  }
  return lines;
}

/** What adding models changed for those that were there before. */
export function changeText(before: Plan, after: Plan): string {
  const lines = [`headroom: ${headroomText(before)} before, ${headroomText(after)} after`];
  for (const model of after.models) {
    const was = before.models.find(({ name }) => name === model.name);
    if (was === undefined || Math.abs(was.attainment - model.attainment) < 0.0005) continue;
    lines.push(`  ${model.name}: ${percent(was.attainment)} on time before, ${percent(model.attainment)} after`);
  }
  return lines.join("\n");
}
